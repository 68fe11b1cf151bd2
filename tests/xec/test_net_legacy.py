import math
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_xecv1 import Norms, doubles, encode, part, read_out
from torch import Tensor
from xecv1_tensors import WIDTHS, encoder_names, head, linear, names_of, random_tensors

from sciml.cli import main
from sciml.core.checkpoint import load
from sciml.xec import XECTask
from sciml.xec.net import XECv1
from sciml.xec.net.legacy import fill, read_legacy, stored_normalisation
from sciml.xec.net.v1.imported import Imported, import_network
from sciml.xec.physics.normalisation import PRESETS

DIM, HIDDEN, WIDE = 64, 24, 96
CONFIG: dict[str, Any] = {
    "outer_mode": "finegrid", "outer_fine_pool": [3, 3], "encoder_dim": DIM,
    "dim_feedforward": WIDE, "num_fusion_layers": 1, "hidden_dim": HIDDEN, "drop_path_rate": 0.1,
    "npho_scheme": "log1p", "npho_scale": 1000, "npho_scale2": 4.08, "npho_threshold": 100.0,
    "time_scale": 1.14e-7, "time_shift": -0.46, "sentinel_npho": -1.0, "sentinel_time": -1.0,
    "active_tasks": ["angle", "energy", "timing", "uvwFI"], "nll_tasks": [],
    "npho_branch": "npho", "time_branch": "relative_time",
}  # fmt: skip
MAE = Norms(1000, 4.08, 1.14e-7, -0.46)


def weights(seed: int = 0, *, tokens: int = 6, nll: tuple[str, ...] = ()) -> dict[str, Tensor]:
    return random_tensors(names_of(DIM, HIDDEN, WIDE, layers=1, tokens=tokens, nll=nll), seed)


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    wrapped = {f"module.{name}": value for name, value in tensors.items()}
    return {"n_averaged": torch.tensor(12)} | wrapped


def write(folder: Path, **content: Any) -> Path:
    """A file as the older training code leaves it."""
    rest = {
        "epoch": 3, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 3e-4}]},
        "scaler_state_dict": {}, "scheduler_state_dict": {"last_epoch": 3}, "best_val_loss": 0.5,
    }  # fmt: skip
    path = folder / "old.pth"
    torch.save(rest | {"config": CONFIG} | content, path)
    return path


def imported(path: Path, **options: Any) -> Imported:
    return import_network(read_legacy(path), **options)


def raw() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    npho = torch.randn(2, 4760, generator=generator).mul(2).add(5).exp()
    time = 1e-8 * torch.rand(2, 4760, generator=generator)
    npho[0, ::9], time[0, ::7] = 1e10, 1e10
    npho[1, 3], npho[1, 4], npho[1, 5] = math.nan, -0.3, -2000.0
    return {"npho": npho, "relative_time": time, "time_min": torch.zeros(2)}


def check_outputs(
    net: XECv1,
    state: dict[str, Tensor],
    norms: Norms,
    *,
    pool: tuple[int, int] | None = (3, 3),
    split: bool = False,
) -> None:
    """Those of the older code, from the tensors in the file, within 2e-5."""
    batch, own = raw(), doubles(state)
    with torch.no_grad():
        outputs = net(batch)
    for event in range(2):
        sensors = [batch[name][event].double().numpy() for name in ("npho", "relative_time")]
        x = norms.sensors(*sensors)
        tokens = encode(x, part(own, "backbone."), split=split, pool=pool, norms=norms)
        for task in net.tasks:
            expected = read_out(tokens, part(own, f"heads.{task}."))
            assert np.allclose(outputs[task][event], expected, rtol=0, atol=2e-5), task


def test_a_regressor_gives_its_old_outputs(tmp_path: Path) -> None:
    state = weights()
    made = imported(write(tmp_path, model_state_dict=state))
    net, arguments = made.net, made.net.hparams
    assert not net.training
    assert net.tasks == ("angle", "energy", "timing", "uvwFI")
    assert net.backbone.hex_edge_index.shape == (3, 431)
    assert (arguments["outer_fine_pool"], arguments["drop_path_rate"]) == ((3, 3), 0.1)
    assert (arguments["encoder_dim"], arguments["num_fusion_layers"]) == (DIM, 1)
    assert net.normalisation == PRESETS["mae"]
    assert set(made.match.loaded) == set(state)
    assert not made.match.missing + made.match.unexpected + made.match.mismatched
    assert not made.notes
    check_outputs(net, state, MAE)


