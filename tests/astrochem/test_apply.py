from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_emulators import (
    ATOMS,
    BASE,
    LATENTS,
    SPECIES,
    STEP,
    histories,
    tiny_task,
    write_checkpoint,
)

from sciml.astrochem.apply import AstroEmulator, CellStepper, EmulatorEnsemble
from sciml.astrochem.apply.frame import emulate_rows, far_away
from sciml.astrochem.apply.inputs import few, species_columns
from sciml.astrochem.data.table import TracerTable, make_table
from sciml.astrochem.physics.species import initial_abundances
from sciml.astrochem.physics.statistics import motion


@pytest.fixture
def emulator() -> AstroEmulator:
    return AstroEmulator(tiny_task())


def conservation(abundance: np.ndarray, start: np.ndarray) -> float:
    """Largest relative difference of an element's total, entry after entry in float64."""
    totals = (start.astype(float) @ ATOMS)[:, None]
    return float(np.abs(abundance.astype(float) @ ATOMS / totals - 1).max())


def test_a_checkpoint_is_all_that_is_needed(tmp_path: Path, emulator: AstroEmulator) -> None:
    physics, start = histories()
    opened = AstroEmulator.from_checkpoint(write_checkpoint(tiny_task(), tmp_path / "e.ckpt"))
    assert opened.species == SPECIES
    assert opened.elements == ("H", "C", "O")
    assert opened.ranges["gasTemp"] == (7.0, 130.0)
    found = opened.emulate(physics, start)
    np.testing.assert_array_equal(found, emulator.emulate(physics, start))
    assert found.shape == (5, 7, 10)
    assert found.dtype == np.float32


