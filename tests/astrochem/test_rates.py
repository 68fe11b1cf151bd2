import math
from pathlib import Path

import h5py
import networks
import numpy as np
import pytest
import slow_network
from numpy.typing import NDArray
from shared import ASTROCHEM, needs_shared

from sciml.astrochem.generate.grain import MONOLAYER
from sciml.astrochem.generate.kinetics import Kinetics
from sciml.astrochem.generate.network import Network, read_network
from sciml.astrochem.generate.rates import Rates, h2_formation
from sciml.astrochem.generate.shielding import CarbonMonoxide, h2_factor

Array = NDArray[np.float64]
GOLDEN = ASTROCHEM / "embedded_golden.h5"
# density, field, extinction, temperature: from a diffuse cloud to a hot core and a shock
CONDITIONS = [
    (1e4, 1.0, 3.0, 15.0),
    (3e2, 10.0, 0.8, 60.0),
    (1e7, 1.0, 80.0, 120.0),
    (5e5, 0.3, 12.0, 7.5),
    (1e5, 2.0, 5.0, 700.0),
]


@pytest.fixture(scope="module")
def network() -> Network:
    return read_network()


def spread(network: Network, seed: int = 0) -> Array:
    """Abundances over many decades, all of them at work."""
    return np.asarray(10 ** np.random.default_rng(seed).uniform(-12, -5, len(network.species)))


def numerical_jacobian(kinetics: Kinetics, k: Array, x: Array) -> Array:
    steps = np.diag(1e-5 * x)
    rows = [kinetics.derivatives(k, x + h) - kinetics.derivatives(k, x - h) for h in steps]
    return np.stack(rows) / (2e-5 * x)[:, None]


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_coefficients_agree_with_a_loop_over_the_formulas(
    network: Network, conditions: tuple[float, ...]
) -> None:
    x = spread(network)
    named = dict(zip(network.species.names, x.tolist(), strict=True))
    expected = np.array(slow_network.coefficients(conditions, named))
    np.testing.assert_allclose(Rates(network)(np.array(conditions), x), expected, rtol=1e-12)


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_derivatives_agree_with_a_loop_over_the_reactions(
    network: Network, conditions: tuple[float, ...]
) -> None:
    x = spread(network, seed=1)
    named = dict(zip(network.species.names, x.tolist(), strict=True))
    k = slow_network.coefficients(conditions, named)
    expected = np.array(list(slow_network.derivatives(k, named).values()))
    found = Kinetics(network).derivatives(np.array(k), x)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@needs_shared
def test_coefficients_and_derivatives_agree_with_the_golden_file(network: Network) -> None:
    with h5py.File(GOLDEN) as file:
        order = [name.decode() for name in file["species"][:]]
        rates = {name: dataset[:] for name, dataset in file["rates"].items()}
        columns = [name.decode() for name in file["rates/conditions"].attrs["columns"]]
    assert order == list(network.species.names)
    places = [columns.index(name) for name in ("Density", "Radfield", "Av", "gasTemp")]
    compute, kinetics = Rates(network), Kinetics(network)
    for conditions, k, change in zip(rates["conditions"], rates["k"], rates["dxdt"], strict=True):
        np.testing.assert_allclose(compute(conditions[places], rates["x"]), k, rtol=1e-10)
        found = kinetics.derivatives(k, rates["x_for_dxdt"])
        np.testing.assert_allclose(found, change, rtol=1e-8)


def test_derivatives_conserve_elements_and_charge(network: Network) -> None:
    x = spread(network)
    change = Kinetics(network).derivatives(Rates(network)(np.array(CONDITIONS[1]), x), x)
    for counted in (*network.species.composition.T, network.species.charge):
        assert abs(change @ counted) < 1e-14 * np.abs(change * counted).sum()


