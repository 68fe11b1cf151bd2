"""Autoencoders of abundances and emulators of their latents."""

from sciml.astrochem.net.autoregressive import LatentAutoregressive
from sciml.astrochem.net.base import AutoencoderNet, EmulatorNet, LatentStatistics
from sciml.astrochem.net.flow import FlowMap
from sciml.astrochem.net.residual import PcaResidualAutoencoder
from sciml.astrochem.net.tied import TiedAutoencoder

__all__ = [
    "AutoencoderNet",
    "EmulatorNet",
    "FlowMap",
    "LatentAutoregressive",
    "LatentStatistics",
    "PcaResidualAutoencoder",
    "TiedAutoencoder",
]
