"""Random rotations and reflections, and what they do to spherical harmonics."""

import torch
from torch import Tensor


def random_rotation(seed: int) -> Tensor:
    """A rotation, uniform over all of them.

    Args:
        seed: Draws the same rotation each time.

    Returns:
        Matrix of determinant 1, float64, shape ``(3, 3)``; it acts on columns.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    basis, upper = torch.linalg.qr(normal)
    uniform: Tensor = basis * upper.diagonal().sign()  # the signs of QR itself favour some
    return uniform * uniform.det().sign()


def random_reflection(seed: int) -> Tensor:
    """A rotation followed by the inversion, which turns a molecule into its mirror image.

    Args:
        seed: Draws the same matrix each time.

    Returns:
        Matrix of determinant -1, float64, shape ``(3, 3)``; it acts on columns.
    """
    return -random_rotation(seed)


def wigner_d(matrix: Tensor, max_ell: int) -> Tensor:
    """Action of an orthogonal matrix on all degrees up to a largest one, with parity (-1)^l.

    Args:
        matrix: Orthogonal matrix, float64, shape ``(3, 3)``.
        max_ell: Largest degree.

    Returns:
        Block-diagonal matrix in the order of e3nn, float64, shape
        ``((max_ell + 1)², (max_ell + 1)²)``; it acts on columns.
    """
    from e3nn.o3 import spherical_harmonics  # takes a second; only tests need it

    # solved from what the harmonics of some vectors become: e3nn's matrices are good to 1e-7 only
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4 * (max_ell + 1), 3, generator=generator, dtype=torch.float64)
    blocks = []
    for ell in range(max_ell + 1):
        still = spherical_harmonics(ell, vectors, normalize=True)
        turned = spherical_harmonics(ell, vectors @ matrix.T, normalize=True)
        blocks.append(torch.linalg.lstsq(still, turned).solution.T)
    matrices: Tensor = torch.block_diag(*blocks)
    return matrices
