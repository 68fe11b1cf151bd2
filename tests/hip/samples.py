"""Molecules and small networks for the tests and benchmarks of the domain."""

from typing import Any

import numpy as np
import torch

from sciml.hip.data.record import Record
from sciml.hip.net import MACEHIP, HessianHead, Radial
from sciml.hip.physics.blocks import PRIOR_FUNCTIONS
from sciml.hip.physics.statistics import HessianStatistics

ELEMENTS, SHARES = (1, 6, 7, 8), (0.5, 0.3, 0.1, 0.1)
BOND, CLOSEST = (1.0, 1.5), 0.95  # Å


def random_molecule(size: int, seed: int) -> Record:
    """Atoms bonded to earlier ones that keep apart from all others, with labels of zero."""
    rng = np.random.default_rng([size, seed])
    positions = np.zeros((1, 3))
    while len(positions) < size:
        direction = rng.normal(size=3)
        step = rng.uniform(*BOND) * direction / np.linalg.norm(direction)
        candidate = positions[rng.integers(len(positions))] + step
        if np.linalg.norm(positions - candidate, axis=1).min() > CLOSEST:
            positions = np.vstack([positions, candidate])
    numbers = rng.choice(ELEMENTS, size, p=SHARES).astype(np.int64)
    labels = (0.0, np.zeros((size, 3)), np.zeros((3 * size, 3 * size)))
    return Record(numbers, positions, *labels)


def linear_molecule(size: int, seed: int) -> Record:
    """Atoms on a line in a random direction."""
    record = random_molecule(size, seed)
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    along = np.cumsum(rng.uniform(*BOND, size))
    record.positions = along[:, None] * direction / np.linalg.norm(direction)
    return record


def statistics(elements: tuple[int, ...] = ELEMENTS) -> HessianStatistics:
    """Statistics with nothing left at its default."""
    generator = torch.Generator().manual_seed(0)
    size = len(elements)
    shape = (size, size, PRIOR_FUNCTIONS, 2)
    prior = torch.randn(shape, generator=generator, dtype=torch.float64)
    energies = -100.0 * torch.arange(1, size + 1, dtype=torch.float64)
    return HessianStatistics(
        elements=elements,
        e0=energies,
        e0_fit=energies,
        num_neighbors=9.0,
        forces_rms=0.4,
        energy_std=0.2,
        prior=prior + prior.transpose(0, 1),
        mean_blocks=torch.zeros(size, size, 7, 2, dtype=torch.float64),
        energy_mean=-0.3,
    )


def small_net(seed: int = 0, **arguments: Any) -> MACEHIP:
    """A network of few channels in float64 with statistics, in training mode."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "channels": 6,
        "radial": Radial(mlp=(12, 12)),
        "head": HessianHead(dim=6, num_basis=5, mlp=(12,)),
    }
    net = MACEHIP(**{**settings, **arguments}).double()
    net.set_statistics(statistics(net.elements))
    return net
