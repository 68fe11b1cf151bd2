"""Geometry, coordinates, solid angles and normalisation, all in closed form."""
