"""Where the shipped configuration files lie."""

from difflib import get_close_matches
from pathlib import Path


def configs_folder() -> Path:
    """Folder of the shipped configs: inside an installed wheel, else in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "share" / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


def find_config(name: str) -> Path:
    """A configuration file in the working directory or among the shipped ones.

    Args:
        name: Path, or path below ``configs/`` such as ``hip/demo.yaml``.

    Raises:
        FileNotFoundError: If there is neither; suggests names that come close.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = configs_folder()
    below = Path(name)
    if below.parts[:1] == ("configs",):
        below = Path(*below.parts[1:])
    if (shipped / below).is_file():
        return shipped / below
    known = sorted(str(path.relative_to(shipped)) for path in shipped.rglob("*.yaml"))
    close = get_close_matches(str(below), known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
    raise FileNotFoundError(f"no configuration file {name}{hint}")