def test_a_rollout_is_repeated_steps(emulator: AstroEmulator) -> None:
    physics, start = histories()
    found, latents = emulator.emulate(physics, start, project=False, return_latent=True)
    latent = emulator.encode(start)
    for step in range(7):
        before = physics[:, max(0, step - 1)]
        latent = emulator.step(latent, physics[:, step], physics_before=before)
        np.testing.assert_allclose(latents[:, step], latent, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[:, step], emulator.decode(latent), rtol=1e-4)
    np.testing.assert_allclose(emulator.rollout(physics, start), latents, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_elements_are_conserved_even_for_absurd_conditions(
    dtype: torch.dtype, limit: float, scale: float
) -> None:
    physics, start = histories()
    found = AstroEmulator(tiny_task(), dtype=dtype).emulate(physics * scale, start)
    assert conservation(found, start) < limit
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_without_the_projection_elements_are_not_conserved(emulator: AstroEmulator) -> None:
    physics, start = histories()
    assert conservation(emulator.emulate(physics, start, project=False), start) > 1e-3


def test_double_precision_agrees_with_single(emulator: AstroEmulator) -> None:
    physics, start = histories()
    double = AstroEmulator(tiny_task(), dtype=torch.float64).emulate(physics, start)
    single = emulator.emulate(physics, start)
    assert double.dtype == np.float64
    np.testing.assert_allclose(np.log10(single), np.log10(double), atol=1e-3)


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_chunks_do_not_change_the_result(emulator: AstroEmulator, chunk: int) -> None:
    physics, start = histories()
    whole = emulator.emulate(physics, start)
    np.testing.assert_allclose(emulator.emulate(physics, start, chunk=chunk), whole, rtol=1e-4)


def test_one_tracer_needs_no_batch(emulator: AstroEmulator) -> None:
    physics, start = histories()
    every = emulator.emulate(physics, start)
    one, latent = emulator.emulate(physics[2], start[2], return_latent=True)
    np.testing.assert_allclose(one, every[2], rtol=1e-4)
    assert latent.shape == (7, LATENTS)


def test_one_start_serves_many_histories(emulator: AstroEmulator) -> None:
    physics, start = histories()
    every = emulator.emulate(physics, np.repeat(start[:1], 5, axis=0))
    np.testing.assert_allclose(emulator.emulate(physics, start[0]), every, rtol=1e-6)
    same = emulator.emulate(physics[0], start)
    assert same.shape == (5, 7, 10)


def test_tensors_come_back_as_tensors(emulator: AstroEmulator) -> None:
    physics, start = histories()
    found = emulator.emulate(torch.from_numpy(physics), torch.from_numpy(start))
    np.testing.assert_array_equal(found.numpy(), emulator.emulate(physics, start))
    assert not found.requires_grad


def test_a_history_without_steps_gives_none(emulator: AstroEmulator) -> None:
    physics, start = histories(steps=0)
    assert emulator.emulate(physics, start).shape == (5, 0, 10)
    with pytest.raises(ValueError, match="have no steps"):
        emulator.rollout(physics, start)
    with pytest.raises(ValueError, match="have no steps"):
        emulator.extrapolation_score(physics, start)


def test_a_projected_state_is_encoded_again_when_asked(emulator: AstroEmulator) -> None:
    physics, start = histories(steps=2)
    found = emulator.emulate(physics, start, project_state=True)
    first = emulator.emulate(physics[:, :1], start)[:, 0]
    np.testing.assert_allclose(found[:, 0], first, rtol=1e-5)
    latent = emulator.step(emulator.encode(first), physics[:, 1], physics_before=physics[:, 0])
    decoded = emulator.project(emulator.decode(latent), start).abundance
    np.testing.assert_allclose(found[:, 1], decoded, rtol=1e-4)


def test_the_length_of_a_step_matters_where_it_is_an_input() -> None:
    emulator = AstroEmulator(tiny_task(dt_input=True))
    physics, start = histories()
    usual = emulator.emulate(physics, start)
    np.testing.assert_allclose(emulator.emulate(physics, start, STEP), usual, rtol=1e-5)
    own = np.full((5, 7), STEP)
    own[:, 3:] *= 4
    changed = emulator.emulate(physics, start, own)
    np.testing.assert_allclose(changed[:, :3], usual[:, :3], rtol=1e-5)
    assert not np.allclose(changed[:, 3:], usual[:, 3:], rtol=1e-3)
    np.testing.assert_allclose(emulator.emulate(physics, start, own[0]), changed, rtol=1e-5)


def test_another_step_is_refused_where_it_is_no_input(emulator: AstroEmulator) -> None:
    physics, start = histories()
    emulator.emulate(physics, start, STEP)
    with pytest.raises(ValueError, match="takes steps of 10000 yr only"):
        emulator.emulate(physics, start, 2 * STEP)
    with pytest.raises(ValueError, match="takes steps of its training data only"):
        AstroEmulator(tiny_task(autoregressive=True)).emulate(physics, start, STEP)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, x: (p, x[:, :9]), r"\(5, 9\) do not end in the 10 species"),
        (lambda p, x: (p, np.where(x > 0, np.nan, x)), r"abundance\[0, 0\] is not finite"),
        (lambda p, x: (p, -x), "the abundance of #CO is -"),
        (lambda p, x: (p[..., :3], x), r"\(5, 7, 3\) do not end in 4 columns"),
        (lambda p, x: (np.where(p > 0, np.inf, p), x), r"physics\[0, 0, 0\] is not finite"),
        (lambda p, x: (p * [1, 0, 1, 1], x), r"Radfield is 0 at \[0, 0\]; .* positive"),
        (lambda p, x: (p[:2], x), "2 histories do not fit 5 initial states"),
        (lambda p, x: (p[0, 0], x[0]), "are no histories"),
    ],
)
def test_wrong_inputs_are_named(emulator: AstroEmulator, change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        emulator.emulate(*change(*histories()))  # type: ignore[operator]


def test_wrong_steps_and_chunks_are_named(emulator: AstroEmulator) -> None:
    physics, start = histories()
    with pytest.raises(ValueError, match="chunk is -1"):
        emulator.emulate(physics, start, chunk=-1)
    with pytest.raises(ValueError, match="dt has to be positive"):
        emulator.emulate(physics, start, -1.0)
    with pytest.raises(ValueError, match=r"dt of shape \(3,\) does not fit steps \(5, 7\)"):
        emulator.emulate(physics, start, np.ones(3))
    with pytest.raises(ValueError, match=r"\(5, 7\) are not \(n, 4\)"):
        emulator.decode(np.zeros((5, 7)))


def test_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="span 20 decades"):
        AstroEmulator(tiny_task(), dtype=torch.bfloat16)


