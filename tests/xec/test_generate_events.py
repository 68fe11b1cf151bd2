from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import uproot
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from shared import XEC, needs_xec

from sciml.xec.generate.events import BRANCHES, Arrays, simulate
from sciml.xec.generate.light import LightModel, expected_light
from sciml.xec.generate.settings import Beam, Detector, Settings
from sciml.xec.generate.shower import draw_gamma, spectrum_of
from sciml.xec.physics.constants import INNER, SENSORS
from sciml.xec.physics.coordinates import emission_angles, in_volume, to_xyz

TARGET = Settings(Beam(vertex="target", spectrum="signal"))


@pytest.fixture(scope="module")
def events() -> Arrays:
    return simulate(40, Settings(), 1, run=12)


def join(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in BRANCHES}


def assert_same(one: Arrays, other: Arrays) -> None:
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def test_events_do_not_depend_on_how_many_are_made_at_once() -> None:
    whole = simulate(9, Settings(Beam(pileup=0.5)), 4, run=3)
    parts = [
        simulate(count, Settings(Beam(pileup=0.5)), 4, first=first, run=3)
        for first, count in ((0, 2), (2, 1), (3, 6))
    ]
    assert_same(whole, join(parts))


def test_events_do_not_depend_on_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        parts = list(
            pool.map(lambda first: simulate(2, Settings(), 4, first=first), range(0, 8, 2))
        )
    assert_same(simulate(8, Settings(), 4), join(parts))


def test_seeds_make_other_events() -> None:
    first, second = (simulate(1, Settings(), seed) for seed in (0, 1))
    assert first["uvwTruth"][0, 0] != second["uvwTruth"][0, 0]
    # not the second event of the first seed
    assert simulate(1, Settings(), 0, first=1)["uvwTruth"][0, 0] != second["uvwTruth"][0, 0]


def test_arrays_have_the_types_of_the_files(events: Arrays) -> None:
    assert list(events) == list(BRANCHES)
    for name, (kind, shape) in BRANCHES.items():
        assert events[name].dtype == np.dtype(kind)
        assert events[name].shape == (40, *shape)
    assert (events["run"] == 12).all()
    assert (events["event"] == np.arange(40)).all()
    assert (events["nGamma"] == 1).all()


@needs_xec
def test_branches_are_those_of_the_supplied_files() -> None:
    with uproot.open(XEC / "val_000.root") as file:
        found = {branch.name: branch.typename for branch in file["tree"].branches}
    short = {"f4": "float", "i4": "int32_t", "i2": "int16_t"}
    wanted = {
        name: short[kind] + "".join(f"[{size}]" for size in shape)
        for name, (kind, shape) in BRANCHES.items()
    }
    assert list(found.items()) == list(wanted.items())


def test_truth_is_in_the_units_of_the_files(events: Arrays) -> None:
    energy, gamma = events["energyTruth"], events["energyGamma"]
    assert (energy <= gamma).all()
    assert energy.min() >= 0.0145
    assert gamma.max() <= 0.060001
    assert (np.abs(events["timeTruth"] + 600) <= 15).all()
    places = events["xyzTruth"].astype(np.float64)
    assert in_volume(places).all()
    np.testing.assert_allclose(to_xyz(events["uvwTruth"].astype(np.float64)), places, atol=1e-4)
    direction = events["emiVec"].astype(np.float64)
    step = places - events["xyzVTX"]
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        direction, step / np.linalg.norm(step, axis=1, keepdims=True), atol=1e-5
    )
    np.testing.assert_allclose(emission_angles(direction), events["emiAng"], atol=1e-4)


def test_references_belong_to_the_channels(events: Arrays) -> None:
    rows = np.arange(40)
    npho, times = events["npho"], events["relative_time"]
    strongest = npho[rows, events["ch_npho_max"]]
    np.testing.assert_allclose(strongest, events["npho_max_used"], rtol=2.0**-9 * 1.01)
    np.testing.assert_allclose(strongest, npho.max(1), rtol=2.0**-7)  # rounding may make two equal
    assert (times[rows, events["ch_time_min"]] == 0).all()
    # absolute times are in s and follow the emission by the flight and the light's path
    late = 1e9 * events["time_min_used"] - events["timeTruth"]
    assert (late > 0).all()
    assert (late < 10).all()


