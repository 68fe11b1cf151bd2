"""Dust grains and natural constants of the embedded network, in cgs units."""

import math

BOLTZMANN = 1.3806504e-16  # erg/K
HBAR = 1.054571628e-27  # erg s
AMU = 1.66053892e-24  # g
GRAIN_RADIUS = 1e-5  # cm
GRAIN_DENSITY = 3.0  # g/cm³
GAS_TO_DUST = 100.0  # mass ratio
SITE_DENSITY = 1.5e15  # binding sites per cm² of grain

GRAINS_PER_H = 3 * AMU / (4 * math.pi * GRAIN_RADIUS**3 * GRAIN_DENSITY * GAS_TO_DUST)
SITES_PER_GRAIN = 4 * math.pi * GRAIN_RADIUS**2 * SITE_DENSITY
MONOLAYER = SITES_PER_GRAIN * GRAINS_PER_H  # molecules per H in one layer of ice
ACTIVE_LAYERS = 2  # layers of ice that react and evaporate

SILICATE_AREA = 8.473e-22  # cm² per H; Cazaux & Tielens 2002, 2004
GRAPHITE_AREA = 7.908e-22  # cm² per H
CROSS_SECTION = 0.5 * (SILICATE_AREA + GRAPHITE_AREA)  # cm² per H
THERMAL_SPEED = math.sqrt(8 * BOLTZMANN / (math.pi * AMU))  # cm/s of 1 amu at 1 K
