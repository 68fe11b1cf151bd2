import json
import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from layouts import write_array, write_plain, write_text
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from tracers import SPECIES, STEP, sample_table

from sciml.astrochem.data import AbundanceData, Reading, Splitting, Store, preprocess
from sciml.astrochem.data.preprocess import content_digest
from sciml.astrochem.data.ranges import rounded_ranges
from sciml.astrochem.data.table import concatenate
from sciml.astrochem.data.writer import write_groups
from sciml.astrochem.physics.species import stoichiometric_matrix

ROWS = (5, 7, 4, 6)
ELEMENTS = ["H", "C", "O"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    groups = {"train": sample_table(ROWS), "val": sample_table((4, 3), seed=9)}
    return write_plain(tmp_path / "a.h5", groups)


def make_data(path: Path | list[Path], **arguments: Any) -> AbundanceData:
    """Data whose artefacts lie beside the file."""
    paths = [path] if isinstance(path, Path) else path
    store = {"artefacts": str(paths[0].parent / "artefacts"), **arguments.pop("store", {})}
    reading = {"elements": ELEMENTS, **arguments.pop("reading", {})}
    return AbundanceData(
        [str(one) for one in paths], store=Store(**store), reading=Reading(**reading), **arguments
    )


def test_folder_holds_what_it_should(path: Path) -> None:
    found = make_data(path).artefacts
    assert sorted(one.name for one in found.folder.iterdir()) == [
        "columns.json",
        "metadata.json",
        "physical_parameter_ranges.json",
        "species.json",
        "split.json",
        "stoichiometric_matrix.npy",
        "train.npy",
        "train_time.npy",
        "train_tracers.npy",
        "val.npy",
        "val_time.npy",
        "val_tracers.npy",
    ]
    table = sample_table(ROWS)
    assert np.array_equal(np.load(found.folder / "train.npy", mmap_mode="r"), table.values)
    assert np.array_equal(np.load(found.folder / "train_time.npy"), table.time)
    assert np.array_equal(found.ptr("train"), table.ptr)
    assert found.ptr("val")[:, 0].tolist() == [4, 5]  # tracers are numbered through all files
    columns = json.loads((found.folder / "columns.json").read_text())
    assert [columns[str(place)] for place in range(12)] == [
        "Density",
        "Radfield",
        "Av",
        "gasTemp",
        *SPECIES,
    ]
    matrix = np.load(found.folder / "stoichiometric_matrix.npy")
    assert np.array_equal(matrix, stoichiometric_matrix(SPECIES, ELEMENTS))
    split = json.loads((found.folder / "split.json").read_text())
    assert split["val"] == [[str(path), "val", 0], [str(path), "val", 1]]
    assert found.metadata["rows"] == {"train": 22, "val": 7}
    assert found.metadata["dt_yr"] == STEP
    assert found.metadata["constant_dt"]


def test_ranges_are_rounded_outwards() -> None:
    # the ranges observed in the original set and their rounding by hand
    low = np.array([68481, 1e-4, 0.1, 13.2], dtype=np.float32)
    high = np.array([1284211415, 26, 6914, 133], dtype=np.float32)
    assert rounded_ranges(low, high) == ([68000, 1e-4, 0.1, 13], [1.3e9, 26, 7000, 140])


def test_ranges_are_those_of_the_training_tracers(tmp_path: Path) -> None:
    train, val = sample_table(ROWS), sample_table((4, 3), seed=9)
    val.values[:, 3] = 900
    path = write_plain(tmp_path / "a.h5", {"train": train, "val": val})
    ranges = json.loads(
        (make_data(path).artefacts.folder / "physical_parameter_ranges.json").read_text()
    )
    assert ranges["gasTemp"]["max"] < 100
    assert ranges["gasTemp"]["unit"] == "K"
    assert ranges["Density"]["min"] <= train.physics[:, 0].min()


def test_chunks_give_back_what_was_read(path: Path) -> None:
    table = concatenate(list(make_data(path).chunks("train")))
    assert np.array_equal(table.values, sample_table(ROWS).values)
    assert table.species == SPECIES
    whole = list(make_data(path).artefacts.chunks("train", limit=1))
    assert [len(chunk) for chunk in whole] == list(ROWS)
    assert whole[2].meta["origin"] == [[str(path), "train", 2]]
    assert whole[2].ptr.tolist() == [[2, 0, 4]]


def test_same_content_and_options_are_made_once(path: Path, monkeypatch: Any) -> None:
    folder = make_data(path).artefacts.folder
    copy = path.with_name("copy.h5")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, (0, 0))
    monkeypatch.setattr(preprocess, "_write", None)  # making them again would fail
    assert make_data(copy).artefacts.folder == folder


OPTIONS: list[dict[str, Any]] = [
    {"split": Splitting(seed=1)},
    {"split": Splitting(groups=["train", "val"])},
    {"store": {"max_rows": 10}},
    {"reading": {"physics_alignment": "state"}},
    {"reading": {"on_bad": "clip"}},
    {"reading": {"elements": ["H", "C", "O", "N"]}},
]


@pytest.mark.filterwarnings("ignore:no species holds N:UserWarning")
@pytest.mark.parametrize("options", OPTIONS[:1] + OPTIONS[2:], ids=str)
def test_other_options_make_other_artefacts(options: dict[str, Any], path: Path) -> None:
    folders = {make_data(path, **given).artefacts.folder for given in ({}, options)}
    same = "elements" in str(options)  # an element that is dropped changes nothing that is stored
    assert len(folders) == 2 or same


