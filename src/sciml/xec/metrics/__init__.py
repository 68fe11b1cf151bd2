"""Resolutions, biases and calibration, merged over batches and ranks."""

from sciml.xec.metrics.events import EventTable
from sciml.xec.metrics.resolution import half_width, opening_quantile, resolutions

__all__ = ["EventTable", "half_width", "opening_quantile", "resolutions"]
