"""Weights of other runs as a starting point, and whether they saw the same numbers."""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from sciml.core.checkpoint import PACKAGE, read
from sciml.core.report import show
from sciml.core.trust import trusted_class
from sciml.xec.net.base import XECNet, choose_normalisation
from sciml.xec.net.legacy import NORMALISATION, fill, read_legacy, stored_normalisation
from sciml.xec.physics.normalisation import PRESETS, Normalisation

ANYWAY = "--model.force_normalisation true"


def start_from_legacy(net: XECNet, path: Path, *, force: bool) -> bool:
    """Fill a network from a checkpoint of the older training code, if it is one.

    A regressor, a pretraining, an inpainter or a bare encoder will do; averaged weights are taken
    where there are some. A table of what was loaded is printed.

    Args:
        net: Filled in place.
        path: Any checkpoint.
        force: Take weights also of a network that saw other normalised values.

    Returns:
        Whether it was one; those of sciml are only checked.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file would run code, most of the encoder does not fit, or the weights
            belong to another normalisation.
    """
    settings = _settings(path)
    if settings is not None:
        check_stored(net, settings, path, force=force)
        return False
    file = read_legacy(path)
    own = normalisation_of(net)
    if own is not None:
        stored, absent = stored_normalisation(file)
        ours = [NORMALISATION[name] for name in absent]
        stored = dataclasses.replace(stored, **{name: getattr(own, name) for name in ours})
        if absent:
            rank_zero_info(f"not in {path}, taken as in model.net: {', '.join(absent)}")
        check_normalisation(net, stored, path, force=force)
    show(fill(net, file).table(f"{file.kind} from {path.name}"))
    return True


def check_stored(
    net: XECNet, settings: Mapping[str, Any], path: str | Path, *, force: bool
) -> None:
    """Refuse weights of a network that saw other normalised values.

    Args:
        net: That is to have them.
        settings: Hyper-parameters in the checkpoint.
        path: Named in the error.
        force: Take them all the same.

    Raises:
        ValueError: If the normalisations differ.
    """
    stored = settings.get("net")
    name = stored.get("class_path") if isinstance(stored, Mapping) else None
    if not isinstance(stored, Mapping) or not str(name).startswith(PACKAGE):
        return
    kind = trusted_class({"class_path": name}, PACKAGE, path)
    known = inspect.signature(kind).parameters.get("normalisation")
    if known is not None:
        chosen = (stored.get("init_args") or {}).get("normalisation", known.default)
        found = choose_normalisation(chosen, str(known.default))
        check_normalisation(net, found, path, force=force)


def check_normalisation(
    net: XECNet, stored: Normalisation, path: str | Path, *, force: bool
) -> None:
    """Refuse a normalisation other than that of a network.

    Args:
        net: Whose own is compared.
        stored: That of the weights.
        path: Where they are from, for the error.
        force: Let it pass.

    Raises:
        ValueError: If they differ.
    """
    own = normalisation_of(net)
    if force or own is None or own.digest() == stored.digest():
        return
    pairs = [(n, getattr(stored, n), getattr(own, n)) for n in vars(own)]
    there, here = (
        f"'{preset}'" if preset else ", ".join(f"{n} {p[place]}" for n, *p in pairs if p[0] != p[1])
        for place, preset in enumerate((_preset(stored), _preset(own)))
    )
    raise ValueError(
        f"the weights in {path} belong to the normalisation {there}, that of model.net is {here}; "
        f"set --model.net.normalisation to the first, or {ANYWAY} to use them all the same"
    )


def normalisation_of(net: XECNet) -> Normalisation | None:
    """The normalisation of a network, None if it has none.

    Args:
        net: Which.
    """
    found = getattr(net, "normalisation", None)
    return found if isinstance(found, Normalisation) else None


def _preset(values: Normalisation) -> str | None:
    return next((name for name, one in PRESETS.items() if one.digest() == values.digest()), None)


def _settings(path: Path) -> Mapping[str, Any] | None:
    """Hyper-parameters in a checkpoint of sciml; None of any other file."""
    try:
        settings: Mapping[str, Any] = read(path, mapped=True)["hyper_parameters"]
    except ValueError:  # whatever else it may be is told by the other reader
        return None
    return settings
