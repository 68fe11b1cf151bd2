"""What the style tests read: the files of the repository and the modules of the package."""

import ast
import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "sciml"
SKIPPED = {"__pycache__", "lightning_logs", "data", "site", "build", "dist"}


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, its tree and the modules it imports."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def domain(self) -> str:
        """First package below sciml, empty for modules of sciml itself."""
        is_package = self.path.name == "__init__.py"
        parts = self.name.split(".")[1 : None if is_package else -1]
        return parts[0] if parts else ""

    @property
    def room(self) -> str:
        """Module or package of its domain, empty for the domain's own ``__init__``."""
        parts = self.name.split(".")
        return parts[2] if len(parts) > 2 else ""

    def imports(self) -> set[str]:
        """Dotted names behind every import, at the top and inside functions."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}: relative import"
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return found


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module of the package."""
    return tuple(_module(path) for path in sorted(PACKAGE.rglob("*.py")))


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Files that belong to the project: those git knows or would take up, else all but outputs."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        words = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        names = [name for name in done.stdout.split("\0") if name]
        return tuple(ROOT / name for name in sorted(names) if (ROOT / name).is_file())
    files = (path for path in sorted(ROOT.rglob("*")) if path.is_file())
    return tuple(path for path in files if not _is_output(path))


def described(docstring: str) -> list[str]:
    """Names under ``Args`` of a docstring, in order."""
    section = re.search(r"^Args:\n((?:(?: .*)?\n)+)", f"{docstring}\n", re.MULTILINE)
    return re.findall(r"^    (\w+):", section[1], re.MULTILINE) if section else []


def _module(path: Path) -> Module:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, ast.parse(path.read_text(encoding="utf-8")))


def _is_output(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    hidden = any(part.startswith(".") and part not in {".ci", ".gitignore"} for part in parts[:-1])
    return hidden or bool(SKIPPED & set(parts[:-1]))
