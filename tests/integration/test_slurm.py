"""The cluster scripts, run with programs that stand in for SLURM and note how they are called."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sciml.cli import main

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "slurm").glob("*.sh"))
STAND_IN = """#!{python}
import json, os, sys
kept = ("SLURM", "WANDB", "OMP", "SRUN", "SHARDS", "SMILES", "SCIML")
seen = {{k: v for k, v in os.environ.items() if k.startswith(kept)}}
with open({log!r}, "a") as file:
    file.write(json.dumps([{name!r}, sys.argv[1:], seen]) + "\\n")
"""
TASK = {"SLURM_JOB_ID": "815", "SLURM_ARRAY_JOB_ID": "812", "SLURM_CPUS_PER_TASK": "8"}
Call = tuple[str, list[str], dict[str, str]]


class Cluster:
    """A folder to work in, and stand-ins for ``sbatch`` and ``srun`` at the front of the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "calls.jsonl"
        programs = folder / "programs"
        programs.mkdir()
        for name in ("sbatch", "srun"):
            text = STAND_IN.format(python=sys.executable, log=str(self.log), name=name)
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        inherited = ("SLURM", "WANDB", "OMP", "SRUN")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
        self.environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def run(self, script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(ROOT / "slurm" / script), *words],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def call(self, script: str, *words: str, **variables: str) -> Call:
        """The one program that a successful script called, with its words and environment."""
        self.log.unlink(missing_ok=True)
        done = self.run(script, *words, **variables)
        assert done.returncode == 0, done.stderr
        (line,) = self.log.read_text().splitlines()
        name, called, environment = json.loads(line)
        return name, called, environment


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_valid_bash_and_one_screen(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
    assert len(script.read_text().splitlines()) <= 55


@pytest.mark.parametrize("script", ["train.sh", "scan.sh"])
def test_time_limit_is_announced_to_the_processes_and_the_job_may_return(script: str) -> None:
    directives = [
        line for line in (ROOT / "slurm" / script).read_text().splitlines() if "#SBATCH" in line
    ]
    assert "#SBATCH --signal=SIGUSR1@120" in directives  # not B:, which only the shell would see
    assert "#SBATCH --requeue" in directives
    assert "#SBATCH --open-mode=append" in directives


@pytest.mark.parametrize("script", [path.name for path in SCRIPTS])
def test_without_arguments_the_usage_is_told(cluster: Cluster, script: str) -> None:
    done = cluster.run(script)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: slurm/{script} ")
    assert not cluster.log.exists()


def test_train_submits_itself_with_the_variables(cluster: Cluster) -> None:
    name, words, _ = cluster.call(
        "train.sh", "configs/hip/demo.yaml", "--data.train", "a b.h5",
        ACCOUNT="chem", PARTITION="gpu", TIME="24:00:00", MEMORY="90G", NODES="2", TASKS="4",
        CPUS="6",
    )  # fmt: skip
    assert name == "sbatch"
    for flag in (
        "--account=chem", "--partition=gpu", "--time=24:00:00", "--mem=90G", "--nodes=2",
        "--ntasks-per-node=4", "--cpus-per-task=6", "--gpus-per-node=4",
    ):  # fmt: skip
        assert flag in words
    script = str(ROOT / "slurm" / "train.sh")
    assert words[-4:] == [script, "configs/hip/demo.yaml", "--data.train", "a b.h5"]
    assert (cluster.folder / "lightning_logs" / "slurm").is_dir()  # sbatch does not make folders


def test_train_leaves_out_what_is_not_set(cluster: Cluster) -> None:
    _, words, _ = cluster.call("train.sh", "configs/hip/demo.yaml", GPUS="0")
    assert not any(word.startswith(("--account", "--partition", "--gpus")) for word in words)


def test_train_starts_one_fit_on_all_nodes(cluster: Cluster) -> None:
    job = {"SLURM_JOB_ID": "815", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    name, words, environment = cluster.call(
        "train.sh", "configs/hip/demo.yaml", "--model.optim.lr", "1e-4", "--data.train=a b.h5",
        SLURM_CPUS_PER_TASK="8", **job,
    )  # fmt: skip
    assert name == "srun"
    assert words == [
        "sciml", "fit", "-c", "configs/trainer/slurm.yaml", "-c", "configs/hip/demo.yaml",
        "--trainer.num_nodes=2", "--trainer.devices=4",
        "--model.optim.lr", "1e-4", "--data.train=a b.h5",
    ]  # fmt: skip
    assert environment["WANDB_RUN_ID"] == "sciml-815"
    assert environment["WANDB_RESUME"] == "allow"
    assert environment["OMP_NUM_THREADS"] == environment["SRUN_CPUS_PER_TASK"] == "8"


@pytest.mark.parametrize("script", ["train.sh", "scan.sh"])
def test_the_command_line_is_accepted(
    cluster: Cluster, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster.folder / "list.txt").write_text("--model.optim.lr 3e-3\n")
    given = ["configs/hip/demo.yaml", *(["list.txt"] if script == "scan.sh" else [])]
    job = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NUM_NODES": "1", "SLURM_ARRAY_TASK_ID": "0"}
    _, words, _ = cluster.call(script, *given, "--data.batch_size", "3", **TASK, **job)
    with pytest.raises(SystemExit) as left:
        main([*words[1:], "--print_config"])
    out, err = capsys.readouterr()
    assert left.value.code == 0, err
    config = yaml.safe_load(out)
    assert config["ckpt_path"] == "last"
    assert config["trainer"]["devices"] == "4"
    assert config["data"]["init_args"]["batch_size"] == 3
    (plugin,) = config["trainer"]["plugins"]
    assert plugin["init_args"]["auto_requeue"] is False


def test_requeued_job_types_the_same_line(cluster: Cluster) -> None:
    lines = [
        cluster.call("train.sh", "a.yaml", SLURM_JOB_ID="815", SLURM_RESTART_COUNT=str(count))
        for count in range(2)
    ]
    assert lines[0][1] == lines[1][1]
    assert lines[0][2]["WANDB_RUN_ID"] == lines[1][2]["WANDB_RUN_ID"]


def test_the_command_may_be_a_container(cluster: Cluster) -> None:
    _, words, _ = cluster.call(
        "train.sh", "a.yaml", SLURM_JOB_ID="1", SCIML="apptainer exec --nv sciml.sif sciml"
    )
    assert words[:6] == ["apptainer", "exec", "--nv", "sciml.sif", "sciml", "fit"]


def test_array_submits_one_task_a_shard(cluster: Cluster) -> None:
    name, words, environment = cluster.call(
        "array.sh", "data/train", "hip", "generate", SHARDS="5", AT_ONCE="2"
    )
    assert name == "sbatch"
    assert "--array=0-4%2" in words
    assert environment["SHARDS"] == "5"  # the tasks deal out the SMILES by it


def test_array_task_has_its_own_file_and_seed(cluster: Cluster) -> None:
    (cluster.folder / "data").mkdir()
    name, words, environment = cluster.call(
        "array.sh", "data", "hip", "generate", "--per_molecule", "3",
        SLURM_ARRAY_TASK_ID="7", **TASK,
    )  # fmt: skip
    assert name == "srun"
    assert words == [
        "sciml", "hip", "generate", "--per_molecule", "3",
        "--out", "data/shard_0007.h5", "--seed", "7", "--workers", "8",
    ]  # fmt: skip
    assert environment["OMP_NUM_THREADS"] == "1"  # the worker processes have one core each


def test_array_deals_out_every_smiles_once(cluster: Cluster) -> None:
    (cluster.folder / "data").mkdir()
    molecules = [f"{'C' * size}O" for size in range(1, 8)]
    (cluster.folder / "all.smi").write_text("\n".join(molecules) + "\n")
    dealt = []
    for task in range(3):
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "SHARDS": "3", "SMILES": "all.smi", **TASK}
        _, words, _ = cluster.call("array.sh", "data", "hip", "generate", **variables)
        assert words[-2:] == ["--smiles", f"data/shard_000{task}.smi"]
        dealt += (cluster.folder / words[-1]).read_text().split()
    assert sorted(dealt) == sorted(molecules)


def test_array_leaves_a_finished_shard_alone(cluster: Cluster) -> None:
    (cluster.folder / "data").mkdir()
    (cluster.folder / "data" / "shard_0001.h5").touch()
    done = cluster.run("array.sh", "data", "hip", "generate", SLURM_ARRAY_TASK_ID="1", **TASK)
    assert done.returncode == 0
    assert done.stdout == "data/shard_0001.h5 is finished\n"
    assert not cluster.log.exists()


LIST = """# learning rates
overlays/small.yaml

  overlays/large.yaml --data.batch_size 4
--model.optim.lr 3e-3 --seed_everything 1
"""


def test_scan_submits_one_task_a_line(cluster: Cluster) -> None:
    (cluster.folder / "list.txt").write_text(LIST)
    name, words, _ = cluster.call("scan.sh", "configs/hip/demo.yaml", "list.txt")
    assert name == "sbatch"
    assert "--array=0-2%20" in words
    assert words[-2:] == ["configs/hip/demo.yaml", "list.txt"]


@pytest.mark.parametrize(
    ("task", "own"),
    [
        (0, ["-c", "overlays/small.yaml"]),
        (1, ["-c", "overlays/large.yaml", "--data.batch_size", "4"]),
        (2, ["--model.optim.lr", "3e-3", "--seed_everything", "1"]),
    ],
)
def test_scan_task_fits_its_line(cluster: Cluster, task: int, own: list[str]) -> None:
    (cluster.folder / "list.txt").write_text(LIST)
    variables = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_NTASKS_PER_NODE": "1", **TASK}
    name, words, environment = cluster.call(
        "scan.sh", "configs/hip/demo.yaml", "list.txt", "--trainer.max_epochs", "3", **variables
    )
    assert name == "srun"
    presets = ["-c", "configs/trainer/slurm.yaml", "-c", "configs/hip/demo.yaml"]
    common = ["--trainer.devices=1", "--trainer.max_epochs", "3"]
    assert words == ["sciml", "fit", *presets, *own, *common]
    assert environment["WANDB_RUN_ID"] == "sciml-815"


def test_scan_refuses_an_empty_list(cluster: Cluster) -> None:
    (cluster.folder / "list.txt").write_text("# nothing yet\n")
    done = cluster.run("scan.sh", "configs/hip/demo.yaml", "list.txt")
    assert done.returncode == 2
    assert done.stderr == "list.txt names no fit\n"
