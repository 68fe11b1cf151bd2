"""A trained emulator for scripts (b tracers, t steps, n rows, S species, L latents)."""

from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.astrochem.apply.inputs import (
    Array,
    Kind,
    as_histories,
    as_tensor,
    check_abundance,
    check_physics,
    few,
    like,
    pieces,
    step_lengths,
)
from sciml.astrochem.physics.constants import PHYSICS
from sciml.astrochem.physics.projection import Projected
from sciml.astrochem.task.emulator import EmulatorTask
from sciml.core.checkpoint import load

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

CHUNK = 8192  # rows decoded and projected at once: 200 MB with 333 species and 9 elements


class Extrapolation(NamedTuple, Generic[Kind]):
    """How far histories lie from what the emulator was trained on.

    Args:
        outside: Conditions outside the ranges of the training tracers, over all steps, whole
            numbers ``(b,)``.
        distance: Mahalanobis distance of the emulated latents to those of the training rows over
            ``√L``, root mean square over the history: about 1 inside, ``(b,)``.
        score: The same distance of latents and conditions together, which also sees a state that
            does not belong to its conditions, plus ten times the largest excess of a condition in
            units of its training range on a logarithmic scale, plus a tenth of every standard
            deviation beyond three by which the conditions change more or less from step to step
            than those of whole training tracers do, ``(b,)``; larger is farther.
    """

    outside: Kind
    distance: Kind
    score: Kind


