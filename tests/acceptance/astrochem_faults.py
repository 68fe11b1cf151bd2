"""Bad input of astrochem: every kind of file and flag that has to be refused in one sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from astrochem_small import (
    LATENTS,
    autoencoder_fit,
    data_flags,
    small_autoencoder,
    small_data,
    small_fit,
)
from engine import Bench
from numpy.typing import NDArray

GROUP = "grav"
BLOSC = 32001  # number of the filter at the HDF Group


def wrong_commands(bench: Bench) -> dict[str, tuple[list[str], str]]:
    """Bad input of every kind, with a word its sentence has to hold."""
    fit = ["fit", *small_fit(bench)]
    checkpoint = bench.folder / "base_0_1" / "checkpoints" / "last.ckpt"
    data = small_data(bench)
    files = {
        name: ([*fit, f"--data.path={path}"], word) for name, (path, word) in _files(bench).items()
    }
    own = _checkpoints(bench, checkpoint)
    return {
        "verb": (["fitt"], "did you mean fit"),
        "domain verb": (["astrochem", "generat"], "did you mean generate"),
        "flag": ([*fit, "--model.optm.lr=1"], "did you mean --model.optim.lr"),
        "verb's flag": (["astrochem", "generate", "--trcers=3"], "did you mean --tracers"),
        "class": ([*fit, "--model.net.class_path=FlowMp"], "did you mean FlowMap"),
        "choice": ([*fit, "--model.enforce_charge=onn"], "did you mean on"),
        "family": (["astrochem", "generate", "--out=x.h5", "--family=grv"], "grav"),
        "number": ([*fit, "--data.num_workers=many"], "whole number"),
        "config": (["fit", "-c", "astrochem/flowmpa.yaml"], "did you mean astrochem/flowmap"),
        "missing file": ([*fit, "--data.path=no/such.h5"], "no/such.h5"),
        **files,
        "latents": ([*fit, "--model.net.latent_dim=9"], f"latent_dim {LATENTS}"),
        "missing autoencoder": ([*fit, "--model.autoencoder=no.ckpt"], "no.ckpt"),
        "no autoencoder": ([*fit, f"--model.autoencoder={checkpoint}"], "not an autoencoder"),
        "charge": (_neutral_fit(bench), "no species is charged"),
        "window": ([*fit, "--data.window_schedule=[[0,200]]"], "200 rows"),
        "range": ([*fit, "--data.lo=1e-16"], "--data.lo"),
        "shares": ([*fit, "--data.split.fractions=[0.9,0.9]"], "fractions"),
        "other class": (["test", f"--ckpt_path={own['other']}"], "no task"),
        "broken checkpoint": (["test", f"--ckpt_path={own['broken']}"], "not a readable"),
        "missing checkpoint": (["test", "--ckpt_path=no.ckpt"], "no checkpoint at"),
        "shape": (["test", f"--ckpt_path={checkpoint}", "--model.net.hidden=16"], "shape"),
        "finished output": (["astrochem", "generate", f"--out={data}"], "exists"),
        "no value": (["astrochem", "generate", "--out", "--tracers", "3"], "--out"),
        "no emulator": (
            ["astrochem", "evaluate", str(small_autoencoder(bench)), f"--data={data}"],
            "no emulator",
        ),
        "baseline": (
            ["astrochem", "evaluate", str(checkpoint), f"--data={data}", "--baselines=nkk"],
            "unknown baseline",
        ),
        "part": (["export", str(checkpoint), "--out=x.onnx", "--what=stp"], "step, full"),
    }  # fmt: skip


def charged_data(bench: Bench) -> str:
    """Data that violate charge train with one sentence about it, and charge is left alone."""
    path = _altered(bench, "charged", _break_charge)
    words = autoencoder_fit(bench, path, "charged_autoencoder")
    shutil.rmtree(bench.folder / "charged_autoencoder", ignore_errors=True)
    bench.sciml(*words)
    found = bench.folder / "charged_autoencoder" / "checkpoints" / "last.ckpt"
    flags = ["fit", *small_fit(bench), *data_flags(bench, path), f"--model.autoencoder={found}"]
    folder = bench.folder / "charged"
    shutil.rmtree(folder, ignore_errors=True)
    done = bench.sciml(*flags, f"--trainer.default_root_dir={folder}")
    said = done.stdout + done.stderr
    assert said.count("charge will not be enforced") == 1, said[-800:]
    content = torch.load(next(folder.rglob("last.ckpt")), weights_only=True)
    assert not content["state_dict"]["keeps_charge"], "charge is enforced"
    kept = torch.load(bench.folder / "base_0_1/checkpoints/last.ckpt", weights_only=True)
    assert kept["state_dict"]["keeps_charge"], "charge is not kept where the data conserve it"
    return "violated charge is named once and not enforced; conserved charge is kept"


def _neutral_fit(bench: Bench) -> list[str]:
    """A fit that is to enforce charge where nothing has one."""
    path = _altered(bench, "neutral", _forget_ions)
    autoencoder = bench.folder / "neutral_autoencoder" / "checkpoints" / "last.ckpt"
    if not autoencoder.exists():
        bench.sciml(*autoencoder_fit(bench, path, "neutral_autoencoder"))
    flags = ["fit", *small_fit(bench), *data_flags(bench, path)]
    return [*flags, f"--model.autoencoder={autoencoder}", "--model.enforce_charge=on"]


def _files(bench: Bench) -> dict[str, tuple[Path, str]]:
    """Damaged copies of the small set, and what is said of them."""
    damage: dict[str, tuple[Callable[[h5py.Group], None], str]] = {
        "blosc": (_compress, "blosc"),
        "missing column": (lambda g: _rename(g, "density", "zeta"), "no column Density"),
        "time": (_stop_clock, "does not increase"),
        "species": (lambda g: _rename(g, "CO", "Qx7"), "Qx7"),
        "species twice": (lambda g: _rename(g, "CO", "H2"), "twice"),
        "matrix": (_write_matrix, "CO"),
        "NaN": (lambda g: _put(g, "CO", np.nan), "no number"),
        "negative abundance": (lambda g: _put(g, "CO", -1e-3), "negative"),
        "dark": (lambda g: _put(g, "rad_field", 0.0), "not positive"),
        "rows": (_lengthen, "outside"),
        "other chemistry": (_forget_species, "another chemistry"),
    }
    found = {
        name: (_altered(bench, name.replace(" ", "_"), change), word)
        for name, (change, word) in damage.items()
    }
    data = small_data(bench)
    cut = bench.folder / "damaged" / "cut.h5"
    cut.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    text = bench.folder / "damaged" / "text.h5"
    text.write_bytes(b"\0" * 1000)
    return found | {
        "truncated HDF5": (cut, "cut short"),
        "no tracers": (text, "no file of tracers"),
    }


def _checkpoints(bench: Bench, checkpoint: Path) -> dict[str, Path]:
    folder = bench.folder / "damaged"
    other, broken = folder / "other.ckpt", folder / "broken.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["_class_path"] = "sciml.astrochem.SequenceData"
    torch.save(content, other)
    broken.write_bytes(checkpoint.read_bytes()[:20000])
    return {"other": other, "broken": broken}


def _altered(bench: Bench, name: str, change: Callable[[h5py.Group], None]) -> Path:
    """A copy of the small set with a change to its group."""
    folder = bench.folder / "damaged"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.h5"
    shutil.copy(small_data(bench), path)
    with h5py.File(path, "r+") as file:
        change(file[GROUP])
    return path


def _column(group: h5py.Group, label: str) -> int:
    return [name.decode() for name in group["columns"][:]].index(label)


def _rename(group: h5py.Group, old: str, new: str) -> None:
    labels = [name.decode() for name in group["columns"][:]]
    labels[labels.index(old)] = new
    del group["columns"]
    group["columns"] = np.array([label.encode() for label in labels])


def _put(group: h5py.Group, label: str, value: float) -> None:
    group["data"][3, _column(group, label)] = value


def _stop_clock(group: h5py.Group) -> None:
    group["time"][3] = group["time"][2]


def _lengthen(group: h5py.Group) -> None:
    ptr = group["tracer_ptr"][:]
    ptr[-1, 2] += 1
    group["tracer_ptr"][:] = ptr


def _compress(group: h5py.Group) -> None:
    shape = group["data"].shape
    del group["data"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, shape[1]))
    plist.set_filter(BLOSC, h5py.h5z.FLAG_OPTIONAL)  # optional: made without the filter's library
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_FLOAT, space, plist)


def _write_matrix(group: h5py.Group) -> None:
    """The right stoichiometric matrix but for one atom of CO."""
    from sciml.astrochem.physics.species import stoichiometric_matrix

    names = [name.decode() for name in group["columns"][:]][5:]
    elements = [str(name) for name in group.file.attrs["elements"]]
    matrix = stoichiometric_matrix(names, elements)
    matrix[names.index("CO")] += 1
    group["stoichiometric_matrix"] = matrix


def _forget_species(group: h5py.Group) -> None:
    _forget(group, lambda label: label == "CO")


def _forget_ions(group: h5py.Group) -> None:
    _forget(group, lambda label: label.endswith(("+", "-")))


def _forget(group: h5py.Group, is_gone: Callable[[str], bool]) -> None:
    kept = [place for place, name in enumerate(group["columns"][:]) if not is_gone(name.decode())]
    data: NDArray[np.float32] = group["data"][:][:, kept]
    labels = group["columns"][:][kept]
    del group["data"], group["columns"]
    group["data"], group["columns"] = data, labels


def _break_charge(group: h5py.Group) -> None:
    column = _column(group, "E-")
    data = group["data"][:]
    data[:, column] *= 0.5
    group["data"][:] = data
