from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from sciml.astrochem.task import AdaptiveDropout
from sciml.core.ema import EMA


class Run:
    """A trainer that hands out a scripted metric."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.state = SimpleNamespace(fn=TrainerFn.FITTING)
        self.sanity_checking = self.should_stop = False
        self.callback_metrics: dict[str, float] = {}
        self.callbacks: list[object] = []
        self.optimizers = [torch.optim.AdamW(net.parameters(), lr=3e-3)]
        self.optimizers[0].param_groups[0]["initial_lr"] = 3e-3
        plateau = ReduceLROnPlateau(self.optimizers[0])
        self.lr_scheduler_configs = [SimpleNamespace(scheduler=plateau)]

    def validate(self, callback: AdaptiveDropout, *values: float) -> None:
        for value in values:
            self.callback_metrics["val/mean_rel"] = value
            callback.on_validation_end(self, self.net)  # type: ignore[arg-type]


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1), nn.Linear(3, 1))


def start(net: nn.Module, **settings: int) -> tuple[Run, AdaptiveDropout]:
    run = Run(net)
    callback = AdaptiveDropout(patience=2, **settings)
    callback.on_fit_start(run, net)  # type: ignore[arg-type]
    return run, callback


def test_dropout_is_lowered_after_patience(net: nn.Module) -> None:
    run, callback = start(net)
    run.optimizers[0].param_groups[0]["lr"] = 1e-5
    run.validate(callback, 1.0, 2.0)
    assert net[1].p == 0.1
    run.validate(callback, 2.0)
    assert net[1].p == 0.05
    assert run.optimizers[0].param_groups[0]["lr"] == 1e-3  # of dropouts up to 0.1
    assert callback.stagnant == 0


def test_learning_rate_goes_back_to_its_start_with_much_dropout() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.3))
    run, callback = start(net)
    run.optimizers[0].param_groups[0]["lr"] = 1e-5
    run.validate(callback, 1.0, 2.0, 2.0)
    assert run.optimizers[0].param_groups[0]["lr"] == 3e-3


def test_progress_resets_the_count(net: nn.Module) -> None:
    run, callback = start(net)
    run.validate(callback, 1.0, 2.0, 0.9, 2.0)
    assert (callback.stagnant, net[1].p) == (1, 0.1)


def test_best_weights_come_back_once_there_is_no_dropout(net: nn.Module) -> None:
    net[1].p = 0.0
    run, callback = start(net, lr_patience=2, early_stop_patience=9)
    run.validate(callback, 1.0)
    best = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight.add_(1.0)
    run.validate(callback, 2.0, 2.0)
    assert not torch.equal(net[0].weight, best)
    run.validate(callback, 2.0)
    assert torch.equal(net[0].weight, best)


def test_training_ends_when_nothing_helps(net: nn.Module) -> None:
    run, callback = start(net, lr_patience=3, early_stop_patience=5)
    # twice two stagnant validations take the dropout away, then five more end it
    run.validate(callback, 1.0, *[2.0] * 8)
    assert not run.should_stop
    run.validate(callback, 2.0)
    assert run.should_stop
    assert net[1].p == 0.0


def test_counters_survive_a_resume(net: nn.Module) -> None:
    run, callback = start(net)
    run.validate(callback, 1.0, 2.0, 2.0, 2.0)
    again = AdaptiveDropout(patience=2)
    again.load_state_dict(callback.state_dict())
    net[1].p = 0.1
    again.on_fit_start(run, net)  # type: ignore[arg-type]
    assert (net[1].p, again.stagnant, again.best) == (0.05, 1, 1.0)
    run.validate(again, 2.0)
    assert net[1].p == 0.0


def test_frozen_networks_keep_their_dropout() -> None:
    frozen = nn.Sequential(nn.Dropout(0.5)).eval()
    net = nn.Sequential(frozen, nn.Linear(3, 3), nn.Dropout(0.1))
    frozen.eval()
    run, callback = start(net)
    run.validate(callback, 1.0, 2.0, 2.0)
    assert (frozen[0].p, net[2].p) == (0.5, 0.05)


def test_an_unknown_monitor_is_named(net: nn.Module) -> None:
    run = Run(net)
    callback = AdaptiveDropout("val/other")
    callback.on_fit_start(run, net)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'val/other' is not logged"):
        run.validate(callback, 1.0)


def test_averaged_weights_are_refused(net: nn.Module) -> None:
    run = Run(net)
    run.callbacks = [EMA(decay=0.0)]
    AdaptiveDropout().on_fit_start(run, net)  # type: ignore[arg-type]
    run.callbacks = [EMA(decay=0.9)]
    with pytest.raises(ValueError, match=r"--ema.decay 0"):
        AdaptiveDropout().on_fit_start(run, net)  # type: ignore[arg-type]


def test_schedules_that_set_the_rate_at_every_step_are_refused(net: nn.Module) -> None:
    run = Run(net)
    run.lr_scheduler_configs[0].scheduler = LambdaLR(run.optimizers[0], lambda step: 1.0)
    with pytest.raises(ValueError, match=r"--model.optim.schedule plateau"):
        AdaptiveDropout().on_fit_start(run, net)  # type: ignore[arg-type]


def test_sanity_checks_and_tests_do_not_count(net: nn.Module) -> None:
    run, callback = start(net)
    run.sanity_checking = True
    run.validate(callback, 1.0)
    run.sanity_checking = False
    run.state.fn = TrainerFn.TESTING
    run.validate(callback, 1.0)
    assert callback.best == float("inf")
