"""Emulators of astrochemical reaction networks."""
