import math
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_ranks import measure, measure_share
from torch import Tensor

from sciml.astrochem.metrics import (
    AbundanceMetrics,
    paired_bootstrap,
    separation,
    tracer_errors,
)
from sciml.astrochem.metrics.histogram import LogHistogram

SPECIES = ("#CO", "@CO", "C", "C+", "CO", "E-", "H", "H2", "H2O", "O")
# atoms of H, C and O, by hand
ATOMS = np.array(
    [
        *[[0, 1, 1], [0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 1]],
        *[[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 0, 1], [0, 0, 1]],
    ]
)
PHASES = {
    "gas": [2, 3, 4, 5, 6, 7, 8, 9],
    "surface": [0],
    "bulk": [1],
    "ions": [3, 5],
}
LO = 1e-20


def example(tracers: int = 6, steps: int = 7, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Abundances below and above the range, histories of unequal length, a lost tracer."""
    rng = np.random.default_rng(seed)
    true = 10.0 ** rng.uniform(-23, 0.2, (tracers, steps, len(SPECIES)))
    predicted = true * 10.0 ** rng.normal(0, 0.4, true.shape)
    true[1, 2, 3] = 1e-9
    predicted[1, 2, 3] = 1e-4
    length = rng.integers(1, steps + 1, tracers)
    length[0] = steps
    valid = np.arange(steps) < length[:, None]
    return torch.from_numpy(predicted), torch.from_numpy(true), torch.from_numpy(valid)


def reference(predicted: Tensor, true: Tensor, valid: Tensor) -> dict[str, float]:
    """The same quantities, entry after entry."""
    rows, firsts, lasts, element = [], [], [], []
    lost = 0
    for tracer in range(len(true)):
        errors = []
        for step in range(true.shape[1]):
            if not valid[tracer, step]:
                continue
            x = true[tracer, step].double().numpy()
            y = predicted[tracer, step].double().numpy()
            a, b = np.clip(y, LO, 1.0), np.clip(x, LO, 1.0)
            errors.append(np.column_stack([np.log10(a / b), np.abs(a - b) / b, x]))
            element.append(np.abs((y @ ATOMS) / (x @ ATOMS) - 1))
        firsts.append(np.abs(errors[0][:, 0]).mean())
        lasts.append(np.abs(errors[-1][:, 0]).mean())
        history = np.array(errors)
        lost += int(((np.abs(history[..., 0]) > 3) & (history[..., 2] > 1e-10)).any())
        rows += errors
    table = np.array(rows)
    dex, relative, amount = np.abs(table[..., 0]), table[..., 1], table[..., 2]
    return {
        "mean_rel": relative.mean(),
        "std_rel": relative.mean(0).std(),
        "max_rel": relative.mean(0).max(),
        "mae_dex": dex.mean(),
        "rmse_dex": math.sqrt((dex**2).mean()),
        "mae_dex_major": dex[amount > 1e-12].mean(),
        "frac_2x": (dex <= math.log10(2)).mean(),
        "worst_species_dex": dex.mean(0).max(),
        "elem_rel_mean": np.mean(element),
        "elem_rel_max": np.max(element),
        "first_step_dex": np.mean(firsts),
        "last_step_dex": np.mean(lasts),
        "unstable": lost / len(true),
        "nonfinite": 0.0,
        **{f"mae_dex_{phase}": dex[:, members].mean() for phase, members in PHASES.items()},
    }


def metrics(**options: float) -> AbundanceMetrics:
    return AbundanceMetrics(SPECIES, ("H", "C", "O", "MG"), **options)


def computed(*batches: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    metric = metrics()
    for batch in batches:
        metric.update(*batch)
    return {name: value.item() for name, value in metric.compute().items()}


def test_every_metric_equals_a_loop_over_entries() -> None:
    values = computed(example())
    expected = reference(*example())
    quantiles = {"median_rel", "p95_rel"}
    assert set(values) == set(expected) | quantiles
    assert {k: v for k, v in values.items() if k not in quantiles} == pytest.approx(
        expected, rel=1e-12
    )


def test_quantiles_are_those_of_the_sorted_ratios_to_a_hundredth_of_a_decade() -> None:
    predicted, true, valid = example(tracers=40)
    values = computed((predicted, true, valid))
    ratio = (predicted.clamp(LO, 1) / true.clamp(LO, 1) - 1).abs()[valid]
    for name, share in (("median_rel", 0.5), ("p95_rel", 0.95)):
        exact = float(torch.quantile(ratio, share))
        assert math.log10(values[name] / exact) == pytest.approx(0, abs=0.012)


def test_a_decade_too_high_counts_nine_and_one_too_low_a_tenth_of_that() -> None:
    true = torch.full((1, 1, len(SPECIES)), 1e-6)
    valid = torch.ones(1, 1, dtype=torch.bool)
    high, low = computed((10 * true, true, valid)), computed((true / 10, true, valid))
    assert high["mean_rel"] == pytest.approx(9, rel=1e-6)
    assert low["mean_rel"] == pytest.approx(0.9, rel=1e-6)
    assert high["mae_dex"] == pytest.approx(1, rel=1e-6)
    assert low["mae_dex"] == pytest.approx(1, rel=1e-6)


def test_order_and_size_of_batches_do_not_matter() -> None:
    batch = example()
    halves = [tuple(part[rows] for part in batch) for rows in (slice(4, 6), slice(0, 4))]
    assert computed(*halves) == pytest.approx(computed(batch), rel=1e-12)  # type: ignore[arg-type]


def test_two_processes_merge_to_the_whole() -> None:
    batch = example()
    first, second = metrics(), metrics()
    first.update(*(part[:2] for part in batch))
    second.update(*(part[2:] for part in batch))
    first.merge_state(second)
    merged = {name: value.item() for name, value in first.compute().items()}
    assert merged == pytest.approx(computed(batch), rel=1e-12)


def test_a_large_batch_is_handled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = computed(example())
    monkeypatch.setattr("sciml.astrochem.metrics.abundance.PIECE", 2 * 7 * len(SPECIES))
    assert computed(example()) == pytest.approx(whole, rel=1e-12)


def test_values_of_missing_steps_do_not_matter() -> None:
    predicted, true, valid = example()
    changed = torch.where(valid[..., None], predicted, torch.nan)
    altered = torch.where(valid[..., None], true, 0.5)
    assert computed((changed, altered, valid)) == pytest.approx(
        computed((predicted, true, valid)), rel=1e-12
    )


def test_a_prediction_that_is_not_finite_counts_as_the_smallest_abundance() -> None:
    predicted, true, valid = example()
    broken = predicted.clone()
    broken[0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    as_lo = predicted.clone()
    as_lo[0, 0, :3] = LO
    expected = computed((as_lo, true, valid)) | {"nonfinite": 3.0}
    assert computed((broken, true, valid)) == pytest.approx(expected, rel=1e-12)


def test_species_and_steps_have_means_of_their_own() -> None:
    predicted, true, valid = example()
    metric = metrics()
    metric.update(predicted, true, valid)
    signed = (predicted.clamp(LO, 1) / true.clamp(LO, 1)).log10()
    species = metric.per_species()
    torch.testing.assert_close(species["mae_dex"], signed.abs()[valid].mean(0))
    torch.testing.assert_close(species["bias_dex"], signed[valid].mean(0))
    torch.testing.assert_close(species["mean_rel"], (10**signed - 1).abs()[valid].mean(0))
    curve = [signed[:, t][valid[:, t]].abs().mean() for t in range(7)]
    torch.testing.assert_close(metric.per_step(), torch.stack(curve))


def test_rows_without_a_history_are_steps_of_their_own() -> None:
    predicted, true, valid = example()
    flat = predicted[valid][:, None], true[valid][:, None], torch.ones(int(valid.sum()), 1) > 0
    rows, whole = computed(flat), computed((predicted, true, valid))
    assert rows["mae_dex"] == pytest.approx(whole["mae_dex"], rel=1e-12)
    assert rows["first_step_dex"] == pytest.approx(rows["mae_dex"], rel=1e-12)
    assert rows["last_step_dex"] == pytest.approx(rows["mae_dex"], rel=1e-12)


def test_an_element_that_a_parcel_lacks_is_left_out() -> None:
    true = torch.zeros(1, 1, len(SPECIES), dtype=torch.float64)
    true[..., 6] = 0.5  # hydrogen atoms alone
    valid = torch.ones(1, 1, dtype=torch.bool)
    values = computed((1.1 * true, true, valid))
    assert values["elem_rel_mean"] == pytest.approx(0.1, rel=1e-12)
    assert "mae_dex_major" in values


def test_what_was_never_counted_is_not_reported() -> None:
    true = torch.full((1, 1, len(SPECIES)), 1e-15)
    assert "mae_dex_major" not in computed((true, true, torch.ones(1, 1) > 0))


def test_reset_forgets_everything() -> None:
    metric = metrics()
    metric.update(*example(seed=1))
    metric.reset()
    metric.update(*example())
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values == computed(example())


def test_shapes_that_disagree_are_named() -> None:
    predicted, true, valid = example()
    with pytest.raises(ValueError, match=r"\(6, 7, 9\) and \(6, 7, 10\)"):
        metrics().update(predicted[..., 1:], true, valid)
    with pytest.raises(ValueError, match="histories of 7 steps do not fit max_steps 5"):
        metrics(max_steps=5).update(predicted, true, valid)


def test_errors_of_single_tracers_average_to_those_of_all() -> None:
    predicted, true, _ = example()
    every = torch.ones(true.shape[:2], dtype=torch.bool)
    predicted[3, 1, 4] = torch.nan
    whole = computed((predicted, true, every))
    for name, value in tracer_errors(predicted, true, every).items():
        assert value.shape == (6,)
        assert value.mean().item() == pytest.approx(whole[name], rel=1e-12)


def test_histogram_puts_zero_below_every_number() -> None:
    bins = LogHistogram()
    counts = bins.count(torch.tensor([0.0, 0.0, 0.0, 1e-3, 1e30], dtype=torch.float64))
    low, high = bins.quantiles(counts, (0.5, 0.79)).tolist()
    assert low == 0
    assert high == pytest.approx(1e-3, rel=0.03)
    assert bins.quantiles(torch.zeros(len(bins)), (0.5,)).isnan().all()


def test_bootstrap_of_a_constant_difference_has_no_width() -> None:
    errors = np.random.default_rng(0).normal(size=9)
    assert paired_bootstrap(errors, errors + 0.5) == pytest.approx((-0.5, -0.5, -0.5))


def test_bootstrap_interval_is_that_of_a_normal_mean() -> None:
    # the standard error of a mean of n numbers is std/√n; 95 % lie within 1.96 of it
    difference = np.random.default_rng(1).normal(0.3, 1.0, 400)
    interval = paired_bootstrap(difference, np.zeros(400))
    half = 1.96 * difference.std() / 20
    assert interval.mean == pytest.approx(difference.mean())
    assert interval.low == pytest.approx(difference.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(difference.mean() + half, abs=0.01)


def test_separation_is_the_chance_that_an_outsider_scores_higher() -> None:
    rng = np.random.default_rng(2)
    inside, outside = rng.integers(0, 5, 30).astype(float), rng.integers(2, 7, 20).astype(float)
    pairs = outside[:, None] - inside
    chance = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert separation(inside, outside) == pytest.approx(chance, rel=1e-12)


@pytest.mark.ddp
def test_two_processes_report_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(measure_share, (str(tmp_path),), nprocs=2)
    expected = {name: value.item() for name, value in measure(0, 7).compute().items()}
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert {name: value.item() for name, value in found.items()} == pytest.approx(
            expected, rel=1e-12
        )
