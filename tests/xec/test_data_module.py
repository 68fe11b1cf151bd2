import multiprocessing
import os
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from root_files import DEAD, cut_short, events, make_files, renamed, without, write_file
from shared import XEC, needs_xec
from torch import Tensor

from sciml.core.loading import Rank
from sciml.xec.data import Cuts, Reading, RootStream, Units, memory
from sciml.xec.data.branches import TRUTHS, BadFileError
from sciml.xec.data.profile import EventLoader

ALWAYS = {"npho", "relative_time", "time_min", "run", "event", "number"}
SMALL = {"batch_size": 4, "chunksize": 5, "chunks_per_block": 2}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sciml" / "xec"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_files(folder, 23, 8, 14, basket=5)
    return folder


def stream(folder: Path, **settings: Any) -> RootStream:
    """All splits from the same files, in small pieces."""
    paths = dict.fromkeys(("train", "val", "test", "predict"), str(folder))
    return RootStream(**{**paths, **SMALL, **settings})


def numbers(loader: EventLoader) -> list[list[int]]:
    return [batch["number"].tolist() for batch in loader]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def test_a_batch(folder: Path) -> None:
    batch = next(iter(stream(folder, batch_size=6).val_dataloader()))
    assert batch.keys() == ALWAYS | set(TRUTHS)
    expected = events(23, 0)
    shapes = {name: tuple(values.shape) for name, values in batch.items()}
    assert shapes["npho"] == shapes["relative_time"] == (6, 4760)
    assert {shapes[name] for name in ("direction", "uvw", "xyz", "vertex")} == {(6, 3)}
    assert {shapes[name] for name in ("time_min", "energy", "timing", "n_gamma", "run")} == {(6,)}
    whole = {"run", "event", "number", "n_gamma"}
    for name, values in batch.items():
        assert values.dtype == (torch.int64 if name in whole else torch.float32)
    np.testing.assert_array_equal(batch["npho"], expected["npho"][:6])
    np.testing.assert_array_equal(batch["relative_time"], expected["relative_time"][:6])
    np.testing.assert_array_equal(batch["direction"], expected["emiVec"][:6])
    assert (batch["npho"][:, 17] == DEAD).all()


def test_evaluation_keeps_the_order_and_training_mixes(folder: Path) -> None:
    data = stream(folder)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert flat(numbers(loader)) == list(range(45))  # type: ignore[arg-type]
    train = data.train_dataloader()
    assert len(train) == 12
    first = flat(numbers(train))  # type: ignore[arg-type]
    train.set_epoch(1)  # type: ignore[attr-defined]
    second = flat(numbers(train))  # type: ignore[arg-type]
    assert sorted(first) == sorted(second) == list(range(45))
    assert first != second
    assert (np.abs(np.diff(first)) == 1).mean() < 0.3
    other = flat(numbers(stream(folder, seed=1).loader("train")))
    assert sorted(other) == list(range(45))
    assert other != first


def test_events_keep_their_values_when_they_are_mixed(folder: Path) -> None:
    expected = np.concatenate(
        [events(n, seed)["energyTruth"] for seed, n in enumerate((23, 8, 14))]
    )
    for batch in stream(folder).train_dataloader():
        np.testing.assert_array_equal(batch["energy"], expected[batch["number"]])
        np.testing.assert_array_equal(batch["npho"][:, 0], batch["event"])  # see root_files


def test_without_shuffling_training_keeps_the_order(folder: Path) -> None:
    data = stream(folder, reading=Reading(shuffle=False))
    assert flat(numbers(data.loader("train"))) == list(range(45))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_same_batches_for_any_number_of_workers(folder: Path, split: Any) -> None:
    loaders = [stream(folder, num_workers=workers).loader(split) for workers in (0, 1, 2)]
    for epoch in range(2):
        for loader in loaders:
            loader.set_epoch(epoch)
        for one, *others in zip(*loaders, strict=True):
            for other in others:
                assert one.keys() == other.keys()
                assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_one_file_keeps_several_workers_busy(tmp_path: Path) -> None:
    make_files(tmp_path / "data", 40, basket=5)
    loader = stream(tmp_path / "data", num_workers=2).loader("train")
    assert sorted(flat(numbers(loader))) == list(range(40))
    workers = loader._iterator._workers
    assert len(workers) == 2
    for worker in workers if Path("/proc").exists() else []:
        handles = Path(f"/proc/{worker.pid}/fd").iterdir()
        assert any(os.readlink(handle).endswith("0.root") for handle in handles)


