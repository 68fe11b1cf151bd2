"""Run checks one after the other, remember what held at which commit, print one table."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Bench:
    """Where checks run and how they call the application.

    Args:
        folder: Scratch folder of the domain; kept between runs.
        commands: Every command line that was run for the current check.
    """

    folder: Path
    commands: list[str] = field(default_factory=list)

    def sciml(
        self,
        *words: str | Path,
        expect: int | None = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of the application in its own process.

        Args:
            words: Verb, flags and values.
            expect: Exit code that has to come back; None takes any.
            env: Further environment variables.
            cwd: Working directory, by default the repository.
        """
        line = [str(word) for word in words]
        self.commands.append("sciml " + " ".join(line))
        done = subprocess.run(
            [sys.executable, "-m", "sciml", *line],
            cwd=cwd or REPOSITORY,
            env=environment(env),
            capture_output=True,
            text=True,
            check=False,
        )
        if expect is not None and done.returncode != expect:
            raise AssertionError(
                f"sciml {' '.join(line)} ended with {done.returncode}: {done.stderr[-800:]}"
            )
        return done

    def run(self, *words: str) -> str:
        """Run another command; it has to succeed.

        Args:
            words: Program and arguments.
        """
        self.commands.append(" ".join(words))
        done = subprocess.run(
            words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(words)} failed: {(done.stdout + done.stderr)[-800:]}")
        return done.stdout

    def json(self, path: Path) -> Any:
        """Content of a JSON file.

        Args:
            path: The file.
        """
        return json.loads(path.read_text())


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of every command: few threads, no network, one place for metrics.

    Args:
        more: Further variables.
    """
    fixed = {
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
        "MPLBACKEND": "Agg",
        "COLUMNS": "200",
        "PYTHONPATH": str(REPOSITORY / "tests" / "acceptance"),
    }
    return {**os.environ, **fixed, **(more or {})}


def cpu_seconds() -> float:
    """CPU time of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def commit() -> str:
    """The commit, with a mark when files differ from it."""

    def ask(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=REPOSITORY, text=True).strip()

    return ask("rev-parse", "--short", "HEAD") + ("+" if ask("status", "--porcelain") else "")


Check = Callable[[Bench], str]


def run_checks(domain: str, checks: Mapping[str, Check], only: Sequence[str] = ()) -> int:
    """Run what has not held at this commit yet, and print everything.

    Args:
        domain: Names the folder and the JSON file.
        checks: What to check by name; a check returns what it found or raises AssertionError.
        only: Names to run again; by default all that are missing.

    Returns:
        Number of checks that do not hold.
    """
    folder = REPOSITORY / "acceptance" / domain
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{domain}.json"
    results: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    now = commit()
    for name, check in checks.items():
        known = results.get(name, {})
        settled = known.get("held") and known.get("commit") == now and not now.endswith("+")
        if name not in only and (only or settled):
            continue
        bench = Bench(folder)
        start, spent = time.perf_counter(), cpu_seconds()
        try:
            found, held = check(bench), True
        except AssertionError as error:
            found, held = str(error) or "assertion failed", False
        results[name] = {
            "held": held,
            "found": found,
            "commit": now,
            "seconds": round(time.perf_counter() - start, 1),
            "cpu_seconds": round(cpu_seconds() - spent, 1),
            "commands": bench.commands[:4],
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
        file.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{'held  ' if held else 'FAILED'} {name}: {found}", flush=True)
    table = Table(title=f"acceptance of {domain}", title_justify="left")
    for title in ("check", "holds", "found", "seconds", "commit"):
        table.add_column(title)
    for name in checks:
        row = results.get(name, {"held": False, "found": "not run", "seconds": "", "commit": ""})
        holds = "yes" if row["held"] else "NO"
        table.add_row(name, holds, row["found"], str(row["seconds"]), row["commit"])
    Console(width=160).print(table)
    return sum(not results.get(name, {}).get("held") for name in checks)
