import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import h5py
import networks
import numpy as np
import pytest
from numpy.typing import NDArray

import sciml
from sciml.astrochem.generate import solver
from sciml.astrochem.generate.backend import StepError
from sciml.astrochem.generate.dataset import Summary, generate_dataset
from sciml.astrochem.generate.histories import draw_history
from sciml.astrochem.generate.network import read_network
from sciml.astrochem.generate.settings import Settings
from sciml.astrochem.generate.solver import EmbeddedChemistry
from sciml.astrochem.generate.tables import History
from sciml.core.parallel import Tally, derive_seed
from sciml.core.parts import failures_of

QUICK = Settings(steps=3, dt=3e3)


def run(out: Path, **changes: object) -> Summary:
    options = {"settings": QUICK, "tracers": 3, "seed": 5, "runner": "serial"} | changes
    return generate_dataset(out, **options)  # type: ignore[arg-type]


def rows(path: Path, group: str = "grav") -> NDArray[np.float32]:
    with h5py.File(path) as file:
        return np.asarray(file[group]["data"][:])


def test_a_file_holds_states_and_the_conditions_that_act_on_them(tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    summary = run(out, settings=Settings(steps=3, dt=3e3, evolved_fraction=0.0))
    with h5py.File(out) as file:
        attributes = dict(file.attrs)
        group = file["grav"]
        columns = [name.decode() for name in group["columns"][:]]
        data, ptr = group["data"][:], group["tracer_ptr"][:]
        about = dict(group.attrs)
    network = read_network()
    assert columns == [
        "time", "density", "rad_field", "av", "temperature", *network.species.names
    ]  # fmt: skip
    np.testing.assert_array_equal(ptr, [[0, 0, 4], [1, 4, 4], [2, 8, 4]])
    np.testing.assert_array_equal(data[:4, 0], [0, 3e3, 6e3, 9e3])

    chemistry = EmbeddedChemistry(network)
    rng = np.random.default_rng([derive_seed(5, "000001"), 0])
    history = draw_history("grav", 3, rng)
    np.testing.assert_allclose(data[4:7, 1:5], history, rtol=1e-6)
    np.testing.assert_array_equal(data[7, 1:5], data[6, 1:5])  # the last row repeats
    x = chemistry.atoms()
    for step in range(4):
        np.testing.assert_allclose(data[4 + step, 5:], x, rtol=1e-6)
        x = chemistry.advance(x, history[min(step, 2)], 3e3)

    assert attributes["format"] == "sciml-astrochem-1"
    assert attributes["dt_yr"] == 3e3
    assert attributes["physics_alignment"] == "interval"
    assert attributes["initial"] == "atomic 100%"
    assert attributes["generator"] == "embedded"
    assert attributes["seed"] == 5
    assert attributes["network_sha256"] == network.sha256
    assert list(attributes["elements"]) == list(network.species.elements)
    assert about["cpu_s_per_tracer_step"] == pytest.approx(summary.cpu / 9)
    assert (summary.tracers, summary.steps, summary.evolved) == (3, 9, 0)
    assert summary.drift < 1e-10
    assert summary.charge < 1e-15
    assert not (tmp_path / "set.h5.parts").exists()


def test_evolved_starts_are_a_share_of_their_own(tmp_path: Path) -> None:
    few = Settings(steps=1, dt=10.0, evolved_fraction=0.5)
    summary = run(tmp_path / "half.h5", settings=few, tracers=8)
    assert 1 <= summary.evolved <= 7
    run(tmp_path / "none.h5", settings=Settings("grav", 1, 10.0, 0.0), tracers=8)
    half, none = rows(tmp_path / "half.h5")[::2], rows(tmp_path / "none.h5")[::2]
    np.testing.assert_array_equal(half[:, :5], none[:, :5])  # the histories stay
    ion = 5 + read_network().species.names.index("C+")
    evolved = half[:, ion] < 1.7e-4
    assert evolved.sum() == summary.evolved
    np.testing.assert_array_equal(half[~evolved], none[~evolved])


@pytest.mark.slow
def test_the_file_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        run(tmp_path / f"{workers}.h5", runner="processes", workers=workers)
    one, two = rows(tmp_path / "1.h5"), rows(tmp_path / "2.h5")
    assert one.tobytes() == two.tobytes()


def test_a_tracer_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    run(tmp_path / "few.h5", tracers=1)
    run(tmp_path / "many.h5", tracers=2)
    np.testing.assert_array_equal(rows(tmp_path / "few.h5"), rows(tmp_path / "many.h5")[:4])


def test_a_stopped_run_goes_on_to_the_same_file(tmp_path: Path) -> None:
    def stop(tally: Tally) -> None:
        if tally.finished == 2:
            raise KeyboardInterrupt

    whole, resumed = tmp_path / "whole.h5", tmp_path / "resumed.h5"
    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(resumed, progress=stop)
    assert not resumed.exists()
    claimed = json.loads((tmp_path / "resumed.h5.parts" / "settings.json").read_text())
    assert claimed["scipy_version"] == version("scipy")
    for other in ({"seed": 2}, {"settings": Settings(steps=4)}, {"tracers": 2}):
        with pytest.raises(ValueError, match=r"was begun with .*; repeat those settings"):
            run(resumed, **other)
    slow = Settings(**asdict(QUICK) | {"cpu_limit": 600.0})  # no tracer depends on it
    assert run(resumed, settings=slow).resumed == 2
    with h5py.File(resumed) as file:
        assert file.attrs["sciml_version"] == sciml.__version__
    np.testing.assert_array_equal(rows(resumed), rows(whole))
    with pytest.raises(ValueError, match="exists; give another --out or remove it"):
        run(resumed)


SCRIPT = """
from pathlib import Path
from sciml.astrochem.generate.dataset import generate_dataset
from sciml.astrochem.generate.settings import Settings
generate_dataset(Path("set.h5"), Settings(steps=8), 40, seed=5, runner="serial")
"""


@pytest.mark.slow
def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path)
    parts = tmp_path / "set.h5.parts"
    while len(finished := list(parts.glob("0?????"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # a small set, so that the rest of it is quick: only the settings have to agree
    claimed = json.loads((parts / "settings.json").read_text())
    (parts / "settings.json").write_text(json.dumps(claimed | {"tracers": 3}))
    long = Settings(steps=8)
    assert run(tmp_path / "set.h5", settings=long).resumed >= 2
    run(tmp_path / "whole.h5", settings=long)
    found, whole = rows(tmp_path / "set.h5"), rows(tmp_path / "whole.h5")
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-22)  # other threads of the BLAS
    assert finished


def test_failures_are_listed_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = EmbeddedChemistry.advance
    first = draw_history("grav", 3, np.random.default_rng([derive_seed(5, "000001"), 0]))

    def fail(self: EmbeddedChemistry, x: np.ndarray, p: np.ndarray, dt: float) -> np.ndarray:
        if (p == first[1]).all():
            raise StepError("too stiff")
        return advance(self, x, p, dt)

    monkeypatch.setattr(EmbeddedChemistry, "advance", fail)
    out = tmp_path / "set.h5"
    summary = run(out)
    assert summary.failures == {1: "StepError: step 1: too stiff"}
    assert "tracers that failed: 1; see" in str(summary)
    line = json.loads(failures_of(out).read_text())
    assert line == {"key": "000001", "tracer": 1, "reason": "StepError: step 1: too stiff"}
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["grav/tracer_ptr"][:], [[0, 0, 4], [2, 4, 4]])


def test_a_run_without_any_tracer_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "PATIENCE", 1)
    with pytest.raises(ValueError, match="every tracer failed, the first with 'StepError: step 0"):
        run(tmp_path / "set.h5", settings=Settings(steps=1, evolved_fraction=0.0))
    assert not (tmp_path / "set.h5").exists()
    assert not (tmp_path / "set.h5.parts").exists()


