from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import write_plain
from shared import ASTROCHEM, needs_shared
from tracers import SPECIES, STEP, sample_table

from sciml.astrochem.data import AbundanceData, Reading, SequenceData, Store
from sciml.astrochem.data import statistics as statistics_module
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.species import charges, stoichiometric_matrix
from sciml.astrochem.physics.statistics import ChemistryStatistics

ROWS = (40, 70, 55)
ELEMENTS = ["H", "C", "O"]


def measured(folder: Path, table: TracerTable, **arguments: float) -> ChemistryStatistics:
    val = sample_table((9,), seed=77)
    val.values[:, 3] = 5000.0  # what is validated on does not count
    path = folder / "a.h5"
    path.unlink(missing_ok=True)
    write_plain(path, {"train": table, "val": val})
    store = Store(artefacts=str(folder / "artefacts"))
    data = AbundanceData(str(path), reading=Reading(elements=ELEMENTS), store=store, **arguments)  # type: ignore[arg-type]
    return data.statistics()


@pytest.mark.parametrize("lo", [1e-20, 1e-8])
def test_moments_are_those_of_the_training_rows(lo: float, tmp_path: Path) -> None:
    table = sample_table(ROWS)
    found = measured(tmp_path, table, lo=lo)
    x = np.clip(table.abundances.astype(float), lo, 1)
    scaled = 1 - np.log10(x) / np.log10(lo)
    np.testing.assert_allclose(found.mean, scaled.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.covariance, np.cov(scaled.T), rtol=1e-8, atol=1e-14)
    logs = np.log10(table.physics.astype(float))
    np.testing.assert_allclose(found.physics_mean, logs.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.physics_std, logs.std(0), rtol=1e-6)
    assert (found.species, found.elements) == (SPECIES, tuple(ELEMENTS))
    assert (found.lo, found.hi, found.rows, found.tracers) == (lo, 1.0, 165, 3)
    assert found.mean.dtype == found.covariance.dtype == found.physics_range.dtype == torch.float64


def test_range_encloses_the_training_rows_closely(tmp_path: Path) -> None:
    table = sample_table(ROWS)
    low, high = measured(tmp_path, table).physics_range.numpy()
    assert (low <= table.physics.min(0)).all()
    assert (high >= table.physics.max(0)).all()
    assert (low >= 0.9 * table.physics.min(0)).all()
    assert (high <= 1.1 * table.physics.max(0)).all()


def test_motion_is_that_of_the_conditions_that_act(tmp_path: Path) -> None:
    table = sample_table(ROWS)
    motions = []
    for _, first, length in table.ptr:
        steps = np.diff(np.log10(table.physics[first : first + length - 1].astype(float)), axis=0)
        motions.append(np.log10(np.sqrt((steps**2).sum(1).mean()) + 1e-6))
    mean, std = measured(tmp_path, table).physics_motion.tolist()
    assert mean == pytest.approx(np.mean(motions), rel=1e-6)
    assert std == pytest.approx(max(np.std(motions), 0.05), rel=1e-4)


def test_covariance_of_many_rows_is_that_of_evenly_spread_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics_module, "MOST_ROWS", 60)
    table = sample_table(ROWS)
    found = measured(tmp_path, table)
    some = 1 + np.log10(np.clip(table.abundances.astype(float), 1e-20, 1)[::3]) / 20
    np.testing.assert_allclose(found.mean, some.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.covariance, np.cov(some.T), rtol=1e-8, atol=1e-14)


def test_conserved_charge_is_seen(tmp_path: Path) -> None:
    table = sample_table(ROWS)
    assert measured(tmp_path, table).charge_conserved
    net = np.abs(table.abundances.astype(float) @ charges(SPECIES))
    assert (net <= 1e-6 * table.abundances[:, SPECIES.index("E-")]).all()


def test_one_charged_row_is_enough_to_enforce_nothing(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    table = sample_table(ROWS)
    table.abundances[50, SPECIES.index("E-")] *= 1 + 3e-6
    assert not measured(tmp_path, table).charge_conserved
    assert "charge will not be enforced" in told.text


def test_charge_without_electrons_is_not_conserved(tmp_path: Path) -> None:
    groups = {"train": sample_table(ROWS), "val": sample_table((9,), seed=77)}
    for table in groups.values():
        table.species = tuple("#C" if name == "E-" else name for name in SPECIES)
    path = write_plain(tmp_path / "a.h5", groups)
    store = Store(artefacts=str(tmp_path / "artefacts"))
    data = AbundanceData(str(path), reading=Reading(elements=ELEMENTS), store=store)
    assert not data.statistics().charge_conserved


def test_drift_of_an_element_is_the_largest_over_a_tracer(tmp_path: Path) -> None:
    table = sample_table(ROWS)
    assert measured(tmp_path, table).element_drift < 1e-6
    table.abundances[60, SPECIES.index("CO")] += 2e-5
    matrix = stoichiometric_matrix(SPECIES, ELEMENTS)
    totals = table.abundances[40:110].astype(float) @ matrix
    drift = np.abs(totals / totals[0] - 1).max()
    assert drift > 0.01
    assert measured(tmp_path, table).element_drift == pytest.approx(drift, rel=1e-6)


def test_steps_are_measured(tmp_path: Path) -> None:
    table = sample_table(ROWS)
    found = measured(tmp_path, table)
    assert (found.dt, found.constant_dt) == (STEP, True)
    table.time[20:40] += 0.5 * STEP
    found = measured(tmp_path, table)
    assert (found.dt, found.constant_dt) == (STEP, False)


def test_statistics_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measured(tmp_path, sample_table(ROWS))
    monkeypatch.setattr(statistics_module, "_Sums", None)  # measuring again would fail
    again = measured(tmp_path, sample_table(ROWS))
    assert torch.equal(first.covariance, again.covariance)
    assert first.element_drift == again.element_drift


@needs_shared
def test_supplied_sets_are_what_their_description_says(tmp_path: Path) -> None:
    store = Store(artefacts=str(tmp_path))
    paths = [str(ASTROCHEM / "uclchem_grav.h5"), str(ASTROCHEM / "uclchem_extra.h5")]
    data = SequenceData(paths, store=store)
    found = data.statistics()
    assert (found.tracers, data.artefacts.metadata["tracers"]["val"]) == (36, 9)
    assert found.dt == 1e4
    assert found.constant_dt
    assert not found.charge_conserved
    assert 1e-9 < found.element_drift < 1e-4
    data = SequenceData(str(ASTROCHEM / "embedded_train.h5"), store=store)
    found = data.statistics()
    assert (found.tracers, data.artefacts.metadata["tracers"]["val"]) == (90, 30)
    assert found.charge_conserved
    assert found.element_drift < 1e-6  # rounding to float32
