import numpy as np
import pytest
from reconstructed import OPENING, columns

from sciml.xec.report.resolution import (
    Spread,
    error_of,
    fiducial,
    in_bins,
    is_known,
    known_methods,
    resampled_quantiles,
    select,
    spread,
)

SHARES = (0.16, 0.5, 0.84)


def test_resampled_quantiles_are_those_of_resamples() -> None:
    values = np.random.default_rng(0).standard_t(4, 137)
    drawn = resampled_quantiles(values, SHARES, 20_000)
    index = np.random.default_rng(1).integers(0, 137, (20_000, 137))
    plain = np.quantile(values[index], SHARES, axis=1).T
    # standard errors of 20 000 draws are half a percent
    assert drawn.std(0) == pytest.approx(plain.std(0), rel=0.03)
    assert drawn.mean(0) == pytest.approx(plain.mean(0), abs=0.005)
    assert np.corrcoef(drawn.T) == pytest.approx(np.corrcoef(plain.T), abs=0.03)
    for tail in (0.02, 0.98):
        quantile = np.quantile(plain, tail, axis=0)
        assert np.quantile(drawn, tail, axis=0) == pytest.approx(quantile, abs=0.03)


@pytest.mark.parametrize("size", [2, 3, 20])
def test_resampled_quantiles_stay_among_the_values(size: int) -> None:
    values = np.arange(float(size))
    drawn = resampled_quantiles(values, SHARES, 5000)
    assert drawn.min() >= 0
    assert drawn.max() <= size - 1
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert drawn[:, 1].mean() == pytest.approx((size - 1) / 2, rel=0.05)


def test_a_spread_has_the_bootstrap_errors_of_200_resamples() -> None:
    values = 3 + 2 * np.random.default_rng(0).normal(size=4000)
    found = spread(values)
    low, high = np.quantile(values, [0.16, 0.84])
    assert found.width == pytest.approx((high - low) / 2)
    assert found.bias == pytest.approx(np.median(values))
    # of the median sqrt(pi / 2) sigma / sqrt(n); 200 resamples know it to 5 %
    assert found.bias_error == pytest.approx(2 * np.sqrt(np.pi / 2 / 4000), rel=0.15)
    index = np.random.default_rng(1).integers(0, 4000, (1000, 4000))
    low, high = np.quantile(values[index], [0.16, 0.84], axis=1)
    assert found.width_error == pytest.approx(((high - low) / 2).std(), rel=0.15)
    assert spread(values) == found  # the same seed each time


def test_a_spread_leaves_out_what_is_not_known() -> None:
    values = np.random.default_rng(0).normal(size=50)
    with_gaps = np.append(values, [np.nan, np.inf, -np.inf])
    assert spread(with_gaps) == spread(values)
    assert spread(np.array([1.0, np.nan])) == pytest.approx((1, *[np.nan] * 4), nan_ok=True)
    assert spread(np.array([])).events == 0


def test_sizes_have_a_quantile_and_no_bias() -> None:
    sizes = np.random.default_rng(0).exponential(size=1000)
    found = spread(sizes, signed=False)
    assert found.width == pytest.approx(np.quantile(sizes, 0.68))
    assert np.isnan(found.bias)
    assert np.isnan(found.bias_error)
    assert 0 < found.width_error < 0.1


def test_errors_are_in_the_units_that_are_printed() -> None:
    table = {
        "true_u": np.array([1.0, 2.0]),
        "pred_u": np.array([1.3, np.nan]),
        "true_energy": np.array([0.050, 0.020]),
        "pred_energy": np.array([0.051, 0.019]),
        "true_timing": np.array([-600.0, -600.0]),
        "pred_timing": np.array([-599.9, -600.2]),
    }
    assert error_of(table, "u") == pytest.approx([3.0, np.nan], nan_ok=True)  # mm
    assert error_of(table, "energy") == pytest.approx([2.0, -5.0])  # %
    assert error_of(table, "timing") == pytest.approx([100.0, -200.0])  # ps
    for name in ("v", "direction", "theta"):
        assert np.isnan(error_of(table, name)).tolist() == [True, True]
    assert np.isnan(error_of(table, "u", "rule_")).all()


def test_directions_are_compared_around_the_circle() -> None:
    azimuth = np.radians([179.0, -179.0])
    x, y = -np.cos(azimuth), np.sin(azimuth)
    table = {"pred_ex": x, "pred_ey": y, "pred_ez": np.zeros(2)}
    table |= {"true_ex": x[::-1], "true_ey": y[::-1], "true_ez": np.zeros(2)}
    assert error_of(table, "direction") == pytest.approx([2.0, 2.0])
    assert error_of(table, "phi") == pytest.approx([-2.0, 2.0])
    assert error_of(table, "theta") == pytest.approx([0.0, 0.0])


def test_the_made_events_have_the_widths_they_were_made_with() -> None:
    table = columns()
    expected = {"u": 3.0, "v": 2.0, "w": 5.0, "timing": 100.0}
    for name, width in expected.items():
        found = spread(error_of(table, name))
        assert found.width == pytest.approx(width, rel=0.08)
        assert abs(found.bias) < 4 * found.bias_error
    opening = spread(error_of(table, "direction"), signed=False)
    assert opening.width == pytest.approx(OPENING, rel=0.05)


def test_bins_hold_their_events_and_sparse_ones_are_left_out() -> None:
    variable = np.concatenate([np.full(30, 0.5), np.full(19, 1.5), np.full(40, 2.5), [2.0] * 20])
    errors = np.arange(len(variable), dtype=np.float64)
    errors[0] = np.nan
    edges = np.array([0.0, 1.0, 2.0, 3.0])
    first, last = in_bins(variable, errors, edges)
    assert (first.low, first.high, first.spread.events) == (0.0, 1.0, 29)
    assert first.spread == spread(np.arange(1.0, 30.0))
    assert (last.low, last.middle, last.spread.events) == (2.0, 2.5, 60)  # a lower edge belongs
    assert len(in_bins(variable, errors, edges, least=19)) == 3
    assert in_bins(variable, errors, np.array([5.0, 6.0])) == []


def test_methods_need_enough_events() -> None:
    table = columns(25)
    assert list(known_methods(table, "u")) == ["network", "conventional"]
    table["rule_u"][6:] = np.nan
    assert list(known_methods(table, "u")) == ["network"]
    assert not is_known(select(table, np.arange(25) < 19), "u")
    assert not is_known({}, "u")


def test_the_fiducial_volume_is_chosen_where_places_are_known() -> None:
    table = columns(40, outside=10)
    assert fiducial(table).tolist() == [True] * 40 + [False] * 10
    high = fiducial(table, near_signal=True)
    assert high.tolist() == (fiducial(table) & (table["true_energy"] > 0.048)).tolist()
    assert fiducial({name: table[name] for name in ("true_energy", "true_u")}).all()


def test_a_spread_is_a_plain_tuple_of_numbers() -> None:
    assert all(isinstance(one, float | int) for one in spread(np.arange(30.0)))
    assert Spread._fields == ("events", "bias", "bias_error", "width", "width_error")
