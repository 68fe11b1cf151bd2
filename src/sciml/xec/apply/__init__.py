"""Reconstruction of events for scripts and comparisons."""

from sciml.xec.apply.baselines import Reconstruction, judge, reconstruct

__all__ = ["Reconstruction", "judge", "reconstruct"]