@pytest.mark.parametrize("split", ["train", "val"])
def test_goes_on_at_every_batch(folder: Path, split: Any) -> None:
    def make() -> EventLoader:
        loader = stream(folder).loader(split)
        loader.set_epoch(3)
        return loader

    whole = numbers(make())
    for delivered in range(len(whole) + 1):
        stopped = make()
        assert [b["number"].tolist() for b in islice(stopped, delivered)] == whole[:delivered]
        loader = make()
        loader.load_state_dict(stopped.state_dict())
        found = numbers(loader)
        assert found == (whole[delivered:] if delivered else whole)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_the_events(
    folder: Path, world: int, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[list[list[int]]] = []
    validated: list[int] = []
    for index in range(world):
        monkeypatch.setattr(RootStream, "_rank", lambda self, index=index: Rank(index, world))
        data = stream(folder, reading=Reading(shuffle=shuffle))
        trained.append(numbers(data.loader("train")))
        assert len(trained[-1]) == len(data.loader("train"))
        validated += flat(numbers(data.loader("val")))
    assert validated == list(range(45))  # each exactly once
    sizes = [[len(batch) for batch in batches] for batches in trained]
    assert sizes == sizes[:1] * world
    seen = [number for batches in trained for number in flat(batches)]
    assert len(seen) == len(set(seen)) == 45 - 45 % world


def test_a_rank_without_batches_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RootStream, "_rank", lambda self: Rank(0, 46))
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=r"45 events of the .* split make no batch for some"):
            stream(folder).loader(split)  # type: ignore[arg-type]


