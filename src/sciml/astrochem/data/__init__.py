"""File formats, preprocessed tracers, and the data modules of abundances and sequences."""

from sciml.astrochem.data.module import AbundanceData, SequenceData, Store, Windows
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.splits import Splitting

__all__ = ["AbundanceData", "Reading", "SequenceData", "Splitting", "Store", "Windows"]
