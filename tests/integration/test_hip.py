"""Whole runs of hip through the command line, on molecules of springs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hessian_files import spring_records
from runs import last_metrics, quiet
from torch import Tensor

import sciml
from sciml.cli import main
from sciml.core.optim import Optim
from sciml.hip import MACEHIP, HIPTask
from sciml.hip.data.packed import PackedWriter
from sciml.hip.data.writer import Header
from sciml.hip.net.settings import HessianHead, Radial

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on so small a run
]
CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "hip").glob("*.yaml"))
SMALL = [
    "--model.net.channels=4",
    "--model.net.max_ell=2",
    "--model.net.correlation=2",
    "--model.net.radial.mlp=[8]",
]
HEAD = ["--model.net.head.dim=4", "--model.net.head.mlp=[8]"]


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "springs.h5"
    with PackedWriter(path, Header(None, "springs")) as writer:
        for record in spring_records():
            writer.add(record)
    return path


def flags(config: str, molecules: Path, folder: Path, head: bool = True) -> list[str]:
    """A run of four molecules a batch that leaves everything in one folder."""
    return [
        "-c",
        "configs/trainer/cpu.yaml",
        "-c",
        f"configs/hip/{config}.yaml",
        *SMALL,
        *(HEAD if head else []),
        f"--data.train={molecules}",
        "--data.split=random",
        "--data.fractions=[0.5,0.25,0.25]",
        "--data.batch_size=2",
        "--data.num_workers=0",
        *quiet(folder),
    ]


@pytest.mark.parametrize("config", [path.stem for path in CONFIGS])
def test_every_experiment_trains_and_is_tested_from_its_checkpoint_alone(
    config: str, molecules: Path, tmp_path: Path
) -> None:
    more = ["--trainer.max_steps=3", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1"]
    more += ["--trainer.check_val_every_n_epoch=1"]
    layers: list[str] = []
    if config == "horm":
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(
            "data: {init_args: {val: null, test: null, "
            "subset: {weights_per_file: null, samples_per_epoch: null}}}\n"
        )
        layers = ["-c", str(overlay)]
    given = flags(config, molecules, tmp_path, head=config != "energy_forces")
    main(["fit", *given[:4], *layers, *given[4:], *more])
    best = next(tmp_path.rglob("last.ckpt"))
    out = tmp_path / "test"
    main(["test", "--ckpt_path", str(best), *quiet(out)])
    found = last_metrics(out)
    assert found["test/forces_mae"] > 0
    assert ("test/hessian_mae" in found) == (config != "energy_forces")
    summary = json.loads((out / "run" / "one" / "test" / "summary.json").read_text())
    assert summary["molecules"] == 3
    assert (out / "run" / "one" / "test" / "molecules.csv").read_text().count("\n") == 4


@pytest.fixture(scope="module")
def trained(molecules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two epochs through the real entry point."""
    folder = tmp_path_factory.mktemp("trained")
    words = [
        *flags("demo", molecules, folder),
        "--trainer.max_epochs=2",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.log_every_n_steps=1",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "sciml", "fit", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hessian_mae" in done.stdout
    assert "prior" in done.stdout
    return folder


def test_a_run_leaves_its_settings_splits_and_provenance(trained: Path) -> None:
    folder = trained / "run" / "one"
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "splits.json", "provenance.json", "checkpoints"} <= names
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["data"][0]["file"].endswith("springs.h5")
    parts = json.loads((folder / "splits.json").read_text())
    used = parts["train"] + parts["val"] + parts["test"]
    assert sorted(used) == list(range(len(spring_records())))


def test_validate_reproduces_the_stored_metric(trained: Path, tmp_path: Path) -> None:
    best = next(trained.rglob("best.ckpt"))
    states = torch.load(best, weights_only=True)["callbacks"].values()
    stored = next(s for s in states if s.get("monitor"))
    main(["validate", "--ckpt_path", str(best), *quiet(tmp_path)])
    found = last_metrics(tmp_path)[stored["monitor"]]
    assert found == pytest.approx(float(stored["current_score"]), rel=1e-6)