def test_split_faces_and_variances_are_recognised(tmp_path: Path) -> None:
    state = weights(tokens=7, nll=("energy", "uvwFI"))
    config = CONFIG | {"outer_mode": "split", "nll_tasks": ["uvwFI", "energy"]}
    net = imported(write(tmp_path, model_state_dict=state, config=config)).net
    assert set(net.nll_tasks) == {"energy", "uvwFI"}
    with torch.no_grad():
        assert net(raw())["uvwFI"].shape == (2, 6)
    check_outputs(net, state, MAE, split=True, pool=None)


def test_older_sentinels_come_from_one_setting(tmp_path: Path) -> None:
    state = weights()
    config = {k: v for k, v in CONFIG.items() if not k.startswith("sentinel")}
    path = write(tmp_path, model_state_dict=state, config=config | {"sentinel_value": -5.0})
    net = imported(path).net
    assert (net.normalisation.sentinel_npho, net.normalisation.sentinel_time) == (-5, -5)
    check_outputs(net, state, Norms(1000, 4.08, 1.14e-7, -0.46, sentinel=-5.0))


@pytest.mark.parametrize("key", ["ema_state_dict", "best_ema_state"])
def test_averaged_weights_are_preferred(tmp_path: Path, key: str) -> None:
    state, average = weights(0), weights(1)
    path = write(tmp_path, model_state_dict=state, **{key: averaged(average)})
    made = imported(path)
    assert "n_averaged" not in made.match.unexpected
    check_outputs(made.net, average, MAE)


def test_empty_averages_are_passed_over(tmp_path: Path) -> None:
    state = weights()
    path = write(tmp_path, model_state_dict=state, ema_state_dict=None, best_ema_state={})
    check_outputs(imported(path).net, state, MAE)


def test_indices_are_never_the_averaged_ones(tmp_path: Path) -> None:
    state, average = weights(0), weights(1)
    for name in ("top_hex_indices", "hex_edge_index"):
        average[f"backbone.{name}"] = (0.99 * average[f"backbone.{name}"]).long()
    path = write(tmp_path, model_state_dict=state, ema_state_dict=averaged(average))
    file = read_legacy(path)
    assert torch.equal(file.weights["backbone.top_hex_indices"], torch.arange(4596, 4669))
    check_outputs(import_network(file).net, average, MAE)


def test_names_of_wrappers_are_removed(tmp_path: Path) -> None:
    state = weights()
    wrapped = OrderedDict((f"module._orig_mod.{name}", value) for name, value in state.items())
    check_outputs(imported(write(tmp_path, model_state_dict=wrapped)).net, state, MAE)


def test_order_of_the_edges_in_the_file_is_kept(tmp_path: Path) -> None:
    state = weights()
    turned = state["backbone.hex_edge_index"].flip(1).int()
    made = imported(write(tmp_path, model_state_dict=state | {"backbone.hex_edge_index": turned}))
    assert torch.equal(made.net.backbone.hex_edge_index, turned.long())
    check_outputs(made.net, state, MAE)


def test_shapes_may_differ_by_axes_of_length_one(tmp_path: Path) -> None:
    state = weights()
    thin = {name: v.flatten() for name, v in state.items() if set(v.shape[:-1]) == {1}}
    assert len(thin) == 2 * (5 + 4) + 4 + 2  # γ, β; biases of the graph; heads of one output
    check_outputs(imported(write(tmp_path, model_state_dict=state | thin)).net, state, MAE)


def test_indices_that_are_not_in_the_file_are_our_own(tmp_path: Path) -> None:
    state = weights()
    bare = {name: value for name, value in state.items() if value.is_floating_point()}
    made = imported(write(tmp_path, model_state_dict=bare))
    assert len(made.match.missing) == 3
    check_outputs(made.net, state, MAE)


def test_a_network_of_angles_alone_becomes_one_head(tmp_path: Path) -> None:
    encoder = encoder_names(DIM, WIDE, 1, 6)
    state = random_tensors(encoder | head("fc", 6 * DIM, HIDDEN, 2))
    config = {k: v for k, v in CONFIG.items() if k not in {"active_tasks", "nll_tasks"}}
    path = write(tmp_path, model_state_dict=state, config=config)
    made = imported(path)
    assert read_legacy(path).kind == "angle"
    assert made.net.tasks == ("angle",)
    names = {f"heads.angle{n[2:]}" if n.startswith("fc") else f"backbone.{n}": n for n in state}
    check_outputs(made.net, {ours: state[n] for ours, n in names.items()}, MAE)


