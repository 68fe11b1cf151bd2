"""Networks that map a molecule to energy, forces and Hessian."""

from sciml.hip.net.base import HIPNet
from sciml.hip.net.mace import MACEHIP
from sciml.hip.net.settings import HessianHead, Interaction, Radial, Readout

__all__ = ["MACEHIP", "HIPNet", "HessianHead", "Interaction", "Radial", "Readout"]
