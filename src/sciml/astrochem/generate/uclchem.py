"""UCLCHEM as a backend: each step is one cloud at constant conditions, in a child process.

The package prints, allocates once a process and may stall for minutes, so it runs in a process of
its own with a limit of CPU time; see `sciml.astrochem.generate.uclchem_child` for the other side.

Letters: S species.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sciml.astrochem.generate.backend import Chemistry, StepError
from sciml.astrochem.generate.network import Floats
from sciml.astrochem.generate.shielding import COLUMN_PER_AV
from sciml.astrochem.physics.constants import FLOOR
from sciml.astrochem.physics.species import (
    AGGREGATES,
    ELEMENTS,
    canonical_name,
    charges,
    stoichiometric_matrix,
)
from sciml.core.extras import MissingPackageError

PARSEC = 3.086e18  # cm, as UCLCHEM has it
CHILD = Path(__file__).with_name("uclchem_child.py")
OPTIONS: dict[str, float] = {"reltol": 1e-4, "abstol_min": 1e-22}
"""Tolerances within 0.1 % of the default ones for x > 1e-16, and two to three times faster."""


def require_uclchem() -> str:
    """Version of the installed package.

    Raises:
        MissingPackageError: If it is not installed.
    """
    if find_spec("uclchem") is None:
        raise MissingPackageError(
            "uclchem is missing: install UCLCHEM as its own documentation says, or give"
            " --backend embedded"
        )
    try:
        return version("uclchem")
    except PackageNotFoundError:  # a checkout on the path
        return "unknown"


def cloud_parameters(p: Floats, dt: float, zeta: float) -> dict[str, Any]:
    """Settings of a UCLCHEM cloud that stays at the conditions of a step.

    Its radius ``rout = 1.6e21 Av/n`` makes UCLCHEM's own extinction Av and the columns that shield
    H2 and CO belong together.

    Args:
        p: Density in H nuclei per cm³, field in Habing, visual extinction in mag, temperature in
            K, shape ``(4,)``.
        dt: Length of the step in years.
        zeta: Cosmic-ray ionisation in units of 1.3e-17 s⁻¹.

    Returns:
        Parameters by UCLCHEM's names.
    """
    density, light, extinction, temperature = (float(value) for value in p)
    return {
        "freefall": False,
        "endAtFinalDensity": False,
        "initialDens": density,
        "initialTemp": temperature,
        "radfield": light,
        "baseAv": 0.0,
        "rout": COLUMN_PER_AV * extinction / density / PARSEC,
        "finalTime": float(dt),
        "zeta": zeta,
        **OPTIONS,
    }


class UclchemChemistry(Chemistry):
    """The network compiled into the installed UCLCHEM; a context that owns the child process.

    Its species keep UCLCHEM's names, without the sums SURFACE and BULK.

    Args:
        cpu_limit: CPU seconds that a step may use; then the child is ended.
        zeta: Cosmic-ray ionisation in units of 1.3e-17 s⁻¹.

    Raises:
        MissingPackageError: If UCLCHEM is not installed.
    """

    def __init__(self, cpu_limit: float = 60.0, zeta: float = 1.0) -> None:
        require_uclchem()
        self._limit, self._zeta = cpu_limit, zeta
        self._cpu = 0.0
        self._start()
        self._all: list[str] = self._ask({"cpu_limit": cpu_limit})["species"]
        names = tuple(name for name in self._all if name not in AGGREGATES)
        canonical = [canonical_name(name) for name in names]
        super().__init__(
            names,
            ELEMENTS,
            composition=stoichiometric_matrix(canonical),
            charge=charges(names),
        )

    def advance(self, x: Floats, p: Floats, dt: float) -> Floats:
        if self._child.poll() is not None:
            self._start()
            self._ask({"cpu_limit": self._limit})
        by_name = dict(zip(self.species, x.tolist(), strict=True))
        by_name["SURFACE"] = sum(value for name, value in by_name.items() if name[0] == "#")
        by_name["BULK"] = sum(value for name, value in by_name.items() if name[0] == "@")
        answer = self._ask(
            {
                "parameters": cloud_parameters(p, dt, self._zeta),
                "abundances": [by_name[name] for name in self._all],
                "wanted": list(self.species),
            }
        )
        self._cpu += answer["cpu"]
        if answer["flag"] < 0:
            raise StepError(f"UCLCHEM gave up with flag {answer['flag']} at {_spell(p)}")
        end: Floats = np.array(answer["abundances"])
        if not np.isfinite(end).all():
            raise StepError(f"UCLCHEM returned numbers that are not finite at {_spell(p)}")
        floored: Floats = np.maximum(end, FLOOR)
        return floored

    def cpu_seconds(self) -> float:
        return self._cpu

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        """Start a child; answers come through a pipe of their own, as UCLCHEM prints."""
        reading, writing = os.pipe()
        # by path, as the child needs nothing of this package; -P keeps the script's folder, which
        # has a module called uclchem, off its path
        words = [sys.executable, "-P", str(CHILD), str(writing)]
        self._child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            pass_fds=[writing],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        os.close(writing)
        self._answers = os.fdopen(reading, encoding="utf-8")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._child.wait()
            self._stop()
            raise StepError(
                f"UCLCHEM used more than {self._limit:g} CPU seconds for a step; raise --cpu_limit"
                if code == -signal.SIGXCPU
                else f"the process of UCLCHEM ended with exit code {code}; its error is above"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stop(self) -> None:
        assert self._child.stdin is not None
        self._child.kill()
        self._child.wait()
        with suppress(BrokenPipeError):  # of a request that was never read
            self._child.stdin.close()
        self._answers.close()


def _spell(p: Floats) -> str:
    density, light, extinction, temperature = p
    return f"{density:.4g} cm⁻³, {light:.4g} Habing, {extinction:.4g} mag, {temperature:.4g} K"