def test_histories_of_ones_own_are_followed_with_their_steps(tmp_path: Path) -> None:
    history = History(np.array([0.0, 1e3, 5e3]), np.array([[1e3, 1, 2, 20], [1e4, 1, 3, 15]]))
    other = History(np.array([10.0, 20.0]), np.array([[1e5, 1, 9, 12]]))
    settings = Settings(family="csv", evolved_fraction=0.0)
    run(tmp_path / "set.h5", settings=settings, tracers={9: history, 4: other}, group="mine")
    with h5py.File(tmp_path / "set.h5") as file:
        np.testing.assert_array_equal(file["mine/tracer_ptr"][:], [[9, 0, 3], [4, 3, 2]])
        np.testing.assert_array_equal(file["mine/data"][:, 0], [0, 1e3, 5e3, 10, 20])
    chemistry = EmbeddedChemistry(read_network())
    x = chemistry.atoms()
    for conditions, dt in zip(history.conditions, (1e3, 4e3), strict=True):
        x = chemistry.advance(x, conditions, dt)
    np.testing.assert_allclose(rows(tmp_path / "set.h5", "mine")[2, 5:], x, rtol=1e-6)


def test_a_network_of_ones_own_makes_a_file(tmp_path: Path) -> None:
    network, species = networks.write_tables(
        tmp_path,
        "PHOTON,H2,,H,H,,,1,0,0,0,10000\nH2FORM,H,H,H2,,,,1,0,0,0,10000\n"
        "FREEZE,O,,#O,,,,1,0,0,0,10000\nTHERM,#O,,O,,,,1,0,1600,0,10000\n",
        networks.SPECIES + "#O,16,0,ice,1600,0,1\n",
    )
    settings = Settings(steps=20, evolved_fraction=0, network=network, network_species=species)
    summary = run(tmp_path / "set.h5", settings=settings)
    assert summary.drift < 1e-10
    with h5py.File(tmp_path / "set.h5") as file:
        assert list(file.attrs["elements"]) == ["H", "O"]
        assert [name.decode() for name in file["grav/columns"][5:]] == [
            "H", "H2", "O", "OH", "O+", "E-", "#O"
        ]  # fmt: skip
    data = rows(tmp_path / "set.h5")
    assert (data[20::21, 6] > data[::21, 6]).all(), "molecules form"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tracers": 0}, "tracers is 0; give at least 1"),
        ({"workers": 0}, "workers is 0; give at least 1"),
        ({"group": "a/b"}, "'a/b' cannot name a group"),
        ({"settings": Settings(family="csv")}, "csv and --histories belong together"),
        ({"tracers": {}}, "csv and --histories belong together"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        run(tmp_path / "set.h5", **changes)
    assert not list(tmp_path.iterdir())