def test_values_are_on_their_grids(events: Arrays) -> None:
    npho, times = events["npho"], events["relative_time"]
    assert (npho[np.abs(npho) < 256] % 2 == 0).all()
    assert not (npho[npho >= 256].view(np.uint32) & 0x7FFF).any()
    steps = times[times < 1].astype(np.float64) / 5e-11
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert (times[times >= 1] == np.float32(1e10)).all()


def test_photons_balance_the_energy() -> None:
    exact, model = Detector(miscal=0.0, noise=0.0), LightModel()
    arrays = simulate(100, Settings(Beam(spectrum="signal"), exact), 0)
    ratios = []
    for event in range(100):
        # an event's stream begins with its gamma
        rng = np.random.default_rng([0, event])
        gamma = draw_gamma(rng, "free", spectrum_of("signal"))
        np.testing.assert_allclose(gamma.interaction, arrays["xyzTruth"][event], rtol=1e-6)
        seen = arrays["npho"][event].sum()
        ratios.append(seen / expected_light(gamma, model)[0].sum())
        # a photon for 24 eV, of which the faces see the light that is not absorbed on the way
        assert 0.1 < seen * 24e-6 / (1e3 * arrays["energyTruth"][event]) < 0.45
    # 1.2 % of fluctuation that is common to all sensors; theirs are below 0.5 % together
    assert np.std(ratios) == pytest.approx(0.012, rel=0.25)
    assert np.mean(ratios) == pytest.approx(1, abs=0.005)


def test_noise_is_a_factor_of_the_electronics() -> None:
    spread = []
    for noise in (1.0, 4.0):
        npho = simulate(4, Settings(detector=Detector(noise=noise)), 0)["npho"][:, :INNER]
        spread.append(np.abs(np.quantile(npho, 0.02)))
    assert 2.5 < spread[1] / spread[0] < 5


def test_dead_channels_are_invalid_in_all_events() -> None:
    dead = (3, 4000, 4600)
    whole = simulate(5, Settings(), 2)
    arrays = simulate(5, Settings(detector=Detector(dead=dead)), 2)
    gone = np.isin(np.arange(SENSORS), dead)
    assert (arrays["npho"][:, gone] == np.float32(1e10)).all()
    assert (arrays["relative_time"][:, gone] == np.float32(1e10)).all()
    assert (arrays["npho"][:, ~gone] == whole["npho"][:, ~gone]).all()


def test_dead_maximum_gives_way_to_the_next_channel() -> None:
    whole = simulate(1, Settings(), 2)
    dead = (int(whole["ch_npho_max"][0]), int(whole["ch_time_min"][0]))
    arrays = simulate(1, Settings(detector=Detector(dead=dead)), 2)
    assert arrays["ch_npho_max"][0] not in dead
    assert arrays["npho_max_used"][0] < whole["npho_max_used"][0]
    assert arrays["ch_time_min"][0] not in dead
    assert arrays["time_min_used"][0] > whole["time_min_used"][0]


def test_event_without_any_channel_has_no_references() -> None:
    arrays = simulate(1, Settings(detector=Detector(dead=tuple(range(SENSORS)))), 2)
    assert arrays["ch_time_min"][0] == -1
    assert arrays["time_min_used"][0] == np.float32(1e10)
    assert (arrays["relative_time"] == np.float32(1e10)).all()


def test_pileup_adds_light_and_keeps_the_truth() -> None:
    alone, piled = (simulate(12, Settings(Beam(pileup=share)), 5) for share in (0.0, 1.0))
    assert (piled["nGamma"] == 2).all()
    for name in ("energyTruth", "energyGamma", "uvwTruth", "xyzVTX", "emiVec"):
        assert (piled[name] == alone[name]).all()
    added = (piled["npho"].sum(1) - alone["npho"].sum(1)) * 24e-6
    # 14.5 to 50 MeV, of which the sensors see 13 to 35 %
    assert added.min() > 0.10 * 14.5
    assert added.max() < 0.40 * 50


