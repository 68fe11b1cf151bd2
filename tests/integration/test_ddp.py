"""Two processes do together what one does alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import EVALUATED, ToyData, differences, make_task, make_trainer

pytestmark = [pytest.mark.ddp, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("two_ranks.py")


def environment(folder: Path) -> dict[str, str]:
    """A SLURM job with a stand-in for ``scontrol``, and the toy on the path."""
    program = folder / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    return kept | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(TESTS / "core"),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "815",
        "SLURM_JOB_NAME": "interactive",  # Lightning does not look for srun then
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the two processes found, their exit codes and their folder."""
    folder = tmp_path_factory.mktemp("ddp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = environment(folder) | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }
    words = [sys.executable, str(SCRIPT), str(folder)]
    with (folder / "0.log").open("w") as first, (folder / "1.log").open("w") as second:
        processes = [
            subprocess.Popen(
                words,
                env=shared | {"RANK": rank, "LOCAL_RANK": rank},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for rank, log in (("0", first), ("1", second))
        ]
        try:
            codes = [process.wait(timeout=240) for process in processes]
        finally:
            for process in processes:
                process.kill()
    logs = [(folder / f"{rank}.log").read_text() for rank in range(2)]
    assert (folder / "1.pt").exists(), logs
    found = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    return found, codes, folder


def of(both: Any, scenario: str) -> tuple[Any, Any]:
    found = [ranks[scenario] for ranks in both[0]]
    for one in found:
        assert not (isinstance(one, str) and "Traceback" in one), one
    return found[0], found[1]


def test_metrics_of_an_odd_set_are_those_of_one_process(both: Any, tmp_path: Path) -> None:
    assert EVALUATED % 2
    task, trainer = make_task(), make_trainer(tmp_path)
    tested = trainer.test(task, datamodule=ToyData(), verbose=False)[0]["test/mae"]
    validated = trainer.validate(task, datamodule=ToyData(), verbose=False)[0]["val/mae"]
    for ranks in of(both, "evaluate"):
        assert ranks == pytest.approx((tested, validated), rel=1e-6)


@pytest.mark.parametrize("kind", ["ToyData-False", "ToyData-True", "ToyStream-False"])
def test_processes_share_the_samples_and_end_with_the_same_weights(both: Any, kind: str) -> None:
    (first, weights), (second, others) = (ranks[kind] for ranks in of(both, "train"))
    assert not set(first) & set(second)
    assert not differences(weights, others)
    if kind != "ToyData-True":
        assert len(first) == len(second) == 7  # of 15 samples one is left over


def test_runs_resume_to_the_same_bits(both: Any) -> None:
    assert of(both, "resume") == ([], [])


def test_step_that_fails_on_one_process_is_skipped_by_both(both: Any) -> None:
    (skipped, first), (others, second) = of(both, "guard")
    assert skipped == others == 2
    assert not differences(first, second)
    still = [step for step in range(1, 6) if not differences(first[step], first[step - 1])]
    assert still == [1, 4]


def test_both_processes_give_up_and_name_their_own_samples(both: Any) -> None:
    first, second = of(both, "give_up")
    for sentence in (first, second):
        assert sentence.startswith("20 training steps in a row")
    assert first != second


def test_predictions_are_merged(both: Any) -> None:
    for sentence, files in of(both, "predict"):
        assert "predicted.npz exists" in sentence
        assert files == ["predicted.npz"]
    with np.load(both[2] / "predicted.npz") as file:
        number, predicted = file["id"], file["y"]
    assert number.tolist() == [*range(0, EVALUATED, 2), *range(1, EVALUATED, 2)]
    task = make_task().eval()
    with torch.no_grad():
        expected = task.net(ToyData().dataset("predict")[:][0])  # type: ignore[index]
    np.testing.assert_allclose(predicted, expected[number], rtol=1e-6)


def test_provenance_figures_and_best_checkpoint_are_those_of_one_run(both: Any) -> None:
    first, second = of(both, "log")
    assert first == second
    assert not first[2]
    content = json.loads((both[2] / "logged/run/provenance.json").read_text())
    assert (content["processes"], content["steps"]) == (2, 6)


def test_first_process_computes_the_statistics_for_both(both: Any) -> None:
    assert of(both, "statistics") == ([1.0, 2.0], [1.0, 2.0])


def test_both_processes_say_that_there_is_too_little_data(both: Any) -> None:
    first, second = of(both, "too_small")
    assert first == second
    assert first.startswith("1 samples of the train split make no batch for some of 2 processes")


def test_samplers_of_lightning_are_refused(both: Any) -> None:
    for sentence in of(both, "divided_twice"):
        assert "set --trainer.use_distributed_sampler false" in sentence


def test_signal_to_one_process_requeues_the_job_once(both: Any) -> None:
    for code, step, wrong in of(both, "requeue"):
        assert (code, step, wrong) == (0, 3, [])
    assert both[1] == [0, 0]  # both left through a last signal
    assert (both[2] / "calls").read_text() == "requeue 815\n" * 2


LAUNCHED = """
import os, signal, sys
from pathlib import Path
from lightning.pytorch import Callback
from toy import ToyData, make_task, make_trainer

class Announce(Callback):
    def on_train_batch_start(self, trainer, *rest):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

trainer = make_trainer(Path(sys.argv[1]), Announce(), devices=2, strategy="ddp")
trainer.fit(make_task(), datamodule=ToyData())
sys.exit("the run went on")
"""


def test_processes_that_lightning_started_leave_well(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(LAUNCHED)
    words = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(
        words, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "checkpoints/last.ckpt").exists()
    assert (tmp_path / "calls").read_text() == "requeue 815\n"
