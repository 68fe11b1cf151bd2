import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import norm, skew

from sciml.xec.metrics import EventTable, half_width, resolutions
from sciml.xec.metrics.calibration import (
    best_half,
    calibration,
    concentration_of,
    cone,
    temperature,
)
from sciml.xec.metrics.resolution import effective_width, selection, wrapped
from sciml.xec.physics.coordinates import emission_direction, to_xyz

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


def directions(seed: int = 0) -> dict[str, torch.Tensor]:
    """True angles near θ = 90°, and errors of 3° with a tail in θ."""
    rng = np.random.default_rng(seed)
    true = np.stack([rng.uniform(80, 100, N), rng.uniform(-179, 179, N)], 1)
    errors = np.stack([rng.exponential(3.0, N), 3 * rng.normal(size=N)], 1)
    table = {}
    for kind, angles in (("true", true), ("pred", true + errors)):
        for axis, values in zip("xyz", emission_direction(angles).T, strict=True):
            table[f"{kind}_e{axis}"] = torch.from_numpy(values.copy())
    table["errors"] = torch.from_numpy(errors)
    return table


def test_moments_of_the_angles_are_those_of_scipy() -> None:
    table = directions()
    errors = table.pop("errors").numpy()
    found = resolutions(table)
    for name, own in zip(("theta", "phi"), errors.T, strict=True):
        assert float(found[f"{name}_rms"]) == pytest.approx(own.std(), rel=1e-6)
        assert float(found[f"{name}_skew"]) == pytest.approx(skew(own), rel=1e-5, abs=1e-6)
    assert float(found["theta_skew"]) > 1.5  # an exponential has 2
    vectors = [np.stack([table[f"{k}_e{axis}"] for axis in "xyz"]) for k in ("true", "pred")]
    assert float(found["cos"]) == pytest.approx((vectors[0] * vectors[1]).sum(0).mean())


def test_equal_errors_have_no_skew() -> None:
    table = {f"{kind}_e{axis}": torch.ones(4) for kind in ("true", "pred") for axis in "xyz"}
    found = resolutions(table)
    assert math.isnan(found["theta_skew"])
    assert float(found["theta_rms"]) == 0


def test_cosine_of_places_is_seen_from_the_origin() -> None:
    uvw = torch.tensor([[0.0, 0.0, 5.0], [3.0, 20.0, 1.0]], dtype=torch.float64)
    moved = uvw + torch.tensor([10.0, 0.0, 0.0])
    table = {f"true_{a}": uvw[:, k] for k, a in enumerate("uvw")}
    table |= {f"pred_{a}": moved[:, k] for k, a in enumerate("uvw")}
    a, b = to_xyz(uvw).numpy(), to_xyz(moved).numpy()
    expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert float(resolutions(table)["cos_pos"]) == pytest.approx(expected.mean())


def test_a_place_with_an_unknown_coordinate_is_unknown() -> None:
    table = columns()
    table["true_w"][::2] = torch.nan
    half = {name: values[1::2] for name, values in columns().items()}
    assert resolutions(table)["uvw_u_res_68pct"] == resolutions(half)["uvw_u_res_68pct"]


def test_both_times_are_judged() -> None:
    table = columns()
    table |= {f"{kind}_emission": table[f"{kind}_timing"] for kind in ("true", "pred")}
    table["pred_emission"] = table["pred_emission"] + 0.5
    found = resolutions(table)
    torch.testing.assert_close(found["emission_res_68pct"], found["timing_res_68pct"])
    torch.testing.assert_close(found["emission_bias"], found["timing_bias"] + 0.5)


def test_likelihood_is_that_of_scipy() -> None:
    table = columns()
    found = calibration(table, "energy")["energy_nll"]
    true, predicted, sigma = (table[f"{k}_energy"].numpy() for k in ("true", "pred", "sig"))
    assert float(found) == pytest.approx(-norm.logpdf(true, predicted, sigma).mean())


