"""Emulators of astrochemical reaction networks."""

from sciml.astrochem.apply import AstroEmulator, CellStepper, EmulatorEnsemble
from sciml.astrochem.data import AbundanceData, SequenceData
from sciml.astrochem.net import (
    AutoencoderNet,
    EmulatorNet,
    FlowMap,
    LatentAutoregressive,
    PcaResidualAutoencoder,
    TiedAutoencoder,
)
from sciml.astrochem.task import AdaptiveDropout, AutoencoderTask, EmulatorTask

# what tasks take from the headers of the data
LINKS = {"species": "species", "elements": "elements", "net.init_args.input_dim": "input_dim"}

__all__ = [
    "AbundanceData",
    "AdaptiveDropout",
    "AstroEmulator",
    "AutoencoderNet",
    "AutoencoderTask",
    "CellStepper",
    "EmulatorEnsemble",
    "EmulatorNet",
    "EmulatorTask",
    "FlowMap",
    "LatentAutoregressive",
    "PcaResidualAutoencoder",
    "SequenceData",
    "TiedAutoencoder",
]
