from pathlib import Path

import pytest
from toy import Keep, ToyData, make_task, make_trainer


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A checkpoint of a task that was built by hand."""
    trainer = make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=1)
    trainer.fit(make_task(), datamodule=ToyData())
    return tmp_path / "kept/004-validation.ckpt"
