"""Reconstruction of events for scripts, by networks and by rules."""

from sciml.xec.apply.baselines import Reconstruction, judge, reconstruct
from sciml.xec.apply.reconstructor import Reconstructor

__all__ = ["Reconstruction", "Reconstructor", "judge", "reconstruct"]
