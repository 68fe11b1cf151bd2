"""MACE-HIP: energies, forces and Hessians of molecules from one network."""

from sciml.hip.data import HessianData
from sciml.hip.net import MACEHIP, HIPNet
from sciml.hip.task import HIPTask

__all__ = ["MACEHIP", "HIPNet", "HIPTask", "HessianData"]