def test_species_are_found_by_name_in_either_spelling() -> None:
    assert species_columns(("O", "C", "CO"), ("C", "CO", "O")) == [1, 2, 0]
    assert species_columns(("CH3OH", "#HCOOH"), ("#H2CO2", "CH4O")) == [1, 0]
    with pytest.raises(ValueError, match="it lacks O and the emulator does not know N"):
        species_columns(("C", "N"), ("C", "O"))


def test_extrapolation_counts_conditions_outside_the_ranges(emulator: AstroEmulator) -> None:
    physics, start = histories()
    physics[1, 2:5, 3] = 1000.0
    physics[4, 0] = (1.0, 1e-3, 0.01, 1.0)
    found = emulator.extrapolation_score(physics, start)
    assert found.outside.tolist() == [0, 3, 0, 0, 4]
    assert set(np.argsort(found.score - found.distance)[3:]) == {1, 4}
    one = emulator.extrapolation_score(physics[1], start[1])
    assert one.outside == 3


def test_the_ends_of_a_range_are_inside_in_either_precision() -> None:
    for dtype in (torch.float32, torch.float64):
        emulator = AstroEmulator(tiny_task(), dtype=dtype)
        low, high = emulator.task.domain.physics_range.double().numpy()
        ends = np.stack([low, high]).astype(np.float32)  # as data files hold them
        found = emulator.extrapolation_score(ends, histories()[1][0])
        assert int(found.outside) == 0
        assert int(emulator.extrapolation_score(ends * 1.001, histories()[1][0]).outside) == 4
        seen = far_away(emulator, at_the_ends(ends))
        assert set(seen["rows_outside"].values()) == {0.0}


def at_the_ends(ends: np.ndarray) -> TracerTable:
    values = np.concatenate([np.concatenate([ends, ends[:1]]), np.tile(BASE, (3, 1))], 1)
    return make_table(values, STEP * np.arange(3), [3], SPECIES)


def test_distance_is_that_of_mahalanobis(emulator: AstroEmulator) -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(LATENTS, LATENTS))
    precision, mean = root @ root.T, rng.normal(size=LATENTS)
    emulator.task.domain.latent_precision.copy_(torch.from_numpy(precision))
    emulator.task.domain.latent_mean.copy_(torch.from_numpy(mean))
    physics, start = histories()
    latents = np.concatenate(
        [emulator.encode(start)[:, None], emulator.rollout(physics, start)], axis=1
    )
    expected = [
        np.sqrt(np.mean([(z - mean) @ precision @ (z - mean) / LATENTS for z in tracer]))
        for tracer in latents.astype(float)
    ]
    found = emulator.extrapolation_score(physics, start)
    np.testing.assert_allclose(found.distance, expected, rtol=1e-5)


def test_score_sees_states_that_do_not_belong_to_their_conditions(
    emulator: AstroEmulator,
) -> None:
    rng = np.random.default_rng(1)
    size = LATENTS + 4
    root = rng.normal(size=(size, size))
    precision, mean = root @ root.T, rng.normal(size=size)
    emulator.task.domain.joint_precision.copy_(torch.from_numpy(precision))
    emulator.task.domain.joint_mean.copy_(torch.from_numpy(mean))
    physics, start = histories()  # within the ranges: nothing is added for an excess
    before = np.concatenate(
        [emulator.encode(start)[:, None], emulator.rollout(physics, start)[:, :-1]], axis=1
    )
    joint = np.concatenate([before, np.log10(physics)], axis=2) - mean
    expected = np.sqrt(np.einsum("bti,ij,btj->bt", joint, precision, joint).mean(1) / size)
    found = emulator.extrapolation_score(physics, start)
    np.testing.assert_allclose(found.score, expected, rtol=1e-5)


