import numpy as np
import pytest
from reconstructed import columns

from sciml.xec.report.resolution import error_of, spread
from sciml.xec.report.worst import losses, mean_loss, worst_events, worst_plate, worst_rows

NAMES = ("u", "v", "w", "energy", "timing", "direction")


def test_losses_are_squares_in_units_of_the_half_width() -> None:
    table = columns(500)
    found = losses(table)
    assert tuple(found) == NAMES
    errors = error_of(table, "w")
    assert found["w"] == pytest.approx((errors / spread(errors).width) ** 2)
    opening = error_of(table, "direction")
    quantile = np.quantile(opening, 0.68)
    assert found["direction"] == pytest.approx((opening / quantile) ** 2)
    assert mean_loss(table) == pytest.approx(sum(found.values()) / 6)


def test_the_worst_are_those_of_the_whole_set_in_their_order() -> None:
    table = columns(5000)
    total = mean_loss(table)
    places = worst_events(table)
    assert places.tolist() == sorted(range(5000), key=lambda i: -total[i])[:10]
    # the same events in whatever order they come, also at the end of the last batch
    order = np.random.default_rng(1).permutation(5000)
    mixed = {name: values[order] for name, values in table.items()}
    assert mixed["event"][worst_events(mixed)].tolist() == table["event"][places].tolist()


def test_equal_losses_keep_the_order_of_the_events() -> None:
    table = {"true_u": np.zeros(40), "pred_u": np.tile([-1.0, 1.0], 20)}
    assert worst_events(table).tolist() == list(range(10))
    assert worst_events(table, 3).tolist() == [0, 1, 2]


def test_unknown_errors_count_neither_for_nor_against_an_event() -> None:
    table = {name: values for name, values in columns(100).items() if name[-2:] in {"_u", "_v"}}
    table["true_u"][5] = np.nan
    table["true_u"][6] = table["true_v"][6] = np.nan
    found = losses(table)
    total = mean_loss(table)
    assert total[5] == pytest.approx(found["v"][5])
    assert np.isnan(total[6])
    assert 6 not in worst_events(table, 100)
    assert len(worst_events(table, 100)) == 99
    assert len(worst_events({})) == 0


def test_rows_tell_which_events_and_by_how_much() -> None:
    table = columns(300)
    table["pred_u"][123] = table["true_u"][123] + 50.0
    rows = worst_rows(table)
    assert len(rows) == 10
    first = rows[0]
    assert (first["rank"], first["run"], first["event"]) == (1, 7, 223)
    assert first["true_u"] == table["true_u"][123]
    assert first["pred_u"] == table["pred_u"][123]
    assert [row["loss"] for row in rows] == sorted([row["loss"] for row in rows], reverse=True)


def test_bars_are_as_long_as_the_losses_and_named_by_run_and_event() -> None:
    table = columns(300)
    plate = worst_plate(table, "worst")
    axes = plate.figure.axes[0]
    stacks = zip(*axes.containers, strict=True)
    ends = [max(bar.get_x() + bar.get_width() for bar in bars) for bars in stacks]
    assert ends == pytest.approx([row["loss"] for row in worst_rows(table)])
    labels = [text.get_text() for text in axes.get_yticklabels()]
    place = worst_events(table)[0]
    assert labels[0] == f"run 7 event {place + 100}"
    noted = sum(row["value"] for row in plate.numbers if row["low"] == 1)
    assert noted == pytest.approx(ends[0])


@pytest.mark.parametrize("unknown", [np.nan, -1.0])
def test_events_without_numbers_are_named_by_their_row(unknown: float) -> None:
    table = columns(50)
    table["run"][:] = unknown
    table["number"] = np.arange(50.0) + 1000
    labels = [t.get_text() for t in worst_plate(table, "worst").figure.axes[0].get_yticklabels()]
    assert labels[0] == f"row {worst_events(table)[0] + 1000}"
    assert worst_rows(table)[0]["run"] == -1
