"""Trained emulators for scripts, hydrodynamics codes and comparisons."""

from sciml.astrochem.apply.emulator import AstroEmulator, Extrapolation
from sciml.astrochem.apply.ensemble import EmulatorEnsemble, Spread
from sciml.astrochem.apply.stepper import CellStepper

__all__ = ["AstroEmulator", "CellStepper", "EmulatorEnsemble", "Extrapolation", "Spread"]
