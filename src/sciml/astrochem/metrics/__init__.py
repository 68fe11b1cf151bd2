"""Errors of abundances in ratios and decades."""
