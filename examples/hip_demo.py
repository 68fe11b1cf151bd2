"""From nothing to a tested Hessian potential: make data, train, test on unseen formulas.

Runs the same commands a user would type, skips what an earlier run finished, and exits with 1 when
the network does not beat 0.7 of the error of the pair prior alone.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
LARGEST_SHARE = 0.7  # of the pair prior's Hessian error


def sciml(*words: str | Path) -> None:
    """Run one command of the application and stop the demo if it fails.

    Args:
        words: Verb, flags and values.
    """
    line = [str(word) for word in words]
    print(f"\n$ sciml {' '.join(line)}", flush=True)
    command = [sys.executable, "-m", "sciml", *line]
    # one thread: two gain little on so small a network and lose much where cores are shared
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> int:
    """Run the demo.

    Returns:
        Exit code: 0 when the Hessian error is small enough, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/hip/demo.h5"))
    parser.add_argument("--runs", type=Path, default=Path("lightning_logs/hip_demo"))
    parser.add_argument("--fit", nargs=argparse.REMAINDER, default=[], help="flags for sciml fit")
    chosen = parser.parse_args()
    start = time.perf_counter()
    data, runs = (REPOSITORY / path for path in (chosen.data, chosen.runs))
    best = runs / "fit" / "checkpoints" / "best.ckpt"
    summary = runs / "test" / "test" / "summary.json"

    if not data.exists():
        sciml("hip", "generate", "--config", "configs/hip/generate/demo.yaml", "--out", data)
    if not (runs / "trained").exists():
        presets = ("-c", "configs/trainer/cpu.yaml", "-c", "configs/hip/demo.yaml")
        sciml("fit", *presets, f"--data.train={data}", *logger(runs, "fit"), *chosen.fit)
        (runs / "trained").touch()
    sciml("test", "--ckpt_path", best, *logger(runs, "test"))
    return judge(summary, best, time.perf_counter() - start)


def logger(runs: Path, version: str) -> list[str]:
    """Flags that put a run into a folder of the demo.

    Args:
        runs: Folder of the demo's runs.
        version: Name of this run.
    """
    return [
        "--trainer.logger=TensorBoardLogger",
        f"--trainer.logger.save_dir={runs.parent}",
        f"--trainer.logger.name={runs.name}",
        f"--trainer.logger.version={version}",
    ]


def judge(summary: Path, best: Path, seconds: float) -> int:
    """Print the outcome and compare the Hessian error with that of the pair prior.

    Args:
        summary: JSON that ``sciml test`` wrote.
        best: Checkpoint that was tested.
        seconds: Time the demo took.

    Returns:
        Exit code.
    """
    metrics = json.loads(summary.read_text())["metrics"]
    model, prior = metrics["test/hessian_mae"], metrics["test/hessian_mae_prior"]
    share = model / prior
    table = Table(title=f"demo after {seconds:.0f} s", title_justify="left", show_header=False)
    table.add_row("Hessian error, unseen formulas", f"{model:.3f} eV/Å²")
    table.add_row("pair prior alone", f"{prior:.3f} eV/Å²")
    table.add_row("share of the prior's error", f"{share:.2f} (at most {LARGEST_SHARE})")
    table.add_row("checkpoint", os.path.relpath(best))
    table.add_row("curves", f"tensorboard --logdir {os.path.relpath(best.parents[2])}")
    console = Console()
    console.print(table)
    if share > LARGEST_SHARE:
        console.print("the network does not beat the pair prior by enough")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
