import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from sciml.xec.loss import TaskLoss, event_loss, gaussian_nll, von_mises_fisher


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("l1", (2.0 + 0.5) / 2),
        ("mse", (4.0 + 0.25) / 2),
        ("smooth_l1", (2.0 - 0.25 + 0.5 - 0.25) / 2),  # beta 0.5: |e| - beta / 2 beyond it
        ("huber", 0.5 * (2.0 - 0.25 + 0.5 - 0.25) / 2),  # beta times as much
        ("relative_l1", (2.0 / 4.0 + 0.5 / 1e-3) / 2),
        ("relative_mse", (4.0 / 16.0 + 0.25 / 1e-6) / 2),
    ],
)
def test_losses_are_those_by_hand(kind: str, expected: float) -> None:
    output, target = torch.tensor([[6.0, 0.5]]), torch.tensor([[4.0, 0.0]])
    found = event_loss(TaskLoss(kind), output, target, 1.0)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(expected)


def test_the_scale_divides_the_error_first() -> None:
    output, target = torch.tensor([[6.0]]), torch.tensor([[4.0]])
    assert float(event_loss(TaskLoss("mse"), output, target, 4.0)) == pytest.approx(0.25)
    spread = torch.tensor([[6.0, 2 * math.log(4.0)]])
    assert float(event_loss(TaskLoss("gaussian_nll"), spread, target, 4.0)) == pytest.approx(0.125)


def test_likelihood_is_that_of_a_normal_distribution() -> None:
    error, spread = torch.tensor([0.7, -2.0]), torch.tensor([0.3, -1.0])
    found = gaussian_nll(error, spread, 0.0) + 0.5 * math.log(2 * math.pi)
    expected = -norm.logpdf(error, scale=np.exp(0.5 * spread.numpy()))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_beta_weights_by_the_variance_without_its_gradient() -> None:
    error = torch.tensor([0.5], dtype=torch.float64)
    spread = torch.tensor([1.2], dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(gaussian_nll(error, spread, 0.0), spread)[0]
    weighted = torch.autograd.grad(gaussian_nll(error, spread, 0.5), spread)[0]
    torch.testing.assert_close(weighted, plain * math.exp(0.6))


def test_extreme_variances_are_limited() -> None:
    found = gaussian_nll(torch.zeros(2), torch.tensor([-100.0, 100.0]), 0.0)
    assert found.tolist() == [-6.0, 4.0]


@pytest.mark.parametrize("kappa", [0.05, 1.0, 30.0, 2000.0])
def test_directions_have_a_density_that_integrates_to_one(kappa: float) -> None:
    def density(angle: float) -> float:
        vector = torch.tensor([[math.sin(angle), 0.0, math.cos(angle)]], dtype=torch.float64)
        output = torch.tensor([[0.0, 0.0, 1.0, math.log(kappa)]], dtype=torch.float64)
        return math.exp(-float(von_mises_fisher(output, vector)))

    total, _ = quad(lambda a: 2 * math.pi * math.sin(a) * density(a), 0, math.pi, limit=200)
    assert total == pytest.approx(1.0, rel=1e-6)


def test_gradients_are_right() -> None:
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(3, 3, dtype=torch.float64), dim=1)
    output = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda o: von_mises_fisher(o, unit), output)
    assert torch.autograd.gradcheck(lambda o: gaussian_nll(o, 2 * o, 0.0), output)


def test_half_precision_is_widened() -> None:
    output = torch.tensor([[300.0, 0.0]], dtype=torch.bfloat16)
    found = event_loss(TaskLoss("gaussian_nll"), output, torch.tensor([[0.0]]), 1.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(0.5 * 300**2)


def test_classes_have_cross_entropy() -> None:
    output = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]])
    found = event_loss(TaskLoss("cross_entropy"), output, torch.tensor([1]), 1.0)
    assert float(found) == pytest.approx(-math.log(math.e / (math.e + 4)))


@pytest.mark.parametrize(
    "given", [{"kind": "other"}, {"kind": "l1", "weight": -1.0}, {"kind": "l1", "scale": 0.0}]
)
def test_wrong_settings_are_named(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no loss 'other'|weight of at least 0"):
        TaskLoss(**given)  # type: ignore[arg-type]
