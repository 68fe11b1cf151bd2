import json
import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hessian_files import assert_same, spring_record, write_groups, write_horm
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.hip.data import packed
from sciml.hip.data.files import open_file, open_source
from sciml.hip.data.groups import GroupsSource, GroupsWriter
from sciml.hip.data.labels import Labels
from sciml.hip.data.packed import PackedSource, PackedWriter, lower, unpack
from sciml.hip.data.record import Record
from sciml.hip.data.writer import Header, Writer


def test_groups_of_the_other_program_are_read(groups_file: Path, records: list[Record]) -> None:
    source = open_source(groups_file)
    assert isinstance(source, GroupsSource)
    assert len(source) == 12  # groups of 11 and 1
    for index, record in enumerate(records):  # 10 and 11 come after 2
        assert_same(source[index], record)
        assert source[index].identifier == index
    assert source.sizes().tolist() == [len(record.numbers) for record in records]
    assert source[0].hessian_weight == 1.0  # its property_weights have no hessian


def test_groups_are_found_by_number_also_with_gaps(tmp_path: Path, records: list[Record]) -> None:
    path = write_groups(tmp_path / "gaps.h5", records)
    with h5py.File(path, "a") as file:
        del file["config_batch_0/config_3"]
        file.move("config_batch_1", "config_batch_12")
    source = open_source(path)
    assert len(source) == 11
    assert_same(source[3], records[4])
    assert_same(source[10], records[11])


def test_weight_zero_means_absent(tmp_path: Path, records: list[Record]) -> None:
    path = write_groups(tmp_path / "x.h5", records[:2])
    with h5py.File(path, "a") as file:
        file["config_batch_0/config_1/property_weights/forces"][()] = 0.0
        file["config_batch_0/config_1/properties/forces"][0] = np.nan  # no label: not looked at
    assert open_source(path)[1].forces is None
    assert open_source(path)[1].forces_weight == 0


def test_periodic_group_is_refused(tmp_path: Path, records: list[Record]) -> None:
    path = write_groups(tmp_path / "x.h5", records[:2])
    with h5py.File(path, "a") as file:
        del file["config_batch_0/config_1/pbc"]
        file["config_batch_0/config_1/pbc"] = np.array([True, True, False])
    with pytest.raises(ValueError, match=r"record 1 of .* is periodic"):
        open_source(path)[1]


@pytest.mark.parametrize("writer", [PackedWriter, GroupsWriter])
def test_written_records_come_back(
    tmp_path: Path, records: list[Record], writer: type[Writer]
) -> None:
    records[1].energy = None
    records[2].forces = None
    records[3].hessian = None
    records[4].config_type = "saddle ‡"
    records[5].weight, records[5].hessian_weight = 2.0, 0.25
    path = tmp_path / "deep" / "x.h5"
    with writer(path, Header({1: -0.5, 6: -37.25}, "rhf/6-31g*")) as file:
        for record in records:
            file.add(record)
    source = open_source(path)
    assert source.declared_e0 == {1: -0.5, 6: -37.25}
    assert source.level_of_theory == "rhf/6-31g*"
    for index, record in enumerate(records):
        read = source[index]
        assert_same(read, record)
        assert read.config_type == record.config_type
        assert (read.identifier, read.reaction) == (record.identifier, record.reaction)
        assert read.weight == record.weight
        assert read.hessian_weight == (0 if record.hessian is None else record.hessian_weight)
    assert source.reactions().tolist() == [record.reaction for record in records]
    assert source.formulas()[:3] == ["CH4", "H2O", "CO"]
    assert not list(path.parent.glob("*.part"))


def test_lmdb_packed_groups_round_trip(tmp_path: Path, records: list[Record]) -> None:
    source = open_source(write_horm(tmp_path / "x.lmdb", records))
    chain = [source]
    for name, writer in (("p.h5", PackedWriter), ("g.h5", GroupsWriter), ("q.h5", PackedWriter)):
        header = Header(chain[-1].declared_e0, chain[-1].level_of_theory)
        with writer(tmp_path / name, header) as file:
            for index in range(len(source)):
                file.add(chain[-1][index])
        chain.append(open_source(tmp_path / name))
    for copy in chain[1:]:
        assert copy.declared_e0 == source.declared_e0
        for index in range(len(source)):
            assert_same(copy[index], source[index])
            assert copy[index].reaction == source[index].reaction


def test_packed_layout_is_the_documented_one(packed_file: Path, records: list[Record]) -> None:
    # written by hand from the table in the specification, without the reader
    with h5py.File(packed_file) as file:
        assert file.attrs["format"] == "sciml-hip-1"
        assert json.loads(file.attrs["e0"]) == {}
        start, stop = file["ptr"][1:3]
        first, last = file["hess_ptr"][1:3]
        assert (stop - start, last - first) == (3, 45)  # 9 · 10 / 2
        hessian = np.asarray(records[1].hessian)
        rows = [hessian[i, : i + 1] for i in range(9)]
        np.testing.assert_array_equal(file["hessian"][first:last], np.concatenate(rows))
        types = {name: file[name].dtype.str for name in ("ptr", "z", "pos", "energy", "hessian")}
        assert types == {"ptr": "<i8", "z": "|i1", "pos": "<f8", "energy": "<f8", "hessian": "<f4"}


