import numpy as np
import pytest
import torch
from torch import Tensor

from sciml.astrochem.data.table import TracerTable, make_table
from sciml.astrochem.metrics.baselines import (
    BASELINES,
    LinearStep,
    MeanHistory,
    NearestHistories,
    Persistence,
)

LENGTHS = (6, 9, 4, 7)


def tracers(seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> TracerTable:
    """Four species with random conditions and abundances that follow no law."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    values = np.concatenate(
        [10 ** rng.uniform(1, 3, (rows, 4)), 10 ** rng.uniform(-22, 0, (rows, 4))], 1
    )
    return make_table(values, np.arange(rows), lengths, ("C", "C+", "CO", "O"))


def queries(steps: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    start = 10 ** rng.uniform(-20, 0, (3, 4))
    return torch.from_numpy(start), torch.from_numpy(10 ** rng.uniform(1, 3, (3, steps, 4)))


def slow_neighbors(table: TracerTable, phys: np.ndarray, k: int) -> np.ndarray:
    """Weighted mean logarithm of the nearest histories of one query, ``(t, S)``."""
    distances, histories = [], []
    for _, start, length in table.ptr:
        common = min(length - 1, len(phys))
        own = np.log10(table.physics[start : start + common].astype(float))
        distances.append(((own - np.log10(phys[:common])) ** 2).mean())
        rows = [start + min(step + 1, length - 1) for step in range(len(phys))]
        histories.append(np.log10(np.clip(table.abundances[rows].astype(float), 1e-20, 1)))
    order = np.argsort(distances)[:k]
    weights = 1 / np.array(distances)[order]
    return np.einsum("k,kts->ts", weights / weights.sum(), np.array(histories)[order])


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_give_every_step_of_every_tracer(name: str) -> None:
    baseline = BASELINES[name]()
    baseline.fit(tracers())
    abundance = baseline.rollout(*queries(11))
    assert abundance.shape == (3, 11, 4)
    assert abundance.dtype == torch.float64
    assert bool((abundance >= 0).all() & (abundance <= 1).all())


def test_persistence_holds_the_start() -> None:
    x0, phys = queries(5)
    assert torch.equal(Persistence().rollout(x0, phys)[:, 4], x0)


def test_mean_is_that_of_the_logarithms_at_a_step() -> None:
    baseline, table = MeanHistory(), tracers()
    baseline.fit(table)
    x0, phys = queries(12)
    history = baseline.rollout(x0, phys).log10()
    logarithm = np.log10(np.clip(table.abundances.astype(float), 1e-20, 1))
    starts = table.ptr[:, 1]
    expected = logarithm[starts + 3].mean(0)  # all four have a third step
    np.testing.assert_allclose(history[1, 2], expected, rtol=1e-12)
    longest = logarithm[starts[1] + 8]  # only the second has an eighth, held from then on
    np.testing.assert_allclose(history[0, 7], longest, rtol=1e-12)
    np.testing.assert_allclose(history[0, 11], longest, rtol=1e-12)


@pytest.mark.parametrize("steps", [3, 6, 12])
def test_neighbors_are_those_of_a_loop_over_histories(steps: int) -> None:
    baseline, table = NearestHistories(neighbors=3), tracers()
    baseline.fit(table)
    x0, phys = queries(steps)
    found = baseline.rollout(x0, phys).log10()
    for row in range(3):
        slow = slow_neighbors(table, phys[row].numpy(), 3)
        np.testing.assert_allclose(found[row], slow, rtol=1e-7)


def test_neighbors_are_found_without_the_chemistry() -> None:
    baseline, table = NearestHistories(), tracers()
    baseline.fit(table)
    x0, phys = queries(5)
    assert torch.equal(baseline.rollout(x0, phys), baseline.rollout(x0.flip(0), phys))


def test_a_known_history_is_returned_as_it_is() -> None:
    baseline, table = NearestHistories(), tracers()
    baseline.fit(table)
    _, start, length = table.ptr[1]
    phys = torch.from_numpy(table.physics[start : start + length - 1])[None]
    x0 = torch.zeros(1, 4)
    expected = np.clip(table.abundances[start + 1 : start + length], 1e-20, 1)
    np.testing.assert_allclose(baseline.rollout(x0, phys)[0], expected, rtol=1e-5)


def test_linear_step_finds_a_linear_law() -> None:
    rng = np.random.default_rng(3)
    step = np.array([[0.8, 0.1, 0.0], [-0.1, 0.9, 0.05], [0.0, 0.0, 0.7]])
    drive = rng.normal(size=(4, 3)) * 0.3
    physics = rng.normal(size=(8, 20, 4))
    states = [rng.normal(size=(8, 3))]
    for place in range(19):
        states.append(states[-1] @ step + physics[:, place] @ drive)
    state = np.stack(states, 1)
    values = 10 ** np.concatenate([physics + 2, state - 8], -1)
    table = make_table(values.reshape(160, 7), np.arange(160), [20] * 8, ("C", "CO", "O"))
    baseline = LinearStep(components=3, ridge=1e-14)
    baseline.fit(table)
    found = baseline.rollout(
        torch.from_numpy(values[:, 0, 4:]), torch.from_numpy(values[:, :19, :4])
    )
    # the table holds float32: seven digits of each of the numbers
    np.testing.assert_allclose(found.log10() + 8, state[:, 1:], atol=2e-4)


def test_linear_step_is_the_same_from_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for size in (10_000, 3):
        monkeypatch.setattr("sciml.astrochem.metrics.baselines.PIECE", size)
        baseline = LinearStep(components=2)
        baseline.fit(tracers())
        ends.append(baseline.rollout(*queries(5)))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=0)


def test_linear_step_stays_bounded_whatever_the_conditions() -> None:
    baseline = LinearStep(components=3)
    baseline.fit(tracers())
    x0, _ = queries(1)
    absurd = torch.tensor([1e30, 1e-30, 1e20, 1e9]).expand(3, 400, 4)
    abundance = baseline.rollout(x0, absurd)
    assert bool(torch.isfinite(abundance).all())
    assert abundance.min() >= 1e-20
    assert abundance.max() <= 1
