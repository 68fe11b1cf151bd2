"""Random rotations and their action on spherical harmonics."""

import torch
from e3nn.o3 import spherical_harmonics

from sciml.core.symmetry import random_reflection, random_rotation, wigner_d

EYE = torch.eye(3, dtype=torch.float64)


def test_rotations_keep_lengths_and_handedness() -> None:
    for seed in range(20):
        rotation = random_rotation(seed)
        torch.testing.assert_close(rotation @ rotation.T, EYE, atol=1e-14, rtol=0)
        assert rotation.det().item() > 0
        assert random_reflection(seed).det().item() < 0


def test_seeds_give_different_but_reproducible_rotations() -> None:
    assert torch.equal(random_rotation(3), random_rotation(3))
    assert not torch.allclose(random_rotation(3), random_rotation(4))


def test_rotations_are_uniform() -> None:
    # Haar measure: every entry has mean 0 and mean square 1/3, the trace mean 0 and square 1
    draws = torch.stack([random_rotation(seed) for seed in range(2000)])
    trace = draws.diagonal(dim1=1, dim2=2).sum(1)
    assert draws.mean(0).abs().max() < 0.06  # 0.013 standard errors each
    assert (draws.square().mean(0) - 1 / 3).abs().max() < 0.04
    assert abs(trace.mean()) < 0.1
    assert abs(trace.square().mean() - 1) < 0.15


def test_wigner_matrices_turn_spherical_harmonics() -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    for matrix in (random_rotation(0), random_reflection(1)):
        turned = spherical_harmonics([0, 1, 2, 3], vectors @ matrix.T, normalize=True)
        still = spherical_harmonics([0, 1, 2, 3], vectors, normalize=True)
        torch.testing.assert_close(turned, still @ wigner_d(matrix, 3).T, atol=1e-12, rtol=0)


def test_wigner_matrices_are_a_representation_with_parity() -> None:
    first, second = random_rotation(5), random_reflection(6)
    product = wigner_d(first, 3) @ wigner_d(second, 3)
    torch.testing.assert_close(wigner_d(first @ second, 3), product, atol=1e-12, rtol=0)
    signs = wigner_d(-EYE, 3).diagonal()
    expected = torch.tensor([1.0] + [-1.0] * 3 + [1.0] * 5 + [-1.0] * 7, dtype=torch.float64)
    torch.testing.assert_close(signs, expected, atol=1e-12, rtol=0)
    vector = wigner_d(first, 1)[1:, 1:]
    torch.testing.assert_close(vector, first, atol=1e-12, rtol=0)  # degree 1 is a plain vector
