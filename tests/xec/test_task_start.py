from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gamma_files import quiet_trainer, stream, tiny_net, tiny_task
from torch import Tensor, nn
from xecv1_tensors import names_of, random_tensors

from sciml.core.checkpoint import load
from sciml.xec.net import XECNet, XECv1
from sciml.xec.net.base import OUTPUTS
from sciml.xec.physics.normalisation import PRESETS
from sciml.xec.task.start import normalisation_of

DIM, HIDDEN, WIDE = 64, 24, 96
SIZES: dict[str, Any] = {
    "encoder_dim": DIM, "dim_feedforward": WIDE, "hidden_dim": HIDDEN, "num_fusion_layers": 1,
}  # fmt: skip
LEGACY = {
    "npho_scheme": "log1p", "npho_scale": 0.58, "npho_scale2": 1.0, "npho_threshold": 100.0,
    "time_scale": 6.5e-8, "time_shift": 0.5, "sentinel_npho": -1.0, "sentinel_time": -1.0,
}  # fmt: skip
EMBEDDING = "backbone.pos_embed"


def older_net(**settings: Any) -> XECNet:
    return XECv1(**(SIZES | {"tasks": ["energy"]} | settings))


def tensors(seed: int = 0) -> dict[str, Tensor]:
    return random_tensors(names_of(DIM, HIDDEN, WIDE, layers=1, tokens=6, nll=()), seed)


def encoder(prefix: str) -> dict[str, Tensor]:
    own = {name: one for name, one in tensors().items() if name.startswith("backbone.")}
    return {prefix + name.removeprefix("backbone."): one for name, one in own.items()}


def older_file(path: Path, **content: Any) -> Path:
    torch.save(content, path)
    return path


def begin(path: Path, folder: Path, net: Callable[[], XECNet] = older_net, **settings: Any) -> Any:
    """A task just before its first step."""
    task = tiny_task(net, init_from=str(path), **settings)
    trainer = quiet_trainer(folder)
    trainer.strategy.connect(task)
    data = stream(folder)
    data.trainer, trainer.datamodule = trainer, data  # type: ignore[attr-defined]
    task.trainer = trainer
    task.setup("fit")
    return task


KINDS = {
    "regressor": lambda: tensors(),
    "mae": lambda: encoder("encoder.") | {"dec_us.linear.bias": torch.zeros(3)},
    "inpainter": lambda: encoder("encoder.") | {"head_us.bias": torch.zeros(3)},
    "encoder": lambda: encoder(""),
}


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_of_all_older_files_are_taken(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = older_file(tmp_path / "old.pth", model_state_dict=KINDS[kind](), config=LEGACY)
    task = begin(path, tmp_path)
    own = task.net.state_dict()
    for name, value in tensors().items():
        if name.startswith("backbone."):
            assert torch.equal(own[name].reshape(value.shape), value), name
    out = capsys.readouterr().out
    assert f"{kind} from old.pth" in out
    rows = {line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")}
    assert rows - {""} == {"loaded", "missing", "unexpected", "mismatched"}
    assert task.init_from is None  # a second fit goes on from where the first one ended
    heads = torch.equal(own["heads.energy.6.bias"], tensors()["heads.energy.6.bias"])
    assert heads == (kind == "regressor")


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    averaged = {f"module.{name}": value for name, value in tensors(1).items()}
    path = older_file(
        tmp_path / "old.pth", model_state_dict=tensors(), ema_state_dict=averaged, config=LEGACY
    )
    task = begin(path, tmp_path)
    assert torch.equal(task.net.state_dict()[EMBEDDING], tensors(1)[EMBEDDING])


def test_training_goes_on_from_an_older_file(tmp_path: Path) -> None:
    path = older_file(tmp_path / "old.pth", model_state_dict=tensors(), config=LEGACY)
    task = tiny_task(lambda: older_net(tasks=list(OUTPUTS)), init_from=str(path))
    task.optim.lr = 0.0
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(task, datamodule=stream(tmp_path))
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    found = load(tmp_path / "new.ckpt").state_dict()[f"net.{EMBEDDING}"]
    assert torch.equal(found, tensors()[EMBEDDING])


def test_a_file_without_this_encoder_is_refused(tmp_path: Path) -> None:
    path = older_file(tmp_path / "old.pth", model_state_dict=tensors(), config=LEGACY)
    with pytest.raises(ValueError, match="numbers of the encoder are in"):
        begin(path, tmp_path, lambda: older_net(encoder_dim=256))
    other = older_file(tmp_path / "other.pth", model_state_dict={"a.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="holds no encoder of this detector"):
        begin(other, tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        begin(tmp_path / "none.pth", tmp_path)


def test_files_that_would_run_code_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "code.pth")
    with pytest.raises(ValueError, match="would run code"):
        begin(tmp_path / "code.pth", tmp_path)


def test_another_normalisation_is_refused_and_both_are_named(tmp_path: Path) -> None:
    path = older_file(tmp_path / "old.pth", model_state_dict=tensors(), config=LEGACY)
    with pytest.raises(ValueError, match=r"normalisation 'legacy', that of model.net is 'mae'"):
        begin(path, tmp_path, lambda: older_net(normalisation="mae"))
    with pytest.raises(ValueError, match=r"'legacy'.* is time_scale 1e-09") as caught:
        begin(path, tmp_path, lambda: older_net(normalisation={"time_scale": 1e-9}))
    assert "\n" not in str(caught.value)
    task = begin(path, tmp_path, lambda: older_net(normalisation="mae"), force_normalisation=True)
    assert torch.equal(task.net.state_dict()[EMBEDDING], tensors()[EMBEDDING])


def test_what_an_older_file_does_not_tell_is_taken_as_it_is_here(tmp_path: Path) -> None:
    path = older_file(tmp_path / "old.pth", model_state_dict=tensors())
    begin(path, tmp_path, lambda: older_net(normalisation="tuned"))
    path = older_file(tmp_path / "old.pth", model_state_dict=tensors(), config={"npho_scale": 3.0})
    with pytest.raises(ValueError, match=r"belong to .*npho_scale 3\.0.* is 'tuned'"):
        begin(path, tmp_path, lambda: older_net(normalisation="tuned"))


def sqrt_net() -> XECNet:
    return tiny_net(normalisation={"npho_scale": 100.0})


def test_checkpoints_of_our_own_are_checked_too(tmp_path: Path) -> None:
    first = tiny_task()
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(first, datamodule=stream(tmp_path))
    path = tmp_path / "first.ckpt"
    trainer.save_checkpoint(path)
    task = begin(path, tmp_path, tiny_net)
    assert torch.equal(task.net.queries, load(path).net.queries)  # type: ignore[union-attr]
    sentence = r"normalisation 'v2', that of model.net is npho_scale 100.0; set"
    with pytest.raises(ValueError, match=sentence):
        begin(path, tmp_path, sqrt_net)
    begin(path, tmp_path, sqrt_net, force_normalisation=True)
    again = quiet_trainer(tmp_path, max_steps=2, limit_val_batches=0)
    with pytest.raises(ValueError, match=sentence):
        again.fit(tiny_task(sqrt_net), datamodule=stream(tmp_path), ckpt_path=path)
    with pytest.raises(ValueError, match=sentence):
        again.test(tiny_task(sqrt_net), datamodule=stream(tmp_path), ckpt_path=path)


def test_networks_say_what_they_normalise_with() -> None:
    assert normalisation_of(tiny_net()) == PRESETS["v2"]
    assert normalisation_of(older_net()) == PRESETS["legacy"]
