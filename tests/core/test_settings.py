from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toy import ToyNet, ToyTask

from sciml.core.optim import Optim
from sciml.core.settings import class_path, plain


class Colour(Enum):
    RED = 1


class Word(StrEnum):
    LONG = "l"


@dataclass
class Inner:
    scale: float = 1.0
    root: Path = Path("a")


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] = ("x",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (np.float64(0.5), 0.5),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (Path("a/b"), "a/b"),
        (Colour.RED, "RED"),
        (Word.LONG, "LONG"),
        ((1, (2, 3)), [1, [2, 3]]),
        ({3, 1, 2}, [1, 2, 3]),
        ({"a": np.float32(0.5), 2: [Path("c")]}, {"a": 0.5, 2: ["c"]}),
        (Outer(), {"inner": {"scale": 1.0, "root": "a"}, "names": ["x"]}),
    ],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(TREES)
def test_plain_values_stay_what_they_are(tree: Any) -> None:
    assert plain(tree) == tree


def test_network_becomes_its_class_and_arguments() -> None:
    assert plain(ToyNet(3)) == {"class_path": "toy.ToyNet", "init_args": {"width": 3}}


@pytest.mark.parametrize("value", [object(), nn.Linear(1, 1), torch.zeros(1), len, np.zeros(2)])
def test_what_nothing_plain_stands_for_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"an argument of type \w+ cannot be stored"):
        plain([value])


def test_class_path_is_the_public_one() -> None:
    from sciml.hip import HIPTask

    thing = HIPTask.__new__(HIPTask)
    assert class_path(thing) == "sciml.hip.HIPTask"
    assert class_path(ToyNet()) == "toy.ToyNet"


class NarrowNet(ToyNet):
    """A network that fixes an argument of its parent."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__(4)
        self.save_hyperparameters()


def test_own_arguments_only_are_stored() -> None:
    class Narrow(ToyTask):
        def __init__(self, lr: float) -> None:
            super().__init__(ToyNet(), Optim(lr=lr))
            self.save_hyperparameters()

    stored = Narrow(0.5).hparams
    assert {name for name in stored if not name.startswith("_")} == {"lr"}
    assert stored["_class_path"].endswith("Narrow")
    assert plain(NarrowNet(3))["init_args"] == {"depth": 3}