def test_minimal_file_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["ptr"], file["z"], file["pos"] = [0, 1, 3], [2, 1, 1], np.eye(3)
        file["energy"] = [-1.0, -2.0]
    source = open_source(path)
    assert isinstance(source, PackedSource)
    assert source[1].energy == -2.0
    assert source[1].positions.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert source[1].hessian is None
    assert source.declared_e0 is None


@given(st.integers(1, 12))
def test_lower_triangle_unpacks(size: int) -> None:
    matrix = np.random.default_rng(size).normal(size=(size, size))
    matrix += matrix.T
    np.testing.assert_array_equal(unpack(matrix[lower(size)], size), matrix)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 2000))
def test_streaming_does_not_change_the_file(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], flush: int
) -> None:
    folder = tmp_path_factory.mktemp("stream")
    records = [spring_record((8,) * size, seed, seed) for seed, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "FLUSH", flush)
        patch.setattr(packed, "CHUNK", 256)
        with PackedWriter(folder / "x.h5", compress=flush % 2 == 0) as file:
            for record in records:
                file.add(record)
    source = open_source(folder / "x.h5")
    for index, record in enumerate(records):
        assert_same(source[index], record)
    assert source.sizes().tolist() == sizes


def test_unfinished_file_never_has_the_name(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(AttributeError), PackedWriter(path) as file:
        file.add(None)  # type: ignore[arg-type]
    assert not path.exists()
    assert path.with_name("x.h5.part").exists()
    with PackedWriter(path) as file:  # over the part that was left
        file.add(records[1])
    assert_same(open_source(path)[0], records[1])
    with pytest.raises(ValueError, match="exists"):
        PackedWriter(path)
    with pytest.raises(ValueError, match="no record"), PackedWriter(tmp_path / "y.h5"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", ["packed_file", "groups_file"])
def test_truncated_file_is_one_sentence(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, share: float
) -> None:
    whole = request.getfixturevalue(name).read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.h5 .*truncated.* copy it again") as error:
        open_source(cut)
    assert "\n" not in str(error.value)


def test_damaged_inside_names_the_record(tmp_path: Path, records: list[Record]) -> None:
    path = write_groups(tmp_path / "x.h5", records)
    with h5py.File(path, "a") as file:
        del file["config_batch_0/config_4/positions"]
    with pytest.raises(ValueError, match=r"record 4 of .*x\.h5 cannot be read"):
        open_source(path)[4]


def test_other_key_names(tmp_path: Path, records: list[Record]) -> None:
    path = write_groups(tmp_path / "x.h5", records[:2])
    with h5py.File(path, "a") as file:
        for i in range(2):
            properties = file[f"config_batch_0/config_{i}/properties"]
            properties.move("energy", "REF_energy")
            properties.move("forces", "dft_forces")
    assert open_source(path)[0].energy == records[0].energy
    assert open_source(path)[0].forces is None
    found = open_source(path, Labels(forces_key="dft_forces"))[0].forces
    np.testing.assert_array_equal(found, records[0].forces)
    message = r"record 0 of .* no 'Hessian' and no 'REF_Hessian'; found: REF_energy, .*hessian_key"
    with pytest.raises(ValueError, match=message):
        open_source(path, Labels(hessian_key="Hessian"))[0]


def test_packed_names_a_wrong_key_at_once(packed_file: Path) -> None:
    with pytest.raises(ValueError, match="found: energy, forces, hessian"):
        open_source(packed_file, Labels(energy_key="E"))


@pytest.mark.parametrize("name", ["packed_file", "groups_file"])
def test_sources_work_in_other_processes(request: pytest.FixtureRequest, name: str) -> None:
    source = open_file(request.getfixturevalue(name))
    own = source[3].positions  # the file is open here
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[3].positions, own)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for read in pool.map(_positions, [(source, 3)] * 4):
            np.testing.assert_array_equal(read, own)
    source.close()
    np.testing.assert_array_equal(source[3].positions, own)


def test_opening_reads_no_record(tmp_path: Path) -> None:
    # a file that claims ten million molecules: datasets without any data
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "sciml-hip-1"
        for name, kind in (("ptr", "i8"), ("z", "i1"), ("hess_ptr", "i8"), ("energy", "f8")):
            file.create_dataset(name, (10_000_001,), kind, chunks=(1 << 17,))
        file.create_dataset("pos", (10_000_001, 3), "f8", chunks=(1 << 15, 3))
    assert len(open_source(path)) == 10_000_000


def _positions(arguments: tuple[PackedSource, int]) -> np.ndarray:
    source, index = arguments
    return source[index].positions
