import json
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hessian_files import spring_record, spring_records, write_extxyz, write_groups
from jsonargparse import ArgumentParser
from torch import Tensor

from sciml.core.data import DataModule
from sciml.hip.data import Batching, HessianData, Labels, Subset
from sciml.hip.data.record import Record

Fractions = tuple[float, float, float]


def _ids(data: HessianData, split: str) -> list[int]:
    loader = data.loader(split)  # type: ignore[arg-type]
    return [identifier for batch in loader for identifier in batch["id"].tolist()]


def _data(path: Path, **settings: object) -> HessianData:
    return HessianData(str(path), **{"num_workers": 0, **settings})  # type: ignore[arg-type]


def test_one_file_is_split_80_10_10(tmp_path: Path) -> None:
    data = _data(write_extxyz(tmp_path / "x.xyz", spring_records(20)))
    parts = [_ids(data, split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert sorted(identifier for part in parts for identifier in part) == list(range(20))


@pytest.mark.parametrize("name", ["lmdb_file", "packed_file", "groups_file", "extxyz_file"])
def test_workers_do_not_change_the_batches(request: pytest.FixtureRequest, name: str) -> None:
    path = request.getfixturevalue(name)
    batches: list[list[dict[str, Tensor]]] = []
    for workers in (0, 2):
        data = _data(path, batch_size=3, num_workers=workers)
        data.statistics()  # the file is open in this process before workers are forked
        batches.append(list(data.loader("train")))
    assert len(batches[0]) == len(batches[1]) == 4
    for ours, theirs in zip(*batches, strict=True):
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=0, atol=0)


def test_without_a_test_share_validation_molecules_are_tested(
    lmdb_file: Path, told: pytest.LogCaptureFixture
) -> None:
    data = _data(lmdb_file, fractions=(0.75, 0.25, 0))
    assert sorted(_ids(data, "test")) == sorted(_ids(data, "val"))
    assert "test uses the 3 validation molecules" in told.text
    assert told.text.count("test uses") == 1


def test_files_of_their_own_are_used_whole(tmp_path: Path, lmdb_file: Path) -> None:
    val = write_extxyz(tmp_path / "val.xyz", spring_records(5))
    data = _data(lmdb_file, val=str(val))
    assert sorted(_ids(data, "train")) == list(range(12))
    assert sorted(_ids(data, "val")) == list(range(5))
    assert sorted(_ids(data, "test")) == list(range(5))


def test_a_test_file_needs_no_other(tmp_path: Path, packed_file: Path) -> None:
    data = HessianData(str(tmp_path / "gone.lmdb"), test=str(packed_file), num_workers=0)
    assert sorted(_ids(data, "test")) == list(range(12))
    assert _ids(data, "predict") == list(range(12))  # in the order of the file
    assert data.files() == [packed_file]
    validated = HessianData(str(tmp_path / "gone.lmdb"), val=str(packed_file), num_workers=0)
    assert len(_ids(validated, "test")) == 12
    with pytest.raises(FileNotFoundError, match=r"--data\.train: no file .*gone\.lmdb"):
        data.loader("train")
    with pytest.raises(ValueError, match=r"name files with --data\.train"):
        HessianData(None, num_workers=0).loader("train")


def test_a_test_file_leaves_the_split_alone(
    tmp_path: Path, lmdb_file: Path, told: pytest.LogCaptureFixture
) -> None:
    test = write_extxyz(tmp_path / "test.xyz", spring_records(5))
    alone, beside = _data(lmdb_file), _data(lmdb_file, test=str(test))
    assert _ids(beside, "val") == _ids(alone, "val")  # never trained on, with or without
    assert _ids(beside, "train") == _ids(alone, "train")
    assert "1 molecules of the training files are left out as their test share" in told.text


def test_formula_parts_share_no_formula(lmdb_file: Path) -> None:
    data = _data(lmdb_file, split="formula", fractions=(0.5, 0.25, 0.25))
    formulas = [{i % 6 for i in _ids(data, part)} for part in ("train", "val", "test")]
    assert all(formulas)
    assert not formulas[0] & (formulas[1] | formulas[2])
    assert not formulas[1] & formulas[2]


def test_reaction_parts_share_no_reaction(lmdb_file: Path, groups_file: Path) -> None:
    data = _data(lmdb_file, split="reaction", fractions=(0.5, 0.25, 0.25))
    reactions = [{i // 2 for i in _ids(data, part)} for part in ("train", "val", "test")]
    assert not reactions[0] & (reactions[1] | reactions[2])
    with pytest.raises(ValueError, match=r"record 0 of .* no known reaction; use --data\.split"):
        _data(groups_file, split="reaction").loader("train")


def test_written_split_can_be_used_again(tmp_path: Path, lmdb_file: Path) -> None:
    data = _data(lmdb_file, split="formula", seed=3, fractions=(0.5, 0.5, 0))
    data.write_splits(tmp_path)
    again = _data(lmdb_file, split="indices", subset=Subset(indices=str(tmp_path / "splits.json")))
    for part in ("train", "val", "test"):
        assert sorted(_ids(again, part)) == sorted(_ids(data, part))
    written = json.loads((tmp_path / "splits.json").read_text())
    assert written["files"]["train"] == [str(lmdb_file)]
    assert (written["split"], written["seed"]) == ("formula", 3)


def test_fit_writes_the_split_beside_its_checkpoints(tmp_path: Path, lmdb_file: Path) -> None:
    data = _data(lmdb_file)
    trainer = SimpleNamespace(
        log_dir=str(tmp_path / "run"),
        loggers=[object()],
        is_global_zero=True,
        fast_dev_run=False,
    )
    data.trainer = trainer  # type: ignore[assignment]
    data.setup("test")
    assert not (tmp_path / "run").exists()
    data.setup("fit")
    written = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert sorted(written["train"] + written["val"] + written["test"]) == list(range(12))
    data.teardown("fit")
    data.trainer = None
    assert len(_ids(data, "train")) == len(written["train"])


def test_bad_requests_are_one_sentence(lmdb_file: Path) -> None:
    with pytest.raises(ValueError, match=r"there are no val molecules with data\.split files"):
        _data(lmdb_file, split="files").loader("val")
    with pytest.raises(ValueError, match=r"name the file, --data\.subset\.indices"):
        _data(lmdb_file, split="indices").loader("val")


def test_limits_on_the_number_of_records(lmdb_file: Path) -> None:
    few = _data(lmdb_file, fractions=(0.5, 0.5, 0), subset=Subset(max_train=3, max_val=2))
    more = _data(lmdb_file, fractions=(0.5, 0.5, 0), subset=Subset(max_train=5))
    assert len(_ids(few, "train")) == 3
    assert set(_ids(few, "train")) < set(_ids(more, "train"))
    assert set(_ids(few, "val")) < set(_ids(more, "val"))


def test_samples_per_epoch_goes_on_where_it_stopped(lmdb_file: Path) -> None:
    subset = Subset(samples_per_epoch=4)
    loader = _data(lmdb_file, fractions=(1, 0, 0), batch_size=4, subset=subset).loader("train")
    seen: list[int] = []
    for epoch in range(3):
        loader.batch_sampler.sampler.set_epoch(epoch)
        seen += [identifier for batch in loader for identifier in batch["id"].tolist()]
    assert sorted(seen) == list(range(12))


def test_weights_of_files(tmp_path: Path, lmdb_file: Path) -> None:
    small = write_groups(tmp_path / "small.h5", spring_records(2))
    data = HessianData(
        [str(lmdb_file), str(small)],
        num_workers=0,
        fractions=(1, 0, 0),
        subset=Subset(weights_per_file=[1, 3]),
    )
    assert sorted(_ids(data, "train")) == [*range(12), 12, 12, 12, 13, 13, 13]


@pytest.mark.parametrize(
    "batching",
    [
        Batching(max_atoms=9),
        Batching(max_hessian_entries=400),
        Batching(max_atoms=9, max_hessian_entries=400),
    ],
)
def test_budgets_hold(lmdb_file: Path, batching: Batching) -> None:
    data = _data(lmdb_file, fractions=(1, 0, 0), batch_size=12, batching=batching)
    sizes = [(batch["ptr"][1:] - batch["ptr"][:-1]) for batch in data.loader("train")]
    assert sum(len(size) for size in sizes) == 12
    assert any(len(size) > 1 for size in sizes)
    for size in sizes:
        if batching.max_atoms:
            assert size.sum() <= batching.max_atoms
        if batching.max_hessian_entries:
            assert 9 * size.square().sum() <= batching.max_hessian_entries


def test_max_atoms_is_filled_exactly(tmp_path: Path) -> None:
    path = write_extxyz(tmp_path / "x.xyz", [spring_record((8,) * 3, seed) for seed in range(6)])
    data = _data(path, fractions=(1, 0, 0), batching=Batching(max_atoms=9))
    assert [len(batch["id"]) for batch in data.loader("train")] == [3, 3]
    with pytest.raises(ValueError, match=r"needs data\.batching\.bucket"):
        _data(path, batching=Batching(max_atoms=9, bucket=False))


def test_buckets_hold_little_padding(tmp_path: Path) -> None:
    path = write_extxyz(tmp_path / "x.xyz", spring_records(60))

    def padding(bucket: bool) -> float:
        data = _data(path, fractions=(1, 0, 0), batching=Batching(bucket=bucket))
        batches = list(data.loader("train"))
        padded = sum(len(b["id"]) * b["hessian"].shape[1] // 3 for b in batches)
        return padded / sum(len(b["z"]) for b in batches) - 1

    assert padding(bucket=True) < 0.15 < padding(bucket=False)


def test_unlabelled_molecules_are_for_predictions_only(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text("1\nenergies=3\nHe 0 0 0\n")
    data = HessianData(None, test=str(path), num_workers=0)
    assert _ids(data, "predict") == [0]
    with pytest.raises(ValueError, match=r"record 0 of .* neither .* found: energies\. Name"):
        _ids(data, "test")


def test_other_label_names(tmp_path: Path, records: list[Record]) -> None:
    path = write_extxyz(tmp_path / "x.xyz", records, prefix="dft_")
    data = _data(path, labels=Labels("dft_energy", "dft_forces", "dft_hessian"))
    batch = next(iter(data.loader("val")))
    assert batch["w_energy"].tolist() == batch["w_hessian"].tolist() == [1.0]


def test_settings_are_plain_and_safe_to_load(lmdb_file: Path) -> None:
    data = HessianData(
        lmdb_file,  # type: ignore[arg-type]
        e0={1: -0.5},
        subset=Subset(weights_per_file=[2.0]),
    )
    buffer = BytesIO()
    torch.save(dict(data.hparams), buffer)
    stored = torch.load(BytesIO(buffer.getvalue()), weights_only=True)
    assert stored["train"] == str(lmdb_file)
    assert stored["subset"]["weights_per_file"] == [2.0]
    assert stored["e0"] == {1: -0.5}


def test_flags_of_the_command_line() -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(DataModule, "data")
    words = {
        "train": "[a.h5,b.lmdb]",
        "val": "v.h5",
        "test": "t.h5",
        "split": "formula",
        "fractions": "[0.7,0.2,0.1]",
        "seed": "5",
        "batch_size": "4",
        "num_workers": "0",
        "e0": "{1: -0.5, 6: -37}",
        "batching.max_atoms": "100",
        "batching.r_max": "6",
        "subset.max_train": "10",
        "labels.energy_key": "E",
    }
    flags = [f"--data.{name}={value}" for name, value in words.items()]
    config = parser.parse_args(["--data=HessianData", *flags])
    data = parser.instantiate(config)["data"]
    assert data.given == {"train": ["a.h5", "b.lmdb"], "val": "v.h5", "test": "t.h5"}
    assert (data.rule, data.seed, data.batch_size, data.num_workers) == ("formula", 5, 4, 0)
    assert tuple(data.fractions) == (0.7, 0.2, 0.1)
    assert data.e0 == {1: -0.5, 6: -37.0}
    assert (data.batching.max_atoms, data.r_max, data.subset.max_train) == (100, 6.0, 10)
    assert data.labels.energy_key == "E"