def test_cuts_apply_to_all_but_prediction(folder: Path) -> None:
    data = stream(folder, cuts=Cuts(fiducial=True, energy=(0.02, 0.05)))
    counts = (23, 8, 14)
    energy = np.concatenate([events(n, seed)["energyTruth"] for seed, n in enumerate(counts)])
    uvw = np.concatenate([events(n, seed)["uvwTruth"] for seed, n in enumerate(counts)])
    kept = (np.abs(uvw[:, 0]) < 23.9) & (np.abs(uvw[:, 1]) < 67.9)
    expected = np.flatnonzero(kept & (energy > 0.02) & (energy < 0.05)).tolist()
    loader = data.loader("val")
    assert flat(numbers(loader)) == expected
    assert len(loader) == -(-len(expected) // 4)
    assert loader.profile.dropped == 45 - len(expected)
    assert sorted(flat(numbers(data.loader("train")))) == expected
    assert flat(numbers(data.loader("predict"))) == list(range(45))


def test_a_split_without_events_is_an_error(folder: Path) -> None:
    data = stream(folder, cuts=Cuts(energy=(1.0, 2.0)))
    with pytest.raises(ValueError, match="the val split has no events: 45 are left out by the"):
        data.val_dataloader()
    with pytest.raises(FileNotFoundError, match=r"no files are named; set --data.val"):
        RootStream(train=str(folder)).val_dataloader()


def test_bad_files_are_left_out_when_asked(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "data", 6, 5)
    cut_short(paths[0])
    with pytest.raises(BadFileError, match=r"0.root is truncated"):
        stream(tmp_path / "data").loader("train")
    data = stream(tmp_path / "data", reading=Reading(on_bad_file="skip"))
    with pytest.warns(UserWarning, match=r"1 of 2 files are left out: .*0.root is truncated"):
        loader = data.loader("val")
    assert flat(numbers(loader)) == list(range(5))
    assert data.files() == [paths[1]]
    cut_short(paths[1])
    data = stream(tmp_path / "data", reading=Reading(on_bad_file="skip"))
    with (
        pytest.warns(UserWarning, match="2 of 2 files are left out"),
        pytest.raises(ValueError, match=r"the val split has no events: .* 2 files cannot be"),
    ):
        data.loader("val")


def test_truths_that_all_files_have(tmp_path: Path) -> None:
    whole = events(5)
    write_file(tmp_path / "a/0.root", whole)
    write_file(tmp_path / "a/1.root", without(whole, "uvwTruth", "nGamma"))
    write_file(tmp_path / "b/0.root", without(whole, "timeTruth"))
    data = RootStream(train=str(tmp_path / "a"), val=str(tmp_path / "b"), **SMALL)
    assert data.truths == ("direction", "energy", "xyz", "vertex")
    assert {"timing", "time_min", "npho"} <= set(data.available("train"))
    assert "uvw" in data.available("val")
    assert next(iter(data.train_dataloader())).keys() == ALWAYS | {*data.truths, "timing"}
    data.need(["energy", "direction", "npho", "time_min"], "train")
    words = r"a/1.root has no usable branch uvwTruth or uvwFI, which the position head needs; "
    with pytest.raises(ValueError, match=f"{words}its branches are npho"):
        data.need(["energy", "uvw"], "train", "the position head")
    with pytest.raises(ValueError, match=r"b/0.root has no usable branch timeTruth or timing, whi"):
        data.need(["timing"], "val")
    with pytest.raises(ValueError, match="no quantity 'depth'; there are npho"):
        data.need(["depth"])


def test_prediction_needs_no_truth(tmp_path: Path) -> None:
    bare = {name: events(5)[name] for name in ("npho", "relative_time")}
    path = write_file(tmp_path / "data/a.root", bare)
    data = RootStream(predict=str(path), cuts=Cuts(fiducial=True), **SMALL)
    data.need(["uvw", "energy"], "predict")
    with pytest.raises(ValueError, match="no usable branch time_min_used"):
        data.need(["time_min"], "predict")
    assert next(iter(data.predict_dataloader())).keys() == ALWAYS
    assert data.truths == ()


def test_relative_counts_have_to_be_allowed(tmp_path: Path) -> None:
    branches = without(renamed(events(5), npho="relative_npho"), "npho_max_used")
    write_file(tmp_path / "data/a.root", branches)
    data = stream(tmp_path / "data")
    words = "has relative_npho without npho_max_used, .* npho_threshold 0 and without an energy he"
    with pytest.raises(ValueError, match=f"{words}.*set --data.reading.relative_counts true"):
        data.loader("train")
    allowed = stream(tmp_path / "data", reading=Reading(relative_counts=True))
    assert next(iter(allowed.val_dataloader()))["npho"][3, 0] == 3
    for split in ("train", "predict"):
        with pytest.raises(ValueError, match=words):
            allowed.need(["npho"], split)  # type: ignore[arg-type]


def test_units_reach_the_batches(folder: Path) -> None:
    plain = next(iter(stream(folder).val_dataloader()))
    found = next(iter(stream(folder, units=Units(energy=1e-3, time=2.0)).val_dataloader()))
    torch.testing.assert_close(found["energy"], plain["energy"] * 1e-3)
    torch.testing.assert_close(found["time_min"], plain["time_min"] * 2)


def test_another_tree(tmp_path: Path) -> None:
    write_file(tmp_path / "data/a.root", events(5), tree="rec")
    assert flat(numbers(stream(tmp_path / "data", tree="rec").loader("val"))) == list(range(5))
    with pytest.raises(BadFileError, match="no tree 'tree'; its trees are: rec"):
        stream(tmp_path / "data").loader("val")


def test_profile_of_an_epoch(tmp_path: Path) -> None:
    branches = events(20)
    branches["npho"][2, 40] = np.nan
    branches["relative_time"][9, 40] = -np.inf
    write_file(tmp_path / "data/a.root", branches, basket=5)
    data = stream(tmp_path / "data")
    assert data.profile().events == 0
    loader = data.loader("train")
    for _ in range(2):
        for batch in loader:
            assert batch.keys() == ALWAYS | set(TRUTHS)
        profile = data.profile("train")
        assert (profile.events, profile.invalid, profile.infinite) == (20, 21, 2)
    assert 0 < profile.read <= profile.wait <= profile.total
    assert profile.rate == pytest.approx(20 / profile.total)
    line = str(profile)
    assert "\n" not in line
    assert line.startswith("epoch 0: 20 events, ")
    assert line.endswith("21 invalid photon counts, 2 readings NaN or infinite, 0 events cut")


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_send_their_counters(folder: Path) -> None:
    loader = stream(folder, num_workers=2).loader("train")
    list(loader)
    assert (loader.profile.events, loader.profile.invalid) == (45, 45)
    assert loader.profile.read > 0
    assert "in 2 workers" in str(loader.profile)


def test_baskets_larger_than_chunks_make_fewer_a_block(tmp_path: Path) -> None:
    make_files(tmp_path / "data", 60, basket=20)
    assert stream(tmp_path / "data", chunksize=5).loader("train").order.chunks_per_block == 1
    large = stream(tmp_path / "data", chunksize=20, chunks_per_block=3).loader("train")
    assert large.order.chunks_per_block == 3


def test_blocks_beyond_half_of_the_memory_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = 10 * memory.EVENT  # two chunks of 5
    monkeypatch.setattr(memory, "total_memory", lambda: 2 * 4 * block)
    stream(folder).loader("train")
    monkeypatch.setattr(memory, "total_memory", lambda: 2 * 4 * block - 2)
    words = "blocks of 10 events take 0.0 GiB in 0 workers of 1 processes, more than half of the "
    with pytest.raises(ValueError, match=f"{words}.*lower --data.chunksize, --data.chunks_per_b"):
        stream(folder).loader("train")
    monkeypatch.setattr(memory, "total_memory", lambda: 2 * 11 * block)
    stream(folder, num_workers=2).loader("train")  # 2 waiting and 3 in the making each, 1 in use
    monkeypatch.setattr(memory, "shared_memory", lambda: 4 * block - 1)
    with pytest.raises(ValueError, match=r"on their way from 2 workers take .* of shared memo"):
        stream(folder, num_workers=2).loader("train")


def test_the_memory_of_the_machine_is_known() -> None:
    assert 1 << 28 < memory.total_memory() < 1 << 50
    assert memory.shared_memory() > 0


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_epochs(tmp_path: Path) -> None:
    make_files(tmp_path / "data", 120, 120, basket=20)  # 9 MB of readings
    data = stream(tmp_path / "data", chunksize=20, chunks_per_block=2, batch_size=16)
    loader = data.loader("train")
    before, held = resident(), []
    for epoch in range(12):
        loader.set_epoch(epoch)
        for batch in loader:
            assert len(batch["npho"])
        held.append(resident())
    assert held[-1] - held[3] < 10e6  # nothing is kept of 8 further epochs, 72 MB
    assert held[-1] - before < 25e6  # and blocks of 40 events are 1.5 MB


def resident_of(pid: int) -> int:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(fields["RssAnon"].split()[0]) << 10


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_memory_of_living_workers_does_not_grow(tmp_path: Path) -> None:
    make_files(tmp_path / "data", 120, 120, basket=20)
    data = stream(tmp_path / "data", chunksize=20, batch_size=16, num_workers=2)
    loader = data.loader("train")
    held, living = [], set()
    for epoch in range(10):
        loader.set_epoch(epoch)
        assert sum(len(batch["npho"]) for batch in loader) == 240
        pids = [worker.pid for worker in loader._iterator._workers]
        held.append([resident_of(pid) for pid in pids])
        living |= set(pids)
    assert len(living) == 2
    assert max(np.subtract(held[-1], held[3])) < 3e6


def test_settings_are_stored_plain(folder: Path) -> None:
    data = RootStream(
        train=[str(folder)], cuts=Cuts(energy=(0.02, 0.05)), reading=Reading(threads=2)
    )
    stored = dict(data.hparams)
    assert stored["_class_path"] == "sciml.xec.data.RootStream"
    assert stored["cuts"] == {"fiducial": False, "depth": None, "energy": [0.02, 0.05]}
    assert stored["reading"]["threads"] == 2
    assert yaml.safe_load(yaml.safe_dump(stored)) == stored


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"chunksize": 0}, "data.chunksize is 0; it has to be at least 1"),
        ({"chunks_per_block": -1}, "data.chunks_per_block is -1"),
        ({"reading": Reading(threads=0)}, "data.reading.threads is 0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RootStream(**settings)


def test_files_in_use_are_told(folder: Path) -> None:
    data = RootStream(train=[str(folder / "0.root")], test=str(folder / "[01].root"))
    assert data.files() == [folder / "0.root", folder / "1.root"]
    data.loader("test")
    assert data.files() == [folder / "0.root", folder / "1.root"]


def test_nothing_is_written_beside_the_data(folder: Path, cache: Path) -> None:
    before = sorted(folder.iterdir())
    list(stream(folder).train_dataloader())
    assert sorted(folder.iterdir()) == before
    assert len(list(cache.iterdir())) == 3


def test_no_process_is_left(folder: Path) -> None:
    assert not multiprocessing.active_children()


@needs_xec
@pytest.mark.parametrize(
    ("pattern", "count"), [("train_*.root", 4800), ("val_*", 1100), ("signal_000.root", 700)]
)
def test_shared_files(pattern: str, count: int) -> None:
    data = RootStream(val=str(XEC / pattern), batch_size=256)
    loader = data.loader("val")
    assert len(loader) == -(-count // 256)
    batch: dict[str, Tensor] = next(iter(loader))
    assert batch.keys() == ALWAYS | set(TRUTHS)
    norm = batch["direction"].norm(dim=1)
    torch.testing.assert_close(norm, torch.ones(256))
    assert ((batch["energy"] > 0.014) & (batch["energy"] < 0.061)).all()
    # times are relative to the earliest channel above 50 photo-electrons, see the README there
    hit = batch["relative_time"] < 9e9
    assert batch["relative_time"][hit].abs().max() < 1e-7
    assert ((batch["time_min"] > -6.2e-7) & (batch["time_min"] < -5.7e-7)).all()
    assert data.index("val").files[0].path.parent == XEC
