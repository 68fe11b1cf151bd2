"""File formats, preprocessed tracers, and the data modules of abundances and sequences."""

from sciml.astrochem.data.abundance import AbundanceData
from sciml.astrochem.data.module import Store
from sciml.astrochem.data.sequence import SequenceData, Windows
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.splits import Splitting

__all__ = ["AbundanceData", "Reading", "SequenceData", "Splitting", "Store", "Windows"]
