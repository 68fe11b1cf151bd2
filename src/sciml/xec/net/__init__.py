"""Networks that reconstruct gammas."""

from sciml.xec.net.base import XECNet
from sciml.xec.net.v1 import XECv1
from sciml.xec.net.v2 import XECv2

__all__ = ["XECNet", "XECv1", "XECv2"]
