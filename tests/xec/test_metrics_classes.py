import pytest
import torch

from sciml.xec.metrics.classes import class_metrics


def test_recalls_are_of_the_classes_that_are_there() -> None:
    true = torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0])
    predicted = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 0.0, 4.0])
    found = {name: float(value) for name, value in class_metrics(true, predicted).items()}
    assert found == pytest.approx(
        {
            "accuracy": 5 / 7,
            "recall_1": 3 / 4,
            "recall_2": 1 / 2,
            "recall_4": 1.0,
            "balanced_accuracy": (3 / 4 + 1 / 2 + 1) / 3,
        }
    )


def test_more_than_four_gammas_are_four() -> None:
    found = class_metrics(torch.tensor([7.0, 4.0]), torch.tensor([4.0, 4.0]))
    assert set(found) == {"accuracy", "recall_4", "balanced_accuracy"}
    assert float(found["recall_4"]) == 1.0


def test_events_without_truth_do_not_count() -> None:
    nan = float("nan")
    found = class_metrics(torch.tensor([nan, 1.0]), torch.tensor([1.0, 1.0]))
    assert float(found["accuracy"]) == 1.0
    assert class_metrics(torch.tensor([nan]), torch.tensor([1.0])) == {}
