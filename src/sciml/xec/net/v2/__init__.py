"""The default network: images, graphs and a full-resolution window in one transformer."""

from sciml.xec.net.v2.network import XECv2

__all__ = ["XECv2"]
