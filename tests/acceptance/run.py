"""``make acceptance DOMAIN=hip``: the acceptance lines of one domain, resumable."""

import argparse
import importlib
import sys

from engine import run_checks


def main() -> int:
    """Run the checks that have not held at this commit.

    Returns:
        Exit code: the number of lines that do not hold.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain")
    parser.add_argument("--only", nargs="*", default=[], help="lines to run again, by name")
    chosen = parser.parse_args()
    return run_checks(chosen.domain, importlib.import_module(chosen.domain).checks(), chosen.only)


if __name__ == "__main__":
    sys.exit(main())
