"""Tracer histories and the embedded reaction network."""