def test_score_sees_histories_that_move_unlike_those_of_training(
    emulator: AstroEmulator,
) -> None:
    physics, start = histories()
    usual = [float(motion(torch.from_numpy(one[None]))) for one in physics]
    before = emulator.extrapolation_score(physics, start).score
    mean, std = np.mean(usual), max(np.std(usual), 0.05)
    emulator.task.domain.usual_motion.copy_(torch.tensor([mean, std]))
    known = emulator.extrapolation_score(physics, start).score
    np.testing.assert_allclose(known, before, rtol=1e-12)  # within three standard deviations
    still = np.repeat(physics[:, :1], physics.shape[1], axis=1)
    far = emulator.extrapolation_score(still, start).score
    emulator.task.domain.usual_motion.copy_(torch.tensor([0.0, np.inf]))
    unknown = emulator.extrapolation_score(still, start).score
    np.testing.assert_allclose(far - unknown, 0.1 * ((mean + 6) / std - 3), rtol=1e-4)


def test_one_step_has_no_motion(emulator: AstroEmulator) -> None:
    physics, start = histories()
    before = emulator.extrapolation_score(physics[:, :1], start).score
    emulator.task.domain.usual_motion.copy_(torch.tensor([-1.2, 0.1]))
    after = emulator.extrapolation_score(physics[:, :1], start).score
    np.testing.assert_array_equal(after, before)


def test_stepper_advances_in_place_like_a_rollout(emulator: AstroEmulator) -> None:
    physics, start = histories()
    stepper = CellStepper(emulator, chunk=2)
    latent = stepper.encode(start)
    address = latent.ctypes.data
    for step in range(7):
        assert stepper.advance(latent, physics[:, step]) is latent
    assert latent.ctypes.data == address
    expected = emulator.rollout(physics, start)[:, -1]
    np.testing.assert_allclose(latent, expected, rtol=1e-4, atol=1e-6)


def test_stepper_forgets_the_conditions_of_the_step_before(emulator: AstroEmulator) -> None:
    physics, start = histories()
    stepper = CellStepper(emulator)
    stepper.advance(stepper.encode(start), physics[:, 0])
    with pytest.raises(ValueError, match=r"3 cells come after 5; call forget\(\)"):
        stepper.advance(stepper.encode(start[:3]), physics[:3, 1])
    stepper.forget()
    latent = torch.from_numpy(stepper.encode(start[:3]))
    expected = emulator.step(latent, physics[:3, 1])
    torch.testing.assert_close(stepper.advance(latent, physics[:3, 1]), expected)


def test_a_wrong_length_leaves_all_cells_untouched() -> None:
    stepper = CellStepper(AstroEmulator(tiny_task()), chunk=2)
    physics, start = histories()
    latent = stepper.encode(start)
    before = latent.copy()
    wrong = np.array([STEP, STEP, STEP, STEP, 2 * STEP])
    with pytest.raises(ValueError, match="takes steps of 10000 yr only"):
        stepper.advance(latent, physics[:, 0], wrong)
    np.testing.assert_array_equal(latent, before)


def test_pieces_are_small_where_there_is_a_cache() -> None:
    assert CellStepper(AstroEmulator(tiny_task())).chunk == few(torch.device("cpu")) == 512
    assert few(torch.device("cuda")) > 10_000


def test_stepper_decodes_the_rows_that_are_asked_for(emulator: AstroEmulator) -> None:
    physics, start = histories()
    stepper = CellStepper(emulator, chunk=2)
    latent = stepper.encode(start)
    found = stepper.species_of(latent, ["CO", "E-", "H2"])
    np.testing.assert_allclose(found, emulator.decode(latent)[:, [4, 5, 7]], rtol=1e-5)
    with pytest.raises(ValueError, match="NH3 is no species"):
        stepper.species_of(latent, ["NH3"])
    with pytest.raises(ValueError, match=r"\(5, 4\) and conditions of shape \(4, 4\)"):
        stepper.advance(latent, physics[:4, 0])


