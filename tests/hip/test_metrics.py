import numpy as np
import pytest
import torch
from torch import Tensor

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.metrics import Baselines, HIPMetrics, score
from sciml.hip.metrics.collection import IMAGINARY
from sciml.hip.metrics.errors import RULE_NAMES
from sciml.hip.physics.blocks import DISTANCE_BINS, PRIOR_FUNCTIONS, mean_block_hessian
from sciml.hip.physics.statistics import HessianStatistics
from sciml.hip.physics.vibrations import MASSES

Batch = dict[str, Tensor]
Molecule = dict[str, np.ndarray]
ELEMENTS = (1, 6, 8)
SIZES = (3, 1, 5, 2, 4, 6)
WAVENUMBER = 521.47090  # cm⁻¹ of 1 eV/Å²/amu, hip specification
PAIR_RANGES = (0.0, 1.2, 1.6, 2.5, 3.5, 5.0, np.inf)  # Å
RANGE_NAMES = ("below_1.2", "1.2_1.6", "1.6_2.5", "2.5_3.5", "3.5_5", "above_5")


def records(seed: int = 0) -> list[Record]:
    """Molecules of several sizes; the first lacks its Hessian, the third energy and forces."""
    rng = np.random.default_rng(seed)
    made = []
    for index, size in enumerate(SIZES):
        square = rng.normal(size=(3 * size, 3 * size)) * 4
        shift = 25 * np.eye(3 * size) * (index != 3)
        made.append(
            Record(
                numbers=rng.choice(ELEMENTS, size),
                positions=rng.normal(size=(size, 3)) * 1.5,
                energy=None if index == 2 else -900.0 + rng.normal(),
                forces=None if index == 2 else rng.normal(size=(size, 3)),
                hessian=None if index == 0 else square + square.T + shift,
                identifier=index,
            )
        )
    return made


def predict(batch: Batch) -> Batch:
    """A wrong answer that depends on the identifier alone, whatever the batch."""
    molecules = len(batch["ptr"]) - 1
    energy, forces, hessian = (
        batch["energy"].clone(),
        batch["forces"].clone(),
        batch["hessian"].clone(),
    )
    for row in range(molecules):
        rng = np.random.default_rng(100 + int(batch["id"][row]))
        size = int(batch["ptr"].diff()[row])
        atoms = slice(int(batch["ptr"][row]), int(batch["ptr"][row + 1]))
        energy[row] += rng.normal()
        forces[atoms] += torch.from_numpy(rng.normal(size=(size, 3)))
        noise = torch.from_numpy(rng.normal(size=(3 * size, 3 * size)))
        hessian[row, : 3 * size, : 3 * size] += noise + noise.T
    return {"total_energy": energy, "forces": forces.float().double(), "hessian": hessian}


def molecules(chosen: list[Record]) -> list[tuple[Record, Batch]]:
    return [(record, predict(collate([record], 5.0))) for record in chosen]


