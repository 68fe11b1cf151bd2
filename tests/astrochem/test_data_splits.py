from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import write_clean, write_plain
from tracers import sample_table

from sciml.astrochem.data.files import open_file
from sciml.astrochem.data.source import Source
from sciml.astrochem.data.splits import Splitting, _divide, assign, cap, train_rows

ROWS = (5, 7, 4, 6)


def plain(path: Path, *names: str) -> list[Source]:
    groups = {name: sample_table(ROWS, seed=10 * place) for place, name in enumerate(names)}
    return open_file(write_plain(path, groups))


def parts_of(sources: list[Source], **splitting: object) -> dict[str, list[str]]:
    parts = assign(sources, [], Splitting(**splitting))  # type: ignore[arg-type]
    return {one.group: own.tolist() for one, own in zip(sources, parts, strict=True)}


def test_groups_named_after_splits_are_these_splits(tmp_path: Path) -> None:
    found = parts_of(plain(tmp_path / "a.h5", "train", "val", "test"))
    assert found == {"train": ["train"] * 4, "val": ["val"] * 4, "test": ["test"] * 4}


def test_other_groups_are_trained_on_where_one_file_has_a_validation_group(tmp_path: Path) -> None:
    sources = plain(tmp_path / "a.h5", "train", "val") + plain(tmp_path / "b.h5", "long", "static")
    found = parts_of(sources)
    assert [own for own, parts in found.items() if parts == ["train"] * 4] == [
        "train",
        "long",
        "static",
    ]


@pytest.mark.parametrize("names", [("train",), ("large", "long")])
def test_without_a_validation_group_tracers_are_divided(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    found = parts_of(plain(tmp_path / "a.h5", *names))
    together = [part for parts in found.values() for part in parts]
    assert together.count("val") == len(together) // 4
    assert together.count("train") == 3 * len(together) // 4


def test_test_group_is_kept_from_training(tmp_path: Path) -> None:
    found = parts_of(plain(tmp_path / "a.h5", "large", "test"))
    assert found["test"] == ["test"] * 4
    assert sorted(found["large"]) == ["train", "train", "train", "val"]


@given(
    st.integers(2, 300),
    st.sampled_from([[0.75, 0.25], [0.8, 0.1, 0.1], [0.5, 0.2], [0.98, 0.02]]),
    st.integers(0, 99),
)
def test_every_tracer_is_in_one_part_and_shares_are_kept(
    count: int, fractions: list[float], seed: int
) -> None:
    parts = _divide(count, Splitting(fractions=fractions, seed=seed))
    assert len(parts) == count
    counts = {part: int((parts == part).sum()) for part in ("train", "val", "test", "")}
    assert sum(counts.values()) == count
    assert counts["train"] > 0
    assert counts["val"] > 0
    for part, fraction in zip(("train", "val", "test"), fractions, strict=False):
        assert abs(counts[part] - fraction * count) <= 1
    assert np.array_equal(parts, _divide(count, Splitting(fractions=fractions, seed=seed)))


def test_division_depends_on_the_seed() -> None:
    orders = {tuple(_divide(40, Splitting(seed=seed)).tolist()) for seed in range(5)}
    assert len(orders) == 5


def test_supplied_shares_give_90_and_30_of_120() -> None:
    parts = _divide(120, Splitting())
    assert ((parts == "train").sum(), (parts == "val").sum()) == (90, 30)


@pytest.mark.parametrize("fractions", [[1.0], [0.9, 0.2], [0.5, -0.1], [0.2, 0.2, 0.2, 0.2]])
def test_impossible_shares_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match=r"data\.split\.fractions is"):
        Splitting(fractions=fractions)


def test_one_tracer_cannot_be_divided(tmp_path: Path) -> None:
    sources = open_file(write_plain(tmp_path / "a.h5", {"large": sample_table((5,))}))
    with pytest.raises(ValueError, match=r"a\.h5 gives no tracer of 1 to the val split"):
        assign(sources, [], Splitting())


def test_tracer_of_a_frame_in_two_splits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_clean(path, "train", sample_table(ROWS, numbers=(0, 1, 2, 5)))
    write_clean(path, "val", sample_table((5, 5), numbers=(4, 5), seed=9))
    with pytest.raises(ValueError, match=r"a\.h5 has tracer 5 in the groups train and val"):
        assign(open_file(path), [], Splitting())


@given(st.lists(st.integers(1, 20), min_size=1, max_size=10), st.none() | st.integers(1, 120))
def test_cap_keeps_whole_tracers(lengths: list[int], most: int | None) -> None:
    kept = cap(np.array(lengths), most)
    assert 1 <= kept <= len(lengths)
    if most is not None:
        assert kept == 1 or sum(lengths[:kept]) <= most
        assert kept == len(lengths) or sum(lengths[: kept + 1]) > most


def test_training_rows_are_known_from_headers(tmp_path: Path) -> None:
    keyed = plain(tmp_path / "a.h5", "long", "val")
    assert train_rows(keyed, Splitting()) == 22
    assert train_rows(keyed[:1], Splitting(fractions=[0.5, 0.5])) == 11
