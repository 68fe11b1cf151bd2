"""File formats, datasets and the data module of molecules with Hessians."""

from sciml.hip.data.labels import Labels
from sciml.hip.data.module import Batching, HessianData, Subset

__all__ = ["Batching", "HessianData", "Labels", "Subset"]