def test_typed_settings_beat_those_of_the_checkpoint(
    trained: Path, molecules: Path, tmp_path: Path
) -> None:
    last = next(trained.rglob("last.ckpt"))
    words = [*flags("demo", molecules, tmp_path), "--trainer.max_epochs=3"]
    words += ["--model.optim.lr=1e-5", "--model.optim.schedule=constant"]
    cli = main(["fit", *words, "--model.optim.warmup=0", f"--ckpt_path={last}"])
    assert cli.trainer.optimizers[0].param_groups[0]["lr"] == 1e-5
    assert cli.trainer.current_epoch == 3


def test_prediction_of_a_checkpoint_is_that_of_the_loaded_task(
    trained: Path, molecules: Path, tmp_path: Path
) -> None:
    best = next(trained.rglob("best.ckpt"))
    out = tmp_path / "out.npz"
    main(["predict", "--ckpt_path", str(best), f"--predictions.out={out}", *quiet(tmp_path)])
    with np.load(out) as file:
        predicted = {name: file[name] for name in file.files}
    task = sciml.load(best)
    assert isinstance(task, HIPTask)
    records = {record.identifier: record for record in spring_records()}
    counts = [len(records[number].numbers) for number in predicted["id"].tolist()]
    assert predicted["atoms"].tolist() == counts
    assert len(predicted["forces"]) == sum(counts)
    assert len(predicted["hessian"]) == sum(9 * count**2 for count in counts)
    from sciml.hip.data.batch import collate

    first = records[int(predicted["id"][0])]
    expected = task(collate([first], 5.0))
    assert predicted["energy"][0] == pytest.approx(expected["total_energy"].item(), abs=1e-5)
    size = counts[0]
    hessian = predicted["hessian"][: 9 * size**2].reshape(3 * size, 3 * size)
    assert np.allclose(hessian, expected["hessian"][0].numpy(), atol=1e-4)


def test_a_task_built_by_hand_is_loaded_as_the_command_lines(
    molecules: Path, tmp_path: Path
) -> None:
    from lightning.pytorch import Trainer

    from sciml.hip import HessianData

    net = MACEHIP(
        (1, 6, 7, 8),
        channels=4,
        max_ell=2,
        correlation=2,
        radial=Radial(mlp=(8,)),
        head=HessianHead(dim=4, mlp=(8,)),
    )
    task = HIPTask(net, Optim(lr=1e-3))
    data = HessianData(str(molecules), fractions=(0.5, 0.25, 0.25), batch_size=2, num_workers=0)
    settings = {"accelerator": "cpu", "devices": 1, "logger": False, "default_root_dir": tmp_path}
    bars = {"enable_progress_bar": False, "enable_model_summary": False, "inference_mode": False}
    first = Trainer(max_epochs=1, **settings, **bars)
    first.fit(task, datamodule=data)
    path = tmp_path / "hand.ckpt"
    first.save_checkpoint(path)
    loaded = sciml.load(path)
    assert same_tensors(loaded.state_dict(), task.state_dict())
    second = Trainer(max_epochs=2, **settings, **bars)
    second.fit(HIPTask(net, Optim(lr=1e-3)), datamodule=data, ckpt_path=path)
    assert second.current_epoch == 2


def same_tensors(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_bad_input_is_one_sentence(trained: Path, molecules: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.h5"
    cut.write_bytes(molecules.read_bytes()[:3000])
    words = flags("demo", molecules, tmp_path)
    cases = {  # sentence: flags
        "unknown flag --model.optm.lr; did you mean --model.optim.lr": [
            *words,
            "--model.optm.lr=1",
        ],
        "truncated": [*words, f"--data.train={cut}"],
        "no/such.h5": [*words, "--data.train=no/such.h5"],
    }
    for expected, given in cases.items():
        done = subprocess.run(
            [sys.executable, "-m", "sciml", "fit", *given],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("sciml: ")]
        assert done.returncode == 2, done.stderr
        assert len(lines) == 1, done.stderr
        assert expected in lines[0]
        assert "Traceback" not in done.stderr
