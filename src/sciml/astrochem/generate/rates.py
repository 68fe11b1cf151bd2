"""Speeds of all reactions of a network at given conditions.

Letters: S species, R reactions.
"""

import math

import numpy as np

from sciml.astrochem.generate.grain import (
    AMU,
    BOLTZMANN,
    CROSS_SECTION,
    GRAIN_RADIUS,
    GRAPHITE_AREA,
    HBAR,
    MONOLAYER,
    SILICATE_AREA,
    SITE_DENSITY,
    THERMAL_SPEED,
)
from sciml.astrochem.generate.network import Floats, Indices, Network
from sciml.astrochem.generate.shielding import COLUMN_PER_AV, CarbonMonoxide, h2_factor

BARRIER_WIDTH = 1.4e-8  # cm, of the barrier that a reaction on ice tunnels through
COLD = 200.0  # K; a reaction measured only above this is off below its range
PHOTON_YIELD = 0.03  # molecules a cosmic-ray induced photon sets free; Roberts et al. 2007
SILICATE, GRAPHITE = (110.0, 320.0, 450.0), (260.0, 520.0, 800.0)  # K: E_S, E_H2, E_HP


class Rates:
    """Coefficients of the reactions of one network, all at once.

    A coefficient is the speed in s⁻¹ per H nucleus without the abundances and without the factors
    of the ice (`Kinetics` adds them).

    Args:
        network: The network, checked.
        zeta: Cosmic-ray ionisation in units of 1.3e-17 s⁻¹.
    """

    def __init__(self, network: Network, zeta: float = 1.0) -> None:
        self._zeta = zeta
        self._alpha, self._beta, self._gamma, self._low, self._high = network.numbers.T
        self._of = {str(kind): network.of(kind) for kind in np.unique(network.kind)}
        self._size = len(network)
        self._mass = np.append(network.species.mass, 1.0)[network.reactants]
        energy = np.append(network.species.binding_energy, 0.0)[network.reactants]
        self._energy, self._vibration = energy, np.zeros_like(energy)
        bound = (energy > 0) & (self._mass > 0)
        self._vibration[bound] = vibration(energy[bound], self._mass[bound])
        self._h2, self._co = network.species.place("H2"), network.species.place("CO")
        self._h2_light, self._co_light = _dissociations(network)
        self._shielding = CarbonMonoxide()
        self._gas_partner = _gas_partners(network)

    def __call__(self, conditions: Floats, x: Floats) -> Floats:
        """Coefficients at one place.

        Args:
            conditions: H nuclei per cm³, radiation in Habing, visual extinction in magnitudes and
                temperature of gas and dust in K, shape ``(4,)``.
            x: Abundances per H nucleus that shield the place, shape ``(S,)``.

        Returns:
            Coefficients, shape ``(R,)``.
        """
        density, light, extinction, temperature = (float(value) for value in conditions)
        k = np.zeros(self._size)
        self._gas(k, density, temperature)
        self._light(k, light, extinction, x)
        self._adsorption(k, density, temperature)
        self._desorption(k, light, extinction, temperature)
        self._surface(k, temperature)
        return k

    def _kind(self, name: str) -> Indices:
        return self._of.get(name, np.empty(0, dtype=np.int64))

    def _gas(self, k: Floats, density: float, temperature: float) -> None:
        j = self._kind("TWOBODY")
        within = np.clip(temperature, self._low[j], self._high[j])
        speed = self._alpha[j] * (within / 300) ** self._beta[j] * np.exp(-self._gamma[j] / within)
        off = (temperature < self._low[j]) & (self._low[j] >= COLD)
        k[j] = np.where(off, 0.0, speed * density)
        j = self._kind("CRP")
        k[j] = self._alpha[j] * self._zeta
        j = self._kind("CRPHOT")
        warm = (temperature / 300) ** self._beta[j]
        k[j] = self._alpha[j] * self._gamma[j] * warm * self._zeta / (1 - 0.5)  # albedo 0.5
        j = self._kind("H2FORM")
        k[j] = h2_formation(temperature) * density

    def _light(self, k: Floats, light: float, extinction: float, x: Floats) -> None:
        j = self._kind("PHOTON")
        field = light / 1.7  # in units of the field of Draine 1978
        k[j] = self._alpha[j] * np.exp(-self._gamma[j] * extinction) * field
        half = 0.5 * COLUMN_PER_AV * extinction  # the gas in front of the place has half of x
        column_h2, column_co = (half * (x[i] if i < len(x) else 0.0) for i in (self._h2, self._co))
        k[self._h2_light] = 5.18e-11 * field * math.exp(-3.02 * extinction) * h2_factor(column_h2)
        shielded = self._shielding.factor(column_h2, column_co)
        k[self._co_light] = 2.0e-10 * field * math.exp(-3.53 * extinction) * shielded

    def _adsorption(self, k: Floats, density: float, temperature: float) -> None:
        hits = THERMAL_SPEED * math.sqrt(temperature) * CROSS_SECTION * density
        j = self._kind("FREEZE")
        k[j] = self._alpha[j] * hits / np.sqrt(self._mass[j, 0])
        j = self._kind("IONGRAIN")
        attraction = 1 + 16.71e-4 / (GRAIN_RADIUS * temperature)
        k[j] = self._alpha[j] * hits / np.sqrt(self._mass[j, 0]) * attraction
        j = self._kind("ER")
        gas = self._gas_partner[j]
        reached = hits / np.sqrt(self._mass[j, gas]) * np.exp(-self._barrier(j, temperature))
        k[j] = self._alpha[j] * reached

    def _desorption(self, k: Floats, light: float, extinction: float, temperature: float) -> None:
        j = self._kind("THERM")
        k[j] = self._vibration[j, 0] * np.exp(-self._energy[j, 0] / temperature)
        j = self._kind("BULKSWAP")
        k[j] = self._alpha[j] * self._vibration[j, 0] * np.exp(-self._energy[j, 0] / temperature)
        k[self._kind("SURFSWAP")] = 1.0  # its speed is that of all bulk swaps, shared out
        j = self._kind("DESCR")
        heated = 4 * math.pi * self._zeta * 1.64e-4 * (4 * CROSS_SECTION) * 1e5
        k[j] = np.where(self._gamma[j] > 1210, 0.0, heated)
        j = self._kind("DEUVCR")
        outside = light / 1e-3 / self._zeta * math.exp(-1.8 * extinction)
        freed = CROSS_SECTION * PHOTON_YIELD * 4875 * self._zeta * (1 + outside)
        k[j] = np.where(self._gamma[j] > 1e4, 0.0, freed)

    def _surface(self, k: Floats, temperature: float) -> None:
        j = self._kind("LH")
        energy, vibration_ = self._energy[j], self._vibration[j]
        hops = (vibration_ * np.exp(-0.5 * energy / temperature)).sum(1)
        leaves = (vibration_ * np.exp(-energy / temperature)).sum(1)
        reacts = vibration_.max(1) * np.exp(-self._barrier(j, temperature))
        k[j] = self._alpha[j] * reacts / (reacts + hops + leaves) * hops / MONOLAYER

    def _barrier(self, j: Indices, temperature: float) -> Floats:
        """Exponent of the likelier way, over the barrier or through it."""
        one, two = self._mass[j].T
        reduced = AMU * one * two / (one + two)
        energy = BOLTZMANN * self._gamma[j]
        through = 2 * BARRIER_WIDTH / HBAR * np.sqrt(2 * reduced * energy)
        exponent: Floats = np.minimum(self._gamma[j] / temperature, through)
        return exponent


