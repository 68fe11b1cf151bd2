"""The Lightning modules."""

from sciml.astrochem.task.autoencoder import AutoencoderTask
from sciml.astrochem.task.dropout import AdaptiveDropout
from sciml.astrochem.task.emulator import EmulatorTask

__all__ = ["AdaptiveDropout", "AutoencoderTask", "EmulatorTask"]
