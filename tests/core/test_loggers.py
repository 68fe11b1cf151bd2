"""Every logger of ``configs/logger`` takes metrics and figures, without a network."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger
from matplotlib import pyplot as plt
from toy import Keep, ToyData, ToyTask, make_task, make_trainer

CONFIGS = Path(__file__).parents[2] / "configs/logger"


class DrawingTask(ToyTask):
    """Draws a figure at every validation."""

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log_figure("val/line", plt.figure(figsize=(1, 1)))


def make_logger(name: str, folder: Path, **changes: Any) -> Logger:
    """The logger of a shipped config, in another folder."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["trainer"]["logger"]
    logger: Logger = getattr(loggers, config["class_path"])(**(config["init_args"] | changes))
    return logger


def fit(folder: Path, logger: Logger) -> None:
    trainer = make_trainer(folder, Keep(folder / "kept"), logger=logger, max_epochs=2)
    trainer.fit(make_task(make=DrawingTask), datamodule=ToyData())
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS.glob("*.yaml")])
def test_config_is_accepted_by_the_command_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from sciml.cli import main

    with pytest.raises(SystemExit) as leaving:
        main(["fit", "-c", f"configs/logger/{name}.yaml", "--print_config"])
    assert leaving.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["logger"]["class_path"].split(".")[-1] in dir(loggers)


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = make_logger("tensorboard", tmp_path, save_dir=tmp_path)
    fit(tmp_path, logger)
    events = EventAccumulator(str(logger.log_dir), size_guidance={"images": 0})
    events.Reload()
    assert len(events.Scalars("train/loss")) == 8
    assert [event.step for event in events.Images("val/line")] == [4, 8]
    assert (Path(str(logger.log_dir)) / "hparams.yaml").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_mlflow(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    logger = make_logger(
        "mlflow", tmp_path, tracking_uri=uri, artifact_location=str(tmp_path / "artifacts")
    )
    fit(tmp_path, logger)
    client = mlflow.tracking.MlflowClient(uri)
    run = client.get_run(logger.run_id)  # type: ignore[attr-defined]
    assert run.info.status == "FINISHED"
    assert {"train/loss", "val/mae"} <= set(run.data.metrics)
    assert [path.name for path in (tmp_path / "artifacts").rglob("*.png")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for kind in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path))
    logger = make_logger("wandb", tmp_path, save_dir=tmp_path)
    fit(tmp_path, logger)
    summary = dict(logger.experiment.summary)
    wandb.finish()
    assert summary["val/mae"] > 0
    assert summary["val/line"]["count"] == 1
    assert list(tmp_path.rglob("media/images/val/*.png"))
    assert list(tmp_path.rglob("*.wandb"))