PRETRAINED = {
    "mae": linear("dec_inner.linear", DIM, 4096) | {"channel_log_vars": (2,)},
    "inpainter": linear("head_us.latent", DIM, 64) | {"inner_idx": (4092,)},
    "encoder": {},
}


@pytest.mark.parametrize("kind", PRETRAINED)
def test_the_encoder_of_a_pretraining_gets_new_heads(tmp_path: Path, kind: str) -> None:
    prefix = "" if kind == "encoder" else "encoder."
    encoder = random_tensors(encoder_names(DIM, WIDE, 1, 6))
    state = {f"{prefix}{name}": value for name, value in encoder.items()}
    state |= random_tensors(PRETRAINED[kind])
    path = write(tmp_path, model_state_dict=state)
    made, again = imported(path), imported(path)
    assert read_legacy(path).kind == kind
    assert set(made.match.unexpected) == set(PRETRAINED[kind])
    assert all(name.startswith("heads.") for name in made.match.missing)
    assert made.notes == (
        f"the file is of kind '{kind}': the heads are new and have to be trained",
    )
    own = made.net.backbone.state_dict()
    assert all(torch.equal(own[name], value) for name, value in encoder.items())
    assert all(
        torch.equal(a, b)
        for a, b in zip(made.net.parameters(), again.net.parameters(), strict=True)
    )


def test_a_bare_dictionary_of_tensors_is_read(tmp_path: Path) -> None:
    state = weights()
    torch.save(state, tmp_path / "bare.pth")
    made = imported(tmp_path / "bare.pth", normalisation="mae", outer_fine_pool=(3, 3))
    assert set(made.net.tasks) == set(WIDTHS)
    assert len(made.notes) == 2
    assert made.notes[0].startswith("not in the file, taken from 'mae': npho_scheme, npho_scale")
    assert made.notes[1] == "not in the file: outer_fine_pool, taken as [3, 3]"
    check_outputs(made.net, state, MAE)


def test_values_in_the_file_win_over_the_preset(tmp_path: Path) -> None:
    config = {"npho_scale": 7.0, "outer_fine_pool": None, "sentinel_time": None}
    file = read_legacy(write(tmp_path, model_state_dict=weights(), config=config))
    normalisation, absent = stored_normalisation(file, "legacy5")
    assert (normalisation.npho_scale, normalisation.sentinel_time) == (7, -5)
    assert "npho_scale" not in absent
    assert "sentinel_time" in absent
    made = import_network(file, normalisation="legacy5", outer_fine_pool=(2, 2))
    assert made.net.hparams["outer_fine_pool"] is None


def test_other_branches_are_noted(tmp_path: Path) -> None:
    config = CONFIG | {"npho_branch": "relative_npho"}
    made = imported(write(tmp_path, model_state_dict=weights(), config=config))
    assert made.notes == ("trained on the branch relative_npho in place of npho: read it too",)


def test_table_lists_what_fitted(tmp_path: Path) -> None:
    state = weights()
    del state["heads.n_gamma.6.bias"]
    state["extra"] = torch.zeros(2)
    state["heads.angleVec.6.bias"] = torch.zeros(7)
    table = imported(write(tmp_path, model_state_dict=state)).match.table("old")
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["loaded", "missing", "unexpected", "mismatched"]
    assert columns[1][1:] == ["1", "1", "1"]
    assert columns[2][1:] == ["heads.n_gamma.6.bias", "extra", "heads.angleVec.6.bias"]


@pytest.mark.parametrize("name", ["heads.energy.4.weight", "backbone.hex_encoder.proj.1.bias"])
def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path, name: str) -> None:
    state = weights()
    del state[name]
    with pytest.raises(ValueError, match=f"1 tensors have no counterpart in the file .{name}"):
        imported(write(tmp_path, model_state_dict=state))


def test_a_file_with_more_layers_than_ours_is_refused(tmp_path: Path) -> None:
    state = weights() | {"backbone.backbone.stage2.3.norm.weight": torch.ones(4)}
    with pytest.raises(ValueError, match=r"1 none in the network .*stage2\.3\.norm\.weight"):
        imported(write(tmp_path, model_state_dict=state))


