"""Makers of Hessian data: engines, molecules, geometries."""
