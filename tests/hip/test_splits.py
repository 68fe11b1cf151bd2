import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciml.hip.data.splits import (
    Parts,
    group_parts,
    part_sizes,
    random_parts,
    read_parts,
    repeated,
    subset,
)

FRACTIONS = st.sampled_from(
    [
        (0.8, 0.1, 0.1),
        (0.8, 0.2, 0.0),
        (1.0, 0.0, 0.0),
        (0.0, 0.0, 1.0),
        (0.0, 0.5, 0.5),
        (0.5, 0.25, 0.25),
    ]
)


@given(st.integers(3, 500), FRACTIONS, st.integers(0, 5))
def test_random_parts_cover_everything_once(
    count: int, fractions: tuple[float, float, float], seed: int
) -> None:
    parts = random_parts(count, fractions, seed)
    together = np.concatenate([parts.train, parts.val, parts.test])
    assert sorted(together.tolist()) == list(range(count))
    for share, part in zip(fractions, (parts.train, parts.val, parts.test), strict=True):
        assert (len(part) > 0) == (share > 0)
        assert abs(len(part) - share * count) <= 2


def test_default_split_of_the_real_sample() -> None:
    # hip.md 17: 64 train, 16 val of 80
    parts = random_parts(80, (0.8, 0.2, 0), seed=0)
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [64, 16, 0]
    assert part_sizes(80, (0.8, 0.1, 0.1)) == (64, 8, 8)


def test_seed_decides_the_split() -> None:
    first, again, other = (random_parts(50, (0.8, 0.1, 0.1), seed) for seed in (3, 3, 4))
    assert first.val.tolist() == again.val.tolist()
    assert first.val.tolist() != other.val.tolist()


@given(st.lists(st.integers(0, 8), min_size=3, max_size=200), FRACTIONS, st.integers(0, 5))
def test_groups_stay_together(
    groups: list[int], fractions: tuple[float, float, float], seed: int
) -> None:
    wanted = sum(share > 0 for share in fractions)
    values = np.array(groups, dtype=np.int64)
    if len(set(groups)) < wanted:
        with pytest.raises(ValueError, match="too few for"):
            group_parts(values, fractions, seed, "reaction")
        return
    parts = group_parts(values, fractions, seed, "reaction")
    owners: dict[int, str] = {}
    for name in ("train", "val", "test"):
        for index in getattr(parts, name).tolist():
            assert owners.setdefault(groups[index], name) == name
    assert sum(len(getattr(parts, name)) for name in ("train", "val", "test")) == len(groups)
    for share, name in zip(fractions, ("train", "val", "test"), strict=True):
        assert (len(getattr(parts, name)) > 0) == (share > 0)


def test_groups_come_near_the_fractions() -> None:
    # 300 formulas of 1 to 30 molecules: whole ones fit to within the smallest
    sizes = np.random.default_rng(0).integers(1, 31, 300)
    formulas = np.repeat(np.arange(300), sizes)
    for seed in range(5):
        parts = group_parts(formulas, (0.8, 0.1, 0.1), seed, "formula")
        assert len(parts.val) == pytest.approx(0.1 * len(formulas), abs=5)
        assert len(parts.test) == pytest.approx(0.1 * len(formulas), abs=5)


def test_one_large_group_trains() -> None:
    formulas = ["CH4"] * 90 + ["H2O"] * 6 + ["CO"] * 4
    parts = group_parts(formulas, (0.8, 0.1, 0.1), 0, "formula")
    assert parts.train.tolist() == list(range(90))
    assert {len(parts.val), len(parts.test)} == {4, 6}


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.8, 0.3, 0.1), (1.2, -0.2, 0.0)])
def test_fractions_must_be_three_shares(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"data\.fractions is .* add up to 1"):
        random_parts(10, fractions, 0)


def test_too_few_records() -> None:
    with pytest.raises(ValueError, match="2 records are too few"):
        random_parts(2, (0.8, 0.1, 0.1), 0)


def test_indices_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"train": [4, 0], "val": [2]}))
    parts = read_parts(path, 5)
    assert _lists(parts) == [[0, 4], [2], []]


def test_indices_of_other_files_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    files = {"train": ["a.h5"], "val": ["b.h5"]}
    path.write_text(json.dumps({"train": [0, 1], "val": [0, 1], "files": files}))
    assert _lists(read_parts(path, 5)) == [[0, 1], [], []]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": [0, 5]}', "names record 5 but the training files have 5"),
        ('{"train": [0, 1], "val": [1]}', "names record 1 twice"),
        ('{"train": [0.5]}', "'train' in .* whole numbers"),
        ('{"training": [0]}', "none of the lists"),
        ("[0, 1", "is no JSON"),
    ],
)
def test_bad_indices_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_parts(path, 5)


def test_missing_indices_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--data\.subset\.indices"):
        read_parts(tmp_path / "x.json", 5)


def test_weights_repeat_records_of_a_file() -> None:
    indices = np.array([0, 2, 3, 5])  # files end at 3 and 6
    assert repeated(indices, [3, 6], [1, 2], seed=0).tolist() == [0, 2, 3, 3, 5, 5]
    assert repeated(indices, [3, 6], [0, 1], seed=0).tolist() == [3, 5]


def test_fractional_weight_chooses_a_share() -> None:
    found = repeated(np.arange(10_000), [10_000], [1.25], seed=0)
    values, times = np.unique(found, return_counts=True)
    assert len(values) == 10_000
    assert len(found) == pytest.approx(12_500, abs=200)  # 5 standard deviations of the draw
    assert times.max() == 2


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0]])
def test_weights_must_fit_the_files(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="each of the 2 entries"):
        repeated(np.arange(4), [2, 4], weights, seed=0)


def test_smaller_subset_is_inside_the_larger() -> None:
    numbers = np.arange(100, 200)
    small, large = subset(numbers, 10, seed=1), subset(numbers, 40, seed=1)
    assert len(small) == 10
    assert set(small.tolist()) < set(large.tolist())
    assert subset(numbers, 1000, seed=1) is numbers
    with pytest.raises(ValueError, match="at least 1"):
        subset(numbers, 0, seed=1)


def _lists(parts: Parts) -> list[list[int]]:
    return [parts.train.tolist(), parts.val.tolist(), parts.test.tolist()]
