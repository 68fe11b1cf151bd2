import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_emulators import (
    SPECIES,
    tiny_task,
    tracers,
    write_checkpoint,
    write_tracers,
)

from sciml.astrochem.apply import AstroEmulator
from sciml.astrochem.apply.evaluation import aligned, judge
from sciml.astrochem.apply.speed import measure_speed, solver_seconds
from sciml.astrochem.apply.training import (
    Training,
    fit_baselines,
    training_from,
    training_of,
    unseen,
)
from sciml.astrochem.data import SequenceData, Store
from sciml.astrochem.data.table import concatenate, make_table
from sciml.astrochem.generate.settings import Settings, open_chemistry


@pytest.fixture
def emulator() -> AstroEmulator:
    return AstroEmulator(tiny_task())


def test_every_model_is_judged_on_the_same_tracers(emulator: AstroEmulator) -> None:
    table = tracers()
    training = Training("here", tracers(seed=1), None)
    rivals = fit_baselines(["persistence", "knn"], training, (1e-20, 1.0))
    found = judge(emulator, table, rivals, "test")
    models = ["emulator", "unprojected", "reconstruction", "persistence", "knn"]
    assert list(found.metrics) == models
    assert found.steps == 5 + 8 + 5 + 3
    assert sorted(found.places.tolist()) == [0, 1, 2, 3]
    place = found.places.tolist().index(1)  # the one of nine rows
    rows = slice(table.ptr[1, 1], table.ptr[1, 1] + 9)
    physics, true = table.physics[rows], table.abundances[rows].astype(float)
    predictions = {
        "emulator": emulator.emulate(physics[:-1], true[0]),
        "unprojected": emulator.emulate(physics[:-1], true[0], project=False),
        "reconstruction": emulator.decode(emulator.encode(true[1:])),
        "persistence": np.repeat(true[:1], 8, axis=0),
    }
    for name, predicted in predictions.items():
        error = np.abs(np.log10(predicted.clip(1e-20, 1)) - np.log10(true[1:]))
        np.testing.assert_allclose(found.curves[name][place], error.mean(-1), atol=1e-4)
        assert found.each[name]["mae_dex"][place] == pytest.approx(error.mean(), abs=1e-4)


def test_curves_end_with_their_tracers(emulator: AstroEmulator) -> None:
    found = judge(emulator, tracers(), {}, "test")
    assert found.curves["emulator"].shape == (4, 8)
    assert np.isfinite(found.curves["emulator"]).sum(1).tolist() == [3, 5, 5, 8]
    whole = np.nansum(found.curves["emulator"]) / found.steps
    assert found.metrics["emulator"]["mae_dex"] == pytest.approx(whole, rel=1e-9)


def test_the_projection_is_what_conserves(emulator: AstroEmulator) -> None:
    table = tracers((5, 5))
    for place in range(2):  # a truth that conserves: the start for ever
        start = table.ptr[place, 1]
        table.abundances[start : start + 5] = table.abundances[start]
    found = judge(emulator, table, {}, "test").metrics
    assert found["emulator"]["elem_rel_max"] < 1e-12
    assert found["unprojected"]["elem_rel_mean"] > 1e-3


def test_predictions_that_are_not_finite_are_counted(emulator: AstroEmulator) -> None:
    with torch.no_grad():
        for parameter in emulator.task.net.parameters():
            parameter.fill_(math.nan)
    found = judge(emulator, tracers(), {}, "test")
    assert found.metrics["emulator"]["nonfinite"] == found.steps * len(SPECIES)
    assert found.metrics["reconstruction"]["nonfinite"] == 0
    assert found.fallbacks == found.steps


def test_conditions_outside_are_a_share_of_all(emulator: AstroEmulator) -> None:
    table = tracers((5, 5))
    table.physics[:2, 3] = 1e4
    found = judge(emulator, table, {}, "test")
    assert found.outside.tolist() == [2 / 16, 0.0]
    assert found.score[0] > found.score[1] + 1