@pytest.mark.parametrize("conditions", CONDITIONS[:3])
def test_jacobian_is_the_derivative_of_the_derivatives(
    network: Network, conditions: tuple[float, ...]
) -> None:
    # similar abundances: differences of speeds of 1e-12 and 1e-5 would be rounding
    x = np.random.default_rng(2).uniform(1e-9, 7e-9, len(network.species))
    k = Rates(network)(np.array(conditions), x)
    kinetics = Kinetics(network)
    expected = numerical_jacobian(kinetics, k, x)
    found = kinetics.jacobian(k, x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_cosmic_rays_scale_what_they_drive(network: Network) -> None:
    x = spread(network)
    conditions = np.array([1e4, 0.0, 3.0, 15.0])  # no light from outside
    once, thrice = (Rates(network, zeta)(conditions, x) for zeta in (1.0, 3.0))
    rays = network.of("CRP", "CRPHOT", "DESCR", "DEUVCR")
    assert (once[rays] > 0).sum() > 100
    np.testing.assert_allclose(thrice[rays], 3 * once[rays])
    others = np.setdiff1d(np.arange(len(network)), rays)
    np.testing.assert_array_equal(thrice[others], once[others])


def test_hydrogen_forms_on_grains_as_fast_as_observed() -> None:
    # Jura 1975: 1e-17 to 3e-17 cm³/s in diffuse clouds
    assert 1e-17 < h2_formation(80.0) < 4e-17


def test_self_shielding_of_hydrogen_has_its_limits() -> None:
    assert h2_factor(0.0) == pytest.approx(1.0, abs=1e-4)
    # y = 3: 0.965/16 + 0.035/2 exp(-8.5e-4 * 2), by hand
    assert h2_factor(1.5e15) == pytest.approx(0.0603125 + 0.0175 * math.exp(-0.0017))
    assert h2_factor(1e22) < 1e-5


def test_shielding_of_carbon_monoxide_is_bilinear_and_constant_outside() -> None:
    shielding = CarbonMonoxide()
    assert shielding.factor(1e20, 1e15) == pytest.approx(10**-0.6273)  # an entry of the table
    between = -(0.6273 + 1.355 + 0.8665 + 1.602) / 4  # middle of four entries
    assert shielding.factor(10**20.5, 10**15.5) == pytest.approx(10**between)
    assert shielding.factor(0.0, 0.0) == 1.0
    assert shielding.factor(1e30, 1e30) == pytest.approx(10**-6.446)


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return networks.make_network(
        tmp_path_factory.mktemp("layered"),
        networks.THREE_PHASES,
        networks.SPECIES + networks.ICE,
    )


def ices(network: Network, surface: float, bulk: float) -> Array:
    """Gas of 1e-4 each; ices given in layers, shared 1 : 2 : 3."""
    x = np.full(len(network.species), 1e-4)
    for prefix, layers in (("#", surface), ("@", bulk)):
        x[network.species.places(prefix)] = layers * MONOLAYER * np.array([1, 2, 3]) / 6
    return x


def only(folder: Path, kind: str) -> Network:
    """The reactions of some types alone."""
    lines = [line for line in networks.THREE_PHASES.splitlines(keepends=True) if kind in line]
    return networks.make_network(folder, "".join(lines), networks.SPECIES + networks.ICE)


COLD = np.array([1e5, 1.0, 5.0, 12.0])  # gains ice
WARM = np.array([1e2, 1.0, 5.0, 40.0])  # loses ice


@pytest.mark.parametrize("conditions", [COLD, WARM])
@pytest.mark.parametrize(("surface", "bulk"), [(0.5, 0.1), (0.5, 20), (2.5, 0.7), (2.5, 20)])
def test_jacobian_of_three_phases(
    layered: Network, conditions: Array, surface: float, bulk: float
) -> None:
    x = ices(layered, surface, bulk)
    k, kinetics = Rates(layered)(conditions, x), Kinetics(layered)
    expected = numerical_jacobian(kinetics, k, x)
    np.testing.assert_allclose(
        kinetics.jacobian(k, x), expected, rtol=1e-5, atol=1e-8 * np.abs(expected).max()
    )


@pytest.mark.parametrize("conditions", [COLD, WARM])
def test_three_phases_conserve_elements(layered: Network, conditions: Array) -> None:
    x = ices(layered, 2.5, 20)
    change = Kinetics(layered).derivatives(Rates(layered)(conditions, x), x)
    size = np.abs(change) @ layered.species.composition
    assert (np.abs(change @ layered.species.composition) < 1e-14 * size).all()


@pytest.mark.parametrize(("kind", "grows"), [("FREEZE", True), ("DEUVCR", False)])
def test_a_full_surface_keeps_its_thickness(tmp_path: Path, kind: str, grows: bool) -> None:
    network = only(tmp_path, kind)
    surface, bulk = network.species.places("#"), network.species.places("@")
    x = ices(network, 2.0, 50)
    change = Kinetics(network).derivatives(Rates(network)(COLD, x), x)
    assert (change[bulk].sum() > 0) == grows
    assert abs(change[surface].sum()) < 1e-12 * abs(change[bulk].sum())
    mixture = np.array([1, 2, 3]) / 6  # of both layers
    np.testing.assert_allclose(change[bulk] / change[bulk].sum(), mixture)


def test_half_a_surface_buries_half_of_what_it_gains(tmp_path: Path) -> None:
    network = only(tmp_path, "FREEZE")
    x = ices(network, 1.0, 0.0)
    change = Kinetics(network).derivatives(Rates(network)(COLD, x), x)
    bulk = change[network.species.places("@")].sum()
    assert bulk > 0
    assert change[network.species.places("#")].sum() == pytest.approx(bulk)


def test_swaps_exchange_molecules_one_for_one(tmp_path: Path) -> None:
    network = only(tmp_path, "SWAP")
    x = ices(network, 2.0, 20)
    k = Rates(network)(WARM, x)
    change = Kinetics(network).derivatives(k, x)
    up = k[network.of("BULKSWAP")] * x[network.species.places("@")] / 20  # one layer of 20
    down = up.sum() * np.array([1, 2, 3]) / 6  # as the surface is made
    np.testing.assert_allclose(change[network.species.places("#")], up - down, rtol=1e-12)


@pytest.mark.parametrize("reaction", ["ER,H,#O,#OH", "ER,#O,H,#OH"])
def test_eley_rideal_is_freezing_times_a_barrier(tmp_path: Path, reaction: str) -> None:
    freezing = "FREEZE,H,,#H,,,,1,0,0,0,10000\n"
    network = networks.make_network(
        tmp_path, freezing + reaction + ",,,,1,0,300,0,10000\n", networks.SPECIES + networks.ICE
    )
    x = ices(network, 1.0, 1.0)
    freeze, react = Rates(network)(WARM, x)
    mu = 1.66053892e-24 * 16 / 17
    tunnel = 2 * 1.4e-8 / 1.054571628e-27 * math.sqrt(2 * mu * 1.3806504e-16 * 300)
    assert react == pytest.approx(freeze * math.exp(-min(300 / 40, tunnel)))
    names = network.species.names
    k = np.array([0.0, react])
    change = Kinetics(network).derivatives(k, x)
    made = change[names.index("#OH")] + change[names.index("@OH")]
    assert made == pytest.approx(react * x[names.index("H")] * x[names.index("#O")])
