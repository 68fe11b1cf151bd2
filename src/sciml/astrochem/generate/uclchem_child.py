"""The process that runs UCLCHEM: requests as JSON lines come in, answers leave by a pipe.

The first request is ``{"cpu_limit": s}``, answered by ``{"species": [...]}``; every other one is a
step: ``{"parameters": {...}, "abundances": [...], "wanted": [...]}``, answered by
``{"flag": 0, "abundances": [...], "cpu": s}``.
"""

import importlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until they end.

    Args:
        requests: One JSON object a line.
        answers: Where the answers go.
    """
    uclchem = importlib.import_module("uclchem")
    limit = float(json.loads(requests.readline())["cpu_limit"])
    _answer(answers, {"species": list(uclchem.utils.get_species())})
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.dat"
        for line in requests:
            _limit_cpu(limit)
            begin = time.process_time()
            request = json.loads(line)
            # UCLCHEM reads them list-directed: separators may be blanks, commas or new lines
            start.write_text(", ".join(f"{x:.17e}" for x in request["abundances"]) + "\n")
            flag, *x = uclchem.model.cloud(
                param_dict=request["parameters"] | {"abundLoadFile": str(start)},
                out_species=request["wanted"],
            )
            cpu = time.process_time() - begin
            _answer(
                answers,
                {"flag": int(flag), "abundances": [float(value) for value in x], "cpu": cpu},
            )


def _limit_cpu(seconds: float) -> None:
    """Let this process be ended by SIGXCPU after some more CPU time, rounded up to a second."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    within = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (within, hard))


def _answer(answers: IO[str], content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # being ended is no crash to look into
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as pipe:
        serve(sys.stdin, pipe)