def vibrations(record: Record, hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenpairs in an explicit basis of the space orthogonal to rigid motions."""
    roots = np.sqrt(np.repeat(MASSES.numpy()[record.numbers], 3))
    axes = np.eye(3)
    moves = [np.tile(axis, len(record.numbers)) for axis in axes]
    turns = [np.cross(axis, record.positions).ravel() for axis in axes]
    left, singular, _ = np.linalg.svd(np.stack(moves + turns, axis=1) * roots[:, None])
    free = left[:, int((singular > 1e-8).sum()) :]
    values, vectors = np.linalg.eigh(free.T @ (hessian / roots[:, None] / roots) @ free)
    return values, free @ vectors


def reference(chosen: list[Record]) -> dict[str, float]:
    """Every metric by plain loops over molecules, pairs and modes."""
    bag: dict[str, list[float]] = {}

    def add(name: str, *values: float) -> None:
        bag.setdefault(name, []).extend(float(value) for value in values)

    for record, guess in molecules(chosen):
        size = len(record.numbers)
        if record.energy is not None and record.forces is not None:
            error = float(guess["total_energy"]) - record.energy
            add("energy_mae", abs(error))
            add("energy_mae_atom", abs(error) / size)
            add("energy_rmse", error**2)
            forces = guess["forces"].numpy() - record.forces
            add("forces_mae", *np.abs(forces).ravel())
            add("forces_rmse", *(forces**2).ravel())
        if record.hessian is not None:
            hessian_reference(record, guess["hessian"][0].numpy(), add)
            mode_reference(record, guess["hessian"][0].numpy(), add)
    means = {name: float(np.mean(values)) for name, values in bag.items()}
    return {k: np.sqrt(v) if "rmse" in k else v for k, v in means.items()}


def hessian_reference(record: Record, guess: np.ndarray, add) -> None:  # type: ignore[no-untyped-def]
    error = np.abs(guess - record.hessian)
    add("hessian_mae", error.mean())
    add("hessian_mae_entry", *error.ravel())
    add("hessian_rmse_entry", *(error**2).ravel())
    for i in range(len(record.numbers)):
        for j in range(len(record.numbers)):
            block = error[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].ravel()
            if i == j:
                add("hessian_mae_diagonal", *block)
                continue
            add("hessian_mae_offdiagonal", *block)
            distance = np.linalg.norm(record.positions[i] - record.positions[j])
            add(f"hessian_mae_{RANGE_NAMES[np.searchsorted(PAIR_RANGES, distance) - 1]}", *block)


def mode_reference(record: Record, guess: np.ndarray, add) -> None:  # type: ignore[no-untyped-def]
    plain = np.linalg.eigvalsh(guess) - np.linalg.eigvalsh(record.hessian)
    add("eigenvalue_mae", np.abs(plain).mean())
    (true, vectors), (seen, guessed) = (vibrations(record, h) for h in (record.hessian, guess))
    negative = (true < -1e-6).sum(), (seen < -1e-6).sum()
    add("negative_agreement", negative[0] == negative[1])
    for row, name in enumerate(("minimum", "saddle", "higher")):
        for column, other in enumerate(("minimum", "saddle", "higher")):
            hit = min(negative[0], 2) == row and min(negative[1], 2) == column
            add(f"confusion_{name}_as_{other}", hit)
    if negative[1] == 1:
        add("ts_precision", negative[0] == 1)
    if negative[0] == 1:
        add("ts_recall", negative[1] == 1)
    if not len(true):
        return
    add("modes_mae", np.abs(true - seen).mean())
    overlap = np.abs(guessed.T @ vectors)
    add("overlap_error", np.linalg.norm(overlap - np.eye(len(true))))
    for mode in range(min(2, len(true))):
        add(f"lambda{mode + 1}_mae", abs(true[mode] - seen[mode]))
        add(f"cos_v{mode + 1}", overlap[mode, mode])
    waves = [WAVENUMBER * np.sign(x) * np.sqrt(np.abs(x)) for x in (true, seen)]
    add("frequency_mae", np.abs(waves[0] - waves[1]).mean())
    inside = (waves[0] >= 400) & (waves[0] <= 4000)
    if inside.any():
        add("frequency_mae_400_4000", np.abs(waves[0] - waves[1])[inside].mean())
    zero = [0.5 * 1.239841984e-4 * wave[wave > 0].sum() for wave in waves]
    add("zpe_mae", 1000 * abs(zero[0] - zero[1]))


def compute(chosen: list[Record], batch_size: int) -> dict[str, float]:
    metrics = HIPMetrics("val")
    for start in range(0, len(chosen), batch_size):
        batch = collate(chosen[start : start + batch_size], 5.0)
        metrics.update(predict(batch), batch)
    return {name: value.item() for name, value in metrics.compute().items()}


@pytest.mark.parametrize("batch_size", [1, 2, len(SIZES)])
def test_metrics_equal_plain_loops_in_any_batches(batch_size: int) -> None:
    measured = compute(records(), batch_size)
    expected = reference(records())
    assert len(expected) > 30
    for name, number in expected.items():
        assert measured[f"val/{name}"] == pytest.approx(number, rel=1e-9, abs=1e-12), name
    assert "val/cos2_v1_plane" not in measured  # no near-degenerate pair among them
    assert not any(np.isnan(list(measured.values())))


def test_relative_forces_error_of_zero_forces_is_one() -> None:
    batch = collate(records(), 5.0)
    prediction = predict(batch) | {"forces": torch.zeros_like(batch["forces"])}
    metrics = HIPMetrics("val")
    metrics.update(prediction, batch)
    assert metrics.compute()["val/forces_relative"].item() == pytest.approx(1.0)


def test_residuals_of_the_rules_need_no_label() -> None:
    chosen = [record for record in records() if record.hessian is None]
    measured = compute(chosen, 1)
    assert not any(name.startswith("val/hessian_mae") for name in measured)
    assert all(measured[f"val/{name}"] >= 0 for name in RULE_NAMES)
    assert measured["val/hessian_translation"] > 0.1  # the random prediction breaks the rule


def test_two_ranks_merge_to_one() -> None:
    whole, parts = HIPMetrics("val"), [HIPMetrics("val"), HIPMetrics("val")]
    for index, record in enumerate(records()):
        batch = collate([record], 5.0)
        for metrics in (whole, parts[index > 1]):
            metrics.update(predict(batch), batch)
    merged = HIPMetrics("val")
    for part in parts:  # what the reduction of torchmetrics does
        merged.means.sums += part.means.sums
        merged.means.counts += part.means.counts
    merged.means._update_count = 1
    expected, measured = whole.compute(), merged.compute()
    assert set(measured) == set(expected)
    for name, value in expected.items():
        assert measured[name].item() == pytest.approx(value.item(), rel=1e-12), name


def test_near_degenerate_modes_are_compared_as_a_plane() -> None:
    # three equal atoms on a triangle with three equal springs: two modes share λ = 3k/2m,
    # the breathing mode has 3k/m (textbook); above it they are the two lowest
    corners = np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]])
    hessian = np.zeros((9, 9))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        move = np.zeros(9)
        move[3 * i : 3 * i + 3] = corners[i] - corners[j]
        move[3 * j : 3 * j + 3] = corners[j] - corners[i]
        hessian += np.outer(move, move)
    record = Record(np.array([1, 1, 1]), corners, 0.0, np.zeros((3, 3)), hessian)
    lowest = np.linalg.eigh(hessian)
    pair = lowest[1][:, 6:8]
    mixed = pair @ np.array([1.0, -1.0]) / 2**0.5
    batch = collate([record], 5.0)
    turned = hessian - 0.3 * np.outer(mixed, mixed)  # its lowest mode is a mixture of the two
    metrics = HIPMetrics("test")
    prediction = {
        "total_energy": batch["energy"],
        "forces": batch["forces"],
        "hessian": torch.from_numpy(turned)[None],
    }
    metrics.update(prediction, batch)
    assert metrics.compute()["test/cos2_v1_plane"].item() == pytest.approx(1.0)


def test_mode_analysis_stops_at_its_limit_until_reset() -> None:
    metrics = HIPMetrics("val", mode_samples=3)
    batch = collate(records(), 5.0)
    rows = metrics.update(predict(batch), batch)
    # the first three molecules hold two Hessian labels, so one more is due
    assert rows["cos_v1"].isnan().tolist() == [True, True, False, True, True, True]
    assert metrics.seen == 2
    metrics.reset()
    assert metrics.seen == 0


def test_a_prediction_that_is_not_finite_is_nan_not_an_error() -> None:
    batch = collate(records(), 5.0)
    prediction = predict(batch)
    prediction["hessian"][2] = torch.nan
    rows = HIPMetrics("val").update(prediction, batch)
    assert rows["eigenvalue_mae"].isnan().tolist() == [True, False, True, False, False, False]
    metrics = HIPMetrics("val")
    metrics.update(prediction, batch)
    assert metrics.compute()["val/eigenvalue_mae"].isnan()


def test_threshold_of_negative_modes_is_a_wavenumber() -> None:
    assert HIPMetrics("val").negative == pytest.approx(-1e-6)  # eV/Å²/amu, hip specification
    assert pytest.approx(-WAVENUMBER * 1e-3) == IMAGINARY


def test_baselines_of_known_tables() -> None:
    chosen = records()
    batch = collate(chosen, 5.0)
    size = len(ELEMENTS)
    generator = torch.Generator().manual_seed(0)

    def table(width: int) -> Tensor:
        raw = torch.rand(size, size, width, 2, generator=generator, dtype=torch.float64)
        return raw + raw.transpose(0, 1)

    e0 = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
    blocks = table(len(DISTANCE_BINS) + 1)
    baselines = Baselines(ELEMENTS)
    baselines.set_statistics(
        HessianStatistics(ELEMENTS, e0, e0, 1.0, 1.0, 1.0, table(PRIOR_FUNCTIONS), blocks)
    )
    metrics = HIPMetrics("val")
    metrics.update(predict(batch), batch, baselines)
    measured = {name: value.item() for name, value in metrics.compute().items()}
    labelled = [r for r in chosen if r.hessian is not None]
    zero = np.mean([np.abs(r.hessian).mean() for r in labelled])  # type: ignore[arg-type]
    assert measured["val/hessian_mae_zero"] == pytest.approx(zero)
    forces = np.concatenate([r.forces.ravel() for r in chosen if r.forces is not None])
    assert measured["val/forces_mae_zero"] == pytest.approx(np.abs(forces).mean())
    weights = dict(zip(ELEMENTS, e0.tolist(), strict=True))
    energies = [
        abs(r.energy - sum(weights[int(z)] for z in r.numbers)) / len(r.numbers)
        for r in chosen
        if r.energy is not None
    ]
    assert measured["val/energy_mae_atom_constants"] == pytest.approx(np.mean(energies))
    means = []
    for record in labelled:
        one = collate([record], 5.0)
        guess = mean_block_hessian(one, ELEMENTS, blocks)[0].numpy()
        means.append(np.abs(guess - record.hessian).mean())
    assert measured["val/hessian_mae_blocks"] == pytest.approx(np.mean(means))


def test_score_is_one_for_the_baselines_and_lower_for_better_models() -> None:
    values = {
        "val/hessian_mae": torch.tensor(0.5),
        "val/hessian_mae_prior": torch.tensor(0.5),
        "val/forces_mae": torch.tensor(0.05),
        "val/forces_mae_zero": torch.tensor(0.1),
    }
    assert score(values, "val") == pytest.approx(0.75)  # ½ (1 + ½)
    forces = {name: value for name, value in values.items() if "forces" in name}
    assert score(forces, "val") == pytest.approx(0.5)
    assert score({}, "val") is None
