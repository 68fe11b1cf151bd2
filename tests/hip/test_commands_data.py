import json
from pathlib import Path

import numpy as np
import pytest
from hessian_files import assert_same, spring_record, spring_records, write_extxyz, write_groups
from shared import HIP, needs_hip

from sciml.cli import main
from sciml.hip.commands.convert import convert
from sciml.hip.data.files import open_source
from sciml.hip.data.record import Record


def _json(capsys: pytest.CaptureFixture[str]) -> dict:  # type: ignore[type-arg]
    found: dict = json.loads(capsys.readouterr().out)  # type: ignore[type-arg]
    return found


@pytest.mark.parametrize("name", ["lmdb_file", "groups_file", "extxyz_file", "packed_file"])
@pytest.mark.parametrize("layout", ["packed", "packed-gzip", "groups"])
def test_any_format_to_any_layout(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, layout: str
) -> None:
    source = request.getfixturevalue(name)
    out = tmp_path / "out.h5"
    convert(source, out=out, layout=layout)
    old, new = open_source(source), open_source(out)
    assert type(new).__name__ == ("GroupsSource" if layout == "groups" else "PackedSource")
    assert new.declared_e0 == old.declared_e0
    for index in range(12):
        assert_same(new[index], old[index], atol=2e-6)  # float32 of Hessians up to 20 eV/Å²


def test_convert_reports_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = spring_records(3)
    np.asarray(records[1].hessian)[0, 1] += 0.25
    source = write_groups(tmp_path / "x.h5", records)
    main(["hip", "convert", str(source), "--out", str(tmp_path / "y.h5"), "--json=true"])
    report = _json(capsys)
    assert (report["read"], report["written"], report["skipped"]) == (3, 3, {})
    assert report["asymmetry"] == pytest.approx(0.25, abs=1e-5)
    assert report["survey"]["labels"] == {"energy": 3, "forces": 3, "hessian": 3}


def test_springs_obey_the_rules(tmp_path: Path, lmdb_file: Path) -> None:
    # the energy of springs is invariant: what is left is float32 rounding of the labels
    report = convert(lmdb_file, out=tmp_path / "y.h5")
    assert report.translation[1] < 1e-5
    assert report.rotation[1] < 1e-5
    assert report.asymmetry < 1e-6


def test_strong_forces_and_close_atoms_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = spring_records(5)
    np.asarray(records[1].forces)[0] = [30, 0, 41]
    records[3].positions[1] = records[3].positions[0] + [0.3, 0, 0]
    source = write_groups(tmp_path / "x.h5", records)
    report = convert(source, out=tmp_path / "y.h5")
    assert report.skipped == {"force": 1, "distance": 1}
    assert [record.identifier for record in _all(tmp_path / "y.h5")] == [0, 2, 4]
    shown = capsys.readouterr().out
    assert "3 of 5 records written" in shown
    assert f"record 1 of {source}: a force of 50.8 eV/Å" in shown  # √(30² + 41²)
    assert f"record 3 of {source}: atoms 0.30 Å apart" in shown
    assert convert(source, out=tmp_path / "z.h5", fmax=51).skipped == {"distance": 1}


def test_defective_record_stops_or_is_left_out(tmp_path: Path) -> None:
    records = spring_records(3)
    records[1].energy = float("nan")
    source = write_groups(tmp_path / "x.h5", records)
    out = tmp_path / "y.h5"
    with pytest.raises(ValueError, match=r"record 1 of .* energy is nan.* \(--skip_defective"):
        main(["hip", "convert", str(source), "--out", str(out)])
    assert not out.exists()  # only the part, which the next conversion overwrites
    main(["hip", "convert", str(source), "--out", str(out), "--skip_defective=true"])
    assert len(_all(out)) == 2
    assert not list(tmp_path.glob("*.part"))


def test_finished_file_is_not_overwritten(lmdb_file: Path, packed_file: Path) -> None:
    before = packed_file.read_bytes()
    with pytest.raises(ValueError, match=r"packed\.h5 exists; give another --out"):
        main(["hip", "convert", str(lmdb_file), "--out", str(packed_file)])
    assert packed_file.read_bytes() == before


