import csv
import json
from collections import OrderedDict
from functools import partial
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from tiny_emulators import (
    ELEMENTS,
    SPECIES,
    STEP,
    histories,
    tiny_task,
    tracers,
    write_checkpoint,
    write_tracers,
)
from torch import Tensor, nn
from torch.nn.functional import gelu

import sciml
from sciml.astrochem import AutoencoderTask, SequenceData
from sciml.astrochem.apply import AstroEmulator
from sciml.astrochem.apply.speed import measure_speed
from sciml.astrochem.data import Store
from sciml.astrochem.data.files import read_table
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.species import initial_abundances
from sciml.cli import main


class Original(nn.Module):
    """The tied autoencoder as its authors wrote it: other names, another order."""

    def __init__(self, sizes: tuple[int, int, int, int]) -> None:
        super().__init__()
        s, h0, h1, latents = sizes
        self.decode_bias1 = nn.Parameter(torch.randn(h1))
        self.decode_bias2 = nn.Parameter(torch.randn(h0))
        self.decode_bias3 = nn.Parameter(torch.randn(s))
        self.encoder1 = nn.Linear(s, h0, bias=False)
        self.bn1 = nn.BatchNorm1d(h0)
        self.encoder2 = nn.Linear(h0, h1, bias=False)
        self.bn2 = nn.BatchNorm1d(h1)
        self.encoder3 = nn.Linear(h1, latents)
        self.bn3 = nn.BatchNorm1d(latents)
        self.decoder_bn1 = nn.BatchNorm1d(h1)
        self.decoder_bn2 = nn.BatchNorm1d(h0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2.0)

    def encode(self, x: Tensor) -> Tensor:
        hidden = gelu(self.bn2(self.encoder2(gelu(self.bn1(self.encoder1(x))))))
        return gelu(self.bn3(self.encoder3(hidden)))

    def decode(self, z: Tensor) -> Tensor:
        g2 = gelu(self.decoder_bn1(z @ self.encoder3.weight + self.decode_bias1))
        g1 = gelu(self.decoder_bn2(g2 @ self.encoder2.weight + self.decode_bias2))
        return torch.sigmoid(g1 @ self.encoder1.weight + self.decode_bias3)


def scaled(abundance: np.ndarray) -> Tensor:
    return torch.from_numpy(1 + np.log10(abundance.clip(1e-20, 1)) / 20).float()


@pytest.fixture
def original(tmp_path: Path) -> Original:
    torch.manual_seed(1)
    net = Original((10, 7, 6, 3)).eval()
    compiled = OrderedDict((f"_orig_mod.{name}", value) for name, value in net.state_dict().items())
    torch.save(compiled, tmp_path / "AE.pth")
    (tmp_path / "species.txt").write_text("\n".join(SPECIES))
    return net


def imported(folder: Path, *more: str) -> Path:
    words = ["astrochem", "import", str(folder / "AE.pth"), "--out", str(folder / "new.ckpt")]
    with pytest.warns(UserWarning, match="no species holds"):  # ten species have three elements
        return Path(main([*words, "--species", str(folder / "species.txt"), *more]))


