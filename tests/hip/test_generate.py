import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sciml.core.parallel import Tally
from sciml.core.parts import failures_of
from sciml.hip.data.packed import PackedSource
from sciml.hip.generate import sample
from sciml.hip.generate.dataset import Summary, generate_dataset
from sciml.hip.generate.engines import Labels, make_engine
from sciml.hip.generate.geometries import between, bonded_pairs, heat, react, superimpose
from sciml.hip.generate.molecules import Molecule, embed, parse_smiles
from sciml.hip.generate.sample import Settings
from sciml.hip.generate.search import Minimum, closest
from sciml.hip.physics.constants import BOLTZMANN

Array = NDArray[np.float64]
SMALL = ["C", "N", "O", "C=O"]
QUICK = Settings(per_molecule=4, ts_fraction=0.25)


@pytest.fixture(autouse=True)
def engines_or_skip() -> None:
    pytest.importorskip("rdkit")
    pytest.importorskip("tblite")


def run(out: Path, smiles: list[str] = SMALL, **changes: object) -> Summary:
    molecules = [parse_smiles(one) for one in smiles]
    options = {"settings": QUICK, "backend": "serial"} | changes
    return generate_dataset(out, molecules, **options)  # type: ignore[arg-type]


def arrays(path: Path) -> list[tuple[object, ...]]:
    source = PackedSource(path)
    records = [source.raw(index) for index in range(len(source))]
    return [
        (r.config_type, r.energy, r.positions.tobytes(), r.forces.tobytes(), r.hessian.tobytes())
        for r in records
    ]


def springs(rng: np.random.Generator) -> Minimum:
    """A minimum of five atoms with made-up modes, two of them too soft to move."""
    modes = np.linalg.qr(rng.normal(size=(15, 15)))[0][:9].reshape(9, 5, 3)
    eigenvalues = np.array([-0.01, 0.019, 0.03, 0.1, 0.5, 2.0, 10.0, 30.0, 60.0])
    labels = Labels(0.0, np.zeros((5, 3)), np.zeros((15, 15)))
    return Minimum(rng.normal(size=(5, 3)), labels, eigenvalues, modes)


@pytest.mark.parametrize("temperature", [300.0, 2500.0])
def test_heated_modes_have_the_variance_of_boltzmann(temperature: float) -> None:
    rng = np.random.default_rng(0)
    minimum = springs(rng)
    draws = np.array([heat(minimum, temperature, rng) for _ in range(8000)]) - minimum.positions
    q = np.einsum("dna,kna->dk", draws, minimum.displacements)
    variance = BOLTZMANN * temperature / minimum.eigenvalues[2:]  # <q²> = kT/λ
    np.testing.assert_allclose(q[:, 2:].var(0), variance, rtol=0.07)  # 4.4 standard errors
    np.testing.assert_allclose(q[:, 2:].mean(0) / np.sqrt(variance), 0, atol=0.05)
    np.testing.assert_allclose(q[:, :2], 0, atol=1e-12)


def test_superimposed_positions_come_back() -> None:
    rng = np.random.default_rng(1)
    positions = rng.normal(size=(6, 3))
    moved = positions @ Rotation.random(rng=3).as_matrix() + [1, 2, 3]
    np.testing.assert_allclose(superimpose(moved, positions), positions, atol=1e-12)
    mirrored = superimpose(positions * [1, 1, -1], positions)  # a proper turn cannot mirror
    assert np.abs(mirrored - positions).max() > 0.1


def test_the_way_between_geometries_goes_around_atoms() -> None:
    # HCN to HNC: along the straight line the hydrogen atom would go through the bond
    start = np.array([[-1.07, 0, 0], [0, 0, 0], [1.15, 0, 0]])
    end = np.array([[2.15, 0.3, 0], [0, 0, 0], [1.15, 0, 0]])
    line = (start + superimpose(end, start)) / 2
    assert closest(line) < 0.8
    half = between(start, end, 0.5)
    lengths = [np.linalg.norm(x[0] - x[1:], axis=1) for x in (start, end, half)]
    np.testing.assert_allclose(lengths[2], (lengths[0] + lengths[1]) / 2, atol=0.05)
    np.testing.assert_allclose(between(start, end, 0.0), start, atol=1e-6)
    np.testing.assert_allclose(between(start, end, 1.0), superimpose(end, start), atol=1e-5)


def test_bonds_and_gaps_of_formaldehyde() -> None:
    numbers = np.array([8, 6, 1, 1])
    positions = np.array([[0, 0, 1.2], [0, 0, 0], [0, 0.94, -0.59], [0, -0.94, -0.59]])
    bonds, gaps = bonded_pairs(numbers, positions)
    assert bonds == [(0, 1), (1, 2), (1, 3)]
    assert gaps == [(0, 2), (0, 3), (2, 3)]


def test_reactions_change_bonds_and_reach_conformers() -> None:
    conformers = embed("CCO", seed=1, count=3)
    numbers = parse_smiles("CCO").numbers
    rng = np.random.default_rng(2)
    ways = [react(numbers, conformers[0], conformers[1:], rng) for _ in range(60)]
    known = bonded_pairs(numbers, conformers[0])[0]
    changed = [bonded_pairs(numbers, way)[0] for way in ways]
    assert any(set(bonds) < set(known) for bonds in changed), "a bond breaks"
    assert any(set(bonds) - set(known) for bonds in changed), "a bond forms"
    assert any(bonds == known for bonds in changed), "a conformer keeps the bonds"