def test_another_graph_is_refused(tmp_path: Path) -> None:
    state = weights()
    state["backbone.hex_edge_index"] = state["backbone.hex_edge_index"][:, 1:]
    with pytest.raises(ValueError, match=r"backbone\.hex_edge_index"):
        imported(write(tmp_path, model_state_dict=state))


@pytest.mark.parametrize(("row", "value"), [(0, 73), (1, -1), (2, 7)])
def test_indices_out_of_range_are_refused(tmp_path: Path, row: int, value: int) -> None:
    state = weights()
    state["backbone.hex_edge_index"][row, 5] = value
    with pytest.raises(ValueError, match="hex_edge_index points to what does not exist"):
        imported(write(tmp_path, model_state_dict=state))


def test_weights_start_a_network_of_other_heads(tmp_path: Path) -> None:
    file = read_legacy(write(tmp_path, model_state_dict=weights()))
    sizes = {name: CONFIG[name] for name in ("encoder_dim", "dim_feedforward", "hidden_dim")}
    net = XECv1(("energy",), ("energy",), num_fusion_layers=1, **sizes)
    match = fill(net, file)
    assert set(match.mismatched) == {"heads.energy.6.weight", "heads.energy.6.bias"}
    assert torch.equal(net.backbone.pos_embed, file.weights["backbone.pos_embed"])


def test_an_encoder_fills_any_network_that_has_one(tmp_path: Path) -> None:
    file = read_legacy(write(tmp_path, model_state_dict=weights()))
    encoder = XECv1(encoder_dim=DIM, dim_feedforward=WIDE, num_fusion_layers=1).backbone
    net = torch.nn.ModuleDict({"encoder": encoder})
    match = fill(net, file, "encoder.")
    assert set(match.loaded) == set(net.state_dict())
    assert all(name.startswith("heads.") for name in match.unexpected)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    file = read_legacy(write(tmp_path, model_state_dict=weights()))
    with pytest.raises(ValueError, match=r"only 3\d\d,\d{3} of the .* numbers of the encoder"):
        fill(XECv1(encoder_dim=256), file)  # the end faces do not depend on it


def test_imported_checkpoint_is_one_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = weights(nll=("energy",))
    words = ["xec", "import", str(write(tmp_path, model_state_dict=state)), "--out"]
    path = tmp_path / "new" / "v1.ckpt"
    main([*words, str(path)])
    shown = capsys.readouterr().out
    assert "regressor from old.pth" in shown
    assert f"XECTask for angle, energy, timing, uvwFI in {path}" in shown
    task = load(path)
    assert isinstance(task, XECTask)
    assert task.timing_reference == "vertex"
    assert isinstance(task.net, XECv1)
    assert task.net.nll_tasks == ("energy",)
    check_outputs(task.net, state, MAE)
    with pytest.raises(ValueError, match="exists; give another --out"):
        main([*words, str(path)])


def test_files_with_code_are_refused_and_name_it(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    for old_format in (False, True):
        path = tmp_path / "trap.pth"
        content = {"model_state_dict": weights(), "config": Namespace(a=1), "x": Trap()}
        torch.save(content, path, _use_new_zipfile_serialization=not old_format)
        with pytest.raises(ValueError, match=r"would run code: it refers to .*argparse\.Namespace"):
            read_legacy(path)
    assert not (tmp_path / "sprung").exists()


def test_numbers_of_numpy_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, model_state_dict=weights(), best_val_loss=np.float64(0.5))
    with pytest.raises(ValueError, match=r"numpy\._?core\.multiarray\.scalar"):
        read_legacy(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="older training code"):
        read_legacy(tmp_path / "no.pth")
    path = tmp_path / "file.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="no file that torch can read"):
        read_legacy(path)
    torch.save(weights(), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="no file that torch can read"):
        read_legacy(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="no dictionary of tensors"):
        read_legacy(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="none of its 1 tensors is called"):
        read_legacy(path)
    torch.save({"state_dict": weights(), "hyper_parameters": {}}, path)
    with pytest.raises(ValueError, match="a checkpoint of sciml already"):
        read_legacy(path)
    state = weights()
    del state["backbone.pos_embed"]
    with pytest.raises(ValueError, match=r"an embedding of shape \(\)"):
        imported(write(tmp_path, model_state_dict=state))
