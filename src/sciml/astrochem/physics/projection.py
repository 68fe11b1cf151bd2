"""Exact conservation of the elements (b rows, S species, E elements).

A decoded state never holds the elements of its parcel exactly. The projection multiplies every
species by ``exp(w_i (A λ)_i)`` with one multiplier λ an element, chosen so that all totals agree:
the state of least weighted relative entropy to the decoded one. Positive by construction.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sciml.astrochem.physics.constants import FLOOR

Mode = Literal["share", "kl", "reservoir"]
ABSENT = 1e-15  # abundance of an element below which it is left alone
LARGEST_STEP = 60.0  # of a multiplier: a factor of 1e26
MEND = 8  # iterations of either mode in an exported program


class Projected(NamedTuple):
    """A projected state and how it was found.

    Args:
        abundance: Abundances that hold the totals, float64 ``(b, S)``.
        fallen_back: Rows that needed the mode ``kl``, bool ``(b,)``.
        residual: Largest relative difference of a total, ``(b,)``.
    """

    abundance: Tensor
    fallen_back: Tensor
    residual: Tensor


class ElementProjection(nn.Module):
    """Scale species so that every element's total is exactly the given one.

    Newton's method on the logarithms of the totals, in float64. In the mode ``share`` a species is
    corrected in proportion to its share of an element, ``w_i = max_e(A_ie x_i / total_e) + 1e-3``:
    reservoirs take the difference and trace species keep their predicted value. In the mode ``kl``
    all weights are 1; rows that do not converge in ``share`` use it. ``reservoir`` puts the whole
    difference into the most abundant species of an element with no other heavy element, for
    comparison only: it destroys trace atoms and does not always reach the totals.

    Args:
        matrix: Atoms of every element in every species, ``(S, E)``.
        mode: Which species take the difference.
        charge: Charge of every species, ``(S,)``, to keep the net charge as well.
        tolerance: Relative difference of the totals at which the iteration ends.
        max_iter: Iterations of each mode.

    Raises:
        ValueError: If the matrix has an element that no species holds.
    """

    matrix: Tensor
    rows: Tensor

    def __init__(
        self,
        matrix: Tensor,
        mode: Mode = "share",
        *,
        charge: Tensor | None = None,
        tolerance: float = 1e-13,
        max_iter: int = 30,
    ) -> None:
        super().__init__()
        matrix = matrix.double()
        if not bool((matrix.sum(0) > 0).all()):
            raise ValueError("an element of the matrix is in no species; leave its column out")
        rows = matrix if charge is None else torch.cat([matrix, charge.double()[:, None]], 1)
        self.register_buffer("matrix", matrix)
        self.register_buffer("rows", rows)
        self.mode = mode
        self.tolerance = tolerance
        self.max_iter = max_iter

    @torch.jit.unused
    def set_charge(self, charge: Tensor | None) -> None:
        """Keep the net charge too, or no longer.

        Args:
            charge: Charge of every species, ``(S,)``, or None.
        """
        extra = [] if charge is None else [charge.to(self.matrix)[:, None]]
        self.rows = torch.cat([self.matrix, *extra], 1)

    def totals(self, abundance: Tensor) -> Tensor:
        """Atoms of every element (and, where it is kept, the net charge) per H nucleus.

        Args:
            abundance: ``(b, S)``.

        Returns:
            float64 ``(b, E)``, with charge ``(b, E + 1)``.
        """
        return abundance.double() @ self.rows

    def forward(self, abundance: Tensor, totals: Tensor) -> Tensor:
        """The state with the given totals that is nearest to a predicted one.

        The number of iterations is fixed, so that the same program runs in every export.

        Args:
            abundance: Predicted, positive, ``(b, S)``.
            totals: What `totals` gave for the parcel, ``(b, E)`` or ``(b, E + 1)``.

        Returns:
            Abundances of the type of the prediction, ``(b, S)``.
        """
        start = torch.clamp(abundance.double(), min=FLOOR)
        wanted = totals.double()
        weight = self._weights(start)
        first = self._iterate(start, wanted, weight, MEND)
        second = self._iterate(start, wanted, torch.ones_like(weight), MEND)
        good = self._residual(first, wanted) < 1e-9
        result = torch.where(good[:, None], first, second)
        return torch.clamp(result, min=FLOOR).to(abundance.dtype)

    @torch.jit.unused
    def project(self, abundance: Tensor, totals: Tensor) -> Projected:
        """Like `forward`, iterated to convergence and with a report.

        Args:
            abundance: Predicted, positive, ``(b, S)``.
            totals: What `totals` gave for the parcel.
        """
        start = torch.clamp(abundance.double(), min=FLOOR)
        wanted = totals.double()
        if self.mode == "reservoir":
            result = self._reservoir(start, wanted)
            none = torch.zeros(len(start), dtype=torch.bool, device=start.device)
            return Projected(result, none, self._residual(result, wanted))
        weight = self._weights(start) if self.mode == "share" else torch.ones_like(start)
        result = self._converge(start, wanted, weight)
        residual = self._residual(result, wanted)
        lost = ~(residual < 1e-9)
        if self.mode == "share" and bool(lost.any()):
            rows = lost.nonzero()[:, 0]
            again = self._converge(start[rows], wanted[rows], torch.ones_like(start[rows]))
            result = result.index_copy(0, rows, again)
            residual = self._residual(result, wanted)
        return Projected(torch.clamp(result, min=FLOOR), lost, residual)

    def _weights(self, start: Tensor) -> Tensor:
        held = start @ self.rows.abs()
        share = start[:, :, None] * self.rows.abs()[None] / torch.clamp(held, min=FLOOR)[:, None, :]
        return share.amax(-1) + 1e-3

    def _iterate(self, start: Tensor, wanted: Tensor, weight: Tensor, count: int) -> Tensor:
        multiplier = torch.zeros_like(wanted)
        for _ in range(count):
            multiplier = multiplier - self._step(start, wanted, weight, multiplier)
        return self._state(start, weight, multiplier)

    @torch.jit.unused
    def _converge(self, start: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        multiplier = torch.zeros_like(wanted)
        for _ in range(self.max_iter):
            step = self._step(start, wanted, weight, multiplier)
            multiplier = multiplier - step
            if not bool((step.abs() > self.tolerance).any()):  # NaN ends it as well
                break
        return self._state(start, weight, multiplier)

    def _state(self, start: Tensor, weight: Tensor, multiplier: Tensor) -> Tensor:
        exponent = torch.clamp(weight * (multiplier @ self.rows.t()), -150.0, 150.0)
        return start * torch.exp(exponent)

    def _step(self, start: Tensor, wanted: Tensor, weight: Tensor, multiplier: Tensor) -> Tensor:
        """Newton's step on ``log(total / wanted)``, and on the plain difference for the charge."""
        elements = self.matrix.shape[1]
        state = self._state(start, weight, multiplier)
        held = state @ self.rows
        there = held[:, :elements]
        goal = wanted[:, :elements]
        present = goal > ABSENT
        ratio = torch.where(present, goal, torch.ones_like(goal))
        gap = torch.where(present, there * torch.log(torch.clamp(there, min=1e-60) / ratio), 0.0)
        kept = present
        if held.shape[1] > elements:
            gap = torch.cat([gap, held[:, elements:] - wanted[:, elements:]], 1)
            kept = torch.cat([kept, torch.ones_like(held[:, elements:], dtype=torch.bool)], 1)
        slope = torch.matmul(self.rows.t() * (weight * state)[:, None, :], self.rows)
        return torch.clamp(_solve(slope, gap, kept), -LARGEST_STEP, LARGEST_STEP)

    def _residual(self, state: Tensor, wanted: Tensor) -> Tensor:
        elements = self.matrix.shape[1]
        goal = wanted[:, :elements]
        gap = (state @ self.matrix - goal).abs() / torch.clamp(goal, min=ABSENT)
        return torch.where(goal > ABSENT, gap, torch.zeros_like(gap)).amax(-1)

    @torch.jit.unused
    def _reservoir(self, start: Tensor, wanted: Tensor) -> Tensor:
        """The historical correction, element after element."""
        atoms = self.matrix
        state = start.clone()
        for element in range(atoms.shape[1]):
            single = (atoms[:, element] == 1) & (atoms.sum(1) == 1)
            owner = torch.where(single, start.mean(0), -1.0).argmax()
            gap = wanted[:, element] - state @ atoms[:, element]
            state[:, owner] = torch.clamp(state[:, owner] + gap, min=FLOOR)
        return state


