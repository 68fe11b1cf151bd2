"""One thread, quiet libraries, and property tests without a clock."""

import logging
import os

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