def test_tracers_without_a_step_are_left_out(emulator: AstroEmulator) -> None:
    assert judge(emulator, tracers((1, 4, 1)), {}, "test").places.tolist() == [1]
    with pytest.raises(ValueError, match="group test has no tracer with two rows"):
        judge(emulator, tracers((1, 1)), {}, "test")


def test_species_are_brought_into_the_order_of_the_emulator(emulator: AstroEmulator) -> None:
    table = aligned(tracers(species=SPECIES[::-1]), emulator)
    assert table.species == SPECIES
    np.testing.assert_array_equal(table.values, tracers().values)


def test_training_tracers_are_recognised_by_their_numbers() -> None:
    first, second = tracers((4, 4, 4)), tracers((4, 4), seed=1)
    mixed = concatenate([second, first.select([2, 0])])
    left = unseen(mixed, [first])
    np.testing.assert_array_equal(left.values, second.values)


def test_baselines_learn_from_the_training_tracers_of_a_checkpoint(tmp_path: Path) -> None:
    file = write_tracers(tmp_path / "data.h5", all=tracers((6,) * 8))
    data = SequenceData(str(file), store=Store(artefacts=str(tmp_path / "artefacts")))
    path = write_checkpoint(tiny_task(), tmp_path / "e.ckpt", data)
    emulator = AstroEmulator.from_checkpoint(path)
    training = training_of(path, emulator)
    assert training is not None
    assert training.validation is not None
    expected = next(iter(data.chunks("train")))
    np.testing.assert_array_equal(training.tracers.values, expected.values)
    both = concatenate([training.tracers, training.validation])
    assert len(both.ptr) == 8
    assert not len(unseen(tracers((6,) * 8), [both]).ptr)


def test_a_checkpoint_without_data_says_nothing_of_its_training(tmp_path: Path) -> None:
    path = write_checkpoint(tiny_task(), tmp_path / "e.ckpt")
    emulator = AstroEmulator.from_checkpoint(path)
    assert training_of(path, emulator) is None
    assert list(fit_baselines(["persistence"], None, (1e-20, 1))) == ["persistence"]
    with pytest.raises(ValueError, match="does not say what it was trained on; give --train"):
        fit_baselines(["persistence", "knn"], None, (1e-20, 1))
    with pytest.raises(ValueError, match="unknown baseline 'nn'; there are persistence, mean"):
        fit_baselines(["nn"], None, (1e-20, 1))
    other = training_from(
        write_tracers(tmp_path / "t.h5", a=tracers(), b=tracers(seed=1)), path, emulator
    )
    assert len(other.tracers.ptr) == 8


def test_speed_is_measured_for_every_batch(emulator: AstroEmulator) -> None:
    found = measure_speed(emulator, batches=(1, 64), seconds=0.02)
    assert [(one.what, one.batch) for one in found][::3] == [("step", 1), ("step", 64)]
    assert all(one.per_second > 0 and one.per_cpu_second > 0 for one in found)
    assert found[3].per_second > 4 * found[0].per_second  # a batch of 64 is worth it


def test_the_solver_is_timed_where_its_network_is_emulated(emulator: AstroEmulator) -> None:
    table = tracers()
    assert solver_seconds(emulator, table) is None
    table.meta["attributes"] = {"cpu_s_per_tracer_step": 0.25}
    assert solver_seconds(emulator, table) == (0.25, "as the file says")
    with open_chemistry(Settings()) as chemistry:
        start = np.concatenate([[1e4, 1.0, 5.0, 15.0], chemistry.atoms()])
        species = chemistry.species
    emulator.species = species[::-1]
    own = np.stack([start, start])[:, [0, 1, 2, 3, *range(len(start) - 1, 3, -1)]]
    found = solver_seconds(emulator, make_table(own, [0.0, 1.0], [2], emulator.species))
    assert found is not None
    assert 0 < found[0] < 5
