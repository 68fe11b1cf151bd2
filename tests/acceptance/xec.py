"""The targets of xec, and the small run its platform checks use."""

from engine import Check
from platform_checks import Case, platform_checks, pytest_lines
from xec_counted import check_dead_faces, check_dead_file, check_no_truth, check_not_finite
from xec_faults import check_settings, wrong_commands
from xec_goals import SEEDS, check_coverage, check_goals, check_rules, check_seed
from xec_run import generation, geometry, inference, loader, speed
from xec_small import small_fit
from xec_stream import bounded_memory, flat_memory, stream_order, two_processes

VERBS = ("generate", "geometry", "check", "baselines", "infer", "display", "plots", "import")
EXPORT = "10 export agrees at three sizes"  # of the platform; xec has no export yet
CASE = Case(
    small_fit,
    "val/score",
    [f"xec {verb}" for verb in VERBS],
    wrong_commands,
    [],
)


def checks() -> dict[str, Check]:
    """All lines of xec in their order."""
    tests = "tests/xec"
    platform = {name: check for name, check in platform_checks(CASE).items() if name != EXPORT}
    return {
        **platform,
        "geometry": geometry,
        **{f"seed {s}": lambda b, s=s: check_seed(b, s) for s in SEEDS},
        "goals": check_goals,
        "coverage": check_coverage,
        "speed": speed,
        "loader": loader,
        "stream": stream_order,
        "2-process fit on one file ends": two_processes,
        "memory flat over 10 epochs": flat_memory,
        "memory bounded on a file 20x larger": bounded_memory,
        "wrong settings in one plain sentence": check_settings,
        "readings NaN or infinite": check_not_finite,
        "each face dead": check_dead_faces,
        "file with a dead face": check_dead_file,
        "no truth": check_no_truth,
        "baselines": check_rules,
        "generate": generation,
        "v1": pytest_lines(f"{tests}/test_net_v1.py", f"{tests}/test_net_legacy.py"),
        "infer": inference,
    }
