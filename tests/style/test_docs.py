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
from repository import ROOT, described, tracked

from sciml.cli import COMMON, DOMAINS, TRAINING, main, verb_function, verbs

CPU = ["-c", "configs/trainer/cpu.yaml"]
DEMO = ["-c", "configs/hip/demo.yaml"]
PAGES = [path for path in tracked() if path.suffix == ".md"]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
EXPERIMENTS = [path for path in CONFIGS if path.parent.name in DOMAINS]
FENCE = re.compile(r"^ *```(?:bash|console)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(sciml [^`…|<]+)`")
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def asks_for_help(words: list[str]) -> bool:
    return any(word.endswith(".help") for word in words)


def accepted(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command would run with, after it was parsed without being run."""
    with pytest.raises(SystemExit) as left:
        main(words if asks_for_help(words) else [*words, "--print_config"])
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
        comments = (line[1:].strip() for line in text.splitlines() if line.startswith("#"))
        yield from (line.split(" (")[0] for line in comments)


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
    if words[0] not in TRAINING or asks_for_help(words):
        return words
    line = " ".join(words[1:])
    rest = shlex.split(re.sub(r"--ckpt_path[ =]\S+", "", line))
    given = [] if words[0] == "fit" and "-c" in rest else [*CPU, *DEMO]
    return [words[0], *given, *rest]


SHOWN = {
    " ".join(words): (name_of(path), words)
    for path in [*PAGES, *CONFIGS]
    for words in commands(path)
}


@pytest.mark.parametrize(("page", "words"), SHOWN.values(), ids=SHOWN.keys())
def test_shown_command_is_accepted(
    page: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for flag, value in pairwise(words):
        if flag in {"-c", "--config"} and not value.startswith(("configs/", "hip/", "astrochem/")):
            own = tmp_path / value  # a file of the reader's
            own.parent.mkdir(parents=True, exist_ok=True)
            own.write_text("{}\n")
    known = {*TRAINING, *DOMAINS, *verbs(COMMON), "--help", "--version"}
    assert not words or words[0] in known, page
    if words[:1] and words[0] in DOMAINS and len(words) > 1:
        assert words[1] in verbs(words[0]), page
    if len(words) > 2 and words[-1] not in {"-c", "--help"}:  # more than the name of a verb
        accepted(completed(words), capsys)


def settings_of(tree: object, path: str = "") -> set[str]:
    """Dotted names of all settings in a configuration, as they are typed."""
    if not isinstance(tree, dict):
        return {path}
    names = {path} if path else set()
    for key, value in tree.items():
        inner = path if key == "init_args" else f"{path}.{key}".lstrip(".")
        names |= settings_of(value, inner)
    return names


def test_named_settings_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known: set[str] = set()
    for path in EXPERIMENTS:
        known |= settings_of(yaml.safe_load(accepted(["fit", *CPU, "-c", name_of(path)], capsys)))
    groups = "model|data|trainer|ema|step_seed|requeue|predictions"
    named = re.compile(rf"(?<![\w.])(?:--)?((?:{groups})(?:\.[a-zA-Z_]\w*)+)(?![\w.*/(]|\.py)")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown = "\n".join([*FENCE.findall(text), *re.findall("`([^`\n]+)`", text)])
        names = {name.replace(".init_args", "") for name in named.findall(shown)}
        names = {name for name in names if Path(name).suffix not in {".h5", ".mdb"}}
        assert {name.removesuffix(".help") for name in names} <= known, name_of(page)


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
    for domain in DOMAINS:
        assert (ROOT / "configs" / domain / "demo.yaml").exists()
        assert (ROOT / "docs" / f"{domain}.md").exists()


VERBS = [(domain, verb) for domain in (COMMON, *DOMAINS) for verb in verbs(domain)]


@pytest.mark.parametrize(("domain", "verb"), VERBS)
def test_verb_describes_every_flag(domain: str, verb: str) -> None:
    function = verb_function(domain, verb)
    flags = list(inspect.signature(function).parameters)
    assert described(inspect.getdoc(function) or "") == flags


def test_readme_lists_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    wanted = [*TRAINING, *(f"{domain} {verb}".strip() for domain, verb in VERBS)]
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
