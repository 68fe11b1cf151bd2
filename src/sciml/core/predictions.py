"""Predictions written as they come, never held in memory: one NPZ a rank, then one of all."""

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from numpy.lib import format as npy
from numpy.typing import NDArray


class PredictionWriter(Callback):
    """Stream what ``predict_step`` returns to ``predictions/predict.npz`` of the run.

    ``predict_step`` returns a dictionary of tensors whose first dimension runs over samples,
    atoms or entries; every key becomes one array, joined over batches and ranks in their order.

    Args:
        out: File to write; by default ``predictions/predict.npz`` in the run's folder.
    """

    def __init__(self, out: str | None = None) -> None:
        self.out = out
        self._streams: dict[str, _Stream] = {}
        self._target = Path()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        named = Path(self.out) if self.out else folder / "predictions" / "predict.npz"
        self._target = Path(trainer.strategy.broadcast(str(named)))
        if self._target.exists():
            raise ValueError(f"{self._target} exists; give another --predictions.out")
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._streams = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(outputs, Mapping):
            raise ValueError(
                f"predict_step of {type(pl_module).__name__} returned {type(outputs).__name__}; "
                "predictions are written from a dictionary of tensors"
            )
        for name, value in outputs.items():
            array = _array(value)
            if name not in self._streams:
                place = f".{self._target.stem}.{trainer.global_rank}.{len(self._streams)}.part"
                self._streams[name] = _Stream(self._target.with_name(place), name, array)
            self._streams[name].append(array)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own = {name: stream.close() for name, stream in self._streams.items()}
        parts: list[Any] = [own]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, own)
        if trainer.is_global_zero:
            self._merge(parts)
            rank_zero_info(f"predictions in {self._target}")
        trainer.strategy.barrier("predictions")
        self._clear()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._clear()

    def _clear(self) -> None:
        for stream in self._streams.values():
            stream.close().path.unlink(missing_ok=True)
        self._streams = {}

    def _merge(self, parts: list[dict[str, "_Part"]]) -> None:
        merged = self._target.with_name(f".{self._target.name}.part")
        names = dict.fromkeys(name for own in parts for name in own)
        try:
            with zipfile.ZipFile(merged, "w", allowZip64=True) as archive:
                for name in names:
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        _join(name, [own[name] for own in parts if name in own], entry)
            merged.replace(self._target)
        finally:
            merged.unlink(missing_ok=True)


class _Part(NamedTuple):
    """What one rank wrote of an array: a file of raw numbers."""

    path: Path
    dtype: str
    rows: int
    tail: tuple[int, ...]


class _Stream:
    """One array that grows in a file."""

    def __init__(self, path: Path, name: str, first: NDArray[Any]) -> None:
        self.path = path
        self.name = name
        self.file: BinaryIO = path.open("wb")
        self.dtype = npy.dtype_to_descr(first.dtype)
        self.tail = first.shape[1:]
        self.rows = 0

    def append(self, array: NDArray[Any]) -> None:
        if (npy.dtype_to_descr(array.dtype), array.shape[1:]) != (self.dtype, self.tail):
            raise ValueError(
                f"predict_step returned '{self.name}' as {array.dtype} {array.shape} after rows "
                f"of {self.dtype} {self.tail}; only the first dimension may differ"
            )
        self.file.write(array.tobytes())
        self.rows += len(array)

    def close(self) -> _Part:
        self.file.close()
        return _Part(self.path, str(self.dtype), self.rows, self.tail)


def _array(value: Any) -> NDArray[Any]:
    tensor = torch.as_tensor(value).detach().cpu()
    if tensor.dtype == torch.bfloat16:  # which NumPy does not have
        tensor = tensor.float()
    return np.ascontiguousarray(tensor.numpy())


def _join(name: str, parts: list[_Part], entry: IO[bytes]) -> None:
    """Write the parts of all ranks as one array in the format of NumPy."""
    kinds = {(part.dtype, part.tail) for part in parts}
    if len(kinds) > 1:
        raise ValueError(f"the processes predicted '{name}' in different shapes: {kinds}")
    shape = (sum(part.rows for part in parts), *parts[0].tail)
    header = {"descr": parts[0].dtype, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(entry, header)  # type: ignore[arg-type]
    for part in parts:
        with part.path.open("rb") as source:
            shutil.copyfileobj(source, entry)
