"""Trained networks as programs that run without Python."""

from sciml.core.export.ports import ExportInputs, Port, Sample
from sciml.core.export.program import export

__all__ = ["ExportInputs", "Port", "Sample", "export"]
