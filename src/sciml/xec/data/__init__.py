"""ROOT files: reading them as a stream, checking them, and writing predictions."""

from sciml.xec.data.branches import Units
from sciml.xec.data.cuts import Cuts
from sciml.xec.data.module import Reading, RootStream
from sciml.xec.data.profile import Profile

__all__ = ["Cuts", "Profile", "Reading", "RootStream", "Units"]