class AstroEmulator:
    """Abundances of gas parcels from their histories, with all elements conserved.

    Arrays may be of NumPy or torch, and results are of the same kind. Abundances are per H nucleus
    in the order of `species`; conditions are density (H nuclei per cm³), field (Habing), visual
    extinction (mag) and temperature (K), in physical units, none of them scaled.

    Args:
        task: A trained task, which is put into evaluation mode.
        device: Where it computes.
        dtype: float32 or float64.

    Raises:
        ValueError: If the type is another one.
    """

    def __init__(
        self,
        task: EmulatorTask,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if dtype not in {torch.float32, torch.float64}:
            raise ValueError(
                f"an emulator cannot compute in {dtype}: abundances span 20 decades; "
                "use float32 or float64"
            )
        self.device = torch.device(device)
        self.dtype = dtype
        task = task.eval().to(self.device)
        # to(float32) would round the limits and totals that are kept in float64
        self.task = task.double() if dtype is torch.float64 else task
        self.species: tuple[str, ...] = tuple(task.species)
        self.elements: tuple[str, ...] = tuple(task.elements)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "AstroEmulator":
        """The emulator in a checkpoint of `EmulatorTask`.

        Args:
            path: A file that ``sciml fit`` or ``sciml astrochem import`` wrote.
            device: Where it computes.
            dtype: float32 or float64.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no checkpoint of an emulator.
        """
        task = load(path)
        if not isinstance(task, EmulatorTask):
            raise ValueError(
                f"{path} holds {type(task).__name__}, no emulator; give one of EmulatorTask"
            )
        return cls(task, device, dtype)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of every condition in training, physical units."""
        low, high = self.task.domain.physics_range.tolist()
        return dict(zip(PHYSICS, zip(low, high, strict=True), strict=True))

    @property
    def dt(self) -> float | None:
        """Length in years of a step in training, None where it is not known."""
        return self.task.domain.step()

    @property
    def takes_dt(self) -> bool:
        """Whether steps may be of any length."""
        return self.task.net.dt_input

    def checked_dt(self, dt: Array) -> Array | None:
        """Lengths of steps as `emulate` takes them: none where the network does not see them.

        Args:
            dt: Lengths of the steps of data in years, any shape.

        Raises:
            ValueError: If they differ from those of training and the network cannot tell.
        """
        lengths = torch.as_tensor(dt)
        if self.takes_dt or self.dt is not None:
            self.lengths(lengths, tuple(lengths.shape))
        return dt if self.takes_dt else None

    def lengths(self, dt: float | Array | None, shape: tuple[int, ...]) -> Tensor | None:
        """Lengths of steps as a tensor of a shape, None where none are given.

        Args:
            dt: In years, one number or an array that fits.
            shape: Of the steps.

        Raises:
            ValueError: If one is not positive, or another than in training where that is no input.
        """
        if dt is None:
            return None
        lengths = step_lengths(dt, shape, self.device, self.dtype)
        if not self.takes_dt:
            own = self.dt
            if own is None or not torch.allclose(lengths, torch.full_like(lengths, own), rtol=1e-3):
                trained = "of its training data" if own is None else f"of {own:g} yr"
                raise ValueError(
                    f"this emulator takes steps {trained} only; leave dt out, or train one with "
                    "--model.net.dt_input true on steps of several lengths"
                )
        return lengths

    @property
    def latent_dim(self) -> int:
        """Latents L."""
        return self.task.autoencoder.latent_dim

    @torch.no_grad()
    def encode(self, abundance: Kind) -> Kind:
        """Latents of abundances, ``(n, S)`` to ``(n, L)``.

        Args:
            abundance: Per H nucleus, not scaled.

        Raises:
            ValueError: If the number of species is another one, or an abundance is wrong.
        """
        values = self._abundance(abundance)
        return like(abundance, self._encode(values))

    @torch.no_grad()
    def decode(self, latent: Kind) -> Kind:
        """Abundances of latents, not projected, ``(n, L)`` to ``(n, S)``.

        Args:
            latent: What `encode` or `step` returned.

        Raises:
            ValueError: If the number of latents is another one.
        """
        state = self._latent(latent)
        found = self._empty(len(state), len(self.species))
        for part in pieces(len(state), few(self.device)):
            found[part] = self._decode(state[part])
        return like(latent, found)

    @torch.no_grad()
    def step(
        self,
        latent: Kind,
        physics: Array,
        dt: float | Array | None = None,
        physics_before: Array | None = None,
    ) -> Kind:
        """Latents one step later, ``(n, L)``.

        Args:
            latent: ``(n, L)``.
            physics: Conditions that act during the step, ``(n, 4)``.
            dt: Length of the step in years, one number or ``(n,)``; that of training by default.
            physics_before: Conditions of the step before, ``(n, 4)``; the same by default.

        Raises:
            ValueError: If a shape or a condition is wrong.
        """
        state = self._latent(latent)
        before = None if physics_before is None else self._physics(physics_before)
        lengths = self.lengths(dt, (len(state),))
        return like(latent, self.task.net.step(state, self._physics(physics), lengths, before))

    @torch.no_grad()
    def rollout(self, physics: Kind, abundance: Array, dt: float | Array | None = None) -> Kind:
        """Latents z_1..z_t of histories, without decoding, ``(b, t, L)``.

        Args:
            physics: Conditions of the steps, ``(t, 4)`` or ``(b, t, 4)``.
            abundance: Initial abundances, ``(S,)`` or ``(b, S)``.
            dt: Lengths of the steps in years, one number, ``(t,)`` or ``(b, t)``.

        Raises:
            ValueError: If a shape, a condition or an abundance is wrong.
        """
        histories, starts, single = self._histories(physics, abundance)
        _check_steps(histories)
        lengths = self.lengths(dt, histories.shape[:2])
        latents = self.task.net.rollout(self._encode(starts), histories, lengths)
        return like(physics, latents[0] if single else latents)

    @torch.no_grad()
    def project(self, abundance: Array, start: Array) -> Projected:
        """Abundances with the element totals of others.

        Args:
            abundance: Decoded, ``(n, S)``; what is not finite stays so.
            start: Abundances whose totals are kept, ``(n, S)``.

        Returns:
            Tensors: abundances in float64, rows that needed the fall-back, and residuals.
        """
        totals = self.task.projection.totals(self._abundance(start, torch.float64))
        decoded = torch.as_tensor(abundance).to(self.device, torch.float64)
        return self.task.projection.project(decoded, totals)

    @overload
    def emulate(
        self,
        p: Kind,
        x0: Array,
        dt: float | Array | None = None,
        *,
        project: bool = True,
        project_state: bool = False,
        return_latent: Literal[False] = False,
        chunk: int = CHUNK,
    ) -> Kind: ...
    @overload
    def emulate(
        self,
        p: Kind,
        x0: Array,
        dt: float | Array | None = None,
        *,
        project: bool = True,
        project_state: bool = False,
        return_latent: Literal[True],
        chunk: int = CHUNK,
    ) -> tuple[Kind, Kind]: ...
    @torch.no_grad()
    def emulate(
        self,
        p: Kind,
        x0: Array,
        dt: float | Array | None = None,
        *,
        project: bool = True,
        project_state: bool = False,
        return_latent: bool = False,
        chunk: int = CHUNK,
    ) -> Kind | tuple[Kind, Kind]:
        """Abundances x_1..x_t of histories; p_t acts from t to t + 1.

        Args:
            p: Conditions of the steps in physical units, ``(t, 4)`` or ``(b, t, 4)``.
            x0: Initial abundances per H nucleus, ``(S,)`` or ``(b, S)``, not scaled.
            dt: Lengths of the steps in years, one number, ``(t,)`` or ``(b, t)``; that of training
                by default.
            project: Conserve the elements of ``x0`` exactly.
            project_state: Also encode the projected abundances again after every step; slower.
            return_latent: Return the latents ``(b, t, L)`` as well.
            chunk: Rows decoded at once; besides the result, memory grows with it alone.

        Returns:
            Abundances per H nucleus, ``(b, t, S)``, without b if neither input has it; with
            `return_latent` a pair of these and the latents.

        Raises:
            ValueError: If a shape, a condition or an abundance is wrong; says where.
        """
        histories, starts, single = self._histories(p, x0)
        count, steps = histories.shape[:2]
        lengths = self.lengths(dt, (count, steps))
        abundance = self._empty(count, steps, len(self.species))
        latent = self._empty(count, steps, self.latent_dim)
        for part in pieces(
            count if steps else 0, max(1, chunk // max(1, steps))
        ):  # bounds the memory
            own = None if lengths is None else lengths[part]
            totals = self.task.projection.totals(starts[part]) if project or project_state else None
            if project_state:
                both = self._walk(histories[part], starts[part], own, totals)
                abundance[part], latent[part] = both
                continue
            latent[part] = self.task.net.rollout(self._encode(starts[part]), histories[part], own)
            kept = None if totals is None else totals.repeat_interleave(steps, 0)
            rows, found = latent[part].flatten(0, 1), abundance[part].view(-1, len(self.species))
            for piece in pieces(len(rows), chunk):
                found[piece] = self._decode(rows[piece], None if kept is None else kept[piece])
        if single:
            abundance, latent = abundance[0], latent[0]
        return (like(p, abundance), like(p, latent)) if return_latent else like(p, abundance)

    @torch.no_grad()
    def extrapolation_score(
        self, p: Kind, x0: Array, dt: float | Array | None = None
    ) -> Extrapolation[Kind]:
        """How far histories lead away from the training tracers.

        Args:
            p: Conditions of the steps in physical units, ``(t, 4)`` or ``(b, t, 4)``.
            x0: Initial abundances per H nucleus, ``(S,)`` or ``(b, S)``.
            dt: Lengths of the steps in years.

        Returns:
            Three numbers of every tracer.
        """
        histories, starts, single = self._histories(p, x0)
        _check_steps(histories)
        first = self._encode(starts)
        latents = self.task.net.rollout(first, histories, self.lengths(dt, histories.shape[:2]))
        values = self.task.domain(torch.cat([first[:, None], latents], 1), histories)
        return Extrapolation(*(like(p, value[0] if single else value) for value in values))

    def predict_dataframe(
        self, frame: "pd.DataFrame", x0: NDArray[np.float64] | None = None
    ) -> "pd.DataFrame":
        """Abundances of the histories in a data frame of pandas, a column for every species.

        Args:
            frame: Columns time (yr), density (H nuclei per cm³), radfield (Habing), av (mag) and
                temperature (K), and tracer where there are several. A row holds the conditions
                that act until the tracer's next row.
            x0: Abundances of the first rows, ``(S,)`` or one row for every tracer; by default
                those of a cloud of atoms, ions and H2.

        Returns:
            Columns tracer, time and the species, rows as in the frame.

        Raises:
            ValueError: If a column is missing, or numbers are wrong.
            MissingPackageError: If pandas is not installed.
        """
        from sciml.astrochem.apply.frame import predict_dataframe  # which uses this class

        return predict_dataframe(self, frame, x0)

    def _histories(self, physics: Array, abundance: Array) -> tuple[Tensor, Tensor, bool]:
        """Conditions, starts in float64 because their totals are kept, and whether it is one."""
        starts = self._abundance(abundance, torch.float64)
        return as_histories(self._physics(physics), starts)

    def _physics(self, physics: Array) -> Tensor:
        values = as_tensor(physics, "physics", self.device, self.dtype)
        check_physics(values)
        return values

    def _abundance(self, abundance: Array, dtype: torch.dtype | None = None) -> Tensor:
        values = as_tensor(abundance, "abundance", self.device, dtype or self.dtype)
        check_abundance(values, self.species)
        return values

    def _latent(self, latent: Array) -> Tensor:
        values = torch.as_tensor(latent).to(self.device, self.dtype)
        if values.dim() != 2 or values.shape[1] != self.latent_dim:
            raise ValueError(
                f"latents of shape {tuple(values.shape)} are not (n, {self.latent_dim}); "
                "give what encode or step returned"
            )
        return values

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def _encode(self, abundance: Tensor) -> Tensor:
        scaled = self.task.scaler.scale(abundance.to(self.dtype))
        return self.task.autoencoder.encode(scaled)

    def _decode(self, latent: Tensor, totals: Tensor | None = None) -> Tensor:
        abundance = self.task.scaler.unscale(self.task.autoencoder.decode(latent))
        if totals is None:
            return abundance
        return self.task.projection.project(abundance, totals).abundance.to(self.dtype)

    def _walk(
        self, physics: Tensor, start: Tensor, dt: Tensor | None, totals: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A rollout whose state is projected after every step."""
        latent, before = self._encode(start), physics[:, 0]
        abundances, latents = [], []
        for step in range(physics.shape[1]):  # each state needs the one before
            length = None if dt is None else dt[:, step]
            latent = self.task.net.step(latent, physics[:, step], length, before)
            abundances.append(self._decode(latent, totals))
            latent, before = self._encode(abundances[-1]), physics[:, step]
            latents.append(latent)
        return torch.stack(abundances, 1), torch.stack(latents, 1)


def _check_steps(histories: Tensor) -> None:
    if not histories.shape[1]:
        raise ValueError("the histories have no steps; give conditions of at least one")
