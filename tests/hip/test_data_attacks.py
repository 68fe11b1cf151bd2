"""Pickles that try to run code, and damaged ones."""

import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hessian_files import molecule_fields, pickled_molecule, spring_record, write_lmdb
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.hip.data.lmdb import LmdbSource
from sciml.hip.data.pickled import DAMAGE, Fields


class Attack:
    """Pickles to a call of ``os.system`` that makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.witness}",)


class NestedAttack:
    """Pickles to a tensor storage whose bytes hold the attack."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[object, ...]:
        return torch.storage._load_from_bytes, (self.content,)


def test_attack_is_refused_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    source = LmdbSource(_attacked(tmp_path, pickle.dumps(Attack(witness))))
    with pytest.raises(ValueError, match=r"record 0 of .* asks to run (posix|nt)\.system"):
        source[0]
    assert not witness.exists()


def test_attack_inside_a_tensor_is_refused_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    fields = molecule_fields(spring_record((6, 1, 1), 3))
    for protocol in (2, 4):  # the first is what torch itself writes
        inner = NestedAttack(pickle.dumps(Attack(witness), protocol=protocol))
        for value in (pickle.dumps(inner), pickled_molecule(fields | {"extra": inner})):
            source = LmdbSource(_attacked(tmp_path, value))
            with pytest.raises(ValueError, match=r"record 0 of .* is not read: .*do not trust"):
                source[0]
    assert not witness.exists()
    pickle.loads(pickle.dumps(Attack(witness)))
    assert witness.exists()  # the attack itself works


@pytest.mark.parametrize("name", ["length", "0"])
def test_attack_in_the_count_is_refused(tmp_path: Path, name: str) -> None:
    witness = tmp_path / "witness"
    attack = pickle.dumps(Attack(witness))
    path = write_lmdb(tmp_path / "x.lmdb", {b"length": pickle.dumps(1)} | {name.encode(): attack})
    with pytest.raises(ValueError, match="refused"):
        LmdbSource(path).declared_e0  # noqa: B018
    assert not witness.exists()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_only_what_is_caught(data: st.DataObject) -> None:
    content = bytearray(pickled_molecule(molecule_fields(spring_record((6, 1), 3))))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    refused = True
    with suppress(DAMAGE):
        Fields(bytes(content[:end])).verify()
        refused = False
    assert refused or end == len(content)  # a cut record is never taken for a whole one


def test_a_record_whose_storage_lost_its_name_is_damaged() -> None:
    content = bytearray(pickled_molecule(molecule_fields(spring_record((6, 1), 3))))
    content[2660] = 0  # torch asserts that every storage is there
    with pytest.raises(DAMAGE):
        Fields(bytes(content)).verify()


def _attacked(folder: Path, value: bytes) -> Path:
    (folder / "x.lmdb").unlink(missing_ok=True)
    return write_lmdb(folder / "x.lmdb", {b"length": pickle.dumps(1), b"0": value})
