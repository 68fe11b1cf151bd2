"""Spherical harmonics against e3nn, radial functions against their closed forms."""

import math

import pytest
import torch
from e3nn import o3

from sciml.hip.physics.harmonics import spherical_harmonics
from sciml.hip.physics.radial import bessel, polynomial_cutoff

R_MAX = 5.0


def _unit_vectors(count: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=1)


@pytest.mark.parametrize("max_ell", [0, 1, 2, 3])
def test_harmonics_are_those_of_e3nn(max_ell: int) -> None:
    vectors = torch.cat([_unit_vectors(), torch.eye(3, dtype=torch.float64)])
    expected = o3.spherical_harmonics(
        list(range(max_ell + 1)), vectors, normalize=False, normalization="component"
    )
    ours = spherical_harmonics(vectors, max_ell)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)


def test_squares_of_a_degree_sum_to_its_number_of_components() -> None:
    harmonics = spherical_harmonics(_unit_vectors(), 3)
    for ell in range(4):
        total = harmonics[:, ell**2 : (ell + 1) ** 2].square().sum(1)
        torch.testing.assert_close(total, torch.full_like(total, 2 * ell + 1))


def test_harmonics_keep_leading_axes_and_refuse_unknown_degrees() -> None:
    vectors = _unit_vectors(6).view(2, 3, 3)
    assert spherical_harmonics(vectors, 2).shape == (2, 3, 9)
    with pytest.raises(ValueError, match="max_ell is 0 to 3"):
        spherical_harmonics(vectors, 4)


def test_bessel_functions_are_sines_over_the_distance_and_vanish_at_the_cutoff() -> None:
    distance = torch.tensor([0.7, 2.5], dtype=torch.float64)
    for row, r in enumerate(distance.tolist()):
        for order in range(1, 9):
            value = math.sqrt(2 / R_MAX) * math.sin(order * math.pi * r / R_MAX) / r
            assert bessel(distance, 8, R_MAX)[row, order - 1].item() == pytest.approx(value)
    border = torch.tensor([R_MAX], dtype=torch.float64)
    assert bessel(border, 8, R_MAX).abs().max() < 1e-14


def test_bessel_functions_are_orthonormal_in_the_ball() -> None:
    # ∫₀^R b_k b_l r² dr = δ_kl: what the factor √(2/R) is for
    r = torch.linspace(1e-6, R_MAX, 20001, dtype=torch.float64)
    values = bessel(r, 4, R_MAX) * r[:, None]
    overlap = torch.trapezoid(values[:, :, None] * values[:, None, :], r, dim=0)
    torch.testing.assert_close(overlap, torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("power", [2, 5, 6])
def test_cutoff_is_one_at_zero_and_ends_smoothly(power: int) -> None:
    ends = torch.tensor([0.0, R_MAX - 1e-9], dtype=torch.float64, requires_grad=True)
    value = polynomial_cutoff(ends, R_MAX, power)
    (slope,) = torch.autograd.grad(value.sum(), ends, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), ends)
    torch.testing.assert_close(value.detach(), torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert slope[1].abs() < 1e-8
    assert bend[1].abs() < 1e-6


def test_cutoff_has_the_value_of_its_formula_and_is_zero_beyond() -> None:
    # p = 5, u = 1/2: 1 - 21/32 + 35/64 - 15/128 = 99/128
    distance = torch.tensor([R_MAX / 2, R_MAX, 7.0], dtype=torch.float64)
    values = polynomial_cutoff(distance, R_MAX, 5)
    torch.testing.assert_close(values, torch.tensor([99 / 128, 0, 0], dtype=torch.float64))
