"""The targets of astrochem, and the small run its platform checks use."""

from astrochem_faults import charged_data, wrong_commands
from astrochem_goals import (
    check_embedded,
    check_extrapolation,
    check_long,
    check_reference,
    check_uclchem,
)
from astrochem_run import conservation, golden, kill_generation, large_file, throughput
from astrochem_small import small_fit
from engine import Check
from platform_checks import Case, platform_checks, pytest_lines

SEEDS = range(3)
CASE = Case(
    small_fit,
    "val/rollout_mae_dex",
    ["generate", "evaluate", "emulate", "import"],
    wrong_commands,
    ["step", "full", "encoder", "decoder"],
)


def checks() -> dict[str, Check]:
    """All lines of astrochem in their order."""
    tests = "tests/astrochem"
    return {
        **platform_checks(CASE),
        "golden": golden,
        "parameters, parser, matrix": pytest_lines(
            f"{tests}/test_species.py", f"{tests}/test_net.py"
        ),
        "conservation": lambda b: conservation(b, CASE),
        "charge not conserved": charged_data,
        "dropout counters survive resume": pytest_lines(
            "tests/integration/test_astrochem.py", f"{tests}/test_dropout.py", "-k", "dropout"
        ),
        **{f"embedded seed {s}": lambda b, s=s: check_embedded(b, s) for s in SEEDS},
        "embedded reference": lambda b: check_reference(b, "embedded"),
        "embedded long": check_long,
        "embedded extrapolation": check_extrapolation,
        "uclchem reference": lambda b: check_reference(b, "uclchem"),
        **{f"uclchem seed {s}": lambda b, s=s: check_uclchem(b, s) for s in SEEDS},
        "throughput": throughput,
        "6 GB file": large_file,
        "killed generation": kill_generation,
    }
