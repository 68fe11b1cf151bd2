from pathlib import Path

import numpy as np
import pytest
from root_files import cut_short, write_file

from sciml.xec.data import dead as dead_module
from sciml.xec.data.dead import dead_channels, listed_channels
from sciml.xec.generate.files import Job
from sciml.xec.generate.files import write_file as generate_file
from sciml.xec.generate.settings import Beam, Detector, Settings
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
    np.savez(path, dead=np.ones(20, bool))
    with pytest.raises(ValueError, match="has 20 flags; give one for each of the 4760 channels"):
        dead_channels(path, 0)
    np.savez(path, dead=np.arange(SENSORS))
    with pytest.raises(ValueError, match="has 2 among its 4760 flags; give 0 or 1"):
        dead_channels(path, 0)
    binary = tmp_path / "dead.bin"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match="is no text; give the id of a channel on each line"):
        dead_channels(binary, 0)


@pytest.mark.parametrize("kind", ["i1", "?", "f4"])
def test_flags_of_a_root_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_module, "STEP", 2)
    flags = np.zeros((5, SENSORS), kind)
    flags[:, 17] = flags[4, 4200] = 1  # one raised in the last entry only counts
    path = write_file(tmp_path / "run.root", {"dead": flags})
    assert listed_channels(path) == (17, 4200)
    assert dead_channels(path, 0) == (17, 4200)


def test_ids_of_a_root_file(tmp_path: Path) -> None:
    ids = np.array([4200, 17, 17], "i4")
    path = write_file(tmp_path / "run.root", {"dead": ids}, tree="channels")
    assert listed_channels(path, "channels") == (17, 4200)


def test_list_of_the_generator(tmp_path: Path) -> None:
    settings = Settings(beam=Beam(), detector=Detector(dead=(3, 4700)))
    path = tmp_path / "events.root"
    generate_file(Job(2, settings, 0, 1, 0), path, 0)
    assert listed_channels(path) == (3, 4700)


def test_wrong_root_files_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            listed_channels(path)
        assert "\n" not in str(caught.value)

    event = np.zeros(3, "i4")
    refused(
        write_file(tmp_path / "none.root", {"event": event}),
        r"the tree 'tree' of .*none\.root has no branch 'dead'; its branches are event$",
    )
    refused(
        write_file(tmp_path / "other.root", {"dead": event}, tree="list"),
        "no tree 'tree'; its trees are: list",
    )
    for name, values in (("few", np.zeros((3, 20), "i1")), ("real", np.zeros(3, "f4"))):
        path = write_file(tmp_path / f"{name}.root", {"dead": values})
        refused(path, r"the branch dead.* is no list; give a flag for each of the 4760 channels")
    refused(
        write_file(tmp_path / "seven.root", {"dead": np.full((1, SENSORS), 7, "i4")}),
        "has 7 among its 4760 flags",
    )
    refused(
        write_file(tmp_path / "far.root", {"dead": event + 4760}), "no channel 4760 in .*far.root"
    )
    refused(cut_short(tmp_path / "far.root"), "truncated")
