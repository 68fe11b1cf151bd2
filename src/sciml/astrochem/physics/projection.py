"""Exact conservation of the elements (b rows, S species, E elements).

A decoded state never holds the elements of its parcel exactly. The projection multiplies every
species by ``exp(w_i (A λ)_i)`` with one multiplier λ an element, chosen so that all totals agree:
the state of least weighted relative entropy to the decoded one. Positive by construction.
"""

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sciml.astrochem.physics.constants import FLOOR

Mode = Literal["share", "kl", "reservoir"]
ABSENT = 1e-15  # abundance of an element below which it is left alone
AGREED = 1e-12  # relative difference of a total that counts as none
SHARE_STEPS, KL_STEPS = 10, 15  # decoded states need 3 to 5, states of another chemistry more


class Projected(NamedTuple):
    """A projected state and how it was found.

    Args:
        abundance: Abundances that hold the totals, float64 ``(b, S)``.
        fallen_back: Rows that the mode ``share`` could not mend, bool ``(b,)``.
        residual: Largest relative difference of a total; of the net charge, where it is kept, in
            units of the sum of all charges, ``(b,)``.
    """

    abundance: Tensor
    fallen_back: Tensor
    residual: Tensor


class ElementProjection(nn.Module):
    """Scale species so that every element's total is exactly the given one, in float64.

    First no species may hold more of an element than there is. Then Newton's method finds the
    multipliers. In the mode ``share`` a species is corrected in proportion to its share of an
    element, ``w_i = max_e(A_ie x_i / total_e) + 1e-3``: reservoirs take the difference and trace
    species keep their predicted value. Rows that do not converge, of states far from any chemistry,
    use the mode ``kl`` (all weights 1), and if that fails too, all species are scaled down together
    and the rest goes into the atoms: any input ends with the right totals. The net charge is kept
    too then, unless a positive one is asked for of a state with fewer cations. ``reservoir`` puts
    differences into the neutral atoms alone, for comparison: it destroys trace atoms and does not
    always reach the totals.

    Args:
        matrix: Atoms of every element in every species, ``(S, E)``.
        mode: Which species take the difference.
        charge: Charge of every species, ``(S,)``, to keep the net charge as well.

    Raises:
        ValueError: If the matrix has an element that no species holds.
    """

    matrix: Tensor
    rows: Tensor
    pairs: Tensor
    ceiling: Tensor
    atoms: Tensor

    def __init__(
        self, matrix: Tensor, mode: Mode = "share", *, charge: Tensor | None = None
    ) -> None:
        super().__init__()
        matrix = matrix.double()
        if not bool((matrix.sum(0) > 0).all()):
            raise ValueError("an element of the matrix is in no species; leave its column out")
        self.mode = mode
        self.floor, self.absent, self.agreed = FLOOR, ABSENT, AGREED
        # attributes, since scripted programs know no globals
        self.share_steps, self.kl_steps = SHARE_STEPS, KL_STEPS
        inverse = torch.where(matrix > 0, 1 / matrix.clamp(min=1), torch.inf)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("rows", matrix, persistent=False)
        self.register_buffer("pairs", matrix, persistent=False)
        self.register_buffer("ceiling", inverse, persistent=False)
        self.register_buffer("atoms", matrix, persistent=False)
        self.set_charge(charge)

    @torch.jit.unused
    def set_charge(self, charge: Tensor | None) -> None:
        """Keep the net charge too, or no longer.

        Args:
            charge: Charge of every species, ``(S,)``, or None.
        """
        extra = [] if charge is None else [charge.to(self.matrix)[:, None]]
        self.rows = torch.cat([self.matrix, *extra], 1)
        self.pairs = (self.rows[:, :, None] * self.rows[:, None, :]).flatten(1)
        self.atoms = _atoms(self.matrix, None if charge is None else charge.to(self.matrix))

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

        All rows go through every fall-back, so that the same program runs in every export.

        Args:
            abundance: Predicted, positive, ``(b, S)``.
            totals: What `totals` gave for the parcel, ``(b, E)`` or ``(b, E + 1)``.

        Returns:
            Abundances of the type of the prediction, ``(b, S)``.
        """
        wanted = totals.double()
        start = self._start(abundance, wanted)
        if self.mode == "reservoir":
            result = self._refill(start, wanted)
        else:
            result = self._newton(start, wanted, False)
            fair = self._agrees(result, wanted)
            result = torch.where(fair[:, None], result, self._dilute(start, wanted))
            if self.mode == "share":
                first = self._newton(start, wanted, True)
                good = self._agrees(first, wanted)
                result = torch.where(good[:, None], first, result)
        return torch.clamp(result, min=self.floor).to(abundance.dtype)

    @torch.jit.unused
    def project(self, abundance: Tensor, totals: Tensor) -> Projected:
        """Like `forward`, but only rows that need it fall back, and with a report.

        Args:
            abundance: Predicted, positive, ``(b, S)``.
            totals: What `totals` gave for the parcel.
        """
        wanted = totals.double()
        start = self._start(abundance, wanted)
        if self.mode == "reservoir":
            result = torch.clamp(self._refill(start, wanted), min=self.floor)
            none = torch.zeros(len(start), dtype=torch.bool, device=start.device)
            return Projected(result, none, self._gaps(result, wanted).amax(-1))
        result = self._newton(start, wanted, self.mode == "share")
        lost = ~self._agrees(result, wanted)
        for mend in (partial(self._newton, shared=False), self._dilute):
            rows = (~self._agrees(result, wanted)).nonzero()[:, 0]
            if len(rows):
                result = result.index_copy(0, rows, mend(start[rows], wanted[rows]))
        result = torch.clamp(result, min=self.floor)
        return Projected(result, lost, self._gaps(result, wanted).amax(-1))

    def _start(self, abundance: Tensor, wanted: Tensor) -> Tensor:
        most = torch.clamp(wanted[:, None, : self.matrix.shape[1]], min=self.absent) * self.ceiling
        return torch.clamp(torch.minimum(abundance.double(), most.amin(-1)), min=self.floor)

    def _newton(self, start: Tensor, wanted: Tensor, shared: bool) -> Tensor:
        """The state with all totals in the mode ``share``, or else ``kl``, if the steps suffice."""
        weight = self._weights(start) if shared else torch.ones_like(start)
        steps = self.share_steps if shared else self.kl_steps
        longest = 5.0 if shared else 2.0
        multiplier = torch.zeros_like(wanted)
        for _ in range(steps):
            step = self._step(start, wanted, weight, multiplier, shared)
            multiplier = multiplier - torch.clamp(step, -longest, longest)
            if _finished(step):
                break
        return self._state(start, weight, multiplier)

    def _dilute(self, start: Tensor, wanted: Tensor) -> Tensor:
        """All species scaled down until no total is too large, and the rest as free atoms."""
        elements = self.matrix.shape[1]
        room = torch.clamp(wanted, min=self.floor)[:, :elements] / (start @ self.matrix)
        part = torch.clamp(room.amin(-1, keepdim=True), max=1.0) * start
        if wanted.shape[1] > elements:  # atoms are neutral, and electrons can only be added
            charge = self.rows[:, elements]
            most = part @ torch.clamp(charge, min=0.0) - wanted[:, elements]
            held = part @ torch.clamp(-charge, min=0.0)
            share = torch.clamp(most / torch.clamp(held, min=self.floor), 0.0, 1.0)
            part = torch.where(charge < 0, share[:, None] * part, part)
        return self._refill(part, wanted)

    def _refill(self, start: Tensor, wanted: Tensor) -> Tensor:
        """What is missing of every total, or is too much, in atoms and electrons alone."""
        return start + (wanted - start @ self.rows) @ self.atoms.t()

    def _weights(self, start: Tensor) -> Tensor:
        held = torch.clamp(start @ self.rows.abs(), min=self.floor)
        share = torch.zeros_like(start)
        for element in range(self.rows.shape[1]):  # a dozen; all at once would need S x E a row
            part = self.rows[:, element].abs() * start / held[:, element : element + 1]
            share = torch.maximum(share, part)
        return share + 1e-3

    def _state(self, start: Tensor, weight: Tensor, multiplier: Tensor) -> Tensor:
        exponent = torch.clamp(weight * (multiplier @ self.rows.t()), -150.0, 150.0)
        return start * torch.exp(exponent)

    def _step(
        self, start: Tensor, wanted: Tensor, weight: Tensor, multiplier: Tensor, logarithmic: bool
    ) -> Tensor:
        """Newton's step on the totals, or on their logarithms; the charge is never logarithmic."""
        elements = self.matrix.shape[1]
        state = self._state(start, weight, multiplier)
        held = state @ self.rows
        there, goal = held[:, :elements], wanted[:, :elements]
        kept = goal > self.absent
        gap = there - goal
        if logarithmic:
            ratio = torch.clamp(there, min=1e-60) / torch.where(kept, goal, torch.ones_like(goal))
            gap = there * torch.log(ratio)
        if held.shape[1] > elements:
            gap = torch.cat([gap, held[:, elements:] - wanted[:, elements:]], 1)
            kept = torch.cat([kept, torch.ones_like(held[:, elements:], dtype=torch.bool)], 1)
        size = held.shape[1]
        slope = ((weight * state) @ self.pairs).reshape(-1, size, size)
        return _solve(slope, gap, kept)

    def _agrees(self, state: Tensor, wanted: Tensor) -> Tensor:
        # not by the largest difference: where programs run, the maximum of NaN and 0 may be 0
        return (self._gaps(state, wanted) < self.agreed).all(-1)

    def _gaps(self, state: Tensor, wanted: Tensor) -> Tensor:
        """Relative difference of every total, ``(b, E)`` or ``(b, E + 1)``."""
        elements = self.matrix.shape[1]
        goal = wanted[:, :elements]
        gap = (state @ self.matrix - goal).abs() / torch.clamp(goal, min=self.absent)
        gap = torch.where(goal > self.absent, gap, torch.zeros_like(gap))
        if wanted.shape[1] > elements:
            charge = self.rows[:, elements:]
            every = torch.clamp(state @ charge.abs(), min=self.absent)
            gap = torch.cat([gap, (state @ charge - wanted[:, elements:]).abs() / every], 1)
        return gap


@torch.jit.unused
def _converged(step: Tensor) -> bool:
    return not bool((step.abs() > 1e-14).any())  # NaN ends it as well


def _finished(step: Tensor) -> bool:
    """Whether a last step was too small to matter; never in a program that is to be exported."""
    if torch.jit.is_scripting() or torch.compiler.is_compiling():  # type: ignore[attr-defined]
        return False
    return _converged(step)


def _atoms(matrix: Tensor, charge: Tensor | None) -> Tensor:
    """Where what is missing of an element, or of charge, goes: one column each, ``(S, E)``."""
    alone = (matrix > 0).sum(1) == 1
    neutral = torch.ones_like(alone) if charge is None else charge == 0
    columns = []
    for element in range(matrix.shape[1]):
        count = matrix[:, element]
        rank = torch.where(alone & (count > 0), 1 / (count + ~neutral), 0.0)
        columns.append(torch.zeros_like(count).index_fill(0, rank.argmax(), 1.0) * rank.amax())
    if charge is not None:
        electron = (charge < 0) & (matrix.sum(1) == 0)
        columns.append(-electron.to(matrix.dtype) / electron.sum().clamp(min=1))
    return torch.stack(columns, 1)


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
