"""Figures and tables of a trained emulator beside its baselines."""

from sciml.astrochem.report.errors import species_figure, step_figure
from sciml.astrochem.report.names import chemical_name
from sciml.astrochem.report.tables import (
    comparison_table,
    species_table,
    step_table,
    tracer_table,
)
from sciml.astrochem.report.tracks import Track, track_figure

__all__ = [
    "Track",
    "chemical_name",
    "comparison_table",
    "species_figure",
    "species_table",
    "step_figure",
    "step_table",
    "tracer_table",
    "track_figure",
]
