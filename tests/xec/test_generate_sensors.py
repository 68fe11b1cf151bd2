from dataclasses import replace

import numpy as np
import pytest
import uproot
from shared import XEC, needs_xec

from sciml.xec.generate.sensors import (
    Record,
    calibrate,
    coarse_counts,
    earliest,
    relative_times,
    respond,
)
from sciml.xec.generate.settings import Detector
from sciml.xec.physics.constants import INNER, SENSORS

QUIET = Detector(miscal=0.0, noise=0.0)


def responses(photons: float, detector: Detector, count: int = 40) -> list[Record]:
    calibration, rng = calibrate(detector), np.random.default_rng(0)
    light, late = np.full(SENSORS, photons), np.full(SENSORS, 10.0)
    return [respond(light, late, calibration, rng) for _ in range(count)]


def test_calibration_has_the_spreads_of_the_detector() -> None:
    found = calibrate(Detector())
    nominal = np.where(np.arange(SENSORS) < INNER, 0.12, 0.16)
    # standard errors of a standard deviation from 4760: 1 %
    assert (found.efficiency / nominal).std() == pytest.approx(0.07, rel=0.05)
    assert (found.efficiency / nominal).mean() == pytest.approx(1, abs=0.004)
    assert (found.calibrated / found.efficiency).std() == pytest.approx(0.03, rel=0.05)
    assert found.offset.std() == pytest.approx(0.05, rel=0.05)


def test_calibration_seed_fixes_the_detector() -> None:
    settings = Detector(calib_seed=3), Detector(calib_seed=3, noise=2.0), Detector(calib_seed=4)
    found = [calibrate(one) for one in settings]
    for tables in zip(
        *((one.efficiency, one.calibrated, one.offset) for one in found), strict=True
    ):
        assert (tables[0] == tables[1]).all()
        assert (tables[0] != tables[2]).all()
    exact = calibrate(Detector(calib_seed=3, miscal=0.0))
    assert (exact.calibrated == found[0].efficiency).all()


@needs_xec
def test_seed_7_is_the_detector_of_the_supplied_files() -> None:
    calibration = calibrate(Detector(calib_seed=7))
    with uproot.open(XEC / "train_000.root") as file:
        arrays = file["tree"].arrays(["npho", "relative_time"], entry_stop=200, library="np")
    charge = arrays["npho"] * calibration.calibrated
    hit = arrays["relative_time"] < 1
    # counts are rounded to 2 photons, 0.2 photo-electrons
    assert not (hit & (charge < 4.8)).any()
    assert not (~hit & (charge > 5.2)).any()
    other = arrays["npho"] * calibrate(Detector(calib_seed=8)).calibrated
    assert (~hit & (other > 5.2)).sum() > 1000


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0])
def test_charge_has_the_mean_and_the_variance_of_the_sensors(noise: float) -> None:
    detector = Detector(noise=noise)
    calibration = calibrate(detector)
    charge = np.array([one.charge for one in responses(200.0, detector)])
    expected = 200 * calibration.efficiency
    for part, factor, electronic in (
        (slice(INNER), 1.35, 1.5),
        (slice(INNER, SENSORS), 1.15, 0.6),
    ):
        scaled = charge[:, part] - expected[part]
        variance = factor * expected[part] + (noise * electronic) ** 2
        assert (scaled**2 / variance).mean() == pytest.approx(1, rel=0.03)
        assert (scaled / np.sqrt(variance)).mean() == pytest.approx(0, abs=0.02)


def test_photons_are_the_charge_over_the_calibrated_efficiency() -> None:
    detector = Detector(miscal=0.1)
    (record,) = responses(1e6, detector, 1)
    calibration = calibrate(detector)
    np.testing.assert_allclose(record.npho * calibration.calibrated, record.charge)
    # a million photons: what is left are the errors of the calibration
    ratio = record.npho / 1e6 * calibration.calibrated / calibration.efficiency
    assert ratio.std() < 0.01


def test_hits_need_five_photo_electrons() -> None:
    for record in responses(40.0, Detector(), 5):
        assert ((record.charge >= 5) == np.isfinite(record.time)).all()


@pytest.mark.parametrize("photons", [2000.0, 1e5])
def test_times_walk_and_spread_with_the_charge(photons: float) -> None:
    calibration = calibrate(QUIET)
    times = np.array([record.time for record in responses(photons, QUIET)])
    # hundreds of photo-electrons: their fluctuation changes walk and spread by little
    electrons = photons * calibration.efficiency
    pull = times - 10 - calibration.offset - 12 / np.sqrt(electrons)
    pull /= np.sqrt(49 / electrons + 0.01)
    assert pull.mean() == pytest.approx(0, abs=0.02)
    assert pull.std() == pytest.approx(1, rel=0.02)


def test_walk_of_weak_hits_is_limited() -> None:
    offset = calibrate(QUIET).offset
    for record in responses(35.0, QUIET, 5):  # 4 to 6 photo-electrons
        hit = np.isfinite(record.time)
        late = record.time[hit] - 10 - offset[hit]
        # at most 4 ns, and 7/√5 of spread over some 2000 hits
        assert late.mean() == pytest.approx(3.99, abs=0.25)
        assert late.std() == pytest.approx(7 / np.sqrt(6), rel=0.1)


def test_dead_channels_are_silent() -> None:
    (record,) = responses(1e4, Detector(dead=(0, 4759)), 1)
    assert (np.flatnonzero(record.npho == 1e10) == [0, 4759]).all()
    assert (np.flatnonzero(np.isinf(record.time)) == [0, 4759]).all()


def test_dead_channels_change_no_other_one() -> None:
    (whole,), (rest,) = responses(1e3, Detector(), 1), responses(1e3, Detector(dead=(7,)), 1)
    alive = np.arange(SENSORS) != 7
    assert (whole.npho[alive] == rest.npho[alive]).all()
    assert (whole.time[alive] == rest.time[alive]).all()


def test_counts_are_stored_coarsely() -> None:
    given = np.array([3.1, -6.9, 254.8, 255.2, 257.3, 511.4, 513.1, 70000.0, 1e10])
    # even numbers below 256, steps of 1 up to 512, of 2 up to 1024, of 256 from 65536
    wanted = [4, -6, 254, 256, 257, 511, 514, 69888, np.float32(1e10)]
    found = coarse_counts(given)
    assert found.dtype == np.float32
    assert found.tolist() == wanted


def test_counts_keep_eight_bits() -> None:
    given = np.random.default_rng(0).uniform(256, 1e6, 10_000)
    found = coarse_counts(given)
    assert not (found.view(np.uint32) & 0x7FFF).any()  # 23 - 8 = 15 bits are free
    assert np.abs(found / given - 1).max() <= 2.0**-9 * 1.001


def test_times_are_stored_on_a_grid() -> None:
    found = relative_times(np.array([-600.0, -599.97, -598.9999, -601.0, np.inf]), -600.0)
    assert found.dtype == np.float32
    # 30 ps are 0.6 steps of 50 ps
    np.testing.assert_allclose(found, [0, 5e-11, 1e-9, -1e-9, 1e10], rtol=1e-6)


def test_earliest_hit_is_a_strong_one() -> None:
    charge = np.array([60.0, 51.0, 20.0, 4.0])
    time = np.array([3.0, 2.0, 1.0, np.inf])
    record = Record(npho=charge, charge=charge, time=time)
    assert earliest(record) == 1
    weak = replace(record, charge=np.array([20.0, 10.0, 20.0, 4.0]))
    assert earliest(weak) == 2
    assert earliest(replace(record, time=np.full(4, np.inf))) is None
