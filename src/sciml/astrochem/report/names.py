"""Names of species as they are printed."""

import re
from collections.abc import Sequence

from sciml.astrochem.physics.species import KNOWN, Phase, phase_of

COLORS: dict[str, str] = {  # colour-blind safe, see core/report.mplstyle
    "gas": "#0072B2",
    "surface": "#D55E00",
    "bulk": "#009E73",
    "ice": "#D55E00",
    "ions": "#CC79A7",
}
_ISOTOPES = "13C|15N|17O|18O"
_TOKEN = re.compile(rf"(?:(\d\d)(?=[CNO]))?({'|'.join(KNOWN)}|[A-Z])(\d*?)(?=$|{_ISOTOPES}|[A-Z])")


def chemical_name(name: str, *, layered: bool = False) -> str:
    """A species in the notation of chemistry, as mathtext: ``#CH3OH`` is CH₃OH ice.

    Args:
        name: Such as ``HCO+``, ``E-`` or ``@H2O``.
        layered: Whether surface and bulk of the ice are told apart.
    """
    phase: Phase = phase_of(name)
    body = name.lstrip("#@$")
    if body in {"E-", "e-", "E"}:
        return "e$^-$"
    signs = re.search(r"[+-]+$", body)
    text = _TOKEN.sub(_print_token, body[: signs.start()] if signs else body)
    if signs:
        count = str(len(signs[0])) if len(signs[0]) > 1 else ""
        text += f"$^{{{count}{signs[0][0]}}}$"
    if phase == "gas":
        return text
    return f"{text} {phase if layered and phase != 'ice' else 'ice'}"


def is_layered(species: Sequence[str]) -> bool:
    """Whether the ice of a list of species has a surface and a bulk.

    Args:
        species: All names.
    """
    return any(phase_of(name) == "bulk" for name in species)


def phase_title(phase: str, *, layered: bool = False) -> str:
    """A phase as it is printed.

    Args:
        phase: gas, surface, bulk, ice or ions.
        layered: Whether surface and bulk of the ice are told apart.
    """
    return "ice" if phase == "surface" and not layered else phase


def _print_token(token: re.Match[str]) -> str:
    mass, symbol, count = token.groups()
    lower = f"$_{{{count}}}$" if count else ""
    return f"$^{{{mass}}}${symbol.title()}{lower}" if mass else f"{symbol.title()}{lower}"
