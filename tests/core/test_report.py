from pathlib import Path

import matplotlib as mpl
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib import pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sciml.core.report import house_style, log_figure, metric_table, show


def test_style_holds_inside_its_block_only() -> None:
    before = dict(mpl.rcParams)
    with house_style():
        assert dict(mpl.rcParams) != before
    assert dict(mpl.rcParams) == before


def test_colours_are_told_apart_without_colour_vision() -> None:
    # M. Okabe and K. Ito, Color universal design (2008)
    safe = {"000000", "E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7"}
    with house_style():
        colours = [name[1:] for name in mpl.rcParams["axes.prop_cycle"].by_key()["color"]]
    assert len(set(colours)) == len(colours)
    assert set(colours) <= safe


def test_figure_reaches_tensorboard_and_is_closed(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    log_figure([CSVLogger(tmp_path), logger], "val/line", plt.figure(), step=7)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    (image,) = events.Images("val/line")
    assert (image.step, image.width > 10) == (7, True)
    assert not plt.get_fignums()


def test_other_processes_close_their_figure_and_log_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log_figure([TensorBoardLogger(tmp_path)], "val/line", plt.figure(), step=7)
    assert not plt.get_fignums()
    assert not list(tmp_path.rglob("events*"))


def test_table_is_shown_once_with_all_its_cells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = metric_table("after 3 steps", ["model", "baseline"], {"mae": ["0.1", "0.2"]})
    show(table)
    text = capsys.readouterr().out
    for word in ("after 3 steps", "metric", "model", "baseline", "mae", "0.1", "0.2"):
        assert word in text
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    show(table)
    assert not capsys.readouterr().out
