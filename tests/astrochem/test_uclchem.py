import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciml.astrochem.generate.backend import StepError
from sciml.astrochem.generate.dataset import generate_dataset
from sciml.astrochem.generate.settings import Settings
from sciml.astrochem.generate.uclchem import UclchemChemistry
from sciml.core.extras import MissingPackageError

# A stand-in that halves the carbon ions into CO-free carbon, prints as UCLCHEM does, and writes
# down how it was called; it spins for ever in very dense gas and gives up in hot gas.
FAKE = """
import json
import os


class utils:
    @staticmethod
    def get_species():
        return ["H", "C", "C+", "E-", "#CH3OH", "@CH3OH", "BULK", "SURFACE"]


class model:
    @staticmethod
    def cloud(param_dict=None, out_species=None):
        print("a line that must not reach the answers", flush=True)
        with open(param_dict["abundLoadFile"]) as file:
            x = dict(zip(utils.get_species(), map(float, file.read().split(","))))
        with open({calls!r}, "a") as file:
            file.write(json.dumps({{"parameters": param_dict, "x": x, "pid": os.getpid()}}) + "\\n")
        while param_dict["initialDens"] > 1e8:
            pass
        if param_dict["initialTemp"] > 1000:
            return [-2]
        x["C"] += x["C+"] / 2
        x["E-"] -= x["C+"] / 2
        x["C+"] /= 2
        return [0] + [x[name] for name in out_species]
"""
CONDITIONS = np.array([2e4, 0.5, 6.0, 12.0])


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the calls of the stand-in are written down; makes it importable."""
    path = tmp_path / "calls.jsonl"
    package = tmp_path / "site" / "uclchem"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE.format(calls=str(path)))
    monkeypatch.syspath_prepend(package.parent)
    return path


def written(calls: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def test_a_missing_package_is_named() -> None:
    if "uclchem" in sys.modules:
        pytest.skip("UCLCHEM is there")
    with pytest.raises(MissingPackageError, match=r"uclchem is missing: .* --backend embedded"):
        UclchemChemistry()


def test_a_step_is_a_cloud_at_constant_conditions(calls: Path) -> None:
    with UclchemChemistry(zeta=2.0) as chemistry:
        assert chemistry.species == ("H", "C", "C+", "E-", "#CH3OH", "@CH3OH")
        np.testing.assert_array_equal(chemistry.charge, [0, 0, 1, -1, 0, 0])
        # H HE C N O S SI MG CL of methanol
        np.testing.assert_array_equal(chemistry.composition[4], [4, 0, 1, 0, 1, 0, 0, 0, 0])
        x = np.array([0.5, 1e-10, 1.77e-4, 1.77e-4, 2e-6, 3e-6])
        end = chemistry.advance(x, CONDITIONS, 1e4)
    np.testing.assert_allclose(end, [0.5, 8.85e-5 + 1e-10, 8.85e-5, 8.85e-5, 2e-6, 3e-6])
    [call] = written(calls)
    parameters = dict(call["parameters"])  # type: ignore[call-overload]
    assert Path(parameters.pop("abundLoadFile")).name == "start.dat"
    # rout: 1.6e21 * 6 / 2e4 / 3.086e18 pc
    assert parameters.pop("rout") == pytest.approx(0.155541, rel=1e-5)
    assert parameters == {
        "freefall": False,
        "endAtFinalDensity": False,
        "initialDens": 2e4,
        "initialTemp": 12.0,
        "radfield": 0.5,
        "baseAv": 0.0,
        "finalTime": 1e4,
        "zeta": 2.0,
        "reltol": 1e-4,
        "abstol_min": 1e-22,
    }
    given = call["x"]
    sums = {"BULK": 3e-6, "SURFACE": 2e-6}
    assert given == pytest.approx(dict(zip(chemistry.species, x, strict=True)) | sums, rel=1e-15)


def test_steps_of_a_tracer_share_a_process(calls: Path) -> None:
    with UclchemChemistry() as chemistry:
        x = chemistry.atoms()
        for _ in range(3):
            x = chemistry.advance(x, CONDITIONS, 1e4)
        assert chemistry.cpu_seconds() > 0
    assert len({call["pid"] for call in written(calls)}) == 1
    ion = chemistry.species.index("C+")
    assert x[ion] == pytest.approx(1.77e-4 / 8)


def test_a_step_that_spins_is_ended(calls: Path) -> None:
    with UclchemChemistry(cpu_limit=0.5) as chemistry:
        x = chemistry.atoms()
        with pytest.raises(StepError, match=r"more than 0.5 CPU seconds for a step; raise --cpu_l"):
            chemistry.advance(x, np.array([1e9, 1, 1, 10]), 1e4)
        again = chemistry.advance(x, CONDITIONS, 1e4)  # a new process
        assert np.isfinite(again).all()


def test_a_step_that_uclchem_gives_up_is_one_sentence(calls: Path) -> None:
    with UclchemChemistry() as chemistry:
        words = r"^UCLCHEM gave up with flag -2 at 100 cm⁻³, 1 Habing, 1 mag, 2000 K$"
        with pytest.raises(StepError, match=words):
            chemistry.advance(chemistry.atoms(), np.array([100, 1, 1, 2000.0]), 1e4)


def test_a_process_that_dies_is_said(calls: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = calls.parent / "site" / "uclchem" / "__init__.py"
    package.write_text(package.read_text() + "\nraise RuntimeError('broken')\n")
    with pytest.raises(StepError, match="the process of UCLCHEM ended with exit code 1"):
        UclchemChemistry()
    assert "RuntimeError: broken" in capfd.readouterr().err


def test_a_set_of_uclchem_says_what_made_it(calls: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    settings = Settings(steps=2, backend="uclchem", evolved_fraction=0.0)
    summary = generate_dataset(out, settings, 2, runner="serial")
    assert summary.steps == 4
    with h5py.File(out) as file:
        assert file.attrs["generator"] == "uclchem"
        assert file.attrs["uclchem_version"] == "unknown"
        assert file.attrs["uclchem_options"] == "reltol 0.0001, abstol_min 1e-22"
        assert "network_sha256" not in file.attrs
        data = file["grav/data"][:]
    np.testing.assert_allclose(data[:3, 7], 1.77e-4 / np.array([1, 2, 4]), rtol=1e-6)
