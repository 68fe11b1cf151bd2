"""A trained network for scripts: numbers of gammas under the names of files (b events)."""

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sciml.core.checkpoint import load
from sciml.xec.data.branches import SENSOR_READINGS
from sciml.xec.metrics.resolution import AXES, VECTOR
from sciml.xec.physics.constants import INVALID
from sciml.xec.physics.coordinates import emission_angles, opening_angle
from sciml.xec.physics.normalisation import Normalisation
from sciml.xec.task.quantities import ANGLES, true_columns
from sciml.xec.task.regressor import XECTask

Columns = dict[str, Tensor]
IDS = {"run_id": "run", "event_id": "event"}
COLUMNS = {
    "direction": (
        *(f"{kind}_{name}" for kind in ("pred", "true") for name in ANGLES),
        "opening_angle",
        *(f"pred_{name}" for name in VECTOR),
    ),
    "energy": ("pred_energy", "true_energy"),
    "timing": ("pred_timing", "true_timing"),
    "uvwFI": tuple(f"{kind}_{name}" for kind in ("pred", "true") for name in AXES),
    "n_gamma": ("pred_n_gamma", "true_n_gamma"),
}
"""Of every task; both that give a direction have the same."""
VERTEX = ("x_vtx", "y_vtx", "z_vtx")
RECO = {
    "reco_energy": ("reco_energy",),
    "reco_uvw": tuple(f"reco_{name}" for name in AXES),
    "reco_timing": ("reco_timing",),
}
"""Of conventional results in the files."""


class Reconstructor:
    """A trained network that gives the numbers of gammas under the names of files.

    Architecture, normalisation, calibration of the uncertainties and averaged weights are those of
    the checkpoint.

    Args:
        task: What was trained; it is put into evaluation mode.
        dead: Channels that are treated as dead, whatever they read.
    """

    def __init__(self, task: XECTask, dead: Sequence[int] = ()) -> None:
        self.task = task.eval()
        self.dead = torch.tensor(sorted(dead), dtype=torch.int64)

    @classmethod
    def from_checkpoint(cls, path: str | Path, dead: Sequence[int] = ()) -> "Reconstructor":
        """The network of a checkpoint, on the CPU.

        Args:
            path: A .ckpt file of ``sciml fit`` or ``sciml xec import``.
            dead: Channels that are treated as dead.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no checkpoint of `XECTask`.
        """
        path = Path(path)
        if path.suffix != ".ckpt":
            raise ValueError(
                f"{path} is no checkpoint of sciml; give a .ckpt file, which sciml xec import "
                "makes of a .pth file of the older training code"
            )
        if not path.is_file():
            raise FileNotFoundError(f"no checkpoint {path}; check --ckpt")
        task = load(path)
        if not isinstance(task, XECTask):
            raise ValueError(
                f"{path} holds {type(task).__name__}, which reconstructs no gammas; give a "
                "checkpoint of XECTask"
            )
        return cls(task, dead)

    @property
    def names(self) -> list[str]:
        """Columns of real numbers that every table has."""
        direction = [] if {"angle", "angleVec"}.isdisjoint(self.task.net.tasks) else ["direction"]
        groups = [name for name in COLUMNS if name in {*self.task.net.tasks, *direction}]
        found = [column for name in groups for column in COLUMNS[name]]
        return [*found, *(f"sig_{name}" for name in self.task.calibrated), *VERTEX]

    @property
    def takes_relative_counts(self) -> bool:
        """Whether photon counts that are known only relative to the largest one are enough."""
        net = self.task.net
        threshold = cast(Normalisation, net.normalisation).npho_threshold
        return threshold == 0 and "energy" not in net.tasks

    @property
    def digest(self) -> str:
        """Checksum of all that decides the results but the dead channels."""
        known = hashlib.sha256(json.dumps(dict(self.task.hparams), sort_keys=True).encode())
        for name, value in self.task.state_dict().items():
            known.update(name.encode())
            known.update(value.contiguous().flatten().view(torch.uint8).numpy())
        return known.hexdigest()

    def columns(self, batch: Mapping[str, Tensor]) -> Columns:
        """Numbers of every event, ``(b,)`` each.

        ``pred_…`` and, where the network gives them, ``sig_…`` are reconstructed: u, v, w in cm,
        energy in GeV, timing in ns, the unit vector ex, ey, ez, theta and phi in degrees and
        n_gamma. An uncertainty holds 68 % of the errors. ``true_…``, ``opening_angle`` in degrees,
        ``x_vtx``, ``y_vtx``, ``z_vtx`` in cm, ``reco_…``, ``run_id`` and ``event_id`` are there if
        the batch has what they need.

        Args:
            batch: Of `RootStream`; it is not changed.
        """
        readings = batch
        if len(self.dead):
            marked = {n: batch[n].index_fill(1, self.dead, INVALID) for n in SENSOR_READINGS}
            readings = {**batch, **marked}
        with torch.no_grad():
            found = self.task.columns(readings)
            found |= true_columns(batch, self.task.timing_reference)
            found |= _directions(found) | _given(batch)
        wanted = {*IDS, *self.names, *reco_names(batch)}
        return {name: value for name, value in found.items() if name in wanted}


def reco_names(given: Container[str]) -> list[str]:
    """Columns of the conventional results among some quantities.

    Args:
        given: Names of quantities.
    """
    return [name for key, names in RECO.items() if key in given for name in names]


def _directions(columns: Columns) -> Columns:
    """Angles of the true and the reconstructed direction, and that between them."""
    vectors = {
        kind: torch.stack([columns[f"{kind}_{axis}"] for axis in VECTOR], 1)
        for kind in ("pred", "true")
        if f"{kind}_{VECTOR[0]}" in columns
    }
    found: Columns = {}
    for kind, vector in vectors.items():
        found |= _named([f"{kind}_{name}" for name in ANGLES], emission_angles(vector))
    if len(vectors) == 2:
        found["opening_angle"] = opening_angle(vectors["pred"], vectors["true"])
    return found


def _given(batch: Mapping[str, Tensor]) -> Columns:
    """What is passed on as it is."""
    found = {name: batch[key] for name, key in IDS.items() if key in batch}
    for key, names in {**RECO, "vertex": VERTEX}.items():
        if key in batch:
            found |= _named(names, batch[key].reshape(-1, len(names)))
    return found


def _named(names: Sequence[str], values: Tensor) -> Columns:
    return dict(zip(names, values.unbind(1), strict=True))