def test_an_ensemble_gives_mean_and_spread_of_the_logarithms() -> None:
    emulators = [AstroEmulator(tiny_task(seed), dtype=torch.float64) for seed in range(3)]
    physics, start = histories()
    found = EmulatorEnsemble(emulators).emulate(physics, start, chunk=4)
    each = np.log10([one.emulate(physics, start) for one in emulators])
    np.testing.assert_allclose(found.std, each.std(0, ddof=1), rtol=1e-9)
    raw = 10 ** each.mean(0)
    totals = np.repeat(start, 7, axis=0)
    mean = emulators[0].project(raw.reshape(35, 10), totals).abundance.numpy()
    np.testing.assert_allclose(found.abundance, mean.reshape(5, 7, 10), rtol=1e-9)
    assert conservation(found.abundance, start) < 1e-12
    one = EmulatorEnsemble(emulators).emulate(physics[3], start[3])
    np.testing.assert_allclose(one.abundance, found.abundance[3], rtol=1e-6)


def test_an_ensemble_needs_emulators_of_one_chemistry(tmp_path: Path) -> None:
    path = write_checkpoint(tiny_task(), tmp_path / "e.ckpt")
    assert len(EmulatorEnsemble.from_checkpoints([path, path]).emulators) == 2
    with pytest.raises(ValueError, match="at least two"):
        EmulatorEnsemble.from_checkpoints([path])


def test_histories_of_unequal_lengths_are_emulated_together(emulator: AstroEmulator) -> None:
    lengths = (4, 1, 6, 4)
    physics, start = histories(tracers=4, steps=6)
    table = np.concatenate([physics[i, :n] for i, n in enumerate(lengths)])
    time = np.concatenate([STEP * np.arange(n) for n in lengths])
    starts = np.cumsum(lengths) - lengths
    found = emulate_rows(emulator, time, table, starts.tolist(), start)
    for i, n in enumerate(lengths):
        own = found[starts[i] : starts[i] + n]
        np.testing.assert_allclose(own[0], start[i], rtol=1e-6)
        alone = emulator.emulate(physics[i, : n - 1], start[i])
        np.testing.assert_allclose(own[1:], alone, rtol=1e-4)
    with pytest.raises(ValueError, match="time does not increase"):
        emulate_rows(emulator, time[::-1], table, starts.tolist(), start)


def test_data_frames_come_back_with_species(emulator: AstroEmulator) -> None:
    physics, _ = histories(tracers=2, steps=4)
    rows = physics.reshape(8, 4)
    frame = pd.DataFrame(
        rows, columns=["density", "rad_field", "Av", "gasTemp"], index=range(10, 18)
    )
    frame["tracer"], frame["time"] = np.repeat([3, 1], 4), np.tile(STEP * np.arange(4), 2)
    found = emulator.predict_dataframe(frame)
    assert list(found.columns) == ["tracer", "time", *SPECIES]
    assert list(found.index) == list(frame.index)
    start = initial_abundances(SPECIES)
    np.testing.assert_allclose(found.loc[14, list(SPECIES)].to_numpy(float), start, rtol=1e-6)
    expected = emulator.emulate(physics[:, :3], start)
    np.testing.assert_allclose(found.loc[11:13, list(SPECIES)], expected[0], rtol=1e-4)
    own = emulator.predict_dataframe(frame, histories(2)[1])
    np.testing.assert_allclose(
        own.loc[14, list(SPECIES)].to_numpy(float), histories(2)[1][1], rtol=1e-6
    )


def test_wrong_data_frames_are_named(emulator: AstroEmulator) -> None:
    frame = pd.DataFrame(np.ones((4, 4)), columns=["density", "radfield", "av", "temperature"])
    with pytest.raises(ValueError, match="has no column time"):
        emulator.predict_dataframe(frame)
    frame["time"], frame["tracer"] = STEP * np.arange(4), [0, 1, 0, 1]
    with pytest.raises(ValueError, match="rows of a tracer do not follow one another"):
        emulator.predict_dataframe(frame)


def test_elements_are_conserved_beside_the_charge_for_absurd_starts() -> None:
    task = tiny_task()
    task.projection.set_charge(task.charge)  # what a training set that conserves charge asks for
    physics, _ = histories()
    start = 10 ** np.random.default_rng(0).uniform(-30, 0, (5, len(SPECIES)))
    found = AstroEmulator(task, dtype=torch.float64).emulate(physics, start)
    assert conservation(found, start) < 1e-12
    assert (found > 0).all()
