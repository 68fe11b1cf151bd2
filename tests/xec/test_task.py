import pytest
import torch
from gammas import gammas

from sciml.core.optim import Optim
from sciml.xec.loss import TaskLoss
from sciml.xec.net import XECv1, XECv2
from sciml.xec.physics.constants import LIGHT
from sciml.xec.task import XECTask
from sciml.xec.task.quantities import needed, true_time

SMALL = {"width": 32, "layers": 1, "channels": (8, 8, 8), "blocks": (1, 1), "hidden": 16}


def small(**other: object) -> XECTask:
    torch.manual_seed(0)
    return XECTask(XECv2(**SMALL), Optim(), **other).eval()  # type: ignore[arg-type]


def test_time_of_the_interaction_is_that_of_the_emission_and_the_flight() -> None:
    batch = gammas(3)
    flight = (batch["xyz"] - batch["vertex"]).norm(dim=1) / LIGHT
    torch.testing.assert_close(true_time(batch, "interaction"), batch["timing"] + flight)
    assert torch.equal(true_time(batch, "vertex"), batch["timing"])


def test_only_the_time_of_the_interaction_needs_the_vertex() -> None:
    assert needed(("timing",), "vertex") == ["timing"]
    assert needed(("timing", "energy"), "interaction") == ["energy", "timing", "vertex", "xyz"]


def test_uncertainties_grow_with_their_temperatures() -> None:
    task, batch = small(), gammas(4)
    with torch.no_grad():
        before = task.columns(batch)
        for name in task.calibrated:
            getattr(task.temperature, name).fill_(3.0)
        after = task.columns(batch)
    for name in ("u", "v", "w", "energy", "timing", "direction"):
        torch.testing.assert_close(after[f"sig_{name}"], 3 * before[f"sig_{name}"])
    assert (after["kappa"] < before["kappa"]).all()


def test_learnt_weights_of_losses_are_trained() -> None:
    task = small(balance="uncertainty")
    names = [name for name, _ in task.named_parameters() if name.startswith("log_scale")]
    assert len(names) == len(task.net.tasks)


@pytest.mark.parametrize(
    ("net", "losses", "message"),
    [
        (XECv2(**SMALL), {"angle": TaskLoss("l1")}, "model.losses has 'angle'"),
        (
            XECv2(tasks=["energy"], nll_tasks=[], **SMALL),
            {"energy": TaskLoss("gaussian_nll")},
            "energy needs uncertainties",
        ),
        (
            XECv1(["angleVec"], ["angleVec"], encoder_dim=32, num_fusion_layers=1),
            {},
            "XECv1 gives no concentration of angleVec",
        ),
    ],
)  # type: ignore[arg-type]
def test_losses_that_do_not_fit_are_named(
    net: XECv2, losses: dict[str, TaskLoss], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        XECTask(net, Optim(), losses)
