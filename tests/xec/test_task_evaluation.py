import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gamma_files import branches, quiet_trainer, stream, tiny_net, tiny_task
from gammas import gammas
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib import pyplot as plt
from root_files import write_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sciml.cli import call_verb, verb_function
from sciml.xec.data import RootStream
from sciml.xec.loss import TaskLoss
from sciml.xec.net import XECNet, XECv1
from sciml.xec.physics.constants import LIGHT
from sciml.xec.report.predictions import TABLES, read_predictions
from sciml.xec.task import XECTask
from sciml.xec.task.evaluation import column_names, metrics
from sciml.xec.task.quantities import derived_columns, emission_time, uncertain

VAL = 30
FIGURES = ["angle", "calibration", "energy", "position", "timing", "worst"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of four epochs with two validations and a sanity check, and its test."""
    own = tmp_path_factory.mktemp("run")
    logger = TensorBoardLogger(own, name="", version="one")
    trainer = quiet_trainer(
        own, logger=logger, max_epochs=4, check_val_every_n_epoch=2, num_sanity_val_steps=1
    )
    task = tiny_task(figure_every_n_epochs=3)
    trainer.fit(task, datamodule=stream(folder, val=VAL))
    trainer.test(task, datamodule=stream(folder), verbose=False)
    assert not plt.get_fignums()
    return own / "one"


def table(path: Path) -> dict[str, np.ndarray]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_events_of_a_validation_are_in_the_folder_of_the_run(run: Path) -> None:
    expected = branches(VAL, seed=1)
    for name in TABLES:
        found = table(run / name)
        assert found["run"].tolist() == expected["run"].tolist()
        assert found["event"].tolist() == expected["event"].tolist()
    position, energy = table(run / "predictions_uvwFI.csv"), table(run / "predictions_energy.csv")
    for place, axis in enumerate("uvw"):  # once, though other tables have them too
        np.testing.assert_allclose(
            position[f"true_{axis}"], expected["uvwTruth"][:, place], rtol=1e-6
        )
        assert np.array_equal(position[f"true_{axis}"], energy[f"true_{axis}"])
    assert {"pred_u", "pred_v", "pred_w", "sig_u"} <= set(position)
    angle = table(run / "predictions_angle.csv")
    x, y, z = expected["emiVec"].astype("f8").T
    np.testing.assert_allclose(angle["true_theta"], np.degrees(np.arccos(z)), atol=1e-4)
    np.testing.assert_allclose(angle["true_phi"], np.degrees(np.arctan2(y, -x)), atol=1e-4)
    assert not list(run.glob(".*.part"))


def test_plots_are_made_of_that_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "plots"
    words = [str(run), f"--out={out}"]
    call_verb(verb_function("xec", "plots"), "sciml xec plots", words)
    assert {path.stem for path in out.glob("*.pdf")} >= set(FIGURES)
    tested = read_predictions(run / "test")
    for name, values in read_predictions(run).items():  # the same events and weights
        np.testing.assert_allclose(tested[name], values, rtol=1e-6, err_msg=name)


def test_figures_come_with_the_first_validation_after_their_epochs(run: Path) -> None:
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    images = {name: [one.step for one in events.Images(name)] for name in events.Tags()["images"]}
    # three steps an epoch; validations after epochs 1 and 3, counted from 0; figures from 0 and 3
    drawn = {name: [6, 12] for name in (f"val/{one}" for one in FIGURES)}
    assert images == drawn | {f"test/{one}": [12] for one in FIGURES}


def test_a_test_leaves_events_and_tables(run: Path) -> None:
    names = {path.name for path in (run / "test").glob("*")}
    assert names == {*TABLES, "summary.json", "resolutions.csv", "fits.csv"}
    assert len(table(run / "test" / "predictions_energy.csv")["event"]) == VAL
    assert "w > 2 cm" in (run / "test" / "resolutions.csv").read_text()


def test_validation_alone_writes_too_and_the_last_one_counts(folder: Path, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="one")
    task, data = tiny_task(), stream(folder)
    quiet_trainer(tmp_path, logger=logger).validate(task, datamodule=data, verbose=False)
    path = tmp_path / "one" / "predictions_timing.csv"
    before = table(path)
    assert np.isfinite(before["pred_timing"]).all()
    with torch.no_grad():
        for parameter in task.net.heads.timing.parameters():  # type: ignore[union-attr]
            parameter.add_(0.1)
    quiet_trainer(tmp_path, logger=logger).validate(task, datamodule=data, verbose=False)
    assert (table(path)["pred_timing"] != before["pred_timing"]).all()


@pytest.mark.parametrize("settings", [{"logger": False}, {"logger": True, "fast_dev_run": True}])
def test_nothing_is_written_without_a_logger(
    settings: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = quiet_trainer(tmp_path, max_steps=1, **settings)
    task = tiny_task(figure_every_n_epochs=1)
    trainer.fit(task, datamodule=stream(folder))
    trainer.test(task, datamodule=stream(folder), verbose=False)
    assert not list(tmp_path.rglob("predictions_*.csv"))


@pytest.mark.parametrize("count", [1, 2, 21])
def test_too_few_events_for_a_figure_do_not_stop_a_training(count: int, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="one")
    trainer = quiet_trainer(tmp_path, logger=logger, max_steps=1)
    trainer.fit(tiny_task(figure_every_n_epochs=1), datamodule=stream(tmp_path, 4, count))
    assert len(table(tmp_path / "one" / "predictions_uvwFI.csv")["run"]) == count
    assert not plt.get_fignums()


def test_a_network_that_diverged_is_drawn_and_written(folder: Path, tmp_path: Path) -> None:
    task = tiny_task(figure_every_n_epochs=1)
    with torch.no_grad():
        task.net.heads["energy"][-1].weight.fill_(1e6)  # type: ignore[index, union-attr]
    logger = CSVLogger(tmp_path, name="", version="one")
    quiet_trainer(tmp_path, logger=logger).validate(task, datamodule=stream(folder))
    assert np.isfinite(table(tmp_path / "one" / "predictions_timing.csv")["pred_timing"]).all()
    energy = tmp_path / "one" / "predictions_energy.csv"
    assert not energy.exists() or not np.isinf(table(energy)["pred_energy"]).any()


def test_emission_is_the_flight_from_the_origin_before_the_interaction() -> None:
    batch = gammas(6)
    flight = batch["xyz"].norm(dim=1) / LIGHT  # vertices are at the origin
    torch.testing.assert_close(emission_time(batch["timing"] + flight, batch["uvw"]),
                               batch["timing"])  # fmt: skip
    own = {f"pred_{axis}": batch["uvw"][:, place] for place, axis in enumerate("uvw")}
    rule = {f"rule_{axis}": batch["uvw"][:, place] + 1 for place, axis in enumerate("uvw")}
    times = {"pred_timing": batch["timing"] + flight, "rule_timing": batch["timing"] + flight}
    found = derived_columns(own | rule | times, batch, "interaction")
    assert torch.equal(found["true_emission"], batch["timing"])
    torch.testing.assert_close(found["pred_emission"], batch["timing"])
    assert (found["rule_emission"] < batch["timing"]).all()  # its flight is longer
    alone = derived_columns(rule | times, batch, "interaction")  # a network without a place
    assert torch.equal(alone["pred_emission"], found["rule_emission"])
    at_vertex = derived_columns(own | rule | times, batch, "vertex")
    assert torch.equal(at_vertex["pred_emission"], times["pred_timing"])


@pytest.mark.parametrize("reference", ["interaction", "vertex"])
def test_emission_of_the_target_is_measured_for_both_references(
    reference: Any, folder: Path, tmp_path: Path
) -> None:
    task = tiny_task(timing_reference=reference)
    trainer = quiet_trainer(tmp_path)
    (found,) = trainer.validate(task, datamodule=stream(folder), verbose=False)
    # without noise, from the origin: what is left is the usual depth in place of the true one
    assert found["val/rule_emission_res_68pct"] < 0.2
    assert abs(found["val/rule_emission_bias"]) < 0.3
    assert {"val/emission_res_68pct", "val/signal_emission_bias"} <= set(found)
    assert "val/signal_rule_emission_res_68pct" in found


def test_score_does_not_depend_on_units() -> None:
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {name: np.full(500, np.nan) for name in column_names([])}
    for name in ("u", "v", "w", "energy"):
        true = rng.uniform(0.02, 0.05, 500)
        table |= {f"true_{name}": true, f"pred_{name}": true * (1 + 0.01 * rng.normal(size=500))}
        table[f"rule_{name}"] = true * (1 + 0.02 * rng.normal(size=500))
    tensors = {name: torch.from_numpy(values) for name, values in table.items()}
    score = metrics(tensors, ["uvwFI", "energy"], [])["score"]
    assert float(score) == pytest.approx(0.5, rel=0.1)  # the errors are half as large
    scaled = {n: one * (10 if n[-2:] in {"_u", "_v", "_w"} else 1) for n, one in tensors.items()}
    again = metrics(scaled, ["uvwFI", "energy"], [])["score"]
    torch.testing.assert_close(again, score)


def gaussian_v1(*tasks: str) -> XECNet:
    return XECv1(tasks, tasks, encoder_dim=32, num_fusion_layers=1, hidden_dim=16)


@pytest.mark.filterwarnings("ignore:Found .* module.*in eval mode")  # heads that are not trained
@pytest.mark.parametrize(
    ("task", "losses", "names"),
    [
        ("angle", {}, ["theta", "phi"]),
        ("angleVec", {"angleVec": "gaussian_nll"}, ["ex", "ey", "ez"]),
    ],
)
def test_variances_of_directions_are_calibrated(
    task: str, losses: dict[str, Any], names: list[str], folder: Path, tmp_path: Path
) -> None:
    made = tiny_task(
        lambda: gaussian_v1(task), losses={name: TaskLoss(kind) for name, kind in losses.items()}
    )
    assert made.calibrated == names == uncertain(made.net)
    trainer = quiet_trainer(tmp_path, limit_train_batches=1)
    trainer.fit(made, datamodule=stream(folder))
    found = trainer.callback_metrics
    for name in names:
        assert 0.6 <= float(found[f"val/{name}_coverage_68"]) <= 0.75
        assert f"val/{name}_nll" in found
    batch = next(iter(stream(folder).loader("val")))
    with torch.no_grad():
        assert {f"sig_{name}" for name in names} <= set(made.eval().columns(batch))


def classes_alone() -> XECNet:
    return tiny_net(tasks=["n_gamma"], nll_tasks=[])


def test_numbers_of_gammas_are_judged_by_class(folder: Path, tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path)
    data = stream(folder)
    (found,) = trainer.validate(tiny_task(classes_alone), datamodule=data, verbose=False)
    recalls = {name: value for name, value in found.items() if "recall" in name}
    assert set(recalls) == {"val/n_gamma_recall_1", "val/n_gamma_recall_2"}  # all that there are
    balanced = sum(recalls.values()) / 2
    assert found["val/n_gamma_balanced_accuracy"] == pytest.approx(balanced)
    assert found["val/n_gamma_accuracy"] == pytest.approx(balanced)  # as many of both


def test_mixed_precision_needs_no_scaler(folder: Path, tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, precision="bf16-mixed", limit_train_batches=2)
    trainer.fit(tiny_task(), datamodule=stream(folder))
    assert trainer.precision_plugin.scaler is None  # type: ignore[attr-defined]
    assert torch.isfinite(trainer.callback_metrics["val/score"])


def test_events_without_numbers_have_none(tmp_path: Path) -> None:
    own = {name: one for name, one in branches(5).items() if name not in {"run", "event"}}
    path = str(write_file(tmp_path / "bare.root", own))
    logger = CSVLogger(tmp_path, name="", version="one")
    data = RootStream(val=path, batch_size=2)
    task: XECTask = tiny_task()
    quiet_trainer(tmp_path, logger=logger).validate(task, datamodule=data, verbose=False)
    assert set(table(tmp_path / "one" / "predictions_energy.csv")["event"].tolist()) == {-1.0}
    assert len(read_predictions(tmp_path / "one" / "predictions_energy.csv")["pred_energy"]) == 5
