import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciml.xec.physics.normalisation import PRESETS, Normalisation

NAMES = list(PRESETS)
BAD = [1e10, 9.1e9, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("name", "photons", "value"),
    [
        ("legacy", 99.42, math.log(1 + 99.42 / 0.58)),
        ("mae", 1000.0, math.log(2) / 4.08),
        ("tuned", 5000.0, 0.5),
        ("v2", 5000.0, 0.5),
        ("v2", -200.0, -0.1),
        ("mae", -999.0, math.log(0.001) / 4.08),  # the edge of the domain
        ("mae", -999.5, 0.0),
        ("tuned", -1.0, 0.0),
    ],
)
def test_counts_by_hand(name: str, photons: float, value: float) -> None:
    found = PRESETS[name].npho(np.array([photons], dtype=np.float32))
    assert found == pytest.approx(value, rel=1e-4, abs=1e-7)


def test_anscombe_and_linear_by_hand() -> None:
    anscombe = Normalisation("anscombe", 99.625)
    counts = np.array([0.625, -0.375, -0.4, 99.625])
    assert anscombe.npho(counts) == pytest.approx([0.1, 0.0, 0.0, 1.0])
    linear = Normalisation("linear", 500.0)
    assert linear.npho(np.array([-1e6, 250.0])) == pytest.approx([-2000, 0.5])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_count_becomes_the_sentinel(name: str) -> None:
    rule = PRESETS[name]
    raw = np.array([*BAD, 8.9e9, 200.0], dtype=np.float32)
    for values in (raw, torch.from_numpy(raw)):
        found = rule.npho(values)
        assert (found[:5] == rule.sentinel_npho).all()
        assert rule.is_alive(values).tolist() == [False] * 5 + [True] * 2
        assert not bool((found[5:] == rule.sentinel_npho).any())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_time_becomes_the_sentinel(name: str) -> None:
    rule = PRESETS[name]
    enough = rule.npho_threshold
    npho = np.array([1e10, math.nan, enough - 1, enough, enough, enough, enough, enough])
    time = np.array([1e-8, 1e-8, 1e-8, 1e-8, 1e10, math.nan, -math.inf, -1e10])
    npho, time = npho.astype(np.float32), time.astype(np.float32)
    wanted = np.full(8, rule.sentinel_time, dtype=np.float32)
    wanted[3] = 1e-8 / rule.time_scale - rule.time_shift
    assert rule.time(npho, time) == pytest.approx(wanted, rel=1e-6)
    found = rule.time(torch.from_numpy(npho), torch.from_numpy(time))
    assert found.numpy() == pytest.approx(wanted, rel=1e-6)
    assert np.nonzero(rule.has_time(npho, time))[0].tolist() == [3]


@pytest.mark.parametrize("name", [*NAMES, "anscombe", "linear"])
@given(photons=st.floats(0, 2e5))
def test_counts_come_back(name: str, photons: float) -> None:
    rule = PRESETS.get(name) or Normalisation(name, 300.0)  # type: ignore[arg-type]
    exact = np.array([photons])
    assert rule.inverse_npho(rule.npho(exact)) == pytest.approx(exact, rel=1e-12, abs=1e-9)
    single = torch.tensor([photons], dtype=torch.float32)
    assert torch.allclose(rule.inverse_npho(rule.npho(single)), single, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("photons", [-0.3, -3.0, -150.0])
def test_negative_counts_come_back_where_the_formula_has_them(photons: float) -> None:
    rules = [PRESETS["v2"], PRESETS["mae"], Normalisation("linear", 10.0)]
    if photons > -0.375:
        rules += [Normalisation("anscombe", 10.0), PRESETS["legacy"]]
    for rule in rules:
        found = rule.inverse_npho(rule.npho(np.array([photons])))
        assert found == pytest.approx(photons, rel=1e-9)


def test_negative_predictions_are_no_light_where_there_are_no_negative_counts() -> None:
    assert PRESETS["tuned"].inverse_npho(np.array([-0.2])) == 0
    assert Normalisation("anscombe", 10.0).inverse_npho(np.array([-0.2])) == -0.375


@pytest.mark.parametrize("name", NAMES)
def test_times_come_back(name: str) -> None:
    rule = PRESETS[name]
    time = np.array([-3e-8, 0.0, 2.5e-9, 4e-7])
    there = rule.time(np.full(4, 500.0), time)
    assert rule.inverse_time(there) == pytest.approx(time, rel=1e-12, abs=1e-20)


@pytest.mark.parametrize("name", [*NAMES, "anscombe", "linear"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_are_kept(name: str, dtype: str) -> None:
    rule = PRESETS.get(name) or Normalisation(name, 300.0)  # type: ignore[arg-type]
    npho, time = np.array([[120.0, 1e10]], dtype), np.array([[1e-8, 1e10]], dtype)
    pair = torch.from_numpy(npho), torch.from_numpy(time)
    arrays = [rule.npho(npho), rule.time(npho, time)]
    tensors = [rule.npho(pair[0]), rule.time(*pair)]
    arrays += [rule.inverse_npho(arrays[0]), rule.inverse_time(arrays[1])]
    tensors += [rule.inverse_npho(tensors[0]), rule.inverse_time(tensors[1])]
    for array, tensor in zip(arrays, tensors, strict=True):
        assert array.dtype == dtype
        assert tensor.dtype == getattr(torch, dtype)
        assert array.shape == tensor.shape == (1, 2)
        assert tensor.numpy() == pytest.approx(array, rel=1e-6)


def test_nothing_that_is_invalid_spoils_a_derivative() -> None:
    raw = torch.tensor([1e10, math.nan, 400.0, -5.0], requires_grad=True)
    for name in NAMES:
        (slope,) = torch.autograd.grad(PRESETS[name].npho(raw).sum(), raw)
        assert bool(torch.isfinite(slope[2]))
        assert slope[:2].nan_to_num(1.0).tolist() == [0, 0], name


def test_digest_tells_apart_what_differs() -> None:
    digests = {name: rule.digest() for name, rule in PRESETS.items()}
    assert len(set(digests.values())) == len(PRESETS)
    for field in dataclasses.fields(Normalisation):
        base = PRESETS["mae"]
        value = "sqrt" if field.name == "scheme" else getattr(base, field.name) + 0.25
        assert dataclasses.replace(base, **{field.name: value}).digest() != base.digest()


def test_digest_knows_what_is_the_same() -> None:
    whole = Normalisation("sqrt", 20000, 1, 100)
    assert whole.digest() == Normalisation("sqrt", 20000.0, 1.0, 100.0).digest()
    assert whole.digest() == dataclasses.replace(whole, npho_scale2=3.0).digest()
    assert len(whole.digest()) == 64


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scheme": "cube"}, "no scheme 'cube'; use log1p, sqrt, anscombe, linear, signed_sqrt"),
        ({"npho_scale": 0.0}, "npho_scale is 0.0; give a positive number"),
        ({"npho_scale2": math.nan}, "npho_scale2 is nan; give a positive number"),
        ({"time_scale": -1e-8}, "time_scale is -1e-08; give a positive number"),
        ({"time_scale": 6.5e8}, "where old notes say 6.5e8 they mean 6.5e-8"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Normalisation(**settings)  # type: ignore[arg-type]
