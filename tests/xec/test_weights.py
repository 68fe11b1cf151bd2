from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gamma_files import branches, quiet_trainer, stream, tiny_net, tiny_task
from gammas import gammas
from lightning.pytorch import Callback
from root_files import without, write_file
from torch import Tensor
from toy import Keep, differences, final_state

from sciml.core.checkpoint import load
from sciml.xec.data import Cuts, RootStream
from sciml.xec.data.statistics import read_truths
from sciml.xec.generate.dataset import Plan, generate_dataset
from sciml.xec.generate.settings import Beam, Detector, Settings
from sciml.xec.loss import TaskLoss
from sciml.xec.net import XECNet
from sciml.xec.physics.constants import INVALID
from sciml.xec.task.augment import Augment
from sciml.xec.task.weights import BINS, PARTS, EventWeights, Reweight, summed_light

Batch = dict[str, Tensor]


def counted(reweight: Reweight, batch: Batch, step: int = 7) -> EventWeights:
    """Weights of the events of a batch, which are read some at a time."""
    weights = EventWeights(reweight, "interaction")

    def read(photons: bool) -> Iterator[Batch]:
        size = len(batch["npho"])
        kept = [name for name in batch if photons or name != "npho"]
        for start in range(0, size, step):
            yield {name: batch[name][start : start + step] for name in kept}

    weights.count(read)
    return weights


def dark(count: int, **truths: Any) -> Batch:
    """Events without light."""
    values = {name: torch.as_tensor(np.asarray(one)).float() for name, one in truths.items()}
    return {"npho": torch.zeros(count, 4760)} | values


def test_rare_energies_weigh_as_much_as_frequent_ones() -> None:
    # 0.015 is in the first bin of 30, 0.06 in the last one; all others are empty
    batch = dark(40, energy=[0.015] * 30 + [0.06] * 10)
    found = counted(Reweight(energy=True), batch)(batch)
    # N / 2 bins / count: 40 / 2 / 30 and 40 / 2 / 10, whose mean is 1
    torch.testing.assert_close(found[:30], torch.full((30,), 2 / 3))
    torch.testing.assert_close(found[30:], torch.full((10,), 2.0))


@pytest.mark.parametrize("name", ["angle", "energy", "timing", "uvw"])
def test_weights_are_those_of_a_histogram_of_numpy(name: str) -> None:
    batch = gammas(200, seed=1)
    found = counted(Reweight(**{name: True}), batch)(batch).double().numpy()
    path = (batch["xyz"] - batch["vertex"]).double().norm(dim=1).numpy()
    e = batch["direction"].double().numpy().T
    values = {
        "angle": np.degrees([np.arctan2(np.hypot(e[0], e[1]), e[2]), np.arctan2(e[1], -e[0])]).T,
        "energy": batch["energy"].double().numpy()[:, None],
        "timing": (batch["timing"].double().numpy() + path / 29.979)[:, None],
        "uvw": batch["uvw"].double().numpy(),
    }[name]
    counts, edges = np.histogramdd(values, BINS[name])
    places = [
        np.clip(np.digitize(v, e) - 1, 0, len(e) - 2) for v, e in zip(values.T, edges, strict=True)
    ]
    even = len(values) / (counts > 0).sum() / counts[tuple(places)]
    limited = np.clip(even, 0.1, 10)
    np.testing.assert_allclose(found, limited / limited.mean(), rtol=1e-5)


def test_products_are_limited_before_their_mean_is_made_1() -> None:
    energy = [0.015] * 990 + [0.06] * 10
    batch = dark(1000, energy=energy, uvw=[[0, 0, 1]] * 990 + [[10, 10, 5]] * 10)
    found = counted(Reweight(energy=True, uvw=True), batch)(batch)
    # the frequent ones: (1000 / 2 / 990)² = 0.2551; the rare ones: 50² is limited to 10
    assert float(found[-1] / found[0]) == pytest.approx(10 / 0.25508, rel=1e-4)
    assert float(found.double().mean()) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("intensity", ["uniform", "sqrt"])
