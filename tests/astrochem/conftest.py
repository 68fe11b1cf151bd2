import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the first process tells the user."""
    with (
        caplog.at_level(logging.INFO, logger="lightning.pytorch"),
        caplog.at_level(logging.INFO, logger="lightning.fabric"),
    ):
        yield caplog
