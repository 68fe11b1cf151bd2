from pathlib import Path

import numpy as np
import pytest

from sciml.xec.generate.dead import dead_channels
from sciml.xec.physics.constants import SENSORS


def test_drawn_channels_belong_to_the_detector() -> None:
    few, many = dead_channels(5, 7), dead_channels(60, 7)
    assert len(many) == 60
    assert list(many) == sorted(many)
    assert set(few) < set(many)
    assert dead_channels(60, 7) == many
    assert dead_channels(60, 8) != many
    assert dead_channels(0, 7) == ()
    assert dead_channels(SENSORS, 7) == tuple(range(SENSORS))


def test_ids_are_sorted_and_counted_once() -> None:
    assert dead_channels([17, 3, 17], 0) == (3, 17)


def test_list_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "dead.txt"
    path.write_text("# noisy\n4200\n\n17  # hot\n")
    assert dead_channels(path, 0) == (17, 4200)


@pytest.mark.parametrize("flags", [False, True])
def test_list_of_an_npz_file(tmp_path: Path, flags: bool) -> None:
    path = tmp_path / "dead.npz"
    ids = np.array([4200, 17])
    np.savez(path, dead=np.isin(np.arange(SENSORS), ids) if flags else ids)
    assert dead_channels(path, 0) == (17, 4200)


@pytest.mark.parametrize(
    ("dead", "words"),
    [
        (-1, "dead is -1; give 0 to 4760 channels"),
        (4761, "dead is 4761"),
        ([4760], "no channel 4760 in --dead; ids go from 0 to 4759"),
        ("4760", "no channel 4760 in .*dead.txt"),
        ("1\nx", "dead.txt line 2 is 'x'; give the id of a channel"),
        ("-3", "line 1 is '-3'"),
    ],
)
def test_wrong_channels_are_refused(
    tmp_path: Path, dead: int | list[int] | str, words: str
) -> None:
    path = tmp_path / "dead.txt"
    if isinstance(dead, str):
        path.write_text(dead)
    with pytest.raises(ValueError, match=words) as caught:
        dead_channels(path if isinstance(dead, str) else dead, 0)
    assert "\n" not in str(caught.value)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*; check --dead"):
        dead_channels(tmp_path / "none.txt", 0)
    path = tmp_path / "dead.npz"
    path.write_text("17")
    with pytest.raises(ValueError, match="is no npz file; write it with"):
        dead_channels(path, 0)
    np.savez(path, ids=[17])
    with pytest.raises(ValueError, match="has no array 'dead', only ids"):
        dead_channels(path, 0)
    np.savez(path, dead=[1.5])
    with pytest.raises(ValueError, match=r"is float64 \(1,\); give ids or flags"):
        dead_channels(path, 0)
