import json
from pathlib import Path

import pytest

from sciml.core.parts import claim, parts_of


def test_a_second_run_of_one_file_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    with claim(out, {"seed": 1}) as parts:
        assert parts == parts_of(out)
        with pytest.raises(ValueError, match=r"another run is making .*set\.h5; wait"):
            claim(out, {"seed": 1}).__enter__()
        with claim(tmp_path / "other.h5", {"seed": 1}):
            pass
    with claim(out, {"seed": 1}) as again:
        assert json.loads((again / "settings.json").read_text()) == {"seed": 1}


def test_an_interrupted_run_lets_go_of_its_parts(tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    with pytest.raises(KeyboardInterrupt), claim(out, {"seed": 1, "net_sha256": "a"}):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="begun with seed 1 instead of 2; repeat"):
        claim(out, {"seed": 2, "net_sha256": "a"}).__enter__()
    with pytest.raises(ValueError, match="begun with other net; repeat"):
        claim(out, {"seed": 1, "net_sha256": "b"}).__enter__()
    with claim(out, {"seed": 1, "net_sha256": "a"}) as parts:
        assert parts.is_dir()
