"""The network of older checkpoints."""

from sciml.xec.net.v1.encoder import XECEncoder
from sciml.xec.net.v1.network import XECv1

__all__ = ["XECEncoder", "XECv1"]
