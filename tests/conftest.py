"""One thread, quiet libraries, property tests without a clock, and nothing in the user's cache."""

import logging
import os
from collections.abc import Iterator

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("WANDB_MODE", "offline")
# Lightning calls names that jsonargparse is about to drop
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("sciml", deadline=None, database=None)
settings.load_profile("sciml")


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Keep the libraries' information out of the reports of failed tests."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for what is otherwise kept for the user, also by the commands of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
