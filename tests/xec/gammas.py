"""Simple events for tests: light of a point behind the inner face, times of its flight."""

import numpy as np
import torch
from torch import Tensor

from sciml.xec.physics.anchors import Anchors, Conventional
from sciml.xec.physics.constants import INDEX, INVALID, LIGHT
from sciml.xec.physics.coordinates import to_xyz
from sciml.xec.physics.sensors import sensors

BRIGHTNESS = 3e6  # photons
START = -600.0  # ns


def gammas(count: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Raw values and truths of events with light proportional to cos / d² and no noise."""
    rng = np.random.default_rng(seed)
    uvw = rng.uniform([-20, -60, 1], [20, 60, 10], (count, 3))
    place, table = to_xyz(uvw), sensors()
    towards = place[:, None] - table.position
    distance = np.linalg.norm(towards, axis=-1)
    cosine = np.maximum((towards * table.normal).sum(-1) / distance, 0)
    energy = rng.uniform(0.02, 0.055, count)
    npho = BRIGHTNESS * energy[:, None] * cosine / distance**2
    late = distance * INDEX / LIGHT
    late[npho < 10] = np.inf
    first = late.min(1)
    direction = place / np.linalg.norm(place, axis=1)[:, None]
    flight = np.linalg.norm(place, axis=1) / LIGHT
    numbers = {
        "npho": npho,
        "relative_time": np.where(np.isfinite(late), 1e-9 * (late - first[:, None]), INVALID),
        "time_min": 1e-9 * (START + flight + first),
        "energy": energy,
        "timing": np.full(count, START),
        "uvw": uvw,
        "xyz": place,
        "vertex": np.zeros((count, 3)),
        "direction": direction,
    }
    batch = {name: torch.from_numpy(values).float() for name, values in numbers.items()}
    ids = torch.arange(count)
    return batch | {"n_gamma": ids % 2 + 1, "run": ids // 3, "event": ids, "number": ids}


def anchors_of(npho: Tensor, relative_time: Tensor | None = None) -> Anchors:
    """Cheap estimates of events, by default of such as have all times equal."""
    times = torch.zeros_like(npho) if relative_time is None else relative_time
    found: Anchors = Conventional().to(npho.dtype)(npho, times)
    return found
