from pathlib import Path

import numpy as np
import pytest
import torch
from gammas import gammas
from root_files import write_file

from sciml.xec.data import Reading, RootStream
from sciml.xec.physics.anchors import Conventional
from sciml.xec.physics.statistics import EventStatistics

NAMES = {
    "npho": "npho", "relative_time": "relative_time", "time_min": "time_min_used",
    "energy": "energyTruth", "timing": "timeTruth", "uvw": "uvwTruth", "xyz": "xyzTruth",
    "vertex": "xyzVTX", "direction": "emiVec", "run": "run", "event": "event",
}  # fmt: skip
WALK = (4.0, 0.3)


def measured(folder: Path, *left_out: str) -> tuple[EventStatistics, dict[str, torch.Tensor]]:
    """Statistics of a file of simple events whose weak sensors fire late."""
    batch = gammas(60)
    electrons = 0.12 * batch["npho"].clamp(min=1 / 0.12)
    late = 1e-9 * (WALK[0] * electrons.rsqrt() + WALK[1])
    batch["relative_time"] = torch.where(
        batch["relative_time"] < 1, batch["relative_time"] + late, 1e10
    )
    branches = {n: batch[k].numpy() for k, n in NAMES.items() if n not in left_out}
    path = write_file(folder / "train.root", branches)
    data = RootStream(train=str(path), reading=Reading(cache=str(folder / "cache")))
    return data.statistics(), batch


def test_energies_of_the_faces_are_fitted(tmp_path: Path) -> None:
    found, batch = measured(tmp_path)
    assert found.events == 60
    module = Conventional()
    module.set_statistics(found)
    energy = module(batch["npho"], batch["relative_time"]).energy
    gap = energy / batch["energy"] - 1
    unfitted = module(batch["npho"], batch["relative_time"]).faces.sum(1) / batch["energy"]
    assert gap.std() < (unfitted / unfitted.mean()).std()
    shares = module(batch["npho"], batch["relative_time"]).faces / batch["energy"][:, None]
    expected, *_ = np.linalg.lstsq(shares.double().numpy(), np.ones(60), rcond=None)
    np.testing.assert_allclose(
        shares.numpy() @ found.face_weights, shares.numpy() @ expected, rtol=0.02
    )


def test_delays_and_depth_are_fitted(tmp_path: Path) -> None:
    found, batch = measured(tmp_path)
    # the light comes from the true depth, the estimate takes it from 3 cm
    assert found.walk[0] == pytest.approx(WALK[0], abs=1.0)
    assert found.walk[1] == pytest.approx(WALK[1], abs=0.3)
    assert found.depth == pytest.approx(float(batch["uvw"][:, 2].median()), rel=1e-6)


def test_place_and_depth_are_fitted(tmp_path: Path) -> None:
    found, batch = measured(tmp_path)
    module = Conventional()
    module.set_statistics(found)
    anchors = module(batch["npho"], batch["relative_time"])
    own, rough = (
        (uv - batch["uvw"][:, :2]).square().mean().sqrt() for uv in (anchors.spot, anchors.uv)
    )
    assert own < 0.7 * rough
    log_depth = (batch["uvw"][:, 2] + 0.5).log()
    gap = (anchors.depth + 0.5).log() - log_depth
    assert gap.square().mean() < 0.2 * (log_depth - log_depth.mean()).square().mean()


def test_what_has_no_truth_keeps_usual_values(tmp_path: Path) -> None:
    found, _ = measured(tmp_path, "energyTruth", "timeTruth", "uvwTruth")
    assert found.face_weights.tolist() == pytest.approx([8.5e-8] * 6)
    assert found.walk == (0.0, 0.0)
    assert found.depth == 4.0