def test_an_imported_autoencoder_computes_what_the_original_does(
    original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = imported(tmp_path)
    assert "decoder_bn2.running_var" in capsys.readouterr().out
    task = sciml.load(path)
    assert isinstance(task, AutoencoderTask)
    x = scaled(histories()[1])
    z = original.encode(x)
    torch.testing.assert_close(task.net.encode(x), z)
    torch.testing.assert_close(task.net.decode(z), original.decode(z))


def test_an_imported_emulator_is_complete(original: Original, tmp_path: Path) -> None:
    torch.manual_seed(2)
    body = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))
    torch.save({"model_state_dict": body.state_dict()}, tmp_path / "EM.pth")
    ranges = ["--scales.density", "[1e2,1e7]", "--scales.radfield", "[0.1,10]"]
    ranges += ["--scales.av", "[0.5,100]", "--scales.temperature", "[7,130]"]
    path = imported(
        tmp_path, "--emulator", str(tmp_path / "EM.pth"), "--scales.latents", "[-0.2,3]", *ranges
    )
    emulator = AstroEmulator.from_checkpoint(path)
    assert emulator.ranges["Density"] == (1e2, 1e7)
    physics, start = histories(steps=2)
    low, high = np.log10([[1e2, 0.1, 0.5, 7.0], [1e7, 10.0, 100.0, 130.0]])
    p = torch.from_numpy((np.log10(physics) - low) / (high - low)).float()
    with torch.no_grad():
        z = (original.encode(scaled(start)) + 0.2) / 3.2
        for step in range(2):
            z = (z + body(torch.cat([p[:, step], z], 1))).clamp(0, 1)
        expected = 10 ** (20 * (original.decode(3.2 * z - 0.2) - 1))
    found = emulator.emulate(physics, start, project=False)[:, -1]
    np.testing.assert_allclose(np.log10(found), expected.log10(), atol=2e-4)


def test_weights_that_do_not_fit_are_refused(original: Original, tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "EM.pth")
    with pytest.raises(ValueError, match=r"is no emulator of 3 latents and 4 conditions"):
        imported(tmp_path, "--emulator", str(tmp_path / "EM.pth"))
    with pytest.raises(ValueError, match="is for 10 species, the list has 333; give --species"):
        main(["astrochem", "import", str(tmp_path / "AE.pth"), "--out", str(tmp_path / "x.ckpt")])
    state = original.state_dict()
    torch.save({k: v for k, v in state.items() if k != "decode_bias3"}, tmp_path / "AE.pth")
    with pytest.raises(ValueError, match=r"has no tensor for up_bias.2 of shape \(10,\)"):
        imported(tmp_path)
    torch.save(nn.Linear(3, 3), tmp_path / "AE.pth")  # a pickled module
    with pytest.raises(ValueError, match="cannot be opened without running its code"):
        imported(tmp_path)
    with pytest.raises(FileNotFoundError, match="give the weights of the original project"):
        main(["astrochem", "import", str(tmp_path / "no.pth"), "--out", str(tmp_path / "x.ckpt")])


def test_an_emulator_without_the_range_of_its_latents_is_refused(
    original: Original, tmp_path: Path
) -> None:
    body = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))
    torch.save(body.state_dict(), tmp_path / "EM.pth")
    with pytest.raises(ValueError, match=r"give --scales\.latents"):
        imported(tmp_path, "--emulator", str(tmp_path / "EM.pth"))


def write_histories(path: Path, physics: np.ndarray, numbers: tuple[int, ...]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tracer", "time", "density", "radfield", "av", "temperature"])
        for number, rows in zip(numbers, physics, strict=True):
            writer.writerows([number, STEP * i, *row] for i, row in enumerate(rows.tolist()))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tiny_task(), tmp_path / "e.ckpt")


