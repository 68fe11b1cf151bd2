"""Gammas of the beam and the places in the xenon where they leave their energy.

Lengths in cm, energies in MeV, times in ns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sciml.xec.generate.settings import Spectrum, Vertex
from sciml.xec.physics.constants import HALF_ANGLE, LIGHT, RADIUS, SIGNAL_ENERGY
from sciml.xec.physics.coordinates import emission_direction, in_volume, local_frame, to_xyz

Floats = NDArray[np.float64]
Draw = Callable[[Generator], float]

SIGNAL = 1e3 * SIGNAL_ENERGY  # MeV
SIGNAL_SHARE = 0.35  # of the mix
FLAT = (15.0, 60.0)  # MeV
LOWEST = 14.5  # MeV, least deposited energy of an event
PILEUP = (15.0, 8.0, 50.0)  # MeV: least energy, slope and largest energy of a second gamma

ENTRANCE = (27.0, 70.0)  # cm, largest |u| and |v| where a gamma of a free vertex comes in
OPENING = 40.0  # degrees, its largest angle to the outward radial direction
SPOT = 1.1  # cm, standard deviation of the vertex on the target in x and y
SLANT = 15.0  # degrees, of the target
ACCEPTANCE = 0.40  # largest |cos(theta)| of gammas from the target

LENGTH = (5.4, 50.0, 0.17)  # cm, MeV, power: mean depth of the first interaction
PHOTONS, TRACKS = 6, 8  # deposits of secondary photons, of the electrons' tracks
DEPOSITS = TRACKS + PHOTONS
NEAREST = 0.02  # cm, of the first deposit behind the interaction


@dataclass(frozen=True, slots=True)
class Gamma:
    """A gamma that left energy in the xenon.

    Args:
        energy: MeV.
        vertex: Where it was emitted, cm ``(3,)``.
        interaction: Where it interacted first, cm ``(3,)``.
        places: Of the deposits, the track's first, cm ``(14, 3)``. Those outside the active volume
            lie at the first interaction and have no energy.
        deposits: MeV ``(14,)``.
        delays: Of the deposits behind the first interaction, ns ``(14,)``.
    """

    energy: float
    vertex: Floats
    interaction: Floats
    places: Floats
    deposits: Floats
    delays: Floats

    @property
    def deposited(self) -> float:
        """Energy in the xenon in MeV."""
        return float(self.deposits.sum())

    @property
    def flight(self) -> float:
        """Time from the emission to the first interaction in ns."""
        return math.dist(self.interaction, self.vertex) / LIGHT


def draw_gamma(rng: Generator, vertex: Vertex, energy: Draw) -> Gamma:
    """A gamma with its shower, drawn again until enough of it is inside.

    Args:
        rng: Random numbers.
        vertex: Where it comes from.
        energy: Draws its energy in MeV.
    """
    while True:
        value = energy(rng)
        origin, entrance, direction = _free(rng) if vertex == "free" else _from_target(rng)
        scale, reference, power = LENGTH
        depth = rng.exponential(scale * (reference / value) ** power)
        interaction = entrance + depth * direction
        if not in_volume(interaction):
            continue
        gamma = _shower(rng, value, origin, interaction, direction)
        if gamma.deposited >= LOWEST:
            return gamma


def spectrum_of(spectrum: Spectrum) -> Draw:
    """What draws the energies of a beam.

    Args:
        spectrum: Its name.

    Returns:
        Function of the random numbers, MeV.
    """

    def draw(rng: Generator) -> float:
        if spectrum == "signal" or (spectrum == "mix" and rng.random() < SIGNAL_SHARE):
            return SIGNAL
        return rng.uniform(*FLAT)

    return draw


def pileup_energy(rng: Generator) -> float:
    """Energy in MeV of a second gamma.

    Args:
        rng: Random numbers.
    """
    least, slope, largest = PILEUP
    while True:
        value = least + rng.exponential(slope)
        if value <= largest:
            return value


def _free(rng: Generator) -> tuple[Floats, Floats, Floats]:
    """Vertex, entrance and direction of a gamma that may come from anywhere."""
    u, v = rng.uniform(-1, 1, 2) * ENTRANCE
    cosine = rng.uniform(math.cos(math.radians(OPENING)), 1)
    azimuth = rng.uniform(0, 2 * math.pi)
    place = np.array([u, v, 0.0])
    sine = math.sqrt(1 - cosine**2)
    parts = np.array([cosine, sine * math.cos(azimuth), sine * math.sin(azimuth)])
    direction = (parts[:, None] * local_frame(place)).sum(0)
    entrance = to_xyz(place)
    back = (entrance[:2] * direction[:2]).sum() / (direction[:2] ** 2).sum()
    return entrance - back * direction, entrance, direction


def _from_target(rng: Generator) -> tuple[Floats, Floats, Floats]:
    """Vertex, entrance and direction of a gamma from the target."""
    x, y = rng.normal(0, SPOT, 2)
    vertex = np.array([x, y, -x / math.tan(math.radians(SLANT))])
    cosine, azimuth = rng.uniform(-1, 1, 2) * (ACCEPTANCE, HALF_ANGLE)
    direction = emission_direction(np.array([math.degrees(math.acos(cosine)), azimuth]))
    square = (direction[:2] ** 2).sum()
    half = (vertex[:2] * direction[:2]).sum() / square
    rest = ((vertex[:2] ** 2).sum() - RADIUS**2) / square
    return vertex, vertex + (math.sqrt(half**2 - rest) - half) * direction, direction


def _shower(
    rng: Generator, energy: float, vertex: Floats, interaction: Floats, direction: Floats
) -> Gamma:
    """The deposits behind a first interaction."""
    share = rng.beta(2.2, 3.4) * min(1.0, 0.6 + energy / 130)
    track = rng.gamma(1.6, 0.95 * (energy / 50) ** 0.35, TRACKS)
    track.sort()
    track[0] = NEAREST
    photon = 0.5 + rng.exponential(4.2, PHOTONS)
    along = np.concatenate([track, photon])
    width = np.concatenate([0.12 + 0.22 * track, 0.33 * photon])
    deposits = np.concatenate(
        [
            energy * (1 - share) * rng.dirichlet(np.full(TRACKS, 1.2)),
            energy * share * rng.dirichlet(np.full(PHOTONS, 0.7)),
        ]
    )
    across = width[:, None] * rng.standard_normal((DEPOSITS, 2))
    first, second = _across(direction)
    step = along[:, None] * direction + across[:, :1] * first + across[:, 1:] * second
    inside = in_volume(interaction + step)[:, None]
    return Gamma(
        energy=energy,
        vertex=vertex,
        interaction=interaction,
        places=interaction + step * inside,
        deposits=deposits * inside[:, 0],
        delays=along / LIGHT,
    )


def _across(direction: Floats) -> tuple[Floats, Floats]:
    """Two directions that are orthogonal to a third and to each other."""
    x, y, z = direction
    length = math.hypot(x, y)  # no gamma that reaches the xenon flies along z
    first = np.array([-y, x, 0.0]) / length
    second = np.array([-x * z, -y * z, length**2]) / length
    return first, second
