"""Tracer files, data sets and data modules."""
