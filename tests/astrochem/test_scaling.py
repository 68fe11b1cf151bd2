import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciml.astrochem.physics.scaling import AbundanceScaler, LatentScaler, PhysicsScaler


@given(st.floats(1e-20, 1.0))
def test_abundances_come_back_from_their_scaled_values(abundance: float) -> None:
    x = torch.tensor([abundance], dtype=torch.float64)
    scaler = AbundanceScaler()
    assert torch.allclose(scaler.unscale(scaler.scale(x)), x, rtol=1e-12, atol=0)


def test_default_scaling_is_one_plus_a_twentieth_of_the_logarithm() -> None:
    x = torch.logspace(-20, 0, 41, dtype=torch.float64)
    assert torch.allclose(AbundanceScaler().scale(x), 1 + x.log10() / 20, atol=1e-14)


def test_float32_abundances_come_back_within_rounding() -> None:
    x = torch.logspace(-20, 0, 200)
    scaler = AbundanceScaler()
    # a float32 near 1 is known to 6e-8, which is 20 ln(10) 6e-8 = 3e-6 of an abundance
    assert torch.allclose(scaler.unscale(scaler.scale(x)), x, rtol=5e-6, atol=0)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1.0])
def test_what_is_below_the_range_scales_to_zero(value: float) -> None:
    assert AbundanceScaler(1e-16).scale(torch.tensor([value])).item() == 0.0


def test_unscaled_values_stay_in_the_range() -> None:
    x = AbundanceScaler(1e-16).unscale(torch.tensor([-3.0, 5.0]))
    assert x.tolist() == pytest.approx([1e-16, 1.0], rel=1e-5)


def test_scaling_ignores_mixed_precision() -> None:
    x = torch.tensor([0.3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert AbundanceScaler().scale(x).dtype == torch.float32


def test_a_range_that_is_empty_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be scaled"):
        AbundanceScaler(1.0, 1e-3)


def test_conditions_scale_to_their_logarithmic_range() -> None:
    scaler = PhysicsScaler()
    ranges = torch.tensor([[1e2, 1e-4, 0.1, 10.0], [1e6, 1e2, 10.0, 1e3]])
    scaler.set_range(ranges)
    middle = torch.tensor([[1e4, 1e-1, 1.0, 1e2]])
    assert torch.allclose(scaler.scale(middle), torch.full((1, 4), 0.5), atol=1e-6)


def test_conditions_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="have to be positive"):
        PhysicsScaler().set_range(torch.zeros(2, 4))


@pytest.mark.parametrize("per_dimension", [True, False])
def test_latents_of_training_scale_to_zero_and_one(per_dimension: bool) -> None:
    scaler = LatentScaler(3, per_dimension)
    low, high = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0, 4.0, 3.0])
    scaler.set_range(low, high)
    scaled = scaler.scale(torch.stack([low, high]))
    expected = torch.tensor([[0.0] * 3, [1.0] * 3])
    if not per_dimension:  # one pair, -1 to 4, for all
        expected = torch.stack([(low + 1) / 5, (high + 1) / 5])
    assert torch.allclose(scaled, expected, atol=1e-6)
    assert torch.allclose(scaler.unscale(scaled), torch.stack([low, high]), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("scaler", [AbundanceScaler(), PhysicsScaler(), LatentScaler(4)])
def test_scripted_scalers_give_the_same(scaler: torch.nn.Module) -> None:
    x = torch.rand(5, 4) + 1e-3
    assert torch.equal(torch.jit.script(scaler)(x), scaler(x))


def test_half_a_unit_is_ten_decades() -> None:
    assert AbundanceScaler().unscale(torch.tensor([0.5])).item() == pytest.approx(1e-10, rel=1e-5)
    assert math.isclose(AbundanceScaler(1e-16).range()[0], 1e-16, rel_tol=1e-12)