@pytest.mark.parametrize("kappa", [0.5, 40.0, 1e5])
def test_likelihood_of_directions_is_lowest_at_their_concentration(kappa: float) -> None:
    rng = np.random.default_rng(0)
    share = rng.uniform(size=20_000)
    cosine = 1 + np.log1p(-share * (1 - np.exp(-2 * kappa))) / kappa
    sine = np.sqrt(np.clip(1 - cosine**2, 0, None))
    ones = np.ones_like(share)
    vectors = {"true": (sine, 0 * sine, cosine), "pred": (0 * ones, 0 * ones, ones)}
    table = {f"{k}_e{a}": torch.from_numpy(v[i]) for k, v in vectors.items() for i, a in
             enumerate("xyz")}  # fmt: skip
    found = {}
    for factor in (0.8, 1.0, 1.25):
        own = torch.full((len(share),), factor * kappa, dtype=torch.float64)
        scales = {"kappa": own, "sig_direction": cone(own, 0.68)}
        found[factor] = float(calibration(table | scales, "direction")["direction_nll"])
    # by hand: ln(2π (1 - exp(-2κ)) / κ) + κ (1 - mean cosine)
    norm_of = math.log(2 * math.pi * -math.expm1(-2 * kappa) / kappa)
    assert found[1.0] == pytest.approx(norm_of + kappa * (1 - cosine).mean(), rel=1e-4)
    assert found[1.0] < min(found[0.8], found[1.25])


@pytest.mark.parametrize("name", ["u", "energy", "timing"])
def test_the_better_half_is_that_of_small_uncertainties(name: str) -> None:
    table = columns()
    sigma = torch.where(torch.arange(N) % 2 == 0, 0.1, 0.2) * table[f"sig_{name}"][0]
    even = {n: values[::2] for n, values in table.items()}
    table[f"sig_{name}"] = sigma * (table["pred_energy"] if name == "energy" else 1)
    found = best_half(table, name)[f"{name}_best_half_68pct"]
    expected = {"u": "uvw_u_res_68pct", "energy": "energy_rel_68pct"}.get(name, "timing_res_68pct")
    torch.testing.assert_close(found, resolutions(even)[expected])
    table[f"true_{name}"][:] = torch.nan
    assert best_half(table, name) == {}


def test_the_better_half_of_directions_is_that_of_narrow_cones() -> None:
    table = directions()
    table.pop("errors")
    even = {name: values[::2] for name, values in table.items()}
    table["sig_direction"] = torch.where(torch.arange(N) % 2 == 0, 3.0, 5.0).double()
    found = best_half(table, "direction")["direction_best_half_68pct"]
    torch.testing.assert_close(found, resolutions(even)["angle_resolution_68pct"])


def test_angles_are_wrapped() -> None:
    found = wrapped(torch.tensor([190.0, -190.0, 359.0, -180.0, 12.0]))
    torch.testing.assert_close(found, torch.tensor([-170.0, 170.0, -1.0, -180.0, 12.0]))


def test_percentiles_of_several_processes_are_those_of_all_events() -> None:
    table = columns()
    borders = (0, 500, 900, N)  # ranks of unequal sizes and different events
    order = table["true_energy"].argsort()
    ranks, parts = [], []
    for first, last in pairwise(borders):
        own = {name: values[order[first:last]] for name, values in table.items()}
        parts.append(float(resolutions(own)["energy_rel_68pct"]))
        rank = EventTable(list(table))
        for start in range(first, last, 100):
            part = order[start : min(start + 100, last)]
            rank.update({name: values[part] for name, values in table.items()})
        ranks.append(rank)
    for rank in ranks[1:]:
        ranks[0].merge_state(rank)
    found = resolutions(ranks[0].columns())
    for name, value in resolutions(table).items():
        torch.testing.assert_close(found[name], value, msg=name)
    assert abs(sum(parts) / 3 - float(found["energy_rel_68pct"])) > 1e-4  # what must not be done
