"""Bad input of xec: every kind of file and flag that has to be refused in one sentence."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
import uproot
from engine import Bench
from xec_small import (
    REAL,
    Branches,
    read_events,
    small_checkpoint,
    small_data,
    small_fit,
    write_events,
)

LONGEST = 400  # letters of a sentence


def wrong_commands(bench: Bench) -> dict[str, tuple[list[str], str]]:
    """Bad input of every kind, with a word its sentence has to hold."""
    folder = bench.folder / "damaged"
    fit, checkpoint = ["fit", *small_fit(bench)], small_checkpoint(bench)
    test = ["test", f"--ckpt_path={checkpoint}"]
    data, files = small_data(bench), _files(bench)
    real, own = files["real data"][0], _checkpoints(folder, checkpoint)
    infer = ["xec", "infer", str(data), f"--ckpt={checkpoint}"]
    return {
        "verb": (["fitt"], "did you mean fit"),
        "domain verb": (["xec", "generat"], "did you mean generate"),
        "flag": ([*fit, "--model.optm.lr=1"], "did you mean --model.optim.lr"),
        "verb's flag": (["xec", "generate", "--evnts=3"], "did you mean --events"),
        "class": ([*fit, "--model.net.class_path=XECv3"], "did you mean XECv"),
        "choice": ([*fit, "--model.timing_reference=vertx"], "did you mean vertex"),
        "number": ([*fit, "--data.batch_size=many"], "whole number"),
        "config": (["fit", "-c", "xec/regresor.yaml"], "did you mean xec/regressor"),
        "missing file": ([*fit, "--data.train=no/such.root"], "no/such.root"),
        "pattern": ([*fit, "--data.val=no/such_*.root"], "no file matches"),
        "folder": ([*fit, f"--data.val={bench.folder / 'cache'}"], "no .root files"),
        "list": ([*fit, f"--data.val={_empty_list(folder)}"], "names no files"),
        "no files": ([*fit, "--data.train=null"], "--data.train"),
        **_refused(files, fit, checkpoint),
        "test without truth": ([*test, f"--data.test={real}"], "no usable branch"),
        "rules without truth": (["xec", "baselines", str(real)], "no usable branch uvwTruth"),
        "tree": ([*fit, "--data.tree=sim"], "its trees are: tree, generator"),
        "cache beside data": ([*fit, f"--data.reading.cache={data.parent}"], "holds the data"),
        "cut": ([*fit, "--data.cuts.energy=[1,2]"], "left out by the cuts"),
        "other class": (["test", f"--ckpt_path={own['other']}"], "no task"),
        "broken checkpoint": (["test", f"--ckpt_path={own['broken']}"], "not a readable"),
        "missing checkpoint": (["test", "--ckpt_path=no.ckpt"], "no checkpoint at"),
        "shape": ([*test, "--model.net.hidden=32"], "shape"),
        "finished output": (["xec", "generate", f"--out={data.parent}"], "exists"),
        "no value": (["xec", "generate", "--out", "--events", "3"], "--out"),
        "dead": (["xec", "generate", f"--out={folder / 'no'}", "--dead=[4760]"], "4760"),
        "infer without checkpoint": (
            ["xec", "infer", str(data), "--ckpt=no.ckpt", f"--out={folder / 'no.root'}"],
            "no.ckpt",
        ),
        "infer into a file that is there": ([*infer, f"--out={data}"], "exists"),
        "infer into no format": ([*infer, f"--out={folder / 'no.doc'}"], ".root, .csv or .parquet"),
        "import of our own": (
            ["xec", "import", str(checkpoint), f"--out={folder / 'no.ckpt'}"],
            "a checkpoint of sciml already",
        ),
        "import of nothing": (
            ["xec", "import", str(own["broken"]), f"--out={folder / 'no.ckpt'}"], "copy it again"
        ),
        "event": (
            ["xec", "display", str(data), f"--out={folder / 'no.png'}", "--event=101"],
            "entries 0 to 100",
        ),
        "picture": (["xec", "display", str(data), "--out=event.doc"], "no picture"),
        "predictions": (["xec", "plots", "no.root", f"--out={folder / 'no'}"], "no.root"),
    }  # fmt: skip


def check_settings(bench: Bench) -> str:
    """Settings that contradict themselves: one plain sentence, without a word of the library's."""
    wrong = {
        "--data.cuts.energy=[2,1]": "the smaller one first",
        "--data.cuts.depth=30": "cuts.fiducial",
        "--data.chunksize=0": "at least 1",
        "--model.net.width=40": "multiple of 32",
        "--model.net.tasks=[mass]": "no task 'mass'",
        "--model.losses={mass: {kind: l1}}": "has 'mass'",
        "--model.net.normalisation={time_scale: 6.5e8}": "6.5e-8",
    }
    bad, longest = [], 0
    for flag, word in wrong.items():
        done = bench.sciml("fit", *small_fit(bench), flag, expect=None)
        lines = [line for line in done.stderr.splitlines() if line.startswith("sciml: ")]
        said = lines[0] if len(lines) == 1 else done.stderr
        longest = max(longest, len(said))
        is_plain = len(said) <= LONGEST and not re.search("Union|Namespace|Traceback", done.stderr)
        if done.returncode != 2 or word not in said or not is_plain:
            bad.append(f"{flag} ({done.returncode}, {len(said)} letters): {said[:200]}")
    assert not bad, f"{len(bad)} of {len(wrong)}: {'; '.join(bad)}"
    return f"{len(wrong)} settings, each one sentence of at most {longest} letters, exit code 2"