@pytest.mark.qm
def test_a_set_has_labels_of_its_geometries(tmp_path: Path) -> None:
    summary = run(tmp_path / "set.h5")
    assert summary.configurations == {"minimum": 4, "thermal": 8, "reaction": 4}
    source = PackedSource(tmp_path / "set.h5")
    assert "GFN2-xTB" in source.level_of_theory
    assert sorted(source.declared_e0 or {}) == [1, 6, 7, 8]
    for index in (0, 6, 15):
        record = source.raw(index)
        assert record.reaction == index // 4
        assert record.config_type == SMALL[index // 4]
        numbers, positions = record.numbers.tolist(), record.positions.astype(np.float64)
        labels = make_engine("gfn2-xtb", numbers).labels(positions)
        assert record.energy == labels.energy
        np.testing.assert_allclose(record.forces, labels.forces, atol=1e-5)
        np.testing.assert_allclose(record.hessian, labels.hessian, atol=1e-4)
    assert np.abs(source.raw(0).forces).max() < 2e-3  # the minimum comes first
    assert not (tmp_path / "set.h5.parts").exists()


@pytest.mark.qm
def test_a_stopped_run_goes_on_to_the_same_file(tmp_path: Path) -> None:
    def stop(tally: Tally) -> None:
        if tally.finished == 2:
            raise KeyboardInterrupt

    whole, resumed = tmp_path / "whole.h5", tmp_path / "resumed.h5"
    run(whole, seed=1)
    with pytest.raises(KeyboardInterrupt):
        run(resumed, seed=1, progress=stop)
    assert not resumed.exists()
    for other in ({"seed": 2}, {"settings": Settings(per_molecule=5)}, {"smiles": SMALL[:2]}):
        with pytest.raises(ValueError, match=r"was begun with .*; repeat those settings"):
            run(resumed, **({"seed": 1} | other))
    assert run(resumed, seed=1).resumed == 2
    assert arrays(resumed) == arrays(whole)
    with pytest.raises(ValueError, match="exists"):
        run(resumed, seed=1)


@pytest.mark.qm
@pytest.mark.slow
def test_the_file_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    run(one, backend="serial")
    run(two, backend="processes", workers=2)
    assert arrays(one) == arrays(two)


@pytest.mark.qm
def test_a_molecule_that_fails_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(smiles: str, seed: int, count: int) -> list[Array]:
        if smiles in refused:
            raise ValueError(f"'{smiles}' cannot be embedded in three dimensions")
        return embed(smiles, seed, count)

    monkeypatch.setattr(sample, "embed", refuse)
    refused = ["N"]
    out = tmp_path / "set.h5"
    summary = run(out)
    assert summary.molecules == 3
    assert "molecules that failed: 1" in str(summary)
    line = json.loads(failures_of(out).read_text())
    assert line["molecule"] == "N"
    assert "cannot be embedded" in line["reason"]
    refused = SMALL
    with pytest.raises(ValueError, match="every molecule failed, the first with 'ValueError: 'C'"):
        run(tmp_path / "none.h5")
    assert not list(tmp_path.glob("none.h5.part*"))


@pytest.mark.qm
def test_bad_geometries_are_dropped_counted_and_drawn_again(tmp_path: Path) -> None:
    strict = Settings(per_molecule=4, ts_fraction=0.25, fmax=3.0, tries=3)
    summary = run(tmp_path / "set.h5", settings=strict)
    assert summary.dropped["a force above 3 eV/Å"] > 0
    assert summary.configurations.total() + summary.missing == 16
    source = PackedSource(tmp_path / "set.h5")
    assert max(np.abs(source.raw(index).forces).max() for index in range(len(source))) <= 3
    wide = Settings(per_molecule=4, ts_fraction=0.25, nearest=1.5, tries=2)
    summary = run(tmp_path / "wide.h5", ["O"], settings=wide)
    assert summary.dropped == {"atoms closer than 1.5 Å": 6}
    assert summary.missing == 3


@pytest.mark.parametrize("wrong", [{"per_molecule": 0}, {"ts_fraction": 1.5}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
        Settings(**wrong)  # type: ignore[arg-type]


def test_kinds_share_the_configurations() -> None:
    kinds = Settings(per_molecule=10, ts_fraction=0.3).kinds()
    assert [kinds.count(kind) for kind in ("minimum", "thermal", "reaction")] == [1, 6, 3]
    assert Settings(per_molecule=2, ts_fraction=1.0).kinds() == ["minimum", "reaction"]
    assert Settings(per_molecule=1).kinds() == ["minimum"]


def test_odd_electrons_are_unpaired(tmp_path: Path) -> None:
    radical = Molecule("CH3", np.array([6, 1, 1, 1]), embed("C", 0, 1)[0][:4])
    out = tmp_path / "radical.h5"
    generate_dataset(out, [radical], Settings(per_molecule=1), backend="serial")
    assert len(PackedSource(out)) == 1
