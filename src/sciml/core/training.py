"""LightningCLI with the application's callbacks, parser and way with checkpoints."""

import logging
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import yaml
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from sciml.core import checkpoint
from sciml.core.data import DataModule
from sciml.core.ema import EMA
from sciml.core.journal import Journal
from sciml.core.parser import explain, fail, flags
from sciml.core.predictions import PredictionWriter
from sciml.core.provenance import Provenance
from sciml.core.requeue import Requeue
from sciml.core.seed import StepSeed
from sciml.core.task import Task


class TrainingParser(LightningArgumentParser):
    """The parser of the training verbs: exits with code 2 and one sentence."""

    typed: Sequence[str] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong, what may have been meant, and exit.

        Args:
            message: The library's message; may have several lines.
            ex: The exception it came from.
        """
        fail(explain(message, flags(self), TrainingParser.typed))


class SciMLCLI(LightningCLI):
    """The training verbs: ``fit``, ``validate``, ``test`` and ``predict``.

    Args:
        args: Words of the command, the verb first.
        links: What a task takes from its data module: attribute of the module by argument of the
            task. Tasks without that argument and modules without that attribute are left alone.
    """

    def __init__(
        self, args: Sequence[str], links: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        _quiet()
        self.links = dict(links)
        TrainingParser.typed = list(args)
        super().__init__(
            Task,
            DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_class=TrainingParser,
            parser_kwargs={"prog": "sciml", "description": "Train, validate, test and predict."},
            # a requeued job comes back to its own folder
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "use_distributed_sampler": False,  # our samplers divide the data themselves
                "inference_mode": False,  # forces are derivatives, in evaluation too
                "callbacks": [Provenance(), Journal()],
            },
            args=list(args),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_lightning_class_args(StepSeed, "step_seed")
        parser.add_lightning_class_args(Requeue, "requeue")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        for target, attribute in self.links.items():
            parser.link_arguments(
                "data",
                f"model.init_args.{target}",
                compute_fn=partial(_attribute, attribute),
                apply_on="instantiate",
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        words = [str(word) for word in args] if isinstance(args, list) else []
        path = _value_of("--ckpt_path", words)
        if words[:1] == ["fit"] or path is None or path in {"best", "last", "hpc"}:
            self.config = parser.parse_args(words)
            return
        stored = checkpoint.read(path, mapped=True)
        config = {"model": checkpoint.model_config(stored, path)}
        for target in self.links:  # these come from the data, also from other data
            _remove(config["model"], f"init_args.{target}")
        data = checkpoint.data_config(stored, path)
        if data is not None:
            config["data"] = data
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "checkpoint.yaml"
            file.write_text(yaml.safe_dump(config))
            self.config = parser.parse_args([words[0], "--config", str(file), *words[1:]])
        own = self.config[words[0]]
        own["config"] = [item for item in own["config"] or [] if Path(item.absolute).exists()]

    def _parse_ckpt_path(self) -> None:
        """Leave the settings alone: what the user typed beats what the checkpoint holds."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        _keep_checkpoints_of_job(trainer)
        return trainer

    def validate(self, **kwargs: Any) -> None:
        """Validate; the task prints its own table, so Lightning's is left out.

        Args:
            kwargs: What the trainer's own method takes.
        """
        self.trainer.validate(**(kwargs | {"verbose": False}))

    def test(self, **kwargs: Any) -> None:
        """Test; the task prints its own table, so Lightning's is left out.

        Args:
            kwargs: What the trainer's own method takes.
        """
        self.trainer.test(**(kwargs | {"verbose": False}))

    def predict(self, **kwargs: Any) -> None:
        """Predict through the writer, which keeps nothing in memory.

        Args:
            kwargs: What the trainer's own method takes.
        """
        self.trainer.predict(**(kwargs | {"return_predictions": False}))


def _attribute(name: str, data: DataModule) -> Any:
    return getattr(data, name, None)


def _remove(config: dict[str, Any], dotted: str) -> None:
    *path, last = dotted.split(".")
    for name in path:
        config = config.get(name) or {}
    config.pop(last, None)


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None


def _keep_checkpoints_of_job(trainer: Trainer) -> None:
    """Put the checkpoints of a SLURM job where its requeued self finds them with any logger."""
    if not SLURMEnvironment.detect():
        return
    job = os.environ["SLURM_JOB_ID"]
    folder = Path(trainer.default_root_dir) / "lightning_logs" / f"version_{job}" / "checkpoints"
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(folder)


def _quiet() -> None:
    """Leave out the tips of the libraries, and warnings about what is meant to be."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode.*")  # frozen on purpose
