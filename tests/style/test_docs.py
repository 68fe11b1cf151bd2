"""What the documentation and the configurations say can be typed."""

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from repository import ROOT, tracked
from test_rules import described

from sciml.cli import TRAINING_VERBS, domain_verbs, main

CPU = ["-c", "configs/trainer/cpu.yaml"]
DEMO = ["-c", "configs/hip/demo.yaml"]
PAGES = [path for path in tracked() if path.suffix == ".md"]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
FENCE = re.compile(r"^ *```(?:bash|console)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(sciml [^`…|<]+)`")
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def accepted(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command would run with, after it was parsed without being run."""
    with pytest.raises(SystemExit) as left:
        main([*words, "--print_config"])
    out, err = capsys.readouterr()
    assert left.value.code == 0, f"sciml {shlex.join(words)}: {err}"
    return str(out)


def lines_of(path: Path) -> Iterator[str]:
    """Lines of the shell blocks of a page, or of the comments of a configuration."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        for block in FENCE.findall(text):
            yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
        yield from INLINE.findall(text)
    else:
        yield from (line[1:].strip() for line in text.splitlines() if line.startswith("#"))


def commands(path: Path) -> list[list[str]]:
    """Words after ``sciml`` of every command that a file shows."""
    found = []
    for line in lines_of(path):
        if "sciml" not in line.split("#")[0]:
            continue
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words[:1] == ["sciml"]:
            found.append(words[1:])
    return found


def completed(words: list[str]) -> list[str]:
    """A shown command with what it leaves out, and without a checkpoint that does not exist."""
    if words[0] not in TRAINING_VERBS:
        return words
    line = " ".join(words[1:])
    rest = shlex.split(re.sub(r"--ckpt_path[ =]\S+", "", line))
    given = [] if words[0] == "fit" and "-c" in rest else [*CPU, *DEMO]
    return [words[0], *given, *rest]


SHOWN = {
    f"{name_of(path)}: {' '.join(words)}": words
    for path in [*PAGES, *CONFIGS]
    for words in commands(path)
}


@pytest.mark.parametrize("words", SHOWN.values(), ids=SHOWN.keys())
def test_shown_command_is_accepted(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for flag, value in pairwise(words):
        if flag in {"-c", "--config"} and not value.startswith(("configs/", "hip/")):
            own = tmp_path / value  # a file of the reader's
            own.parent.mkdir(parents=True, exist_ok=True)
            own.write_text("{}\n")
    if not words or "--help" in words or "--version" in words:
        names = {name for name, verbs in domain_verbs().items() for _ in verbs}
        assert not words or words[0] in {*TRAINING_VERBS, *names, "--help", "--version"}
    elif words[0] in TRAINING_VERBS or len(words) > 2:
        accepted(completed(words), capsys)
    else:
        assert words[1] in domain_verbs()[words[0]]


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_config_is_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = name_of(path)
    _, room, *verb, _ = Path(name).parts
    if verb:
        out = accepted([room, verb[0], "--config", name], capsys)
    elif room == "trainer":
        out = accepted(["fit", "-c", name, *DEMO], capsys)
    elif room == "logger":
        out = accepted(["fit", *CPU, "-c", name, *DEMO], capsys)
    else:
        out = accepted(["fit", *CPU, "-c", name], capsys)
    wanted, seen = yaml.safe_load(path.read_text()), yaml.safe_load(out)
    assert set(wanted) <= set(seen)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_config_begins_by_saying_what_it_is(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_domain_has_a_demo() -> None:
    for domain in domain_verbs():
        assert (ROOT / "configs" / domain / "demo.yaml").exists()
        assert (ROOT / "docs" / f"{domain}.md").exists()


def test_verbs_describe_every_flag() -> None:
    for domain, verbs in domain_verbs().items():
        for name, function in verbs.items():
            if name != "_help":
                flags = list(inspect.signature(function).parameters)
                assert described(inspect.getdoc(function) or "") == flags, f"{domain} {name}"


def test_readme_lists_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = {f"{domain} {name}" for domain, verbs in domain_verbs().items() for name in verbs}
    wanted = {*TRAINING_VERBS, *(verb for verb in verbs if "_help" not in verb)}
    assert not [verb for verb in wanted if f"`sciml {verb}" not in text]


def test_shown_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for path in PAGES:
        for block in [*FENCE.findall(path.read_text()), *re.findall("`[^`\n]+`", path.read_text())]:
            named = re.findall(r"(?:^|`)make ([a-z]+)", block, re.MULTILINE)
            assert set(named) <= set(targets), name_of(path)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.slow
def test_documentation_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the docs extra")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert pages
    outside = re.compile(r'(?:src|href)="(?:https?:)?//[^"]+\.(?:js|css|woff2?)')
    assert not [page for page in pages if outside.search(page.read_text(encoding="utf-8"))]