def test_histories_become_abundances(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    physics, _ = histories(2, 5)
    physics[0, 1, 3] = 900.0
    table = write_histories(tmp_path / "tracers.csv", physics, (4, 9))
    out = tmp_path / "out.h5"
    words = ["astrochem", "emulate", str(checkpoint), "--tracers", str(table), "--out", str(out)]
    summary = main(words)
    assert summary["rows"] == 10
    assert summary["rows_outside"]["gasTemp"] == 1 / 8  # last rows are not used
    assert "7 to 130" in capsys.readouterr().out
    read = read_table(out)["emulated"]
    assert read.ptr.tolist() == [[4, 0, 5], [9, 5, 5]]
    start = initial_abundances(SPECIES)
    np.testing.assert_allclose(read.abundances[5], start, rtol=1e-6)
    emulator = AstroEmulator.from_checkpoint(checkpoint)
    expected = emulator.emulate(physics[:, :4], start)
    np.testing.assert_allclose(read.abundances[6:], expected[1], rtol=1e-4)
    with h5py.File(out) as file:
        assert file.attrs["dt_yr"] == STEP
        assert file.attrs["generator"] == "emulator e.ckpt"
        assert list(file.attrs["elements"]) == ["H", "C", "O"]
    with pytest.raises(ValueError, match=r"out\.h5 exists"):
        main(words)


@pytest.mark.parametrize("row", ["first", "last"])
def test_histories_start_from_the_states_of_a_file(
    checkpoint: Path, tmp_path: Path, row: str
) -> None:
    physics, _ = histories(2, 4)
    table = write_histories(tmp_path / "tracers.csv", physics, (2, 1))
    states = tracers()
    file = write_tracers(tmp_path / "states.h5", own=states, one=tracers((3,), seed=4))
    words = ["astrochem", "emulate", str(checkpoint), "--tracers", str(table)]
    words += ["--start", str(file), "--start_row", row]
    with pytest.raises(ValueError, match="has the groups one, own; choose with --start_group"):
        main([*words, "--out", str(tmp_path / "a.h5")])
    main([*words, "--start_group", "own", "--out", str(tmp_path / "a.h5")])
    found = read_table(tmp_path / "a.h5")["emulated"].abundances
    rows = states.ptr[[2, 1], 1] + (states.ptr[[2, 1], 2] - 1 if row == "last" else 0)
    np.testing.assert_array_equal(found[[0, 4]], states.abundances[rows])
    main([*words, "--start_group", "one", "--out", str(tmp_path / "b.h5")])
    both = read_table(tmp_path / "b.h5")["emulated"].abundances
    np.testing.assert_array_equal(both[0], both[4])


def test_a_start_that_is_not_there_is_named(checkpoint: Path, tmp_path: Path) -> None:
    table = write_histories(tmp_path / "tracers.csv", histories(1, 4)[0], (7,))
    file = write_tracers(tmp_path / "states.h5", own=tracers())
    words = ["astrochem", "emulate", str(checkpoint), "--out", str(tmp_path / "a.h5")]
    with pytest.raises(ValueError, match="has no tracer 7 to start from"):
        main([*words, "--tracers", str(table), "--start", str(file)])
    with pytest.raises(FileNotFoundError, match="check --tracers"):
        main([*words, "--tracers", str(tmp_path / "no.csv")])


def test_evaluation_writes_tables_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_tracers(tmp_path / "data.h5", own=tracers((6,) * 8), far=tracers((5,) * 3, seed=3))
    data = SequenceData(str(file), store=Store(artefacts=str(tmp_path / "artefacts")))
    path = write_checkpoint(tiny_task(), tmp_path / "e.ckpt", data)
    more = write_tracers(tmp_path / "more.h5", new=tracers((7, 4, 7), seed=8))
    words = ["astrochem", "evaluate", str(path), "--speed", "false"]
    out = tmp_path / "result"
    summary = main([*words, "--data", str(more), "--out", str(out)])
    found = summary["groups"]["new"]
    assert found["tracers"] == 3
    metrics = found["metrics"]
    models = ["emulator", "unprojected", "reconstruction", "persistence", "mean", "knn", "dmd"]
    assert list(metrics) == models
    interval = found["mae_dex_minus_baseline"]["knn"]
    assert interval["low"] <= interval["mean"] <= interval["high"]
    text = capsys.readouterr().out
    assert "new: 3 tracers, 15 steps" in text
    assert "AUROC against the validation tracers of the checkpoint" in " ".join(text.split())
    assert json.loads((out / "summary.json").read_text()) == summary
    tables = {"species": 10, "steps": 6, "tracers": 3}
    for name, rows in tables.items():
        assert len((out / f"new_{name}.csv").read_text().splitlines()) == rows + 1
    figures = ["species", "steps", "track_best", "track_median", "track_worst"]
    assert sorted(one.stem for one in out.glob("*.png")) == [f"new_{name}" for name in figures]
    with pytest.raises(ValueError, match=r"result exists; give another --out"):
        main([*words, "--data", str(more), "--out", str(out)])


def test_tracers_that_were_trained_on_are_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_tracers(tmp_path / "data.h5", own=tracers((6,) * 8))
    data = SequenceData(str(file), store=Store(artefacts=str(tmp_path / "artefacts")))
    path = write_checkpoint(tiny_task(), tmp_path / "e.ckpt", data)
    words = ["astrochem", "evaluate", str(path), "--data", str(file), "--speed", "false"]
    summary = main([*words, "--baselines", "persistence"])
    held_out = sum(len(chunk.ptr) for chunk in data.chunks("val"))
    assert summary["groups"]["own"]["tracers"] == held_out
    assert f"own: {8 - held_out} of 8 tracers are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"all tracers of .* were trained on"):
        main([*words, "--train", str(file)])


def trained(folder: Path, table: TracerTable, **reading: object) -> tuple[Path, Path]:
    """A plain file of tracers, and the checkpoint of an emulator that was trained on it."""
    file = write_plain(folder / "plain.h5", table)
    store = Store(artefacts=str(folder / "artefacts"))
    data = SequenceData(str(file), store=store, reading=Reading(**reading))
    return file, write_checkpoint(tiny_task(), folder / "plain.ckpt", data)


def write_plain(path: Path, table: TracerTable) -> Path:
    """A group ``own`` that does not say which conditions its rows hold."""
    labels = ("time", "density", "radfield", "av", "temperature", *table.species)
    with h5py.File(path, "w") as file:
        group = file.create_group("own")
        group.attrs["elements"] = list(ELEMENTS)
        group["columns"] = [label.encode() for label in labels]
        group["data"] = np.column_stack([table.time, table.values]).astype(np.float32)
        group["tracer_ptr"] = table.ptr
    return path


def test_files_are_read_as_those_of_the_training(tmp_path: Path) -> None:
    file, path = trained(tmp_path, tracers((6,) * 8), physics_alignment="state")
    words = ["astrochem", "evaluate", str(path), "--data", str(file), "--speed", "false"]
    words += ["--baselines", "persistence"]
    found = main(words)["groups"]["own"]
    assert found["tracers"] < 8  # those of the training are recognised: none is a row off
    other = main([*words, "--reading.physics_alignment", "interval"])["groups"]["own"]
    assert other["tracers"] == 8
    ours = write_tracers(tmp_path / "ours.h5", own=tracers(seed=1))  # says interval
    words[4] = str(ours)
    with pytest.raises(ValueError, match="physics_alignment interval, but the training files were"):
        main(words)
    own = main([*words, "--reading.physics_alignment", "interval"])["groups"]["own"]
    assert own["tracers"] == 4


def test_a_start_is_read_as_the_training_was(tmp_path: Path) -> None:
    bad = tracers((6,) * 8)
    bad.values[3, 5] = -1e-9
    file, path = trained(tmp_path, bad, on_bad="clip")
    table = write_histories(tmp_path / "tracers.csv", histories(1, 4)[0], (7,))
    words = ["astrochem", "emulate", str(path), "--tracers", str(table), "--start", str(file)]
    summary = main([*words, "--out", str(tmp_path / "a.h5")])
    assert summary["rows"] == 4
    other = write_checkpoint(tiny_task(), tmp_path / "other.ckpt")
    words[2] = str(other)
    with pytest.raises(ValueError, match=r"of verbs --reading\.on_bad clip"):
        main([*words, "--out", str(tmp_path / "b.h5")])
    main([*words, "--out", str(tmp_path / "b.h5"), "--reading.on_bad", "clip"])


def test_own_training_tracers_are_left_out_whatever_the_baselines_learn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, path = trained(tmp_path, tracers((6,) * 8))
    train = write_tracers(tmp_path / "train.h5", all=tracers((6,) * 3, seed=1))
    words = ["astrochem", "evaluate", str(path), "--data", str(file), "--speed", "false"]
    words += ["--baselines", "knn"]
    held_out = main(words)["groups"]["own"]["tracers"]
    assert held_out < 8
    words += ["--train", str(train)]
    assert main(words)["groups"]["own"]["tracers"] == held_out
    moved = file.rename(tmp_path / "moved.h5")
    words[4] = str(moved)
    capsys.readouterr()
    assert main(words)["groups"]["own"]["tracers"] == 8
    said = " ".join(capsys.readouterr().out.split())
    assert "plain.h5; the emulator's own training tracers cannot be left out" in said
    with pytest.raises(FileNotFoundError, match=r"are not there: .*plain\.h5; .* give --train"):
        main(words[:-2])


def test_an_interrupted_evaluation_leaves_no_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sciml.astrochem.commands.evaluate.species_figure", stop)
    data = write_tracers(tmp_path / "data.h5", a=tracers())
    before = sorted(tmp_path.iterdir())
    words = ["astrochem", "evaluate", str(checkpoint), "--data", str(data), "--speed", "false"]
    with pytest.raises(KeyboardInterrupt):
        main([*words, "--baselines", "persistence", "--out", str(tmp_path / "result")])
    plt.close("all")  # those that were drawn before the stop
    assert sorted(tmp_path.iterdir()) == before


def test_a_group_may_be_called_speed(checkpoint: Path, tmp_path: Path) -> None:
    data = write_tracers(tmp_path / "data.h5", speed=tracers())
    words = ["astrochem", "evaluate", str(checkpoint), "--data", str(data), "--speed", "false"]
    found = main([*words, "--baselines", "persistence"])
    assert found["groups"]["speed"]["tracers"] == 4


def test_baselines_can_learn_from_another_file(checkpoint: Path, tmp_path: Path) -> None:
    train = write_tracers(tmp_path / "train.h5", all=tracers(seed=1))
    data = write_tracers(tmp_path / "data.h5", a=tracers(), b=tracers(seed=2), c=tracers(seed=3))
    words = ["astrochem", "evaluate", str(checkpoint), "--data", str(data), "--speed", "false"]
    with pytest.raises(ValueError, match="give --train"):
        main(words)
    words += ["--train", str(train), "--baselines", "knn,dmd", "--groups", "c,a"]
    found = main(words)["groups"]
    assert sorted(found) == ["a", "c"]
    assert list(found["a"]["metrics"])[3:] == ["knn", "dmd"]
    first = next(iter(found.values()))  # the others are compared with it, as nothing else is known
    assert first["extrapolation"]["auroc"] == pytest.approx(0.5)


def test_other_species_are_named(checkpoint: Path, tmp_path: Path) -> None:
    data = write_tracers(tmp_path / "data.h5", a=tracers(species=SPECIES[:-1]))
    words = ["astrochem", "evaluate", str(checkpoint), "--data", str(data)]
    with pytest.raises(ValueError, match="other species than the emulator: it lacks O"):
        main([*words, "--baselines", "persistence"])


def test_speed_is_shown_beside_the_solver(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(measure_speed, batches=(1, 8), seconds=0.01)
    monkeypatch.setattr("sciml.astrochem.commands.evaluate.measure_speed", quick)
    data = write_tracers(tmp_path / "data.h5", a=tracers())
    words = ["astrochem", "evaluate", str(checkpoint), "--data", str(data)]
    found = main([*words, "--baselines", "persistence"])["speed"]
    assert [one["batch"] for one in found["cells"]] == [1, 1, 1, 8, 8, 8]
    assert found["solver"] is None
