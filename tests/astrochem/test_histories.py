from pathlib import Path

import numpy as np
import pytest

from sciml.astrochem.generate.histories import (
    FAMILIES,
    Family,
    draw_history,
    equilibrium_temperature,
    wander,
)
from sciml.astrochem.generate.tables import read_histories

DENSITY, LIGHT, EXTINCTION, TEMPERATURE = range(4)


def many(family: Family, steps: int = 100, count: int = 300) -> np.ndarray:
    drawn = [draw_history(family, steps, np.random.default_rng(seed)) for seed in range(count)]
    return np.stack(drawn)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [1, 7, 100, 298])
def test_histories_are_physical(family: Family, steps: int) -> None:
    for seed in range(20):
        history = draw_history(family, steps, np.random.default_rng(seed))
        assert history.shape == (steps, 4)
        assert np.isfinite(history).all()
        assert (history > 0).all()
        assert (history[:, DENSITY] >= 10**2.3).all()
        assert (history[:, DENSITY] <= 10**7.8).all()
        assert history[:, TEMPERATURE].min() >= 7.5
        again = draw_history(family, steps, np.random.default_rng(seed))
        np.testing.assert_array_equal(history, again)


def test_noise_is_stationary_with_the_asked_correlation() -> None:
    rng = np.random.default_rng(0)
    noise = np.stack([wander(0.3, 8.0, 40, rng) for _ in range(20000)])
    np.testing.assert_allclose(noise.std(0), 0.3, rtol=0.03)  # 6 standard errors
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.012)
    for lag in (1, 8, 20):
        correlation = (noise[:, lag:] * noise[:, :-lag]).mean() / 0.09
        assert correlation == pytest.approx(np.exp(-lag / 8), abs=0.02)


def test_grav_falls_freely_to_a_plateau() -> None:
    decades = np.log10(many("grav")[..., DENSITY])
    start, end = decades[:, 0], decades[:, -1]
    assert 2.8 < np.median(start) < 3.6
    assert np.quantile(start, 0.02) > 2.6
    assert np.quantile(start, 0.98) < 3.8
    assert np.quantile(end, [0.05, 0.95]) == pytest.approx([5.3, 7.2], abs=0.3)
    # at u = 1/2 a free fall has gained 2 log10(4/3) = 0.25; tc is 80 steps on average
    assert np.median(decades[:, 40] - start) == pytest.approx(0.25, abs=0.05)
    late = many("grav", steps=200)[..., DENSITY]
    assert (late[:, 130] < 1e5).any(), "some of the longer ones take up to 160 steps"


def test_temperature_follows_light_and_density() -> None:
    # a dark dense core: 9 + 6 (n/1e6)^0.32; no light reaches it
    one = np.array([1e6])
    assert equilibrium_temperature(one, one / 1e6, one)[0] == pytest.approx(15.0)
    # at the edge, by hand: 9 + 70 * 2 * exp(-0.55) + 6 * 0.01^0.32
    edge = equilibrium_temperature(np.array([1e4]), np.array([16.0]), np.array([1.0]))
    assert edge[0] == pytest.approx(9 + 140 * np.exp(-0.55) + 6 * 0.01**0.32)
    history = many("grav")
    ratio = history[..., 3] / equilibrium_temperature(*np.moveaxis(history[..., :3], -1, 0))
    assert np.log10(ratio).std() == pytest.approx(0.012, rel=0.1)


def test_static_never_changes() -> None:
    history = many("static")
    np.testing.assert_array_equal(history, history[:, :1].repeat(100, axis=1))
    assert np.log10(history[:, 0, DENSITY]).std() > 1


def test_turbulent_swings_without_a_trend() -> None:
    decades = np.log10(many("turbulent")[..., DENSITY])
    assert abs((decades[:, -1] - decades[:, 0]).mean()) < 0.2
    # three sinusoids with U(0.2, 0.8) amplitudes: variance 3 E[a²]/2 = 0.42
    assert decades.var(1).mean() == pytest.approx(0.42, rel=0.25)


def test_hot_cores_warm_at_fixed_density() -> None:
    for history in many("hotcore", count=50):
        still = np.flatnonzero(np.diff(history[:, DENSITY]) == 0)
        lit = still[0]
        assert 49 <= lit <= 70
        assert (np.diff(history[lit:, DENSITY]) == 0).all()
        temperature = history[lit:, TEMPERATURE]
        assert 95 <= temperature[-1] <= 145
        assert temperature[0] < 50
        r = np.linspace(0, 1, len(temperature))
        risen = (temperature - temperature[0]) / (temperature[-1] - temperature[0])
        np.testing.assert_allclose(risen, r**1.5, atol=1e-12)


def test_shocks_compress_and_heat() -> None:
    jumps = []
    for history in many("shock", count=50):
        decades = np.diff(np.log10(history[:, DENSITY]))
        hit = np.flatnonzero(decades > 0.45)  # 4 is 0.60; the noise has 0.05
        assert 1 <= len(hit) <= 2
        jumps.append(len(hit))
        for step in hit:
            assert history[step + 1, TEMPERATURE] > history[step, TEMPERATURE] + 60
            assert history[step + 1, TEMPERATURE] > 150
    assert set(jumps) == {1, 2}


TABLE = """tracer,time,density,radfield,av,temperature,note
7,0,1e3,1,1.5,20,start
3,0,2e3,1,1.5,20,other
7,1e4,1e4,1,3,15,
7,3e4,1e5,1,8,12,unused
3,5e3,2e3,1,1.5,20,
"""


def test_a_table_holds_histories_of_any_lengths(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    histories = read_histories(path)
    assert list(histories) == [7, 3]
    np.testing.assert_array_equal(histories[7].time, [0, 1e4, 3e4])
    np.testing.assert_array_equal(histories[7].conditions, [[1e3, 1, 1.5, 20], [1e4, 1, 3, 15]])
    assert histories[3].conditions.shape == (1, 4)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("radfield", "field", "has no column radfield; a table of histories needs tracer, time"),
        ("7,3e4", "7,1e4", "time does not increase at row 5 of .*, tracer 7; sort"),
        ("7,1e4,1e4", "7,1e4,0", "row 4 of .* has density 0; give a positive number"),
        ("1.5,20,other", "-1,20,other", "row 3 of .* has av -1; give a positive number"),
        ("1.5,20,other", "0,20,other", "row 3 of .* has av 0; give a positive number"),
        ("7,1e4,1e4", "7,-1e4,1e4", "row 4 of .* has time -10000; give a non-negative number"),
        ("20,start", "nan,start", "row 2 of .* has temperature nan; give a finite number"),
        ("20,start", "warm,start", "row 2 of .* has temperature 'warm'; write a number"),
        ("3,5e3", "x,5e3", "row 6 of .* has the tracer 'x'; number them with whole numbers"),
        ("3,5e3", "4,5e3", "tracer 3 of .* has a single row; give at least two"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, before: str, after: str, words: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE.replace(before, after, 1))
    with pytest.raises(ValueError, match=words) as caught:
        read_histories(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_empty_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file none.csv; check --histories"):
        read_histories(Path("none.csv"))
    path = tmp_path / "table.csv"
    path.write_text(TABLE.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="has no rows"):
        read_histories(path)
