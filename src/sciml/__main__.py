"""``python -m sciml`` is ``sciml``."""

from sciml.cli import run

if __name__ == "__main__":
    run()