def vibration(energy: Floats, mass: Floats) -> Floats:
    """Frequency of a molecule in its place on the ice, ``√(2 k N E / (π² m))``.

    Args:
        energy: Binding energy in K.
        mass: Mass in amu, same shape.

    Returns:
        Frequency in s⁻¹, same shape.

    Source: Hasegawa, Herbst & Leung 1992, equation 3.
    """
    frequency: Floats = np.sqrt(2 * BOLTZMANN * SITE_DENSITY * energy / (math.pi**2 * mass * AMU))
    return frequency


def h2_formation(temperature: float) -> float:
    """Coefficient of the formation of H2 on grains, per H nucleus.

    Args:
        temperature: Of gas and dust in K.

    Returns:
        Coefficient in cm³/s.

    Source: Cazaux & Tielens 2002, with their erratum of 2004.
    """
    warm = temperature / 100
    stick = 1 / (1 + 0.04 * math.sqrt(2 * temperature) + 0.2 * warm + 0.08 * warm**2)
    area = SILICATE_AREA * _efficiency(temperature, *SILICATE)
    area += GRAPHITE_AREA * _efficiency(temperature, *GRAPHITE)
    return 0.5 * 1.45e5 * math.sqrt(warm) * area * stick


def _efficiency(temperature: float, saddle: float, h2: float, physisorbed: float) -> float:
    """Share of the sticking atoms that leave as H2; energies in K."""
    flux = 1e-10  # monolayers per s
    chemisorbed = 3e4  # K
    root = math.sqrt((chemisorbed - saddle) / (physisorbed - saddle))
    ratio = (1 + root) ** 2
    blocked = 0.005 * flux / (2 * 3e12 * math.exp(-h2 / temperature))
    returned = ratio / 4 * math.exp(-saddle / temperature)
    evaporated = 1.3e13 / (2 * flux) * math.exp(-1.5 * chemisorbed / temperature) * ratio
    return 1 / (1 + blocked + returned) / (1 + evaporated)


def _dissociations(network: Network) -> tuple[Indices, Indices]:
    """Places of H2 -> H + H and CO -> C + O by light, whose molecules shield themselves."""
    names = [*network.species.names, ""]
    light = network.of("PHOTON")
    made = [tuple(sorted(names[i] for i in network.products[j] if names[i])) for j in light]
    left = [names[network.reactants[j, 0]] for j in light]
    h2 = [one == "H2" and two == ("H", "H") for one, two in zip(left, made, strict=True)]
    co = [one == "CO" and two == ("C", "O") for one, two in zip(left, made, strict=True)]
    return light[h2], light[co]


def _gas_partners(network: Network) -> Indices:
    """Which of the two reactants is in the gas, where one is; shape ``(R,)``."""
    ice = np.array([name.startswith(("#", "@")) for name in (*network.species.names, "")])
    return ice[network.reactants[:, 0]].astype(np.int64)
