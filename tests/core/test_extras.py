import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sciml.core.extras import MissingPackageError, need, require


def test_an_installed_module_is_returned() -> None:
    assert need("json.decoder", extra="md").JSONDecoder is sys.modules["json.decoder"].JSONDecoder


@pytest.mark.parametrize("ask", [need, require])
def test_a_missing_package_is_named_with_the_way_to_install_it(
    ask: Callable[..., object],
) -> None:
    with pytest.raises(
        MissingPackageError, match=r"^nonesuch is missing: pip install -e '\.\[md\]'$"
    ):
        ask("nonesuch.app", extra="md")


def test_the_error_is_caught_as_an_import_error_and_printed_as_a_value_error() -> None:
    assert issubclass(MissingPackageError, ImportError)
    assert issubclass(MissingPackageError, ValueError)


def test_a_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import nonesuch_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nonesuch_dependency") as caught:
        need("broken_package", extra="md")
    assert not isinstance(caught.value, MissingPackageError)


def test_require_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_package.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    require("heavy_package", extra="md")
    assert "heavy_package" not in sys.modules