def test_nothing_left_is_an_error(tmp_path: Path, lmdb_file: Path) -> None:
    with pytest.raises(ValueError, match="no record was left to write"):
        convert(lmdb_file, out=tmp_path / "y.h5", fmax=0.0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["springs.lmdb"]


def test_stats_of_known_molecules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # two atoms on a spring, stretched: one vibration; pushed together: still one; r < r₀ makes
    # the transverse eigenvalues negative, but these are rotations and projected out
    path = write_extxyz(tmp_path / "x.xyz", [spring_record((8, 8), seed) for seed in range(4)])
    main(["hip", "stats", str(path), "--json=true"])
    found = _json(capsys)
    assert found["records"] == 4
    assert found["atoms"] == {"least": 2, "mean": 2.0, "most": 2}
    assert found["elements"] == {"O": 8}
    assert found["formulas"] == {"different": 1, "most_frequent": {"O2": 4}}
    assert found["negative_modes"] == {"0": 4}
    assert found["e0"]["from"] == "least squares"
    assert found["interaction_energy_per_atom"]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["hessian"]["antisymmetric_share"] == pytest.approx(0, abs=1e-6)


def test_stats_agree_with_plain_loops(
    lmdb_file: Path, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["hip", "stats", str(lmdb_file), "--json=true"])
    found = _json(capsys)
    forces = np.concatenate([record.forces for record in records if record.forces is not None])
    assert found["forces"]["largest"] == pytest.approx(np.linalg.norm(forces, axis=1).max())
    means = [np.abs(record.hessian).mean() for record in records if record.hessian is not None]
    assert found["hessian"]["mean_abs"] == pytest.approx(np.mean(means))
    diagonal = np.mean(
        [
            np.abs(np.asarray(record.hessian)[3 * i : 3 * i + 3, 3 * i : 3 * i + 3]).mean()
            for record in records
            for i in range(len(record.numbers))
        ]
    )
    assert found["hessian"]["diagonal"] == pytest.approx(diagonal)
    assert found["reactions"] == 6


def test_stats_prints_tables(lmdb_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["hip", "stats", str(lmdb_file), "--max_records", "5"])
    shown = capsys.readouterr().out
    assert "5 of 12" in shown
    assert "E0 of H" in shown
    assert "-16.713167 eV" in shown


@needs_hip
def test_real_lmdb_and_hdf5_hold_the_same() -> None:
    lmdb, hdf5 = open_source(HIP / "horm80.lmdb"), open_source(HIP / "horm80.h5")
    assert len(lmdb) == len(hdf5) == 80
    for index in range(80):
        first, second = lmdb[index], hdf5[index]
        np.testing.assert_array_equal(first.positions, second.positions)
        np.testing.assert_array_equal(first.forces, second.forces)  # type: ignore[arg-type]
        np.testing.assert_array_equal(first.hessian, second.hessian)  # type: ignore[arg-type]
        assert first.energy == pytest.approx(second.energy, abs=5e-4)  # half an ulp of float32


@needs_hip
def test_real_molecules_have_the_published_scale(capsys: pytest.CaptureFixture[str]) -> None:
    main(["hip", "stats", str(HIP / "horm80.lmdb"), "--json=true"])
    found = _json(capsys)
    assert found["atoms"]["least"] == 8  # hip.md 2.5: 8 to 21 atoms, for 100 of which 80 are here
    assert found["atoms"]["most"] == 21
    assert found["neighbors_per_atom"] == pytest.approx(12.88, abs=0.1)
    assert found["hessian"]["mean_abs"] == pytest.approx(2.77, abs=0.03)
    assert found["hessian"]["by_distance"]["1.2-1.6"] == pytest.approx(8.1, abs=0.1)
    assert found["hessian"]["antisymmetric_share"] == pytest.approx(0.126, abs=0.003)
    assert sum(found["negative_modes"].values()) == 80


def _all(path: Path) -> list[Record]:
    source = open_source(path)
    return [source[index] for index in range(len(source))]
