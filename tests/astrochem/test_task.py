from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from tracers import SPECIES, sample_table

import sciml
from sciml.astrochem import (
    AbundanceData,
    AutoencoderTask,
    EmulatorTask,
    FlowMap,
    LatentAutoregressive,
    PcaResidualAutoencoder,
    SequenceData,
)
from sciml.astrochem.data import Splitting, Store, Windows
from sciml.astrochem.data.writer import write_groups
from sciml.astrochem.task.latents import survey
from sciml.astrochem.task.merging import merge_intervals
from sciml.core.optim import Optim

ELEMENTS = ["H", "C", "O"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning on so small a run


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tracers.h5"
    table = sample_table([9, 8, 9, 7, 9, 9, 8, 9])
    write_groups(path, {"train": table}, dt_yr=1e4, generator="test", seed=0)
    return path


def rows(file: Path, folder: Path) -> AbundanceData:
    return AbundanceData(
        str(file), batch_size=16, store=Store(str(folder)), split=Splitting(fractions=[0.5, 0.5])
    )


def sequences(file: Path, folder: Path) -> SequenceData:
    return SequenceData(
        str(file),
        window_schedule=[[0, 3]],
        batch_size=8,
        windows=Windows(batches_per_epoch=3),
        store=Store(str(folder)),
        split=Splitting(fractions=[0.5, 0.5]),
    )


def trainer(folder: Path, steps: int) -> Trainer:
    return Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        enable_checkpointing=False, inference_mode=False, gradient_clip_val=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def autoencoder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of an autoencoder after a few steps."""
    folder = tmp_path_factory.mktemp("autoencoder")
    data = rows(file, folder)
    net = PcaResidualAutoencoder(data.input_dim, 3, encoder_dim=8, decoder_dims=(8, 8))
    task = AutoencoderTask(net, data.species, data.elements, Optim(lr=1e-3))
    run = trainer(folder, 5)
    run.fit(task, datamodule=data)
    path = folder / "autoencoder.ckpt"
    run.save_checkpoint(path)
    return path


def emulator(path: Path, **settings: object) -> EmulatorTask:
    return EmulatorTask(
        FlowMap(3, 8, 1), str(path), list(SPECIES), ELEMENTS, Optim(lr=1e-3), **settings
    )


def test_autoencoder_task_starts_at_the_principal_components(file: Path, tmp_path: Path) -> None:
    data = rows(file, tmp_path)
    net = PcaResidualAutoencoder(data.input_dim, 3)
    task = AutoencoderTask(net, data.species, data.elements)
    run = trainer(tmp_path, 1)
    run.validate(task, datamodule=data, verbose=False)  # without statistics
    task.use_statistics(data.statistics())
    values = run.validate(task, datamodule=data, verbose=False)[0]
    assert values["val/mae_dex"] == pytest.approx(values["val/pca_mae_dex"], rel=1e-5)


def test_rows_alone_have_no_metrics_of_histories(file: Path, tmp_path: Path) -> None:
    data = rows(file, tmp_path)
    net = PcaResidualAutoencoder(data.input_dim, 3)
    task = AutoencoderTask(net, data.species, data.elements)
    values = trainer(tmp_path, 1).validate(task, datamodule=data, verbose=False)[0]
    assert not [name for name in values if "_step_" in name]


def test_emulator_checkpoint_needs_no_other_file(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(autoencoder.read_bytes())
    task = emulator(copy)
    run = trainer(tmp_path, 3)
    run.fit(task, datamodule=sequences(file, tmp_path))
    path = tmp_path / "emulator.ckpt"
    run.save_checkpoint(path)
    copy.unlink()
    loaded = sciml.load(path)
    assert isinstance(loaded, EmulatorTask)
    x, p = torch.rand(2, len(SPECIES)), torch.tensor([[[1e4, 1.0, 2.0, 10.0]] * 4] * 2)
    # training with averages leaves the task with its raw weights; there is no average here
    assert torch.equal(loaded(x, p), task.eval()(x, p))


def test_scaling_comes_from_the_autoencoder(autoencoder: Path) -> None:
    task = emulator(autoencoder)
    loaded = sciml.load(autoencoder)
    assert isinstance(loaded, AutoencoderTask)
    assert torch.equal(task.scaler.limits, loaded.scaler.limits)
    for name, value in task.autoencoder.state_dict().items():
        assert torch.equal(value, loaded.net.state_dict()[name])


def test_frozen_autoencoder_does_not_change(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    task = emulator(autoencoder)
    before = {n: v.clone() for n, v in task.autoencoder.state_dict().items()}
    trainer(tmp_path, 6).fit(task, datamodule=sequences(file, tmp_path))
    assert all(torch.equal(v, before[n]) for n, v in task.autoencoder.state_dict().items())
    assert bool(task.net.branches[0].fall.weight.any())


class Snapshots(Callback):
    """The axes of the autoencoder after every step."""

    def __init__(self) -> None:
        self.axes: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, task: EmulatorTask, *_: object) -> None:
        self.axes.append(task.autoencoder.axes.detach().clone())


def test_joint_training_waits_for_its_part_of_the_run(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    task = emulator(autoencoder, train_autoencoder="joint", joint_from=0.5)
    seen = Snapshots()
    run = trainer(tmp_path, 10)
    run.callbacks.append(seen)
    run.fit(task, datamodule=sequences(file, tmp_path))
    moved = [not torch.equal(a, b) for a, b in pairwise(seen.axes)]
    assert moved == [False] * 4 + [True] * 5


def test_cached_latents_train_as_encoded_ones(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    ends = []
    for cached in (True, False):
        torch.manual_seed(0)
        task = emulator(autoencoder, cache_latents=cached, noise=0.0)
        trainer(tmp_path, 5).fit(task, datamodule=sequences(file, tmp_path))
        ends.append(task.net.branches[0].fall.weight.detach().clone())
    assert torch.allclose(*ends, atol=1e-6)


def test_latent_statistics_are_those_of_all_rows(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    data = sequences(file, tmp_path)
    task = emulator(autoencoder).eval()
    cpu = torch.device("cpu")
    found, kept = survey(data.chunks("train"), task.scaler, task.autoencoder, cpu, True)
    assert kept is not None
    latents, steps = [], []
    for table in data.chunks("train"):
        for _, start, length in table.ptr:
            x = torch.from_numpy(table.abundances[start : start + length].copy())
            z = task.autoencoder.encode(task.scaler.scale(x)).detach()
            latents.append(z)
            steps.append(z[1:] - z[:-1])
    together = torch.cat(latents)
    assert torch.allclose(kept, together, atol=1e-6)
    assert torch.allclose(found.low, together.amin(0), atol=1e-6)
    assert torch.allclose(found.covariance, torch.cov(together.double().T, correction=0), atol=1e-6)
    physics = torch.cat([torch.from_numpy(t.physics.copy()) for t in data.chunks("train")])
    joint = torch.cat([together.double(), physics.double().log10()], 1)
    assert torch.allclose(found.joint_mean, joint.mean(0), atol=1e-6)
    assert torch.allclose(found.joint_covariance, torch.cov(joint.T, correction=0), atol=1e-6)
    assert torch.allclose(found.increment, torch.cat(steps).std(0, correction=0), rtol=1e-4)


def test_validation_rolls_out_whole_tracers_from_row_0(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    data = sequences(file, tmp_path)
    task = emulator(autoencoder)
    task.eval()
    run = trainer(tmp_path, 1)
    values = run.validate(task, datamodule=data, verbose=False)[0]
    lo, hi = task.scaler.range()
    errors = []
    for table in data.chunks("val"):
        for _, start, length in table.ptr:
            x = torch.from_numpy(table.abundances[start : start + length].copy()).clamp(lo, hi)
            p = torch.from_numpy(table.physics[start : start + length].copy())
            z = task.autoencoder.encode(task.scaler.scale(x[:1]))
            states = []
            for step in range(length - 1):
                z = task.net.step(z, p[step : step + 1], None, p[max(0, step - 1)][None])
                states.append(task.scaler.unscale(task.autoencoder.decode(z)))
            predicted = task.projection.project(
                torch.cat(states), task.projection.totals(x[:1]).expand(length - 1, -1)
            ).abundance
            error = (predicted.clamp(lo, hi).log10() - x[1:].double().log10()).abs()
            errors.append(error.detach().mean(1))
    expected = float(torch.cat(errors).mean())
    assert values["val/rollout_mae_dex"] == pytest.approx(expected, rel=1e-4)
    assert values["val/persistence_mae_dex"] > 0


def test_every_baseline_stands_in_the_table(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    task = emulator(autoencoder)
    run = trainer(tmp_path, 1)
    values = run.validate(task, datamodule=sequences(file, tmp_path), verbose=False)[0]
    for name in ("reconstruction", "persistence", "mean", "knn", "dmd"):
        assert values[f"val/{name}_mae_dex"] > 0


def test_charge_is_enforced_where_the_data_conserve_it(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    task = emulator(autoencoder)
    data = sequences(file, tmp_path)
    trainer(tmp_path, 1).fit(task, datamodule=data)
    assert bool(task.keeps_charge) == data.statistics().charge_conserved
    off = emulator(autoencoder, enforce_charge="off")
    trainer(tmp_path, 1).fit(off, datamodule=data)
    assert off.projection.rows.shape[1] == 3
    on = emulator(autoencoder, enforce_charge="on")
    trainer(tmp_path, 1).fit(on, datamodule=data)
    assert on.projection.rows.shape[1] == 4


def test_merged_steps_are_longer_and_end_where_the_data_do() -> None:
    batch = {
        "phys": torch.tensor([[[1.0] * 4, [100.0] * 4, [5.0] * 4]]),
        "dt": torch.tensor([[1.0, 3.0, 1.0]]),
        "target": torch.arange(6.0).reshape(1, 3, 2),
        "valid": torch.ones(1, 3, dtype=torch.bool),
        "x0": torch.zeros(1, 2),
    }
    merged = merge_intervals(batch, 2)
    assert merged["dt"].tolist() == [[4.0]]
    assert merged["target"].tolist() == [[[2.0, 3.0]]]
    # logarithms weighted by the lengths: 100^(3/4)
    assert merged["phys"][0, 0, 0].item() == pytest.approx(100**0.75, rel=1e-5)


def test_an_emulator_of_other_latents_is_refused(autoencoder: Path) -> None:
    with pytest.raises(ValueError, match="latent_dim 3"):
        EmulatorTask(FlowMap(5), str(autoencoder), list(SPECIES), ELEMENTS)


def test_merged_steps_need_a_network_that_knows_their_length(autoencoder: Path) -> None:
    with pytest.raises(ValueError, match="dt_input true"):
        emulator(autoencoder, merge_steps=2)


def test_an_autoencoder_of_another_chemistry_is_refused(autoencoder: Path) -> None:
    others = ["N", *SPECIES[1:]]
    with pytest.raises(ValueError, match="another chemistry"):
        EmulatorTask(FlowMap(3), str(autoencoder), others, ELEMENTS)


def test_another_scaling_is_refused(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    data = SequenceData(str(file), lo=1e-16, batch_size=8, store=Store(str(tmp_path)))
    with pytest.raises(ValueError, match=r"--data.lo 1e-20"):
        trainer(tmp_path, 1).fit(emulator(autoencoder), datamodule=data)


def test_an_emulator_is_no_autoencoder(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    run = trainer(tmp_path, 1)
    run.fit(emulator(autoencoder), datamodule=sequences(file, tmp_path))
    path = tmp_path / "emulator.ckpt"
    run.save_checkpoint(path)
    with pytest.raises(ValueError, match="not an autoencoder"):
        emulator(path)


def test_latent_autoregressive_trains(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    task = EmulatorTask(
        LatentAutoregressive(3, 8), str(autoencoder), list(SPECIES), ELEMENTS, Optim(lr=1e-2)
    )
    before = task.net.change.weight.detach().clone()
    trainer(tmp_path, 3).fit(task, datamodule=sequences(file, tmp_path))
    assert not torch.equal(task.net.change.weight, before)


def test_predictions_name_tracer_and_step(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    data = sequences(file, tmp_path)
    data.setup("predict")
    task = emulator(autoencoder).eval()
    batch = next(iter(data.predict_dataloader()))
    with torch.no_grad():
        found = task.predict_step(batch, 0)
    assert len(found["step"]) == int(batch["valid"].sum())
    assert found["abundance"].shape == (len(found["step"]), len(SPECIES))


def other_sequences(folder: Path, **settings: object) -> SequenceData:
    """Tracers that are hotter, poorer and have longer steps."""
    table = sample_table([9, 8, 9, 7], seed=20)
    table.values[:, 3] *= 3
    table.time *= 2
    write_groups(folder / "other.h5", {"train": table}, dt_yr=2e4, generator="test", seed=0)
    return SequenceData(
        str(folder / "other.h5"),
        batch_size=8,
        store=Store(str(folder)),
        split=Splitting(fractions=[0.5, 0.5]),
        **settings,
    )


def saved(task: EmulatorTask, run: Trainer, path: Path) -> Path:
    run.save_checkpoint(path)
    return path


def test_other_data_keep_their_statistics_beside_older_weights(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    run, task = trainer(tmp_path, 3), emulator(autoencoder, train_autoencoder="joint", joint_from=0)
    run.fit(task, datamodule=sequences(file, tmp_path))
    path = saved(task, run, tmp_path / "older.ckpt")
    ends, data = [], other_sequences(tmp_path)
    for start in (None, str(path)):
        new = emulator(autoencoder, init_from=start)
        new.optim.lr = 1e-12  # the weights stay where they start
        trainer(tmp_path, 1).fit(new, datamodule=data)
        ends.append(new)
    fresh, started = ends[0].state_dict(), ends[1].state_dict()
    weights = {f"net.{name}" for name, _ in task.net.named_parameters()}
    assert float(started["domain.dt"]) == 2e4
    for name, value in started.items():
        expected = task.state_dict() if name in weights else fresh
        torch.testing.assert_close(value, expected[name], atol=1e-9, rtol=0)


def test_an_autoencoder_of_older_weights_is_scaled_as_its_data(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    data = AbundanceData(str(file), lo=1e-16, batch_size=16, store=Store(str(tmp_path)))
    net = PcaResidualAutoencoder(data.input_dim, 3, encoder_dim=8, decoder_dims=(8, 8))
    task = AutoencoderTask(
        net, data.species, data.elements, Optim(lr=1e-12), init_from=str(autoencoder)
    )
    trainer(tmp_path, 1).fit(task, datamodule=data)
    older = sciml.load(autoencoder)
    assert task.scaler.range()[0] == pytest.approx(1e-16)
    assert torch.equal(task.center, data.statistics().mean.float())
    for name, value in older.net.state_dict().items():  # μ and σ belong to the weights
        torch.testing.assert_close(task.net.state_dict()[name], value, atol=1e-9, rtol=0)


def test_autoencoders_keep_full_precision_under_autocast(autoencoder: Path) -> None:
    task = sciml.load(autoencoder)
    assert isinstance(task, AutoencoderTask)
    scaled = torch.rand(5, len(SPECIES))
    latent = task.net.encode(scaled)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(task.net.encode(scaled), latent)
        assert torch.equal(task.net(scaled), task.net.decode(latent))


def test_principal_components_are_judged_in_full_precision(file: Path, tmp_path: Path) -> None:
    data = rows(file, tmp_path)
    task = AutoencoderTask(PcaResidualAutoencoder(data.input_dim, 3), data.species, data.elements)
    task.use_statistics(data.statistics())
    values = [
        Trainer(
            accelerator="cpu", precision=precision, logger=False, default_root_dir=tmp_path,
            enable_progress_bar=False, use_distributed_sampler=False, enable_checkpointing=False,
        ).validate(task, datamodule=data, verbose=False)[0]["val/pca_mae_dex"]
        for precision in ("32-true", "bf16-mixed")
    ]  # fmt: skip
    assert values[1] == pytest.approx(values[0], rel=1e-6)


def test_training_runs_in_double_precision(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    task = emulator(autoencoder)
    run = Trainer(
        max_steps=2, accelerator="cpu", precision="64-true", logger=False,
        default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, enable_checkpointing=False,
    )  # fmt: skip
    run.fit(task, datamodule=sequences(file, tmp_path))
    assert task.net.branches[0].fall.weight.dtype == torch.float64
    assert bool(task.net.branches[0].fall.weight.any())


def test_compiled_rollouts_are_what_trains(
    file: Path, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        return lambda *values: (calls.append(1), graph(*values))[1]

    for kind in (FlowMap, PcaResidualAutoencoder):
        monkeypatch.setattr(kind, "compile", lambda net: nn.Module.compile(net, backend=backend))
    task = emulator(autoencoder, compile=True)
    trainer(tmp_path, 3).fit(task, datamodule=sequences(file, tmp_path))
    assert len(calls) >= 3


def test_steps_of_several_lengths_need_a_network_that_takes_them(
    autoencoder: Path, tmp_path: Path
) -> None:
    table = sample_table([9, 8, 9, 7])
    table.time = table.time**1.5
    path = tmp_path / "uneven.h5"
    write_groups(path, {"train": table}, dt_yr=1e4, generator="test", seed=0)
    data = sequences(path, tmp_path)
    with pytest.raises(ValueError, match=r"differ in length .* --model.net.dt_input true"):
        trainer(tmp_path, 1).fit(emulator(autoencoder), datamodule=data)
    net = FlowMap(3, 8, 1, dt_input=True)
    task = EmulatorTask(net, str(autoencoder), list(SPECIES), ELEMENTS)
    trainer(tmp_path, 1).fit(task, datamodule=data)
    assert float(task.domain.dt) == data.statistics().dt


def test_other_scaling_is_refused_in_tests_too(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    data = SequenceData(str(file), lo=1e-16, batch_size=8, store=Store(str(tmp_path)))
    for task, own in (
        (emulator(autoencoder), data),
        (sciml.load(autoencoder), AbundanceData(str(file), lo=1e-16, store=Store(str(tmp_path)))),
    ):
        run = trainer(tmp_path, 1)
        for verb in (run.validate, run.test, run.predict):
            with pytest.raises(ValueError, match=r"from 1e-16 to 1, .* from 1e-20 to 1"):
                verb(task, datamodule=own)


def test_joint_training_needs_an_end(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    run = trainer(tmp_path, -1)
    run.fit_loop.max_epochs = -1
    task = emulator(autoencoder, train_autoencoder="joint")
    with pytest.raises(ValueError, match=r"after 0\.8 of the run, which has no end"):
        run.fit(task, datamodule=sequences(file, tmp_path))


def test_latents_to_reach_have_no_gradient(file: Path, autoencoder: Path, tmp_path: Path) -> None:
    task = emulator(autoencoder, train_autoencoder="joint")
    batch = next(iter(sequences(file, tmp_path).train_dataloader()))
    start, true = task._true_latents(batch)
    assert (start.requires_grad, true.requires_grad) == (True, False)


def test_steps_after_the_end_of_a_tracer_do_not_fall_back(autoencoder: Path) -> None:
    task = emulator(autoencoder)
    wild = torch.full((1, 3, len(SPECIES)), 1e-20)
    wild[..., 0] = 1.0
    start = torch.full((1, len(SPECIES)), 1e-3)
    task.project(wild, start, torch.tensor([[True, False, False]]))
    assert task._fallbacks == 1
    task.project(wild, start)
    assert task._fallbacks == 4


def test_checkpoints_from_before_the_domain_knew_the_step_open(
    file: Path, autoencoder: Path, tmp_path: Path
) -> None:
    run, task = trainer(tmp_path, 1), emulator(autoencoder)
    run.fit(task, datamodule=sequences(file, tmp_path))
    path = saved(task, run, tmp_path / "new.ckpt")
    content = torch.load(path, weights_only=True)
    weights = content["state_dict"]
    weights["domain.motion"] = weights.pop("domain.usual_motion")
    del weights["domain.dt"]
    torch.save(content, path)
    loaded = sciml.load(path)
    assert isinstance(loaded, EmulatorTask)
    assert loaded.domain.step() == 1e4
    assert torch.equal(loaded.domain.usual_motion, task.domain.usual_motion)
