"""The command line: training verbs through Lightning, domain verbs through typed functions.

The verb ``sciml hip stats`` is the function ``stats`` in ``hip/commands/stats.py``, and a verb of
all domains, ``sciml export``, is that in ``commands/export.py``. Only what a command needs is
imported, so that asking for help is quick.
"""

import ast
import importlib
import inspect
import keyword
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sciml.core.share import find_config

TRAINING = {
    "fit": "train a task and validate it along the way",
    "validate": "validation metrics of a checkpoint (--ckpt_path X is enough)",
    "test": "test metrics and tables of a checkpoint (--ckpt_path X is enough)",
    "predict": "write a checkpoint's predictions to an NPZ file",
}
COMMON = ""  # in place of a domain: verbs for the tasks of all of them
DOMAINS = {
    "hip": "molecular energies, forces and Hessians (MACE-HIP)",
    "astrochem": "emulators of astrochemical reaction networks",
    "xec": "gammas in a liquid-xenon detector, streamed from ROOT",
}


def main(args: Sequence[str] | None = None) -> Any:
    """Run one command.

    Args:
        args: Words after ``sciml``; by default those of the process.

    Returns:
        The finished `SciMLCLI` of a training verb, else what the verb returned.

    Raises:
        ValueError: If the first word is no verb, or a setting is wrong.
        FileNotFoundError: If a named file does not exist.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(overview())
        return None
    if words[0] == "--version":
        sys.stdout.write(f"sciml {version('sciml')}\n")
        return None
    common = verbs(COMMON)
    _known(words[0], [*TRAINING, *common, *DOMAINS], "verb")
    words = _resolve_configs(words)
    if words[0] in common:
        return call_verb(verb_function(COMMON, words[0]), f"sciml {words[0]}", words[1:])
    return _train(words) if words[0] in TRAINING else _run_verb(words)


def run() -> None:
    """Entry point: `main` with errors as one sentence and exit code 2.

    ``SCIML_DEBUG=1`` shows the traceback instead.
    """
    try:
        main()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("SCIML_DEBUG") == "1":
            raise
        sys.stderr.write(f"sciml: {sentence(error)}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def sentence(error: BaseException) -> str:
    """An exception as one line, without the traceback of a loader process in it.

    Args:
        error: What was raised.
    """
    from sciml.core.parser import constructor_error

    text = constructor_error(str(error).strip())
    if text.startswith("Caught "):  # torch hands on the worker's whole traceback
        text = re.sub(r"^[\w.]*(Error|Exception): ", "", text.splitlines()[-1])
    return re.sub(r"\s+", " ", text) or type(error).__name__


def overview() -> str:
    """The page of ``sciml --help``: all verbs with one line each."""
    lines = [f"sciml {version('sciml')}: scientific machine learning from one command line"]
    lines += ["", "training"]
    lines += [f"  sciml {verb:<20}{text}" for verb, text in TRAINING.items()]
    lines += ["", "checkpoints"]
    lines += [f"  sciml {verb:<20}{text}" for verb, text in verbs(COMMON).items()]
    for domain, text in DOMAINS.items():
        lines += ["", f"{domain}: {text}"]
        lines += [f"  sciml {f'{domain} {v}':<20}{t}" for v, t in verbs(domain).items()]
    lines += [
        "",
        "Every verb explains itself with --help. A first run:",
        "  sciml hip generate --config configs/hip/generate/demo.yaml",
        "  sciml fit -c configs/trainer/cpu.yaml -c configs/hip/demo.yaml",
        "",
    ]
    return "\n".join(lines)


def domain_page(domain: str) -> str:
    """The page of ``sciml <domain> --help``.

    Args:
        domain: Name of the package.
    """
    lines = [f"usage: sciml {domain} VERB [flags]", "", DOMAINS[domain], ""]
    lines += [f"  sciml {domain} {verb:<10}{text}" for verb, text in verbs(domain).items()]
    lines += ["", f"Every verb explains itself: sciml {domain} VERB --help", ""]
    return "\n".join(lines)


def verbs(domain: str) -> dict[str, str]:
    """Names and first lines of the verbs of a domain, read without importing them.

    Args:
        domain: Name of the package, or ``COMMON``.
    """
    found = {}
    for file in sorted((Path(__file__).parent / domain / "commands").glob("[a-z]*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == file.stem:
                first = (ast.get_docstring(node) or "").splitlines()[0].rstrip(".")
                found[node.name.rstrip("_")] = first[:1].lower() + first[1:]
    return found


def verb_function(domain: str, verb: str) -> Callable[..., Any]:
    """The function behind ``sciml <domain> <verb>``.

    Args:
        domain: Name of the package, or ``COMMON``.
        verb: Name of the module and of the function in it; behind one that is a word of Python
            itself, such as ``import``, these have an underscore.
    """
    verb = f"{verb}_" if keyword.iskeyword(verb) else verb
    package = f"sciml.{domain}" if domain else "sciml"
    module = importlib.import_module(f"{package}.commands.{verb}")
    function: Callable[..., Any] = vars(module)[verb]
    return function


def _train(words: list[str]) -> Any:
    from sciml.core.training import SciMLCLI

    links: dict[str, str] = {}
    for domain in DOMAINS:  # short class names work once the classes exist
        package = importlib.import_module(f"sciml.{domain}")
        links |= getattr(package, "LINKS", {})
    return SciMLCLI(words, links)


def _run_verb(words: list[str]) -> Any:
    domain, known = words[0], verbs(words[0])
    if len(words) == 1 or words[1] in {"-h", "--help"}:
        sys.stdout.write(domain_page(domain))
        return None
    verb = words[1]
    _known(verb, list(known), f"verb of {domain}")
    return call_verb(verb_function(domain, verb), f"sciml {domain} {verb}", words[2:])


def call_verb(function: Callable[..., Any], title: str, words: Sequence[str]) -> Any:
    """Run a typed function with flags named after its parameters.

    A word right behind the verb is its first parameter, the thing it works on, unless all
    parameters are keyword-only; a word that begins with a dash is never taken for it. A flag of a
    boolean parameter needs no value.

    Args:
        function: What to call; its docstring is the help.
        title: What the user typed to get here.
        words: What comes behind.

    Raises:
        ValueError: If a flag does not exist.
    """
    from jsonargparse import auto_cli

    from sciml.core.parser import Parser, unknown_flag

    parameters = inspect.signature(function).parameters
    own = [f"--{name}" for name in parameters] + ["--config", "--help", "--print_config"]
    for word in words:
        flag = re.split(r"[=+.]", word)[0]
        if flag.startswith("--") and flag not in own:
            raise ValueError(f"{unknown_flag(flag, own)} ({title})")
    words = list(words)
    first = next(iter(parameters.values()), None)
    if first is not None and first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        title = f"{title} {first.name.upper()}"
        if words and not words[0].startswith("-"):
            words[0] = f"--{first.name}={words[0]}"
    switches = {f"--{name}" for name, one in parameters.items() if one.annotation is bool}
    for place, word in enumerate(words):
        following = words[place + 1 : place + 2]
        if word in switches and following not in (["true"], ["false"]):
            words[place] = f"{word}=true"
    return auto_cli(function, args=words, as_positional=False, parser_class=Parser, prog=title)


def _known(word: str, known: Sequence[str], what: str) -> None:
    if word in known:
        return
    from sciml.core.parser import closest

    close = closest(word, known)
    hint = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
    raise ValueError(f"unknown {what} '{word}'; {hint}")


def _resolve_configs(words: list[str]) -> list[str]:
    """Replace names of shipped configs by their paths."""
    resolved = list(words)
    for place, word in enumerate(words):
        if word in {"-c", "--config"} and place + 1 < len(words):
            resolved[place + 1] = str(find_config(words[place + 1]))
        elif word.startswith("--config="):
            resolved[place] = f"--config={find_config(word.removeprefix('--config='))}"
    return resolved
