import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gamma_files import tiny_net, tiny_task
from gammas import gammas
from torch.optim import AdamW

from sciml.core.checkpoint import load, save_task
from sciml.core.optim import Optim
from sciml.core.trust import trusted_class
from sciml.xec.loss import TaskLoss, event_loss, nearest_turn
from sciml.xec.net import XECNet, XECv1
from sciml.xec.task import XECTask
from sciml.xec.task.losses import choose_losses

V1: dict[str, Any] = {"encoder_dim": 32, "num_fusion_layers": 1, "hidden_dim": 16}


def older(*tasks: str, nll: tuple[str, ...] = ()) -> XECNet:
    return XECv1(tasks, nll, **V1)


def test_usual_losses_are_likelihoods_where_there_are_uncertainties() -> None:
    kinds = {name: loss.kind for name, loss in choose_losses(tiny_net(), {}).items()}
    assert kinds == {
        "uvwFI": "gaussian_nll", "energy": "gaussian_nll", "timing": "gaussian_nll",
        "angleVec": "von_mises_fisher",
    }  # fmt: skip
    net = older("angle", "angleVec", "energy", "n_gamma", nll=("angle",))
    kinds = {name: loss.kind for name, loss in choose_losses(net, {}).items()}
    assert kinds == {
        "angle": "gaussian_nll", "angleVec": "cosine", "energy": "smooth_l1",
        "n_gamma": "cross_entropy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("net", "losses", "message"),
    [
        (
            lambda: older("angleVec", nll=("angleVec",)),
            {},
            "XECv1 gives no concentration of angleVec, which von_mises_fisher needs, but variances "
            "of the components; choose gaussian_nll in model.losses.angleVec, or take angleVec out "
            "of model.net.nll_tasks",
        ),
        (
            tiny_net,
            {"angleVec": TaskLoss("gaussian_nll")},
            "XECv2 gives a concentration of angleVec and no variances, which gaussian_nll needs; "
            "choose von_mises_fisher in model.losses.angleVec",
        ),
        (lambda: older("energy"), {"energy": TaskLoss("cosine")}, "cosine is none of energy"),
        (lambda: older("n_gamma"), {"n_gamma": TaskLoss("mse")}, "mse is none of n_gamma"),
        (lambda: older("energy"), {"energy": TaskLoss("cross_entropy")}, "none of energy"),
        (
            lambda: older("timing"),
            {"timing": TaskLoss("l1", log_transform=True)},
            "leave log_transform out of model.losses.timing",
        ),
    ],
)
def test_losses_that_do_not_fit_are_one_sentence(
    net: Callable[[], XECNet], losses: dict[str, TaskLoss], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")) as caught:
        XECTask(net(), Optim(), losses)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["gaussian_nll", "cosine", "smooth_l1"])
def test_directions_of_the_older_network_are_trained_and_read(kind: Any) -> None:
    net = older("angleVec", nll=("angleVec",))
    task, batch = XECTask(net, Optim(), {"angleVec": TaskLoss(kind)}), gammas(3)
    ((total, count),) = task._terms(task(batch), batch).values()
    total.backward()
    assert torch.isfinite(total)
    assert float(count) == 3
    with torch.no_grad():
        columns = task.eval().columns(batch)
    vector = torch.stack([columns[f"pred_e{axis}"] for axis in "xyz"], 1)
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(3))
    assert {"sig_ex", "sig_ey", "sig_ez"} <= set(columns)


