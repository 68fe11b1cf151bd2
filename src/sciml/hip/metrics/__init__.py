"""Metrics of energies, forces, Hessians and normal modes, and their baselines."""

from sciml.hip.metrics.baseline import Baselines
from sciml.hip.metrics.collection import HIPMetrics, score

__all__ = ["Baselines", "HIPMetrics", "score"]