def _solve(matrix: Tensor, right: Tensor, kept: Tensor) -> Tensor:
    """Solve symmetric positive definite systems with elementary operations only.

    Args:
        matrix: ``(b, E, E)``.
        right: ``(b, E)``.
        kept: Unknowns that take part; the others come out as 0. ``(b, E)``.

    Returns:
        ``(b, E)``.
    """
    size = matrix.shape[-1]
    mask = kept.to(matrix.dtype)
    eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    matrix = matrix * mask[:, :, None] * mask[:, None, :]
    diagonal = (matrix * eye).sum(-1)
    scale = torch.rsqrt(torch.where(kept & (diagonal > 0), diagonal, torch.ones_like(diagonal)))
    scaled = matrix * scale[:, :, None] * scale[:, None, :]
    scaled = scaled * (1 - eye) + (1 + 1e-14) * eye  # unit diagonal, also where nothing is kept
    work = torch.cat([scaled, (right * scale * mask)[:, :, None]], 2)
    for pivot in range(size):  # Gauss-Jordan without exchange: the matrix is positive definite
        row = work[:, pivot : pivot + 1] / work[:, pivot : pivot + 1, pivot : pivot + 1]
        column = work[:, :, pivot : pivot + 1] - eye[:, pivot : pivot + 1]
        work = work - column * row
    return work[:, :, size] * scale * mask
