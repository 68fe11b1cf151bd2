import math

import numpy as np
import pytest
import torch

from sciml.xec.metrics import EventTable, half_width, resolutions
from sciml.xec.metrics.calibration import (
    calibration,
    concentration_of,
    cone,
    temperature,
)
from sciml.xec.metrics.resolution import effective_width, selection

N = 4000


def columns(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    found = {}
    for name, scale in {"u": 0.3, "v": 0.2, "w": 0.5, "energy": 0.001, "timing": 0.1}.items():
        true = rng.uniform(0.02, 0.055, N) if name == "energy" else rng.uniform(-30, 30, N)
        found[f"true_{name}"] = abs(true) if name == "w" else true
        found[f"pred_{name}"] = found[f"true_{name}"] + 0.07 + scale * rng.normal(size=N)
        found[f"sig_{name}"] = np.full(N, scale / 2)
    return {name: torch.from_numpy(values) for name, values in found.items()}


def test_widths_are_those_of_numpy() -> None:
    table = columns()
    found = resolutions(table)
    for axis in "uvw":
        gap = (table[f"pred_{axis}"] - table[f"true_{axis}"]).numpy()
        low, high = np.quantile(gap, [0.16, 0.84])
        assert float(found[f"uvw_{axis}_res_68pct"]) == pytest.approx((high - low) / 2)
        assert float(found[f"uvw_{axis}_bias"]) == pytest.approx(np.median(gap), abs=1e-3)
    relative = (table["pred_energy"] / table["true_energy"] - 1).numpy()
    low, high = np.quantile(relative, [0.16, 0.84])
    assert float(found["energy_rel_68pct"]) == pytest.approx((high - low) / 2)
    assert "angle_resolution_68pct" not in found


def test_a_normal_distribution_has_its_width() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(3.0, 2.0, 200_000))
    assert float(half_width(values)) == pytest.approx(2.0, rel=0.02)
    assert float(effective_width(values)) == pytest.approx(2.0, rel=0.02)


def test_azimuths_are_compared_around_the_circle() -> None:
    angles = np.radians([179.0, -179.0])
    vectors = np.stack([-np.cos(angles), np.sin(angles), 0 * angles], 1)
    table = {}
    for place, kind in enumerate(("pred", "true")):
        for axis, name in enumerate(("ex", "ey", "ez")):
            table[f"{kind}_{name}"] = torch.full((5,), vectors[place, axis])
    found = resolutions(table)
    assert float(found["phi_bias"]) == pytest.approx(-2.0)
    assert float(found["angle_resolution_68pct"]) == pytest.approx(2.0)
    assert float(found["theta_bias"]) == pytest.approx(0.0)


def test_events_without_truth_do_not_count() -> None:
    table = columns()
    table["true_energy"][::2] = torch.nan
    full = {n: v[1::2] for n, v in columns().items()}
    assert resolutions(table)["energy_rel_68pct"] == resolutions(full)["energy_rel_68pct"]
    table["true_energy"][:] = torch.nan
    assert not [name for name in resolutions(table) if name.startswith("energy")]


def test_selection_is_the_fiducial_volume_and_high_energy() -> None:
    table = {
        "true_u": torch.tensor([0.0, 24.0, 0.0, 0.0, 0.0]),
        "true_v": torch.tensor([0.0, 0.0, -68.0, 0.0, 0.0]),
        "true_w": torch.tensor([1.0, 1.0, 1.0, -0.1, 1.0]),
        "true_energy": torch.tensor([0.05, 0.05, 0.05, 0.05, 0.03]),
    }
    assert selection(table, False).tolist() == [True, False, False, False, True]
    assert selection(table, True).tolist() == [True, False, False, False, False]
    empty = {name: torch.full((2,), torch.nan) for name in table}
    assert selection(empty, True).all()


def test_table_merges_batches_in_order() -> None:
    table = EventTable(["a", "b"])
    table.update({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3, 4])})
    table.update({"b": torch.tensor([5])})
    found = table.columns()
    assert found["b"].tolist() == [3, 4, 5]
    assert found["a"][:2].tolist() == [1, 2]
    assert math.isnan(found["a"][2])
    table.reset()
    table.update({"a": torch.tensor([7.0])})
    assert table.columns()["a"].tolist() == [7.0]


@pytest.mark.parametrize("name", ["u", "energy", "timing"])
def test_temperature_makes_the_uncertainties_hold_68_percent(name: str) -> None:
    table = columns()
    table[f"pred_{name}"] -= 0.07
    factor = temperature(table, name)
    assert float(factor) == pytest.approx(2.0, rel=0.05)
    assert float(calibration(table, name)[f"{name}_coverage_68"]) < 0.45
    table[f"sig_{name}"] *= factor
    found = calibration(table, name)
    assert float(found[f"{name}_coverage_68"]) == pytest.approx(0.68, abs=0.001)
    assert float(found[f"{name}_coverage_95"]) == pytest.approx(0.95, abs=0.01)
    assert float(found[f"{name}_pull_std"]) == pytest.approx(1.0, rel=0.05)
    assert float(found[f"{name}_calibration_ratio"]) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("kappa", [0.1, 3.0, 100.0, 1e4])
def test_cones_hold_their_share(kappa: float) -> None:
    rng = np.random.default_rng(0)
    share = rng.uniform(size=200_000)
    cosine = 1 + np.log1p(-share * (1 - np.exp(-2 * kappa))) / kappa  # inverse of the distribution
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    wide = float(cone(torch.tensor(kappa, dtype=torch.float64), 0.68))
    assert (angle < wide).mean() == pytest.approx(0.68, abs=0.005)
    back = concentration_of(torch.tensor([wide], dtype=torch.float64))
    assert float(back) == pytest.approx(kappa, rel=1e-4)
