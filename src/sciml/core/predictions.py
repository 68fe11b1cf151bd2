"""Predictions written as they come, never held in memory: one NPZ a rank, then one of all."""

import shutil
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from numpy.lib import format as npy


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
        for name, value in outputs.items():
            array = np.ascontiguousarray(torch.as_tensor(value).detach().cpu().numpy())
            if name not in self._streams:
                part = self._part(trainer.global_rank, name)
                self._streams[name] = _Stream(part, array.dtype, array.shape[1:])
            self._streams[name].append(array)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for stream in self._streams.values():
            stream.file.close()
        own = {name: stream.head() for name, stream in self._streams.items()}
        heads: list[Any] = [None] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(heads, own)
        else:
            heads = [own]
        if trainer.is_global_zero:
            self._merge(heads)
            rank_zero_info(f"predictions in {self._target}")
        trainer.strategy.barrier("predictions")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        for stream in self._streams.values():
            stream.file.close()
            stream.path.unlink(missing_ok=True)

    def _part(self, rank: int, name: str) -> Path:
        return self._target.with_name(f".{self._target.stem}.{rank}.{name}.part")

    def _merge(self, heads: list[dict[str, tuple[str, tuple[int, ...]]]]) -> None:
        part = self._target.with_name(f".{self._target.name}.part")
        names = list(dict.fromkeys(name for head in heads for name in head))
        with zipfile.ZipFile(part, "w", allowZip64=True) as archive:
            for name in names:
                having = [(rank, head[name]) for rank, head in enumerate(heads) if name in head]
                dtype, shape = having[0][1]
                rows = sum(one[0] for _, (_, one) in having)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    header = {"descr": dtype, "fortran_order": False, "shape": (rows, *shape[1:])}
                    npy.write_array_header_1_0(entry, header)  # type: ignore[arg-type]
                    for rank, _ in having:
                        with self._part(rank, name).open("rb") as source:
                            shutil.copyfileobj(source, entry)
                        self._part(rank, name).unlink()
        part.replace(self._target)


class _Stream:
    """One array that grows in a file."""

    def __init__(self, path: Path, dtype: np.dtype[Any], tail: tuple[int, ...]) -> None:
        self.path = path
        self.file: BinaryIO = path.open("wb")
        self.dtype = dtype
        self.tail = tail
        self.rows = 0

    def append(self, array: Any) -> None:
        self.file.write(array.tobytes())
        self.rows += len(array)

    def head(self) -> tuple[str, tuple[int, ...]]:
        return npy.dtype_to_descr(self.dtype), (self.rows, *self.tail)  # type: ignore[return-value]
