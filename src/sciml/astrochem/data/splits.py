"""Which tracers are trained on, validated on and tested on: whole tracers, never rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.columns import shorten
from sciml.astrochem.data.source import Source

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Splitting:
    """How tracers are divided.

    A group ``val`` is validated on, a group ``test`` tested on, and all others are trained on.
    Without a group ``val`` the tracers of all other groups are divided at random.

    Args:
        groups: Groups to use of the files; all by default.
        fractions: Shares of training, validation and, where there is a third, test; without test
            tracers the validation tracers are the test tracers.
        seed: Orders the tracers before they are divided.
    """

    groups: list[str] | None = None
    fractions: list[float] = field(default_factory=lambda: [0.75, 0.25])
    seed: int = 42

    def __post_init__(self) -> None:
        shares = self.fractions
        if len(shares) not in {2, 3} or min(shares) < 0 or not 0 < sum(shares) <= 1 + 1e-9:
            raise ValueError(
                f"data.split.fractions is {shares}; give the shares of training, validation and, "
                "if wanted, test, together at most 1"
            )


def assign(
    sources: Sequence[Source], tests: Sequence[Source], splitting: Splitting
) -> list[NDArray[np.str_]]:
    """The part of every tracer, an array for each source, those to test on at the end.

    Args:
        sources: Groups to train and validate on.
        tests: Groups to test on.
        splitting: How tracers are divided.

    Raises:
        ValueError: If a part that is needed has no tracer.
    """
    counts = [len(source.ptr) for source in sources]
    if is_keyed(sources):
        parts = [
            np.full(count, source.group if source.group in PARTS else "train", dtype="<U5")
            for source, count in zip(sources, counts, strict=True)
        ]
        _check_numbers(sources)
    else:
        free = [source.group != "test" for source in sources]
        order = _divide(
            sum(c for c, is_free in zip(counts, free, strict=True) if is_free), splitting
        )
        parts = []
        for count, is_free in zip(counts, free, strict=True):
            parts.append(order[:count] if is_free else np.full(count, "test", dtype="<U5"))
            order = order[count:] if is_free else order
    parts += [np.full(len(source.ptr), "test", dtype="<U5") for source in tests]
    for part in ("train", "val"):
        if not any((own == part).any() for own in parts):
            files = shorten(sorted({str(source.path) for source in sources}))
            raise ValueError(
                f"{files} gives no tracer of {sum(counts)} to the {part} split; give more tracers "
                "or other --data.split.fractions"
            )
    return parts


def is_keyed(sources: Sequence[Source]) -> bool:
    """Whether the files say themselves what is validated on."""
    return any(source.group == "val" for source in sources)


def train_rows(sources: Sequence[Source], splitting: Splitting) -> int:
    """About how many rows will be trained on, from headers alone.

    Args:
        sources: Groups to train and validate on.
        splitting: How tracers are divided.
    """
    if is_keyed(sources):
        return sum(s.grid.rows for s in sources if s.group not in {"val", "test"})
    rows = sum(source.grid.rows for source in sources if source.group != "test")
    return int(rows * splitting.fractions[0])


def cap(lengths: NDArray[np.int64], max_rows: int | None) -> int:
    """How many of the first tracers have at most so many rows together; at least one.

    Args:
        lengths: Rows of every tracer.
        max_rows: Largest number of rows; None: all.
    """
    if max_rows is None:
        return len(lengths)
    return max(1, int(np.searchsorted(np.cumsum(lengths), max_rows, side="right")))


def _divide(count: int, splitting: Splitting) -> NDArray[np.str_]:
    """The part of every tracer; those beyond the shares belong to none."""
    edges = np.rint(np.cumsum(splitting.fractions) * count).astype(int)
    edges[0] = max(edges[0], 1)
    if splitting.fractions[1] > 0 and edges[1] <= edges[0]:  # one tracer to validate on
        if edges[0] < count:
            edges[1:] = np.maximum(edges[1:], edges[0] + 1)
        elif count > 1:
            edges[0] -= 1
    order = np.random.default_rng(splitting.seed).permutation(count)
    parts = np.full(count, "", dtype="<U5")
    begin = 0
    for part, end in zip(PARTS, edges.tolist(), strict=False):
        parts[order[begin:end]] = part
        begin = end
    return parts


def _check_numbers(sources: Sequence[Source]) -> None:
    """Stop if a frame and another one of its file share a tracer and are different parts."""
    for one in sources:
        for other in sources:
            apart = one.group == "val" and other.group != "val"
            if not (apart and one.is_frame and other.is_frame and one.path == other.path):
                continue
            both = np.intersect1d(one.ptr[:, 0], other.ptr[:, 0]).tolist()
            if both:
                raise ValueError(
                    f"{one.path} has tracer {shorten([str(n) for n in both])} in the groups "
                    f"{other.group} and {one.group}; a tracer belongs to one split only"
                )