def test_parts_of_the_light_weigh_as_their_range(intensity: Any) -> None:
    rng = np.random.default_rng(0)
    light = np.sort(rng.exponential(1e5, 500))
    batch = dark(500)
    batch["npho"][:, 5] = torch.from_numpy(light)
    weights = counted(Reweight(intensity=intensity), batch)
    found = weights(batch)
    edges = np.quantile(light.astype("f4"), np.linspace(0, 1, PARTS + 1))
    parts = np.digitize(light, edges[1:-1])
    assert np.bincount(parts).tolist() == [100] * PARTS
    wide = np.diff(edges) ** (1.0 if intensity == "uniform" else 0.5)
    expected = (wide / wide.mean())[parts]
    assert expected.min() > 0.1  # nothing is limited here
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_invalid_sensors_do_not_count_and_are_looked_up_as_they_were_fitted() -> None:
    batch = gammas(60)
    dead = batch["npho"].clone()
    dead[:, 3000:] = torch.where(dead[:, 3000:] > 5, 0.0, dead[:, 3000:])
    expected = summed_light(dead)
    dead[:, 4000:] = INVALID
    dead[:, 3999] = torch.nan
    dead[:, 3998] = torch.inf
    sums = summed_light(dead)
    assert bool((sums <= expected).all())
    assert float(sums.max()) < 1e9  # one invalid sensor alone would be 1e10
    weights = counted(Reweight(intensity="uniform"), batch | {"npho": dead})
    parts = weights._part(sums)
    assert torch.bincount(parts).tolist() == [12] * PARTS  # looked up where they were counted
    torch.testing.assert_close(weights(batch | {"npho": dead}).double().mean().item(), 1.0)


def test_events_without_a_truth_are_neither_counted_nor_weighted() -> None:
    batch = dark(50, energy=[0.015] * 30 + [0.06] * 10 + [np.nan] * 10)
    found = counted(Reweight(energy=True), batch)(batch)
    assert float(found[40] / found[0]) == pytest.approx(1.5)  # 1 against 2 / 3
    nothing = dark(5, energy=[np.nan] * 5)
    with pytest.raises(ValueError, match=r"model\.reweight\.energy needs"):
        counted(Reweight(energy=True), nothing)


def test_equal_values_and_equal_light_weigh_the_same() -> None:
    batch = dark(20, energy=[0.0528] * 20)
    found = counted(Reweight(energy=True, intensity="uniform"), batch)(batch)
    torch.testing.assert_close(found, torch.ones(20))


def test_nothing_is_made_even_by_default() -> None:
    assert not Reweight().is_used
    assert not EventWeights(Reweight(), "interaction").state_dict()
    assert Reweight(timing=True).truths("interaction") == ["timing", "vertex", "xyz"]
    assert Reweight(timing=True).truths("vertex") == ["timing"]
    with pytest.raises(ValueError, match="'even'; use none, uniform, sqrt"):
        Reweight(intensity="even")  # type: ignore[arg-type]


def energy_alone() -> XECNet:
    return tiny_net(tasks=["energy"], nll_tasks=[])


