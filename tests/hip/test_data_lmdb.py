import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hessian_files import (
    E0,
    assert_same,
    molecule_fields,
    pickled_molecule,
    spring_record,
    spring_records,
    write_horm,
    write_lmdb,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.hip.data.files import open_source
from sciml.hip.data.labels import Labels
from sciml.hip.data.lmdb import LmdbSource
from sciml.hip.data.record import Record


def test_records_come_back(lmdb_file: Path, records: list[Record]) -> None:
    source = LmdbSource(lmdb_file)
    assert len(source) == len(records)
    for index, record in enumerate(records):
        read = source[index]
        assert_same(read, record, atol=1e-6)  # float32 of `ae`, a few eV
        assert read.identifier == index
        assert read.reaction == record.reaction
        assert read.positions.dtype == read.hessian.dtype == np.float64  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, when PyG is imported
def test_the_test_writer_makes_the_bytes_of_pyg() -> None:
    data = pytest.importorskip("torch_geometric.data")
    fields = molecule_fields(spring_record((6, 1, 1), 3))
    assert pickle.dumps(data.Data(**fields), protocol=4) == pickled_molecule(fields)


def test_energy_keeps_what_float32_totals_lose(tmp_path: Path) -> None:
    record = spring_record((8, 8, 8, 8, 6), 1)
    source = LmdbSource(write_horm(tmp_path / "x.lmdb", [record]))
    assert record.energy is not None
    assert abs(float(np.float32(record.energy)) - record.energy) > 1e-5  # an ulp is 1e-3 eV
    assert source[0].energy == pytest.approx(record.energy, abs=1e-6)
    assert source.declared_e0 == E0


def test_ae_of_another_fit_is_not_used(tmp_path: Path) -> None:
    fields = molecule_fields(spring_record((6, 1, 1), 1))
    fields["ae"] += 3
    source = LmdbSource(write_lmdb(tmp_path / "x.lmdb", _entries([fields])))
    assert source.declared_e0 is None
    assert source[0].energy == float(fields["energy"])


def test_one_record_of_another_fit_is_an_error(tmp_path: Path) -> None:
    fields = [molecule_fields(spring_record((6, 1, 1), seed)) for seed in range(3)]
    fields[2]["ae"] += 3
    source = LmdbSource(write_lmdb(tmp_path / "x.lmdb", _entries(fields)))
    with pytest.raises(ValueError, match=r"record 2 of .*'ae'"):
        source[2]


def test_element_without_constant_keeps_its_total(tmp_path: Path) -> None:
    fields = molecule_fields(spring_record((6, 1, 1), 1))
    fields["charges"][2], fields["one_hot"][2] = 9, torch.eye(5)[4]
    carbon = molecule_fields(spring_record((6, 1), 2))
    source = LmdbSource(write_lmdb(tmp_path / "x.lmdb", _entries([carbon, fields])))
    assert source[1].energy == float(fields["energy"])


def test_length_is_counted_when_absent(tmp_path: Path, records: list[Record]) -> None:
    source = LmdbSource(write_horm(tmp_path / "x.lmdb", records, length=False))
    assert len(source) == 12
    assert [source[i].identifier for i in range(12)] == list(range(12))  # not 0, 1, 10, 11, 2


def test_numbers_without_length_may_have_gaps(tmp_path: Path) -> None:
    values = {
        str(key).encode(): pickled_molecule(molecule_fields(spring_record((8,) * size, 0)))
        for key, size in ((7, 2), (30, 3), (4, 4))
    }
    source = LmdbSource(write_lmdb(tmp_path / "x.lmdb", values))
    assert [len(source[i].numbers) for i in range(3)] == [4, 2, 3]
    assert source.sizes().tolist() == [4, 2, 3]


def test_folder_is_joined_by_name(tmp_path: Path, records: list[Record]) -> None:
    write_horm(tmp_path / "b.lmdb", records[:5])
    write_horm(tmp_path / "a.lmdb", records[5:])
    source = open_source(tmp_path)
    assert len(source) == 12
    assert_same(source[7], records[0], atol=1e-6)
    assert source[8].identifier == 8
    assert "record 1 of" in source.where(8)
    assert source.where(8).endswith("b.lmdb")


def test_sizes_come_from_lengths(lmdb_file: Path, records: list[Record]) -> None:
    assert LmdbSource(lmdb_file).sizes().tolist() == [len(record.numbers) for record in records]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_sizes_are_exact_for_any_sizes(tmp_path_factory: pytest.TempPathFactory, sizes) -> None:  # type: ignore[no-untyped-def]
    entries = [
        {"pos": torch.zeros(n, 3), "charges": torch.ones(n, dtype=torch.int32)}
        | {"hessian": torch.zeros(9 * n * n), "energy": torch.zeros(())}
        for n in sizes
    ]
    path = write_lmdb(tmp_path_factory.mktemp("sizes") / "x.lmdb", _entries(entries))
    assert LmdbSource(path).sizes().tolist() == sizes


def test_sizes_are_right_when_records_differ_in_their_fields(tmp_path: Path) -> None:
    fields = [molecule_fields(spring_record((8,) * size, 0)) for size in (5, 6, 4)]
    del fields[1]["hessian"]
    source = LmdbSource(write_lmdb(tmp_path / "x.lmdb", _entries(fields)))
    assert source.sizes().tolist() == [5, 6, 4]
    assert source[1].hessian is None


@pytest.mark.parametrize("share", [0.0, 0.001, 0.004, 0.1, 0.5, 0.99, 0.99999])
def test_truncated_file_is_one_sentence(tmp_path: Path, lmdb_file: Path, share: float) -> None:
    whole = lmdb_file.read_bytes()
    cut = tmp_path / "cut.lmdb"
    cut.write_bytes(whole[: int(share * len(whole))])
    # in a process of its own: reading a page that is missing kills it
    with multiprocessing.get_context("fork").Pool(1) as pool:
        sentence = pool.apply_async(_refusal, (cut,)).get(timeout=20)
    assert "copy it again" in sentence
    assert str(cut) in sentence
    assert "\n" not in sentence


def test_missing_record_is_named(tmp_path: Path) -> None:
    entries = _entries([molecule_fields(spring_record((6, 1), 3))])
    source = LmdbSource(write_lmdb(tmp_path / "x.lmdb", entries | {b"length": pickle.dumps(3)}))
    with pytest.raises(ValueError, match=r"record 1 of .* is missing although .* 3 records"):
        source[1]
    with pytest.raises(ValueError, match=r"record 1 of .* is missing"):
        source.sizes()


def test_one_hot_must_agree(tmp_path: Path) -> None:
    fields = molecule_fields(spring_record((6, 1), 3))
    fields["one_hot"] = fields["one_hot"].flip(0)
    source = LmdbSource(write_lmdb(tmp_path / "x.lmdb", _entries([fields])))
    with pytest.raises(ValueError, match=r"record 0 of .*'charges'.*'one_hot'"):
        source[0]


def test_other_key_names(tmp_path: Path) -> None:
    fields = molecule_fields(spring_record((6, 1), 3))
    fields["REF_forces"] = fields.pop("forces")
    path = write_lmdb(tmp_path / "x.lmdb", _entries([fields]))
    source = LmdbSource(path, Labels(energy_key="ae"))
    assert source[0].energy == float(fields["ae"])
    assert source.declared_e0 is None
    assert source[0].forces is not None
    with pytest.raises(ValueError, match=r"no 'Hess' and no 'REF_Hess'; found: .*hessian"):
        LmdbSource(path, Labels(hessian_key="Hess"))[0]


def test_source_works_in_other_processes(lmdb_file: Path) -> None:
    source = LmdbSource(lmdb_file)
    own = source[3].positions  # the environment is open here
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[3].positions, own)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_positions, (source,)), own)
    np.testing.assert_array_equal(source[3].positions, own)


def test_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.lmdb"
    first = LmdbSource(write_horm(path, spring_records(2)))
    path.unlink()
    second = LmdbSource(write_horm(path, spring_records(5)))
    assert (len(first), len(second)) == (2, 5)


def _refusal(path: Path) -> str:
    try:
        open_source(path)[0]
    except ValueError as error:
        return str(error)
    return "it was read"


def _positions(source: LmdbSource) -> np.ndarray:
    return source[3].positions


def _entries(fields: list[dict[str, torch.Tensor]]) -> dict[bytes, bytes]:
    entries = {str(i).encode(): pickled_molecule(one) for i, one in enumerate(fields)}
    return entries | {b"length": pickle.dumps(len(fields))}
