"""Which records train, which validate and which test."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Parts:
    """Record numbers of the three parts of one data set, each ascending and disjoint.

    Args:
        train: Shape ``(t,)``.
        val: Shape ``(v,)``.
        test: Shape ``(u,)``.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def random_parts(count: int, fractions: Sequence[float], seed: int) -> Parts:
    """Parts of a random permutation: first training, then validation, then test.

    Args:
        count: Records to split.
        fractions: Share of training, validation and test.
        seed: Seed of the permutation.

    Raises:
        ValueError: If the fractions do not add up to 1, or a wanted part would be empty.
    """
    sizes = part_sizes(count, fractions)
    order = np.random.default_rng(seed).permutation(count)
    train, val, test = np.split(order, np.cumsum(sizes)[:2])
    return Parts(np.sort(train), np.sort(val), np.sort(test))


def group_parts(
    groups: Sequence[str] | NDArray[np.int64], fractions: Sequence[float], seed: int, what: str
) -> Parts:
    """Parts that share no group: molecules of one formula, or of one reaction, stay together.

    In a random order of the groups, validation and test take whole groups while these fit into
    their shares; what is left trains. A part that no group fits into gets the smallest one left.

    Args:
        groups: Group of every record.
        fractions: Share of training, validation and test.
        seed: Seed of the order of the groups.
        what: Name of a group for messages, such as ``formula``.

    Raises:
        ValueError: If there are fewer groups than wanted parts, or the fractions are wrong.
    """
    wanted = part_sizes(len(groups), fractions)
    kinds, member = np.unique(np.asarray(groups), return_inverse=True)
    needed = sum(size > 0 for size in wanted)
    if len(kinds) < needed:
        raise ValueError(
            f"the records have {len(kinds)} different {what} values, too few for {needed} parts; "
            "use another --data.split or set a part of --data.fractions to 0"
        )
    order = np.random.default_rng(seed).permutation(len(kinds))
    part = _assign(order, np.bincount(member), wanted)[member]
    train, val, test = (np.flatnonzero(part == place) for place in range(3))
    return Parts(train, val, test)


def read_parts(path: Path, count: int) -> Parts:
    """Parts from a JSON file with a list of record numbers for ``train``, ``val`` and ``test``.

    The ``splits.json`` of a run can be given; parts it took from files of their own are left out.

    Args:
        path: The file.
        count: Records in the training files.

    Raises:
        ValueError: If a number is no record or is in two parts.
        FileNotFoundError: If there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; set --data.subset.indices to a splits.json")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}); give the splits.json of a run") from None
    if not isinstance(content, dict) or not any(part in content for part in PARTS):
        raise ValueError(f"{path} has none of the lists 'train', 'val', 'test'; add them")
    files = content.get("files", {})
    lists = []
    for part in PARTS:
        own = files.get(part, files.get("train")) != files.get("train")
        values = np.asarray([] if own else content.get(part, []))
        if len(values) and (values.ndim != 1 or not np.issubdtype(values.dtype, np.integer)):
            raise ValueError(f"'{part}' in {path} has to be a list of whole numbers; correct it")
        lists.append(values.astype(np.int64))
    merged = np.concatenate(lists)
    if len(merged) and (merged.min() < 0 or merged.max() >= count):
        wrong = merged[(merged < 0) | (merged >= count)][0]
        raise ValueError(f"{path} names record {wrong} but the training files have {count}")
    values, times = np.unique(merged, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"{path} names record {values[times > 1][0]} twice; every one may be once")
    return Parts(*(np.sort(part) for part in lists))


def part_sizes(count: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Records in training, validation and test.

    Args:
        count: Records in all.
        fractions: Their shares. A share above 0 gives at least one record.

    Raises:
        ValueError: If the fractions are not three shares of 1, or there are too few records.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"data.fractions is {list(fractions)}; give three shares for training, validation and "
            "test that add up to 1, such as [0.8,0.1,0.1]"
        )
    sizes = [max(round(share * count), 1) if share else 0 for share in fractions]
    largest = int(np.argmax(fractions))
    sizes[largest] += count - sum(sizes)  # rounding is made good where it matters least
    if sizes[largest] < 1:
        raise ValueError(
            f"{count} records are too few to split into {list(fractions)}; give more or other "
            "--data.fractions"
        )
    train, val, test = sizes
    return train, val, test


def repeated(
    indices: NDArray[np.int64], ends: Sequence[int], weights: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Record numbers, each as often as the weight of its file says.

    The whole part of a weight is a number of copies; a fraction is a seeded choice of records.

    Args:
        indices: Record numbers of joined files, ascending.
        ends: Number of records up to the end of every file.
        weights: Weight of every file, at least 0.
        seed: Seed of the choice.

    Raises:
        ValueError: If the numbers of files and weights differ or a weight is negative.
    """
    if len(weights) != len(ends) or min(weights) < 0:
        raise ValueError(
            f"data.subset.weights_per_file is {list(weights)}; give one weight of at least 0 for "
            f"each of the {len(ends)} entries of --data.train"
        )
    weight = np.asarray(weights)[np.searchsorted(np.asarray(ends), indices, side="right")]
    copies = np.floor(weight).astype(np.int64)
    copies += np.random.default_rng((seed, 1)).random(len(indices)) < weight - copies
    return np.repeat(indices, copies)


def subset(indices: NDArray[np.int64], most: int | None, seed: int) -> NDArray[np.int64]:
    """At most so many of the numbers, in order; a larger subset contains a smaller one.

    Args:
        indices: Record numbers.
        most: How many; None for all.
        seed: Seed of the choice.
    """
    if most is None or most >= len(indices):
        return indices
    if most < 1:
        raise ValueError(f"a limit of {most} records leaves none; give at least 1")
    return np.sort(np.random.default_rng((seed, 2)).permutation(indices)[:most])


def _assign(
    order: NDArray[np.int64], sizes: NDArray[np.int64], wanted: Sequence[int]
) -> NDArray[np.int64]:
    # part of every group: the first wanted part keeps what the later ones do not take
    rest, *later = (place for place, size in enumerate(wanted) if size)
    part = np.full(len(sizes), rest)
    free = order.tolist()
    for taken, target in enumerate(later):
        spare = len(free) - (len(later) - taken)  # one group stays for every part to come
        room = wanted[target]
        chosen: list[int] = []
        for group in free:  # over formulas or reactions: far fewer than records
            if len(chosen) < spare and sizes[group] <= room:
                chosen.append(group)
                room -= int(sizes[group])
        chosen = chosen or [min(free, key=lambda group: sizes[group])]
        part[chosen] = target
        free = [group for group in free if part[group] == rest]
    return part