def test_changed_content_makes_other_artefacts(path: Path) -> None:
    folder = make_data(path).artefacts.folder
    before = path.stat()
    with h5py.File(path, "a") as file:
        file["train/data"][3, 2] *= np.float32(1.001)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert make_data(path).artefacts.folder != folder


def test_digest_sees_all_files_of_a_layout(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "clouds", sample_table())
    before = content_digest(folder)
    part = folder / "cloud01.csv"
    part.write_text(part.read_text().replace("e+03", "e+04", 1))
    assert content_digest(folder) != before
    array = write_array(tmp_path / "a.npy", sample_table())
    before = content_digest(array)
    names = tmp_path / "a_columns.json"
    names.write_text(names.read_text().replace("H2", "N2"))
    assert content_digest(array) != before


def test_rows_are_capped_to_whole_tracers(path: Path) -> None:
    found = make_data(path, store={"max_rows": 12}).artefacts
    assert found.metadata["rows"] == {"train": 12, "val": 7}
    assert found.metadata["tracers"] == {"train": 2, "val": 2}


def test_tracer_in_two_splits_is_refused(tmp_path: Path) -> None:
    train = sample_table(ROWS)
    groups = {"train": train, "val": train.select([2])}
    path = write_plain(tmp_path / "a.h5", groups)
    with pytest.raises(
        ValueError, match=r"tracer 2 of group val of .* the same rows as tracer 2 of"
    ):
        make_data(path).artefacts  # noqa: B018 - made when it is asked for


def test_copies_of_a_tracer_cannot_be_divided(tmp_path: Path) -> None:
    table = sample_table((5,) * 4)
    path = write_plain(tmp_path / "a.h5", {"one": table, "two": table})
    with pytest.raises(ValueError, match="a tracer belongs to one split only"):
        make_data(path).artefacts  # noqa: B018


def test_failed_preprocessing_leaves_nothing(tmp_path: Path) -> None:
    table = sample_table(ROWS)
    table.values[-1, 6] = np.nan
    path = write_plain(tmp_path / "a.h5", {"train": table, "val": sample_table((4,), seed=5)})
    with pytest.raises(ValueError, match="1 abundances of group train"):
        make_data(path).artefacts  # noqa: B018
    assert not list((tmp_path / "artefacts").iterdir())


def test_training_without_artefacts_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="no tracers preprocessed from these files"):
        make_data(path, mode="train").prepare_data()
    make_data(path).prepare_data()
    make_data(path, mode="train").prepare_data()
    with h5py.File(path, "a") as file:
        file["train/data"][3, 2] *= np.float32(1.001)
    with pytest.raises(ValueError, match="or the files have changed"):
        make_data(path, mode="train").prepare_data()


def test_artefacts_are_made_anew_on_request(path: Path) -> None:
    folder = make_data(path).artefacts.folder
    (folder / "train.npy").write_bytes(b"spoilt")
    data = make_data(path, store={"force_preprocess": True})
    data.prepare_data()
    first = (folder / "train.npy").stat().st_ino
    assert len(data.rows("train")) == 22
    data.setup("fit")
    assert (folder / "train.npy").stat().st_ino == first  # once a run


def test_preprocessing_leaves_cleanly_before_training(path: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = make_data(path, mode="preprocess")
    with pytest.raises(SystemExit) as left:
        trainer.fit(BoringModel(), datamodule=data)
    assert left.value.code == 0
    assert trainer.global_step == 0
    assert make_data(path, mode="train").artefacts.folder.is_dir()


def test_runs_that_preprocess_at_the_same_time_agree(path: Path) -> None:
    many = [make_data(path) for _ in range(4)]
    threads = [threading.Thread(target=data.prepare_data) for data in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folders = {data.artefacts.folder for data in many}
    assert len(folders) == 1
    assert [one.name for one in (path.parent / "artefacts").iterdir()] == [folders.pop().name]
    assert all(len(data.rows("train")) == 22 for data in many)


def test_splits_of_many_tracers_are_disjoint(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    groups = {"a": sample_table((3,) * 30), "b": sample_table((4,) * 10, seed=99)}
    write_groups(path, groups, dt_yr=STEP, generator="test", elements=ELEMENTS)
    data = make_data(path, split=Splitting(fractions=[0.6, 0.2, 0.2]))
    numbers = {part: data.artefacts.ptr(part)[:, 0].tolist() for part in ("train", "val", "test")}
    assert [len(own) for own in numbers.values()] == [24, 8, 8]
    assert sorted(number for own in numbers.values() for number in own) == list(range(40))
    split = json.loads((data.artefacts.folder / "split.json").read_text())
    origins = [tuple(origin) for part in numbers for origin in split[part]]
    assert len(set(origins)) == 40


def test_memory_and_file_give_the_same_batches(path: Path) -> None:
    inside, outside = make_data(path), make_data(path, store={"memory_mib": 0})
    for split in ("train", "val"):
        batches = [list(data.loader(split)) for data in (inside, outside)]
        for one, other in zip(*batches, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
    assert type(inside.rows("train")) is not type(outside.rows("train"))
