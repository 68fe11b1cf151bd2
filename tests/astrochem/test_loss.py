import math

import pytest
import torch

from sciml.astrochem.loss import (
    AbundanceLoss,
    element_rows,
    emphasis,
    exponential_error,
    huber_rows,
    latent_rows,
)

LIMITS = torch.tensor([-20.0, 0.0], dtype=torch.float64)
DEX = 1 / 20  # of a scaled unit


def scaled(*abundances: float) -> torch.Tensor:
    return 1 + torch.tensor([abundances], dtype=torch.float64).log10() / 20


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_factor_of_two_costs_exactly_one(factor: float) -> None:
    # max(x̂/x, x/x̂) - 1 = 1
    error = exponential_error(scaled(1e-8 * factor), scaled(1e-8))
    assert error.item() == pytest.approx(1.0, rel=1e-9)


def test_squared_distance_enters_where_asked() -> None:
    error = exponential_error(scaled(1e-7), scaled(1e-8), delta_power=2)
    assert error.item() == pytest.approx(10 ** (20 * DEX**2) - 1, rel=1e-9)


def test_large_errors_go_on_as_a_straight_line() -> None:
    # beyond exponent 12 the slope is e^12 for every unit of it
    low = exponential_error(scaled(1.0), scaled(1e-8)).item()
    high = exponential_error(scaled(1.0), scaled(1e-9)).item()
    assert high - low == pytest.approx(math.exp(12) * math.log(10), rel=1e-9)
    assert math.isfinite(exponential_error(scaled(1.0).float(), scaled(1e-20).float()).item())


def test_original_loss_is_its_published_sum() -> None:
    torch.manual_seed(0)
    true = torch.rand(5, 4, dtype=torch.float64)
    predicted = (true + 0.02 * torch.randn(5, 4, dtype=torch.float64)).float().double()
    true = true.float().double()
    matrix = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    loss = AbundanceLoss(huber=0.0, exponential=1.0, worst=2.0, elements=100.0)
    terms = loss.terms(predicted, true, LIMITS, matrix)
    found = sum(loss.weights[name] * total / count for name, (total, count) in terms.items())

    e = 10 ** (20 * (predicted - true).abs()) - 1
    x_hat, x = 10 ** (20 * (predicted - 1)), 10 ** (20 * (true - 1))
    cons = ((x_hat @ matrix).log10() - (x @ matrix).log10()).abs().sum() / 5
    expected = 1e-3 * (e.sum() / 5 + 2 * e.max(1).values.mean() + 100 * cons)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_huber_is_in_decades() -> None:
    # 0.1 dex: half its square; 1 dex with delta 0.3: 0.3 (1 - 0.15)
    predicted, true = scaled(1e-8 * 10**0.1, 1e-7), scaled(1e-8, 1e-8)
    expected = (0.5 * 0.1**2 + 0.3 * (1 - 0.15)) / 2
    assert huber_rows(predicted, true, 0.3).item() == pytest.approx(expected, rel=1e-9)


def test_species_below_the_emphasis_count_a_quarter() -> None:
    weight = emphasis(scaled(1e-20, 1e-12, 1e-4), LIMITS)[0]
    assert weight.tolist() == pytest.approx([0.25, 0.625, 1.0], abs=1e-6)


def test_element_error_is_logarithmic() -> None:
    matrix = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    true, predicted = scaled(0.1, 0.1), scaled(0.1, 0.2)  # totals 0.3 and 0.5
    found = element_rows(predicted, true, LIMITS, matrix)
    assert found.item() == pytest.approx(math.log10(0.5 / 0.3), rel=1e-9)


def test_latent_error_is_huber_with_unit_width() -> None:
    found = latent_rows(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2))
    assert found.item() == pytest.approx((0.125 + 2.5) / 2)


def test_only_terms_with_a_weight_are_computed() -> None:
    loss = AbundanceLoss()
    terms = loss.terms(torch.rand(2, 3), torch.rand(2, 3), LIMITS, torch.ones(3, 1))
    assert list(terms) == ["huber"]


def test_losses_ignore_mixed_precision() -> None:
    predicted, true = torch.rand(2, 3), torch.rand(2, 3)
    loss = AbundanceLoss(exponential=1.0, elements=1.0)
    plain = loss.terms(predicted, true, LIMITS, torch.ones(3, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss.terms(predicted, true, LIMITS, torch.ones(3, 1))
    assert all(torch.equal(plain[name][0], mixed[name][0]) for name in plain)
