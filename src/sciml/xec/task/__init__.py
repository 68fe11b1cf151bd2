"""The LightningModules."""

from sciml.xec.task.regressor import XECTask

__all__ = ["XECTask"]
