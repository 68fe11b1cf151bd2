import json
from pathlib import Path

import pytest

from sciml.core.files import complete, part_of, refuse_existing, whole_folder, write_json


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "numbers.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [one.name for one in path.parent.iterdir()] == ["numbers.json"]


def test_what_cannot_be_written_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    out = tmp_path / "figures"
    with whole_folder(out) as folder:
        (folder / "a.csv").write_text("1")
        assert not out.exists()
    assert (out / "a.csv").read_text() == "1"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_fails_is_not_there(tmp_path: Path) -> None:
    def draw() -> None:
        with whole_folder(tmp_path / "figures") as folder:
            (folder / "a.csv").write_text("1")
            raise KeyError("interrupted")

    with pytest.raises(KeyError, match="interrupted"):
        draw()
    assert not list(tmp_path.iterdir())


def test_a_completed_part_has_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "events.root"
    part_of(path).write_bytes(b"rows")
    complete(path)
    assert path.read_bytes() == b"rows"
    assert not part_of(path).exists()


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new")
    with pytest.raises(ValueError, match="exists; give another --out or remove it"):
        refuse_existing(tmp_path)
