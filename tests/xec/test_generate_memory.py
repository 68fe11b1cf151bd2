from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from sciml.xec.data.branches import TRUTHS
from sciml.xec.data.index import Indexing, look_at
from sciml.xec.data.source import RootSource
from sciml.xec.generate.events import simulate
from sciml.xec.generate.files import Job, write_file
from sciml.xec.generate.memory import SimulatedEvents
from sciml.xec.generate.settings import Beam, Detector, Settings

SETTINGS = Settings(Beam(pileup=0.5), Detector(dead=(3, 4100)))


def test_events_are_what_the_generator_makes() -> None:
    events = SimulatedEvents(4, SETTINGS, seed=9)
    arrays = simulate(4, SETTINGS, 9)
    assert len(events) == 4
    for place in (2, 0, -1):
        sample, row = events[place], place % 4
        assert torch.equal(sample["npho"], torch.from_numpy(arrays["npho"][row]))
        assert torch.equal(sample["relative_time"], torch.from_numpy(arrays["relative_time"][row]))
        assert sample["energy"] == arrays["energyTruth"][row]
        assert sample["timing"] == arrays["timeTruth"][row]
        assert sample["number"] == row
        assert sample["n_gamma"] == arrays["nGamma"][row]


def test_events_are_those_that_the_loader_reads_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events.root"
    write_file(Job(3, SETTINGS, number=0, run=0, set_seed=0), path, 9)
    source = RootSource([look_at(path, Indexing())], TRUTHS)
    rows = source.read(0)
    source.close()
    events = SimulatedEvents(3, SETTINGS, seed=9)
    for place in range(3):
        sample = events[place]
        assert sample.keys() == {name for name in rows if not name.startswith("_")}
        for name, value in sample.items():
            wanted = torch.as_tensor(rows[name][place])
            assert value.dtype == wanted.dtype, name
            assert torch.equal(value, wanted), name


def test_kept_events_are_not_made_again() -> None:
    kept, fresh = SimulatedEvents(2, SETTINGS), SimulatedEvents(2, SETTINGS, keep=False)
    assert kept[0]["npho"] is kept[0]["npho"]
    assert fresh[0]["npho"] is not fresh[0]["npho"]
    assert torch.equal(kept[1]["npho"], fresh[1]["npho"])


def test_loader_makes_batches() -> None:
    batch = next(iter(DataLoader(SimulatedEvents(6, SETTINGS), batch_size=3)))
    assert batch["npho"].shape == (3, 4760)
    assert batch["npho"].dtype == torch.float32
    assert batch["direction"].shape == (3, 3)
    assert batch["run"].dtype == torch.int64
    assert set(TRUTHS) < set(batch)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0, None, 0), "events is 0; give at least 1"), ((1, None, -1), "seed is -1; give 0 or more")],
)
def test_wrong_settings_are_refused(arguments: tuple[int, None, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SimulatedEvents(*arguments)


def test_places_end() -> None:
    with pytest.raises(IndexError, match="no event 2 among 2"):
        SimulatedEvents(2)[2]
