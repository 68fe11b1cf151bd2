"""Errors of abundances in ratios and decades, and comparisons between models."""

from sciml.astrochem.metrics.abundance import AbundanceMetrics, phase_masks
from sciml.astrochem.metrics.comparison import Interval, paired_bootstrap, separation
from sciml.astrochem.metrics.errors import dex_errors, element_errors, tracer_errors

__all__ = [
    "AbundanceMetrics",
    "Interval",
    "dex_errors",
    "element_errors",
    "paired_bootstrap",
    "phase_masks",
    "separation",
    "tracer_errors",
]
