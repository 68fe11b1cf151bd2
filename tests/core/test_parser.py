from pathlib import Path
from typing import Any, Literal

import pytest
from jsonargparse import ArgumentParser

from sciml.cli import call_verb
from sciml.core.parser import (
    closest,
    constructor_error,
    explain,
    unknown_class,
    unknown_flag,
)

FLAGS = ["--out", "--per_molecule", "--seed", "--kind", "--model.optim.lr"]


def make(
    target: str | None = None,
    *,
    out: str = "x.h5",
    per_molecule: int = 1,
    shift: float = 0.0,
    kind: Literal["soft", "hard"] = "soft",
    dry: bool = False,
    folder: Path = Path("."),
) -> dict[str, Any]:
    """Make something.

    Args:
        target: What to make it of.
        out: File to write.
        per_molecule: How often.
        shift: Number that may be negative.
        kind: Choice.
        dry: Only say what would be done.
        folder: Where.
    """
    return dict(locals())


def call(*words: str) -> dict[str, Any]:
    result: dict[str, Any] = call_verb(make, "sciml toy make", words)
    return result


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as leaving:
        call(*words)
    assert leaving.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("sciml: ")
    assert text.count("\n") == 1
    return text


def test_words_become_arguments() -> None:
    found = call("water", "--out", "y.h5", "--per_molecule=3", "--shift", "-1.5", "--dry")
    assert (found["target"], found["out"], found["per_molecule"]) == ("water", "y.h5", 3)
    assert (found["shift"], found["dry"]) == (-1.5, True)
    assert call("--target", "water")["target"] == "water"
    assert call()["target"] is None
    assert call("--folder", "a/b")["folder"] == Path("a/b")


@pytest.mark.parametrize(
    "words", [("--out", "--per_molecule", "3"), ("--out",), ("water", "--folder", "--out", "x")]
)
def test_a_flag_is_never_taken_for_a_value(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected one argument" in complaint(capsys, *words)


@pytest.mark.parametrize("words", [("-x",), ("--out", "-x"), ("-", "--out", "y")])
def test_a_word_with_a_dash_is_no_value(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint(capsys, *words).startswith("sciml: ")


@pytest.mark.parametrize(
    ("flag", "meant"),
    [("--per_molecul", "--per_molecule"), ("--per-molecule", "--per_molecule"), ("--Out", "--out")],
)
def test_misspelt_flag_is_refused_with_the_one_that_was_meant(flag: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown flag {flag}; did you mean {meant}\?"):
        call(f"{flag}=3")


def test_second_positional_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ethanol" in complaint(capsys, "water", "ethanol")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--per_molecule", "many"), "--per_molecule is 'many'; it has to be a whole number"),
        (("--shift", "far"), "--shift is 'far'; it has to be a number"),
        (("--kind", "sofd"), "--kind is 'sofd', which is none of soft, hard; did you mean soft?"),
        (("--dry", "--shift", "x"), "--shift is 'x'; it has to be a number"),
    ],
)
def test_wrong_value_is_one_sentence(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in complaint(capsys, *words)


def test_lines_about_unions_are_left_out() -> None:
    message = """Parser key "model":
      Does not validate against any of the Union subtypes
      Subtypes: [<class 'Task'>, <class 'NoneType'>]
      Errors:
        - Problem with given class_path 'sciml.hip.HIPTask':
            Unrecognized arguments: --optim.lrr
        - Expected a <class 'NoneType'>
      Given value type: <class 'dict'>"""
    typed = ["fit", "--model.optim.lrr=3"]
    assert explain(message, ["--optim.lr"], typed) == (
        "unknown flag --model.optim.lrr; did you mean --model.optim.lr?"
    )


def test_other_messages_become_one_line() -> None:
    assert explain("first\n   second", []) == "first second"
    assert "\n" not in explain("Parser key x:\n  - a\n  - b\nGiven value type: c", [])


def test_suggestions_need_likeness() -> None:
    assert closest("--sed", FLAGS) == "--seed"
    assert closest("--zzzzzz", FLAGS) is None
    assert unknown_flag("--zzzzzz", FLAGS) == "unknown flag --zzzzzz; see --help"
    assert unknown_flag("--seeed", FLAGS) == "unknown flag --seeed; did you mean --seed?"
    assert unknown_class("HIPTsk", ["HIPTask"]) == (
        "there is no class 'HIPTsk'; did you mean HIPTask?"
    )
    assert "give a class of sciml" in unknown_class("Foo", ["HIPTask"])


class Wide:
    """Something with a setting.

    Args:
        width: A positive number.
    """

    def __init__(self, width: int = 1) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; give at least 1")


def test_what_a_constructor_says_is_told_alone() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=Wide | None)
    settings = {"class_path": f"{__name__}.Wide", "init_args": {"width": 0}}
    with pytest.raises(ValueError, match="Union subtypes") as caught:
        parser.instantiate_classes(parser.parse_object({"net": settings}))
    assert constructor_error(str(caught.value)) == "width is 0; give at least 1"


@pytest.mark.parametrize("message", ["no file x", "Errors:\n- no file x"])
def test_other_errors_are_told_as_they_are(message: str) -> None:
    assert constructor_error(message) == message