def test_cosines_of_angles_are_those_of_their_directions() -> None:
    output = torch.tensor([[90.0, 179.0, 5.0, 5.0], [60.0, 0.0, 0.0, 0.0]])  # with variances
    target = torch.tensor([[90.0, -179.0], [60.0, 60.0]])
    found = event_loss(TaskLoss("cosine"), output, target, 1.0)
    # 2° around the circle; at θ = 60°: cos ψ = cos² 60° + sin² 60° cos 60° = 5/8
    expected = [1 - math.cos(math.radians(2)), 3 / 8]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_azimuths_are_trained_around_the_circle() -> None:
    net, batch = older("angle"), gammas(2)
    task = XECTask(net, Optim(), {"angle": TaskLoss("l1", scale=1.0)})
    theta, phi = math.radians(80.0), math.radians(179.0)
    vector = [-math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)]
    batch["direction"] = torch.tensor([vector, vector])
    output = {"angle": torch.tensor([[80.0, -179.0], [80.0, 179.0]])}
    total, count = task._terms(output, batch)["angle"]
    # 2° of φ in one of two events, a mean over both angles
    assert float(total / count) == pytest.approx(2.0 / 2 / 2, abs=1e-4)
    angles = torch.tensor([[80.0, 12.3456]])
    assert torch.equal(nearest_turn(angles, angles + 170), angles)  # to the bit


def test_learnt_balance_is_a_half_of_the_loss_and_of_its_logarithm() -> None:
    task = tiny_task(lambda: tiny_net(tasks=["energy"], nll_tasks=[]), balance="uncertainty")
    with torch.no_grad():
        task.log_scale["energy"].fill_(0.8)
    logged: list[dict[str, Any]] = []
    task.log_loss = lambda terms, *rest: logged.append(terms) or torch.zeros(())  # type: ignore
    batch = gammas(4)
    task.training_step(batch, 0)
    (balanced,) = [total / count for total, count in logged[0].values()]
    plain = task._terms(task(batch), batch)["energy"]
    loss = plain[0] / plain[1]
    expected = 0.5 * math.exp(-0.8) * loss + 0.5 * 0.8
    torch.testing.assert_close(balanced.detach(), expected.detach())


def test_what_a_network_spares_has_no_weight_decay() -> None:
    task = XECTask(older("energy"), Optim(weight_decay=0.1))
    optimizer = task._build_optimizer()
    assert isinstance(optimizer, AdamW)
    decayed = {
        id(p)
        for group in optimizer.param_groups
        for p in group["params"]
        if group["weight_decay"] > 0
    }
    names = {name for name, p in task.named_parameters() if id(p) in decayed}
    assert "net.heads.energy.0.weight" in names
    spared = ("Norm", "GRN")
    for module, owner in task.named_modules():
        if any(word in type(owner).__name__ for word in spared):
            own = {f"{module}.{name}" for name, _ in owner.named_parameters(recurse=False)}
            assert not own & names, own & names
    assert not [name for name in names if name.endswith(("bias", "pos_embed"))]


def test_a_checkpoint_keeps_chosen_losses(tmp_path: Path) -> None:
    chosen = {"uvwFI": TaskLoss("gaussian_nll", weight=3.0)}
    path = tmp_path / "task.ckpt"
    save_task(XECTask(tiny_net(), losses=chosen), path)
    found = load(path)
    assert isinstance(found, XECTask)
    assert found.losses["uvwFI"].weight == 3.0
    assert found.losses["energy"].weight == 1.0


@pytest.mark.parametrize("given", ["foreign.Loss", {"kind": {"class_path": "foreign.Loss"}}])
def test_losses_of_a_checkpoint_build_nothing_foreign(given: object) -> None:
    config = {"class_path": "sciml.xec.XECTask", "init_args": {"losses": {"uvwFI": given}}}
    with pytest.raises(ValueError, match=r"x.ckpt .*foreign"):
        trusted_class(config, "sciml.", "x.ckpt")


def test_a_weight_alone_keeps_the_usual_loss() -> None:
    chosen = {"uvwFI": TaskLoss(weight=3.0), "angleVec": TaskLoss(weight=0.5)}
    losses = choose_losses(tiny_net(), chosen)
    assert losses["uvwFI"] == TaskLoss("gaussian_nll", weight=3.0)
    assert losses["angleVec"] == TaskLoss("von_mises_fisher", weight=0.5)
    with pytest.raises(ValueError, match="the usual loss depends on the network"):
        event_loss(TaskLoss(), torch.zeros(1, 1), torch.zeros(1, 1), 1.0)
