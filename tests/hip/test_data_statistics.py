from pathlib import Path

import numpy as np
import pytest
from hessian_files import E0, LENGTH, STIFFNESS, spring_record, write_extxyz, write_horm

from sciml.hip.data import HessianData, Subset
from sciml.hip.data.files import open_source
from sciml.hip.data.record import Record
from sciml.hip.data.statistics import measure

ALL = (1.0, 0.0, 0.0)


def test_numbers_are_those_of_a_loop(lmdb_file: Path, records: list[Record]) -> None:
    found = HessianData(str(lmdb_file), fractions=ALL).statistics()
    interaction = [
        (record.energy - sum(E0[z] for z in record.numbers.tolist())) / len(record.numbers)
        for record in records
        if record.energy is not None
    ]
    near = sum(
        np.linalg.norm(record.positions[i] - record.positions[j]) < 5
        for record in records
        for i in range(len(record.numbers))
        for j in range(len(record.numbers))
        if i != j
    )
    forces = np.concatenate([record.forces for record in records if record.forces is not None])
    assert found.elements == (1, 6, 7, 8)
    assert found.e0.tolist() == list(E0.values())
    assert found.energy_mean == pytest.approx(np.mean(interaction), abs=1e-7)
    assert found.energy_std == pytest.approx(np.std(interaction), abs=1e-7)
    assert found.num_neighbors == pytest.approx(near / sum(len(r.numbers) for r in records))
    assert found.forces_rms == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-12)
    assert found.counts == {"energy": 12, "forces": 12, "hessian": 12}


def test_mean_blocks_of_springs_are_their_stiffness(tmp_path: Path) -> None:
    # off-diagonal block of a spring: -k along the bond, -k (1 - r₀/r) across it
    path = write_extxyz(tmp_path / "x.xyz", [spring_record((8, 8), 5)])
    found = HessianData(str(path), fractions=ALL).statistics().mean_blocks
    distance = np.linalg.norm(np.diff(open_source(path)[0].positions, axis=0))
    expected = [-STIFFNESS, -STIFFNESS * (1 - LENGTH / distance)]
    seen = found[0, 0].abs().sum(1) > 0
    assert seen.sum() == 1
    np.testing.assert_allclose(found[0, 0][seen][0], expected, atol=1e-6)


def test_order_and_batches_do_not_matter(extxyz_file: Path) -> None:
    source = open_source(extxyz_file)
    forward = measure(source, np.arange(12), "average", 5.0)
    backward = measure(source, np.arange(12)[::-1], "average", 5.0)
    np.testing.assert_allclose(forward.prior, backward.prior, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forward.e0, backward.e0, rtol=1e-9)


def test_partial_labels_are_counted(extxyz_file: Path, tmp_path: Path) -> None:
    lines = extxyz_file.read_text().replace("REF_energy", "no_energy", 5)
    path = tmp_path / "partial.xyz"
    path.write_text(lines)
    found = HessianData(str(path), fractions=ALL).statistics()
    assert found.counts == {"energy": 7, "forces": 12, "hessian": 12}


def test_sample_of_large_sets(lmdb_file: Path) -> None:
    data = HessianData(str(lmdb_file), fractions=ALL, subset=Subset(max_statistics=4))
    assert data.statistics().counts["hessian"] == 4


def test_undetermined_compositions_are_explained(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    water = [spring_record((8, 1, 1), seed) for seed in range(3)]
    data = HessianData(str(write_extxyz(tmp_path / "x.xyz", water)), fractions=ALL)
    e0 = data.statistics().e0
    assert "determine 1 combinations of the energies of H (1), O (8)" in told.text
    mean = np.mean([record.energy for record in water if record.energy is not None])
    assert float(2 * e0[0] + e0[1]) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("split", ["val", "test"])
def test_new_element_is_named(tmp_path: Path, lmdb_file: Path, split: str) -> None:
    strange = write_extxyz(tmp_path / "new.xyz", [spring_record((8, 1), 1)] * 2)
    text = strange.read_text()
    strange.write_text(text[::-1].replace("O", "S", 1)[::-1])  # the last oxygen
    data = HessianData(str(lmdb_file), **{split: str(strange)}, num_workers=0)  # type: ignore[arg-type]
    data.statistics()
    with pytest.raises(ValueError, match=r"element S \(16\) in record 1 of .*new\.xyz has no ref"):
        list(data.loader(split))  # type: ignore[call-overload]


def test_missing_element_in_the_table_is_named(lmdb_file: Path) -> None:
    data = HessianData(str(lmdb_file), e0={1: -13.6, 6: -1029.4, 7: -1484.9})
    with pytest.raises(ValueError, match=r"element O \(8\) of the training molecules"):
        data.statistics()


def test_two_files_must_declare_the_same(tmp_path: Path, records: list[Record]) -> None:
    from sciml.hip.data.packed import PackedWriter
    from sciml.hip.data.writer import Header

    lmdb = write_horm(tmp_path / "x.lmdb", records)
    with PackedWriter(tmp_path / "y.h5", Header({**E0, 1: -13.6})) as file:
        for record in records:
            file.add(record)
    data = HessianData([str(lmdb), str(tmp_path / "y.h5")], fractions=ALL)
    with pytest.raises(ValueError, match=r"declare different reference energies for element 1"):
        data.statistics()
