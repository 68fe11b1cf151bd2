import sys
from pathlib import Path
from typing import Any

import pytest
from toy import edited

from sciml.core import checkpoint
from sciml.core.checkpoint import load, read


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the toy as a part of sciml."""
    monkeypatch.setattr(checkpoint, "PACKAGE", "toy.")


NET = {"class_path": "toy.ToyNet", "init_args": {"width": 8}}
FOREIGN: dict[str, dict[str, Any]] = {
    "task": {"_class_path": "foreign.Net"},
    "net": {"net": {"class_path": "foreign.Net", "init_args": {}}},
    "text": {"net": "foreign.Net"},
    "yaml": {"net": "{class_path: foreign.Net}"},
    "file": {"net": "FOLDER/net.yaml"},
    "dotted": {"net.class_path": "foreign.Net"},
    "settings": {"optim": "foreign.Net"},
    "settings_class": {"optim": {"class_path": "foreign.Net"}},
    "list": {"net": {**NET, "init_args": ["foreign.Net"]}},
    "keywords": {"net": {**NET, "dict_kwargs": {"x": "foreign.Net"}}},
    "number": {"net": {**NET, "init_args": {"width": "foreign.Net"}}},
    "nested": {"net": {**NET, "init_args": {"width": {"class_path": "foreign.Net"}}}},
    "attribute": {"_class_path": "toy.np.foreign"},
    "function": {"_class_path": "toy.make_task"},
    "no_task": {"_class_path": "toy.ToyNet", "net": 1},
    "nothing": {"_class_path": None},
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_classes_are_refused_without_importing_them(
    case: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "foreign.py").write_text(f"open({str(mark)!r}, 'w')\nclass Net: pass\n")
    (tmp_path / "net.yaml").write_text("class_path: foreign.Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    given = dict(FOREIGN[case])
    if given.get("net") == "FOLDER/net.yaml":
        given["net"] = f"{tmp_path}/net.yaml"
    with pytest.raises(ValueError, match=r"edited.ckpt") as caught:
        load(edited(trained, **given))
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert "foreign" not in sys.modules


def test_data_of_a_checkpoint_is_looked_at_as_closely(trained: Path) -> None:
    content = read(trained)
    assert checkpoint.data_config(content)["class_path"] == "toy.ToyData"  # type: ignore[index]
    content["datamodule_hyper_parameters"]["size"] = {"class_path": "foreign.Data"}
    with pytest.raises(ValueError, match=r"names the class 'foreign.Data'"):
        checkpoint.data_config(content)
    content["datamodule_hyper_parameters"]["_class_path"] = "foreign.Data"
    assert checkpoint.data_config(content) is None
