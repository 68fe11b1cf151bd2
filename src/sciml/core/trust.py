"""Settings out of files of unknown origin: what they may build is checked before anything is built.

A command-line parser imports whatever class a text names, even as ``net: package.Class`` or as the
path of a configuration file. So a text is accepted only where the parameter takes a text.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SCALARS = {str, int, float, bool, NoneType, Path}


def trusted_class(
    config: Any, package: str, source: str | Path, role: tuple[type, str] = (object, "class")
) -> type:
    """The class that settings name, once they and all they nest are found to be harmless.

    Args:
        config: Mapping with ``class_path`` and ``init_args``.
        package: What every class path has to begin with.
        source: File that the settings come from; named in errors.
        role: Class it has to be a subclass of, and what such a thing is called.

    Raises:
        ValueError: If it is of another kind, a class is foreign or unknown, or an argument could
            import code.
    """
    name = config.get("class_path")
    if not isinstance(name, str) or not name.startswith(package):
        raise ValueError(
            f"{source} names the class '{name}', which is not part of sciml; it is not loaded, "
            "because importing it would run foreign code"
        )
    found = _import(name, source)
    if not issubclass(found, role[0]):
        raise ValueError(f"{source} names '{name}', which is no {role[1]} of sciml")
    if set(config) - {"class_path", "init_args"}:
        raise ValueError(f"{source} gives {name} something other than class_path and init_args")
    hinted: Any = found.__init__  # type: ignore[misc]
    _check_arguments(found, hinted, config.get("init_args") or {}, package, source)
    return found


def _import(name: str, source: str | Path) -> type:
    module, _, attribute = name.rpartition(".")
    try:
        found: Any = vars(importlib.import_module(module)).get(attribute)
    except ImportError:
        found = None
    if not isinstance(found, type):
        raise ValueError(f"{source} names '{name}', which this version of sciml does not have")
    return found


def _check_arguments(
    owner: type, hinted: Any, arguments: Any, package: str, source: str | Path
) -> None:
    hints = get_type_hints(hinted)
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{source} gives {owner.__name__} arguments without names")
    for name, value in arguments.items():
        if name not in hints:
            raise ValueError(
                f"{source} sets '{name}' of {owner.__name__}, which this version does not have"
            )
        if not _is_harmless(value, hints[name], package, source):
            raise ValueError(
                f"{source} gives '{value}' as '{name}' of {owner.__name__}, which is no such "
                "setting; it is not loaded, because it could run foreign code"
            )


def _is_harmless(value: Any, hint: Any, package: str, source: str | Path) -> bool:
    if isinstance(value, list | tuple):
        inner = _inside(hint, Sequence)
        return all(_is_harmless(item, inner, package, source) for item in value)
    if not isinstance(value, Mapping):
        plain = all(kind in SCALARS or _is_enum(kind) for kind in _kinds(hint))
        return plain if isinstance(value, str) else type(value) in SCALARS
    if "class_path" in value:
        trusted_class(value, package, source)
        return True
    groups = [kind for kind in _choices(hint) if isinstance(kind, type) and is_dataclass(kind)]
    for group in groups:
        _check_arguments(group, group, value, package, source)
    inner = _inside(hint, Mapping)
    return bool(groups) or all(
        _is_harmless(item, inner, package, source) for item in value.values()
    )


def _choices(hint: Any) -> tuple[Any, ...]:
    """The annotations of which a union has one, or the annotation itself."""
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)


def _inside(hint: Any, container: type) -> Any:
    """What the containers of a kind hold, the last of their arguments; else the annotation."""
    kinds = [(get_origin(choice), get_args(choice)) for choice in _choices(hint)]
    held = [
        inner
        for kind, inside in kinds
        if inside and isinstance(kind, type) and issubclass(kind, container)
        for inner in (inside[-1:] if container is Mapping else inside)
        if inner is not Ellipsis
    ]
    return Union[tuple(held)] if held else hint  # noqa: UP007


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _kinds(hint: Any) -> set[Any]:
    """All classes in an annotation, those of containers and unions too."""
    if get_origin(hint) is Literal:
        return {str}
    inner = [part for part in get_args(hint) if part is not Ellipsis]
    return set().union(*(_kinds(part) for part in inner)) if inner else {hint}
