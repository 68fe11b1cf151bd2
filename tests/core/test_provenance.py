import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from toy import ToyData, make_task, make_trainer

import sciml
from sciml.core import provenance
from sciml.core.provenance import END, Provenance, checksum, git_state


class FiledData(ToyData):
    """The toy data with a file that stands for them."""

    path = Path()

    def files(self) -> list[Path]:
        return [self.path]


def run(folder: Path, **settings: Any) -> Path:
    (folder / "data.bin").write_bytes(b"numbers")
    data = FiledData()
    data.path = folder / "data.bin"
    logger = CSVLogger(folder, name="", version="run")
    trainer = make_trainer(folder, Provenance(), **({"logger": logger} | settings))
    trainer.fit(make_task(), datamodule=data)
    return folder / "run/provenance.json"


def test_file_says_what_the_run_was_made_of(tmp_path: Path) -> None:
    content = json.loads(run(tmp_path).read_text())
    assert content["sciml"] == sciml.__version__
    assert content["libraries"]["torch"] == torch.__version__
    assert (content["device"], content["processes"]) == ("cpu", 1)
    assert content["precision"] == "32-true"
    assert content["steps"] == 12
    assert 0 <= content["wall_seconds"] < 60
    assert content["peak_memory_mib"] > 50
    digest = hashlib.sha256(b"numbers" * 2).hexdigest()  # short files are all beginning, all end
    path = str(tmp_path / "data.bin")
    assert content["data"] == [{"file": path, "bytes": 7, "sha256_of_ends": digest}]


def test_run_that_breaks_down_has_its_provenance_too(tmp_path: Path) -> None:
    broken = FiledData(batch_size=1, poison=0)
    broken.path = tmp_path / "data.bin"
    broken.path.write_bytes(b"x")
    logger = CSVLogger(tmp_path, name="", version="run")
    with pytest.raises(ValueError, match="in a row"):
        make_trainer(tmp_path, Provenance(), logger=logger).fit(make_task(), datamodule=broken)
    assert "wall_seconds" not in json.loads((tmp_path / "run/provenance.json").read_text())


def test_trial_runs_and_runs_without_a_folder_write_nothing(tmp_path: Path) -> None:
    assert not run(tmp_path, fast_dev_run=True).exists()
    assert not run(tmp_path, logger=False).exists()


def test_checksum_covers_both_ends_of_large_files(tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = bytearray(3 * END)
    path.write_bytes(content)
    before = checksum(path)
    content[END + 5] = 1  # in the middle, which is left out
    path.write_bytes(content)
    assert checksum(path) == before
    for place in (0, END - 1, 2 * END, 3 * END - 1):
        changed = content.copy()
        changed[place] = 1
        path.write_bytes(changed)
        assert checksum(path)["sha256_of_ends"] != before["sha256_of_ends"]


def test_git_state_knows_commit_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@y"]
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert git_state() is None
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "file").write_text("2")
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": True}
