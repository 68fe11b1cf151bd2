"""Command-line parsers whose errors are one sentence with a suggestion."""

import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

NOISE = re.compile(
    r"^\s*(- |Problem with given class_path|Subtypes|Given value type|Discarded|The JSON|tip: "
    r"|Does not validate against any of the Union)"
)
UNION = "Does not validate against any of the Union subtypes"
NO_REASON = re.compile(rf"{UNION}|Expected a <class 'NoneType'>")
KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


class Parser(ArgumentParser):
    """The parser of domain verbs: exits with code 2 and one sentence."""

    def parse_args(self, args: Any = None, *rest: Any, **kwargs: Any) -> Any:
        """Parse, remembering what was typed for the sake of errors.

        Args:
            args: Words.
            rest: As in the base class.
            kwargs: As in the base class.
        """
        self.typed = list(args or [])
        return super().parse_args(args, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong, what may have been meant, and exit.

        Args:
            message: The library's message; may have several lines.
            ex: The exception it came from.
        """
        fail(explain(message, flags(self), getattr(self, "typed", ())))


def fail(text: str) -> NoReturn:
    """End the process with one sentence and exit code 2.

    Args:
        text: The sentence.
    """
    sys.stderr.write(f"sciml: {text}\n")
    sys.exit(2)


def flags(parser: Any) -> list[str]:
    """Every flag of a parser and its chosen subcommands."""
    found: list[str] = []
    for action in parser._actions:
        found += [word for word in action.option_strings if word.startswith("--")]
        for child in (getattr(action, "_name_parser_map", None) or {}).values():
            found += flags(child)
    return list(dict.fromkeys(found))


def explain(message: str, known: Sequence[str], typed: Sequence[str] = ()) -> str:
    """A library's message as one sentence.

    Args:
        message: May have several lines about unions and subtypes.
        known: Flags that could have been meant.
        typed: What the user wrote; restores the full name of a nested setting.
    """
    lines = [line.strip() for line in message.splitlines()]
    kept = [line for line in lines if line and not NOISE.match(line)]
    text = re.sub(r"\s+", " ", " ".join(kept) or message.strip())
    unknown = re.search(r"[Uu]nrecognized arguments?: (\S+)", text)
    if unknown:
        return _unknown_nested(unknown.group(1).split("=")[0], known, typed)
    foreign = re.search(r"Expected a dot import path string: (\S+)", text)
    if foreign:
        return unknown_class(foreign.group(1), public_classes())
    value = re.search(
        r'Parser key "([\w.]+)": Expected a (.+?)\.? Got value: (.*?)(?: Given value: .*)?$', text
    )
    if value:
        name, kind, given = value.groups()
        return _wrong_value(_full_name(f"--{name}", typed), kind, given)
    return text


def constructor_error(message: str) -> str:
    """What a constructor said, out of the parser's account of all types it tried.

    Args:
        message: Of any error.
    """
    lines = [line.strip() for line in message.splitlines()]
    if UNION not in lines[:1]:
        return message
    tried = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    reasons = [one for one in tried if not NO_REASON.match(one)]
    return reasons[0] if reasons else message


def unknown_flag(word: str, known: Iterable[str]) -> str:
    """Sentence about a flag that does not exist.

    Args:
        word: What was typed.
        known: Flags that exist.
    """
    close = closest(word, known)
    return f"unknown flag {word}" + (f"; did you mean {close}?" if close else "; see --help")


def unknown_class(name: str, known: Iterable[str]) -> str:
    """Sentence about a class that does not exist.

    Args:
        name: What was given.
        known: Names that exist.
    """
    close = closest(name, known)
    hint = f"did you mean {close}?" if close else "give a class of sciml or a full import path"
    return f"there is no class '{name}'; {hint}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like the given one, or None when nothing comes close.

    Args:
        word: What was typed.
        known: What exists.
    """
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def public_classes() -> list[str]:
    """Names that the imported domains export."""
    packages = [module for name, module in sys.modules.items() if re.fullmatch(r"sciml\.\w+", name)]
    return [name for module in packages for name in getattr(module, "__all__", ())]


def _full_name(flag: str, typed: Sequence[str]) -> str:
    """The flag as typed, when a nested parser only knows the end of its name."""
    ending = flag.removeprefix("--")
    for word in typed:
        name = word.split("=")[0]
        if name.startswith("--") and (name[2:] == ending or name.endswith(f".{ending}")):
            return name
    return flag


def _unknown_nested(word: str, known: Sequence[str], typed: Sequence[str]) -> str:
    full = _full_name(word, typed)
    close = closest(word, known)
    if close is None:
        return unknown_flag(full, known)
    return f"unknown flag {full}; did you mean --{full[2:].removesuffix(word[2:])}{close[2:]}?"


def _wrong_value(flag: str, kind: str, given: str) -> str:
    choices = re.search(r"Literal\[(.*)\]", kind)
    if choices:
        names = [name.strip(" '\"") for name in choices.group(1).split(",")]
        close = closest(given, names)
        hint = f"; did you mean {close}?" if close else ""
        return f"{flag} is '{given}', which is none of {', '.join(names)}{hint}"
    plain = re.search(r"<class '([\w.]+)'>", kind)
    needed = KINDS.get(plain.group(1), plain.group(1)) if plain else kind
    return f"{flag} is '{given}'; it has to be {needed}"
