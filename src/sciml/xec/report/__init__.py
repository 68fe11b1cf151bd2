"""Figures and tables of gammas and sensors."""
