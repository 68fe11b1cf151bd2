"""Events made from events: mirror images, other gains and clocks, dead sensors (b events)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.xec.physics.anchors import counting_variance
from sciml.xec.physics.constants import INVALID, INVALID_FROM, SENSORS
from sciml.xec.physics.reflections import reflection

Batch = dict[str, Tensor]
SECOND = 1e-9  # s in a nanosecond


@dataclass(frozen=True)
class Augment:
    """Changes to the events of training; all off by default.

    Args:
        reflections: Mirror a half of the events in z, and a half in y.
        gain: Relative spread of the gains of single sensors.
        gain_all: Largest relative change of all gains of an event together.
        counting: Variance that is added to the number of photons, in units of that of counting
            their photo-electrons: fluctuations of an event that has been seen before.
        time: Spread of the clocks of single sensors in ns.
        dead: Share of the sensors that are made dead.
        dead_pattern: Largest number of sensors that are dead in all events of a batch.

    Raises:
        ValueError: If a number is out of range.
    """

    reflections: bool = False
    gain: float = 0.0
    gain_all: float = 0.0
    counting: float = 0.0
    time: float = 0.0
    dead: float = 0.0
    dead_pattern: int = 0

    def __post_init__(self) -> None:
        for name in ("gain", "gain_all", "counting", "time", "dead"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"model.augment.{name} has to be at least 0 and below 1")
        if not 0 <= self.dead_pattern < SENSORS:
            raise ValueError(f"model.augment.dead_pattern has to be below {SENSORS}")


def augment(batch: Mapping[str, Tensor], how: Augment) -> Batch:
    """Changed copies of the events of a batch.

    Args:
        batch: Raw values and truths, see `sciml.xec.data.RootStream`.
        how: Which changes.
    """
    out = dict(batch)
    if how.reflections:
        out |= _reflected(out)
    npho, time = out["npho"], out["relative_time"]
    alive = npho <= INVALID_FROM
    if how.gain or how.gain_all:
        factor = 1 + how.gain * torch.randn_like(npho)
        factor = factor * (1 + how.gain_all * (2 * torch.rand_like(npho[:, :1]) - 1))
        npho = torch.where(alive, npho * factor, npho)
    if how.counting:
        spread = (how.counting * counting_variance(npho.masked_fill(~alive, 0))).sqrt()
        npho = torch.where(alive, npho + spread * torch.randn_like(npho), npho)
    if how.time:
        shifted = time + SECOND * how.time * torch.randn_like(time)
        time = torch.where(time <= INVALID_FROM, shifted, time)
    if how.dead or how.dead_pattern:
        lost = _lost(npho, how)
        npho, time = (v.masked_fill(lost, INVALID) for v in (npho, time))
    return out | {"npho": npho, "relative_time": time}


def _lost(npho: Tensor, how: Augment) -> Tensor:
    lost = torch.rand_like(npho) < how.dead
    if how.dead_pattern:
        count = int(torch.randint(how.dead_pattern + 1, ()))
        lost[:, torch.randperm(SENSORS, device=npho.device)[:count]] = True
    return lost


def _reflected(batch: Batch) -> Batch:
    """Mirror images in z and y, each with a chance of a half."""
    npho = batch["npho"]
    in_z, in_y = torch.rand(2, len(npho), 1, device=npho.device) < 0.5
    order = torch.arange(SENSORS, device=npho.device).expand_as(npho)
    for mirrored, mirror in ((in_z, "z"), (in_y, "y")):
        image = torch.tensor(reflection(mirror), device=npho.device)  # type: ignore[arg-type]
        order = torch.where(mirrored, order[:, image], order)
    sign_z, sign_y = (torch.where(flag, -1.0, 1.0).to(npho) for flag in (in_z, in_y))
    one = torch.ones_like(sign_z)
    local, place = torch.cat([sign_z, sign_y, one], 1), torch.cat([one, sign_y, sign_z], 1)
    signs = {"uvw": local, "reco_uvw": local}
    signs |= dict.fromkeys(("xyz", "vertex", "direction"), place)
    mirrored = {name: batch[name] * sign for name, sign in signs.items() if name in batch}
    return mirrored | {name: batch[name].gather(1, order) for name in ("npho", "relative_time")}
