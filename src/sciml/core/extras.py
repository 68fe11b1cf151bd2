"""Optional packages, imported where they are used."""

import importlib
import importlib.util
from types import ModuleType


class MissingPackageError(ImportError, ValueError):
    """An optional package is not installed; the message says how to install it."""


def need(module: str, *, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Dotted name, such as ``tblite.interface``.
        extra: Extra of this project that brings the package.

    Returns:
        The imported module.

    Raises:
        MissingPackageError: If the package is not installed. An installed package that cannot be
            imported raises its own error, which says what is broken.
    """
    require(module, extra=extra)
    return importlib.import_module(module)


def require(module: str, *, extra: str) -> None:
    """Check that an optional package is installed without importing it.

    A program that will use the package in other processes asks first, so that the answer comes at
    once and the package's threads are not set up here.

    Args:
        module: Dotted name of one of its modules.
        extra: Extra of this project that brings the package.

    Raises:
        MissingPackageError: If the package is not installed.
    """
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(f"{package} is missing: pip install -e '.[{extra}]'")