def test_pileup_spreads_the_times_and_takes_its_share() -> None:
    settings = Settings(Beam(pileup=0.3))
    arrays = simulate(60, settings, 6)
    second = arrays["nGamma"] == 2
    # binomial: 18 ± 3.5
    assert 7 <= second.sum() <= 30
    width = np.array([np.ptp(times[times < 1]) for times in arrays["relative_time"]])
    assert np.median(width[second]) > np.median(width[~second]) + 5e-9


def test_other_calibrations_see_the_same_gammas() -> None:
    one, other = (simulate(2, Settings(detector=Detector(calib_seed=seed)), 0) for seed in (7, 8))
    assert (one["uvwTruth"] == other["uvwTruth"]).all()
    assert (one["energyTruth"] == other["energyTruth"]).all()
    assert (one["npho"] != other["npho"]).mean() > 0.5


def features(arrays: Arrays) -> dict[str, NDArray[np.floating]]:
    """What is compared with the supplied files, a number an event each."""
    npho, times = arrays["npho"], arrays["relative_time"].astype(np.float64) * 1e9
    hit = times < 1e9
    flight = np.linalg.norm(arrays["xyzTruth"] - arrays["xyzVTX"], axis=1) / 29.979
    start = 1e9 * arrays["time_min_used"].astype(np.float64)
    total, image = npho.sum(1), npho[:, :INNER].reshape(-1, 93, 44)
    flat = image.reshape(len(image), -1).argmax(1)
    row, col = np.clip(flat // 44, 3, 89), np.clip(flat % 44, 3, 40)
    around = [image[np.arange(len(image)), row + i, col + j] for i in (0, 2) for j in (1, 3)]
    timed = np.where(hit, times, np.nan)
    return {
        "energy": arrays["energyTruth"],
        "gamma": arrays["energyGamma"],
        **dict(zip("uvw", arrays["uvwTruth"].T, strict=True)),
        **dict(zip(("vertex x", "vertex y", "vertex z"), arrays["xyzVTX"].T, strict=True)),
        **dict(zip(("theta", "phi"), arrays["emiAng"].T, strict=True)),
        "emission": arrays["timeTruth"],
        "photons": total,
        "photons for each GeV": total / arrays["energyTruth"],
        "largest": arrays["npho_max_used"] / arrays["energyTruth"],
        **{f"near the largest {i}": one / total for i, one in enumerate(around)},
        "share of the inner face": npho[:, :INNER].sum(1) / total,
        "share of the outer face": npho[:, 4092:4308].sum(1) / total,
        "share of upstream": npho[:, 4308:4452].sum(1) / total,
        "hits of SiPMs": hit[:, :INNER].sum(1),
        "hits of PMTs": hit[:, INNER:].sum(1),
        "weak channels": np.quantile(npho, 0.05, axis=1),
        "median time": np.nanmedian(timed, axis=1),
        "early times": np.nanquantile(timed, 0.05, axis=1),
        "late times": np.nanquantile(timed, 0.95, axis=1),
        "earliest": start - arrays["timeTruth"] - flight,
    }


@needs_xec
@pytest.mark.parametrize(
    ("name", "settings"), [("train_000.root", Settings()), ("signal_000.root", TARGET)]
)
def test_events_are_distributed_as_in_the_supplied_files(name: str, settings: Settings) -> None:
    with uproot.open(XEC / name) as file:
        supplied = file["tree"].arrays(list(BRANCHES), entry_stop=600, library="np")
    wanted, found = features(supplied), features(simulate(400, settings, 0))
    chances = {key: float(ks_2samp(wanted[key], found[key]).pvalue) for key in wanted}
    # Kolmogorov and Smirnov: of 26 numbers, many of them related, one falls below 1e-3 in 50 tries
    assert min(chances.values()) > 1e-3, chances
    assert np.median(list(chances.values())) > 0.1, chances
