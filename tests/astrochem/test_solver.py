import math
from pathlib import Path
from typing import Any

import h5py
import networks
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from shared import ASTROCHEM, needs_shared

from sciml.astrochem.generate import solver
from sciml.astrochem.generate.backend import StepError, element_drift
from sciml.astrochem.generate.histories import equilibrium_temperature
from sciml.astrochem.generate.network import read_network
from sciml.astrochem.generate.solver import EmbeddedChemistry
from sciml.astrochem.physics.constants import YEAR

Array = NDArray[np.float64]
CLOUD = np.array([1e4, 1.0, 3.0, 15.0])


@pytest.fixture(scope="module")
def chemistry() -> EmbeddedChemistry:
    return EmbeddedChemistry(read_network())


def follow(chemistry: EmbeddedChemistry, x: Array, history: Array, dt: float = 1e4) -> Array:
    rows = [x]
    for conditions in history:
        rows.append(chemistry.advance(rows[-1], conditions, dt))
    return np.stack(rows)


def test_a_decay_is_exponential(tmp_path: Path) -> None:
    network = networks.make_network(tmp_path, "CRP,OH,,O,H,,,1e-13,0,0,0,1000\n")
    x = np.array([1e-4, 0, 1e-5, 1e-3, 0, 0])  # H H2 O OH O+ E-
    end = EmbeddedChemistry(network, zeta=2.0).advance(x, CLOUD, 1e5)
    decayed = 1e-3 * -math.expm1(-2e-13 * 1e5 * YEAR)
    expected = [1e-4 + decayed, 1e-30, 1e-5 + decayed, 1e-3 - decayed, 1e-30, 1e-30]
    np.testing.assert_allclose(end, expected, rtol=1e-4)


def test_a_recombination_is_hyperbolic(tmp_path: Path) -> None:
    network = networks.make_network(tmp_path, "TWOBODY,O+,E-,O,,,,1e-12,0,0,0,1000\n")
    x = np.array([0, 0, 0, 0, 1e-4, 1e-4])
    end = EmbeddedChemistry(network).advance(x, CLOUD, 1e4)
    ions = 1e-4 / (1 + 1e-4 * 1e-12 * 1e4 * 1e4 * YEAR)  # dx/dt = -k n x²
    np.testing.assert_allclose(end[[2, 4, 5]], [1e-4 - ions, ions, ions], rtol=1e-4)


@needs_shared
@pytest.mark.parametrize("tracer", [0, 1, 2])
def test_golden_tracers_are_met(chemistry: EmbeddedChemistry, tracer: int) -> None:
    with h5py.File(ASTROCHEM / "embedded_golden.h5") as file:
        history, golden = file[f"tracer{tracer}/phys"][:], file[f"tracer{tracer}/x"][:]
    np.testing.assert_allclose(chemistry.atoms(), golden[0], rtol=1e-6)
    found = follow(chemistry, golden[0], history)
    present = golden > 1e-18
    assert np.abs(found / golden - 1)[present].max() < 1e-3


def fails(*methods: str) -> Any:
    """`solve_ivp` that gives up with some methods."""

    def solve(*args: Any, method: str, **options: Any) -> Any:
        solution = solve_ivp(*args, method=method, **options)
        if method in methods:
            solution.success, solution.message = False, "It gave up."
        return solution

    return solve


@pytest.mark.parametrize(("failing", "taken"), [(["LSODA"], "BDF"), (["LSODA", "BDF"], "Radau")])
def test_other_methods_take_over(
    monkeypatch: pytest.MonkeyPatch, failing: list[str], taken: str
) -> None:
    chemistry = EmbeddedChemistry(read_network())
    x = chemistry.atoms()
    usual = chemistry.advance(x, CLOUD, 1e3)
    assert not chemistry.fallbacks
    monkeypatch.setattr(solver, "solve_ivp", fails(*failing))
    monkeypatch.setattr(solver, "odeint", lambda *_, **__: (None, {"message": "It gave up."}))
    other = chemistry.advance(x, CLOUD, 1e3)
    assert chemistry.fallbacks == {taken: 1}
    present = usual > 1e-18
    np.testing.assert_allclose(other[present], usual[present], rtol=1e-3)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's own account")
def test_steps_keep_no_memory(chemistry: EmbeddedChemistry) -> None:
    def used() -> int:  # MiB
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

    x = chemistry.atoms()
    for _ in range(20):
        chemistry.advance(x, CLOUD, 1e2)
    before = used()
    for _ in range(150):  # the work arrays of LSODA are 0.17 MiB: 25 MiB if they stayed
        chemistry.advance(x, CLOUD, 1e2)
    assert used() - before < 12


def test_a_step_that_no_method_does_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    chemistry = EmbeddedChemistry(read_network())
    monkeypatch.setattr(solver, "PATIENCE", 5)
    with pytest.raises(StepError) as caught:
        chemistry.advance(chemistry.atoms(), CLOUD, 1e4)
    assert str(caught.value) == (
        "no method integrates 10000 yr at 1e+04 cm⁻³, 1 Habing, 3 mag and 15 K (LSODA: stalled"
        " after 5 evaluations; BDF: stalled after 5 evaluations; Radau: stalled after 5"
        " evaluations)"
    )


def test_steps_at_constant_conditions_do_not_stop(chemistry: EmbeddedChemistry) -> None:
    rows = follow(chemistry, chemistry.atoms(), np.tile([4e5, 1.0, 15.0, 14.0], (30, 1)))
    assert np.isfinite(rows).all()
    assert chemistry.fallbacks, "LSODA gives up near a steady state"


def cold_collapse() -> Array:
    """Free fall from 10^3.2 to 10^6.5 in 0.8 Myr, then 0.4 Myr of rest, without noise."""
    time = np.arange(120)
    fall = 3.2 - 2 * np.log10(1 - np.minimum(time / 80, 0.9999) ** 2)
    density = 10 ** np.minimum(fall, 6.5)
    light = np.ones_like(density)
    extinction = 1.5 + 1.9 * np.sqrt(density / 1e4)
    temperature = equilibrium_temperature(density, light, extinction)
    return np.stack([density, light, extinction, temperature], axis=1)


def test_a_cold_collapse_goes_as_chemistry_knows_it(chemistry: EmbeddedChemistry) -> None:
    names = list(chemistry.species)
    history = cold_collapse()
    rows = follow(chemistry, chemistry.atoms(), history)
    track = {name: rows[:, place] for place, name in enumerate(names)}
    assert track["H2"][100:].min() > 0.49  # after 1 Myr
    assert track["C+"][0] == pytest.approx(1.77e-4)
    assert track["C+"][-1] < 1e-8
    assert 0.4e-4 < track["CO"].max() < 1.7e-4
    assert history[-1, 0] > 1e6
    assert track["CO"][-1] < 1e-7
    assert 4e-5 < track["#CO"][-1] < 14e-5
    assert 1e-4 < track["#H2O"][-1] < 2e-4
    assert 1e-6 < track["#CH3OH"][-1] < 4e-5

    assert element_drift(chemistry, rows[0], rows) < 1e-10
    assert np.abs(rows @ chemistry.charge).max() < 1e-15

    hot = np.tile([10**6.5, 1.0, 35.0, 130.0], (3, 1))
    warm = follow(chemistry, rows[-1], hot)[-1]
    for name in ("CO", "H2O", "CH3OH"):
        ice, gas = warm[names.index(f"#{name}")], warm[names.index(name)]
        assert ice < 1e-2 * gas, f"{name} returns to the gas"
