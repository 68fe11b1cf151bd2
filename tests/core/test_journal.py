import json
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from sciml.core.journal import Journal


def line(journal: Journal, folder: Path, **metrics: float) -> dict[str, object]:
    trainer = SimpleNamespace(
        log_dir=str(folder),
        is_global_zero=True,
        fast_dev_run=False,
        optimizers=[],
        current_epoch=2,
        global_step=7,
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
    )
    journal.on_train_epoch_end(trainer, nn.Linear(1, 1))  # type: ignore[arg-type]
    text = (folder / "epochs.jsonl").read_text().splitlines()[-1]

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found: dict[str, object] = json.loads(text, parse_constant=refuse)
    return found


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    found = line(Journal(), tmp_path, bad=float("nan"), worse=float("inf"), good=1.5)
    assert (found["bad"], found["worse"], found["good"]) == (None, None, 1.5)


def test_an_epoch_that_is_resumed_begins_with_the_run(tmp_path: Path) -> None:
    journal = Journal()
    journal._start = time.perf_counter() - 1e6
    journal.on_train_start(None, None)  # type: ignore[arg-type]
    assert float(str(line(journal, tmp_path)["seconds"])) < 100