class Losses(Callback):
    """Remember the loss of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        self.found.append(float(trainer.callback_metrics["train/loss"]))


def test_losses_are_weighted_means_over_the_events(tmp_path: Path) -> None:
    losses = {"energy": TaskLoss("mse", scale=1.0)}
    task = tiny_task(energy_alone, losses=losses, reweight=Reweight(energy=True))
    seen = Losses()
    trainer = quiet_trainer(tmp_path, seen, max_steps=1, limit_val_batches=0)
    data = stream(tmp_path, batch_size=12)
    trainer.fit(task, datamodule=data)
    (batch,) = list(data.loader("train"))
    weights = task.event_weights(batch)
    assert len(set(weights.tolist())) > 1
    task = tiny_task(energy_alone)
    task.use_statistics(data.statistics())
    error = task.net(batch)["energy"].detach()[:, 0] - batch["energy"].log()
    expected = (weights * error.square()).sum() / weights.sum()
    assert seen.found[0] == pytest.approx(float(expected), rel=1e-5)


def test_weights_come_from_the_events_before_they_are_changed(tmp_path: Path) -> None:
    task = tiny_task(
        reweight=Reweight(uvw=True, angle=True, intensity="uniform"),
        augment=Augment(reflections=True, gain=0.5, gain_all=0.5, dead=0.5),
    )
    seen: list[Tensor] = []
    original = task.event_weights.forward
    task.event_weights.forward = lambda batch: seen.append(original(batch)) or seen[-1]  # type: ignore
    trainer = quiet_trainer(tmp_path, max_epochs=3, limit_val_batches=0)
    data = stream(tmp_path)
    trainer.fit(task, datamodule=data)
    epochs = torch.cat(seen).reshape(3, -1)
    torch.testing.assert_close(epochs.mean(1), torch.ones(3))  # of all training events
    assert torch.equal(epochs[0].sort().values, epochs[2].sort().values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_a_run_that_goes_on_has_the_same_weights_without_counting(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        return tiny_task(reweight=Reweight(True, True, True, True, "sqrt"))

    trainer = quiet_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=2)
    trainer.fit(make(), datamodule=stream(folder))
    expected = final_state(trainer)
    monkeypatch.setattr(EventWeights, "count", lambda *_: pytest.fail("counted again"))
    again = quiet_trainer(tmp_path / "again", max_epochs=2)
    kept = sorted((tmp_path / "kept").glob("*batch.ckpt"))[1]
    again.fit(make(), datamodule=stream(folder), ckpt_path=kept)
    assert not differences(final_state(again), expected)
    names = [name for name in expected["state_dict"] if name.startswith("event_weights.")]
    assert len(names) == 2 * len(BINS) + 3
    task = load(tmp_path / "final.ckpt")
    assert task.event_weights.reweight == Reweight(True, True, True, True, "sqrt")  # type: ignore


def test_other_weights_of_the_network_bring_no_histograms_along(
    folder: Path, tmp_path: Path
) -> None:
    first = tiny_task(reweight=Reweight(energy=True))
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(first, datamodule=stream(folder))
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    data = stream(tmp_path, train=20, batch_size=20)
    for task in (tiny_task(reweight=first.event_weights.reweight), first):  # a second fit, too
        task.init_from = str(tmp_path / "first.ckpt") if task is not first else None
        quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(task, datamodule=data)
        (batch,) = list(data.loader("train"))
        assert float(task.event_weights(batch).double().mean()) == pytest.approx(1.0, rel=1e-6)
        assert not torch.equal(task.event_weights(batch), torch.ones(20))


def test_nothing_is_read_without_reweighting(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sciml.xec.data.profile.read_truths", lambda *_, **__: pytest.fail("truths were read")
    )
    task = tiny_task()
    quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(task, datamodule=stream(folder))
    assert not [name for name in task.state_dict() if "weights" in name.split(".")[0]]


def test_truths_of_all_files_are_read_in_order_with_cuts(tmp_path: Path) -> None:
    settings = Settings(beam=Beam(), detector=Detector())
    plan = Plan(events=40, files=2, seed=5)
    generate_dataset(tmp_path / "data", settings, plan, runner="serial")
    data = RootStream(train=str(tmp_path / "data"), cuts=Cuts(fiducial=True), chunksize=8)
    source = data.loader("train").source
    parts = list(read_truths(source, ("energy", "uvw"), photons=True))
    rows = [source.read(chunk) for chunk in range(len(source.chunk_rows))]
    assert 0 < sum(source.chunk_rows) < 80
    for name in ("energy", "uvw", "npho"):
        found = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(found, np.concatenate([row[name] for row in rows]))
    assert set(parts[0]) == {"energy", "uvw", "npho"}
    assert "npho" not in next(iter(read_truths(source, ("energy",))))
    source.close()


def test_a_missing_truth_is_named_with_what_needs_it(tmp_path: Path) -> None:
    task = tiny_task(energy_alone, reweight=Reweight(uvw=True))
    path = write_file(tmp_path / "bare.root", without(branches(8), "uvwTruth", "xyzTruth"))
    data = RootStream(train=str(path), val=str(path))
    with pytest.raises(ValueError, match=r"uvwTruth or uvwFI, which model\.reweight") as caught:
        quiet_trainer(tmp_path).fit(task, datamodule=data)
    assert "\n" not in str(caught.value)


def test_data_without_files_are_refused(tmp_path: Path) -> None:
    loader = torch.utils.data.DataLoader([0])
    with pytest.raises(ValueError, match=r"RootStream allow; leave it out"):
        quiet_trainer(tmp_path).fit(tiny_task(reweight=Reweight(uvw=True)), loader, loader)