def _refused(
    files: dict[str, tuple[Path, str]], fit: list[str], checkpoint: Path
) -> dict[str, tuple[list[str], str]]:
    """Damaged files given to training, and the worst of them to the other verbs as well."""
    verbs: dict[str, Callable[[Path], list[str]]] = {
        "validate": lambda path: ["validate", f"--ckpt_path={checkpoint}", f"--data.val={path}"],
        "check": lambda path: ["xec", "check", str(path)],
        "infer": lambda path: [
            "xec", "infer", str(path), f"--ckpt={checkpoint}", f"--out={path.parent / 'no.root'}"
        ],
    }  # fmt: skip
    found = {
        f"train on {name}": ([*fit, f"--data.train={path}"], word)
        for name, (path, word) in files.items()
    }
    for name in ("truncated", "no entries", "no tree"):
        path, word = files[name]
        found |= {f"{verb} {name}": (words(path), word) for verb, words in verbs.items()}
    return found


def _files(bench: Bench) -> dict[str, tuple[Path, str]]:
    """Damaged copies of the training events, and what is said of them."""
    data, folder = small_data(bench), bench.folder / "damaged"
    damage: dict[str, tuple[Callable[[Branches], Branches], str]] = {
        "no entries": (lambda b: {name: values[:0] for name, values in b.items()}, "no entries"),
        "real data": (lambda b: {name: b[name] for name in REAL}, "which the task needs"),
        "no energy": (lambda b: _without(b, "energyTruth"), "energyTruth or energy"),
        "no vertex": (lambda b: _without(b, "xyzVTX"), "xyzVTX, which the task needs"),
        "no counts": (lambda b: _without(b, "npho"), "its branches are"),
        "sensors": (lambda b: b | {"npho": b["npho"][:, 1:]}, "4760 sensors"),
        "relative counts": (_relative, "relative_npho without npho_max_used"),
    }
    whole = read_events(data)
    found = {
        name: (write_events(folder / f"{name.replace(' ', '_')}.root", change(whole)), word)
        for name, (change, word) in damage.items()
    }
    found["no tree"] = write_events(folder / "no_tree.root", whole, tree="rec"), "trees are: rec"
    content = data.read_bytes()
    raw = {
        "truncated": (content[: len(content) // 2], "truncated"),
        "empty": (b"", "is empty"),
        "text": (b"run,event\n" * 100, "no ROOT file"),
        "a spoiled basket": (_spoiled(data), "damaged"),
    }
    for name, (part, word) in raw.items():
        path = folder / f"{name.replace(' ', '_')}.root"
        path.write_bytes(part)
        found[name] = path, word
    return found


def _without(branches: Branches, name: str) -> Branches:
    return {key: values for key, values in branches.items() if key != name}


def _relative(branches: Branches) -> Branches:
    left = _without(_without(branches, "npho_max_used"), "npho")
    return {"relative_npho": branches["npho"] / branches["npho_max_used"][:, None], **left}


def _spoiled(path: Path) -> bytes:
    """A file with zeros in the first basket of the photon counts."""
    with uproot.open(path) as file:
        place = int(file["tree"]["npho"].member("fBasketSeek")[0])
    content = bytearray(path.read_bytes())
    content[place + 60 : place + 400] = bytes(340)
    return bytes(content)


def _empty_list(folder: Path) -> Path:
    path = folder / "list.txt"
    path.write_text("# nothing\n")
    return path


def _checkpoints(folder: Path, checkpoint: Path) -> dict[str, Path]:
    other, broken = folder / "other.ckpt", folder / "broken.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["_class_path"] = "sciml.xec.RootStream"
    torch.save(content, other)
    broken.write_bytes(checkpoint.read_bytes()[:20000])
    return {"other": other, "broken": broken}
