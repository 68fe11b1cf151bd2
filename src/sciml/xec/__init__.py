"""Reconstruction of gammas in a liquid-xenon detector."""

from sciml.xec.data import RootStream
from sciml.xec.net import XECNet, XECv1, XECv2
from sciml.xec.task import XECTask

__all__ = ["RootStream", "XECNet", "XECTask", "XECv1", "XECv2"]
