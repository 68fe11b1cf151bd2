"""An independent embedded network: one reaction after the other, in scalars, from the formulas."""

import csv
import math
from pathlib import Path

import sciml.astrochem

ASSETS = Path(sciml.astrochem.__file__).parent / "assets"
KB, HBAR, AMU = 1.3806504e-16, 1.054571628e-27, 1.66053892e-24
SITES = 1.5e15
SIGMA = 0.5 * (7.908e-22 + 8.473e-22)
DUST = 3 * AMU / (4 * math.pi * 1e-15 * 3 * 100)
LAYER = 4 * math.pi * 1e-10 * SITES * DUST

with (ASSETS / "network_species.csv").open(newline="") as file:
    SPECIES = {row["name"]: row for row in csv.DictReader(file)}
with (ASSETS / "network.csv").open(newline="") as file:
    REACTIONS = list(csv.DictReader(file))
NAMES = list(SPECIES)


def mass(name: str) -> float:
    return float(SPECIES[name]["mass_amu"])


def binding(name: str) -> float:
    return float(SPECIES[name]["binding_energy_K"])


def frequency(name: str) -> float:
    return math.sqrt(2 * KB * SITES * binding(name) / (math.pi**2 * mass(name) * AMU))


def hydrogen_formation(t: float) -> float:
    total = 0.0
    for area, es, eh2, ehp in ((8.473e-22, 110, 320, 450), (7.908e-22, 260, 520, 800)):
        q = (1 + math.sqrt((3e4 - es) / (ehp - es))) ** 2
        f1 = 0.005 * 1e-10 / (2 * 3e12 * math.exp(-eh2 / t))
        f2 = q / 4 * math.exp(-es / t)
        back = 1.3e13 / (2 * 1e-10) * math.exp(-1.5 * 3e4 / t) * q
        total += area / (1 + f1 + f2) / (1 + back)
    stick = 1 / (1 + 0.04 * math.sqrt(2 * t) + 0.2 * t / 100 + 0.08 * (t / 100) ** 2)
    return 0.5 * 1.45e5 * math.sqrt(t / 100) * total * stick


def carbon_monoxide_shielding(h2: float, co: float) -> float:
    lines = [x for x in (ASSETS / "co_shielding.csv").read_text().splitlines() if x[0] != "#"]
    table = [[float(x) for x in line.split(",")[1:]] for line in lines[1:]]
    row = min(max(math.log10(max(h2, 1e-99)) - 18, 0), 5)
    column = min(max(math.log10(max(co, 1e-99)) - 12, 0), 7)
    i, j = min(int(row), 4), min(int(column), 6)
    a, b = row - i, column - j
    upper = (1 - b) * table[i][j] + b * table[i][j + 1]
    lower = (1 - b) * table[i + 1][j] + b * table[i + 1][j + 1]
    return 10.0 ** ((1 - a) * upper + a * lower)


def coefficient(
    row: dict[str, str], n: float, g: float, av: float, t: float, x: dict[str, float]
) -> float:
    """Speed of a reaction without abundances and without the factors of the ice."""
    alpha, beta, gamma, low, high = (
        float(row[name]) for name in ("alpha", "beta", "gamma", "tmin", "tmax")
    )
    kind, one, two = row["type"], row["r1"], row["r2"]
    arrive = math.sqrt(8 * KB / (math.pi * AMU)) * SIGMA * n
    if kind == "TWOBODY":
        if t < low and low >= 200:
            return 0.0
        te = min(max(t, low), high)
        return alpha * (te / 300) ** beta * math.exp(-gamma / te) * n
    if kind == "CRP":
        return alpha
    if kind == "CRPHOT":
        return alpha * gamma * (t / 300) ** beta / 0.5
    if kind == "PHOTON":
        h2, co = (0.5 * 1.6e21 * av * x[name] for name in ("H2", "CO"))
        made = sorted(row[name] for name in ("p1", "p2", "p3", "p4") if row[name])
        if one == "H2" and made == ["H", "H"]:
            y = 1 + h2 / 5e14
            shield = 0.965 / y**2 + 0.035 / math.sqrt(y) * math.exp(-8.5e-4 * math.sqrt(y))
            return 5.18e-11 * g / 1.7 * math.exp(-3.02 * av) * shield
        if one == "CO" and made == ["C", "O"]:
            shield = carbon_monoxide_shielding(h2, co)
            return 2.0e-10 * g / 1.7 * math.exp(-3.53 * av) * shield
        return alpha * math.exp(-gamma * av) * g / 1.7
    if kind == "H2FORM":
        return hydrogen_formation(t) * n
    if kind == "FREEZE":
        return alpha * arrive * math.sqrt(t / mass(one))
    if kind == "IONGRAIN":
        return alpha * (1 + 16.71e-4 / (1e-5 * t)) * arrive * math.sqrt(t / mass(one))
    if kind == "THERM":
        return frequency(one) * math.exp(-binding(one) / t)
    if kind == "DESCR":
        return 0.0 if gamma > 1210 else 4 * math.pi * 1.64e-4 * 4 * SIGMA * 1e5
    if kind == "DEUVCR":
        return 0.0 if gamma > 1e4 else SIGMA * 0.03 * 4875 * (1 + g / 1e-3 * math.exp(-1.8 * av))
    assert kind == "LH"
    reduced = mass(one) * mass(two) / (mass(one) + mass(two))
    tunnel = 2 * 1.4e-8 / HBAR * math.sqrt(2 * AMU * reduced * KB * gamma)
    over = max(frequency(one), frequency(two)) * math.exp(-min(gamma / t, tunnel))
    hop = sum(frequency(name) * math.exp(-0.5 * binding(name) / t) for name in (one, two))
    leave = sum(frequency(name) * math.exp(-binding(name) / t) for name in (one, two))
    return alpha * over / (over + hop + leave) * hop / LAYER


def coefficients(conditions: tuple[float, ...], x: dict[str, float]) -> list[float]:
    return [coefficient(row, *conditions, x) for row in REACTIONS]


def derivatives(k: list[float], x: dict[str, float]) -> dict[str, float]:
    """dx/dt, one reaction after the other."""
    ice = 2 * LAYER + sum(value for name, value in x.items() if name[0] == "#")
    change = dict.fromkeys(NAMES, 0.0)
    for row, speed in zip(REACTIONS, k, strict=True):
        speed *= x[row["r1"]]
        if row["type"] in {"TWOBODY", "LH"}:
            speed *= x[row["r2"]]
        if row["type"] in {"THERM", "LH"}:
            speed *= 2 * LAYER / ice
        if row["type"] in {"DESCR", "DEUVCR"}:
            speed /= ice
        for column, sign in (("r1", -1), ("r2", -1), ("p1", 1), ("p2", 1), ("p3", 1), ("p4", 1)):
            if row[column]:
                change[row[column]] += sign * speed
    return change
