"""Conversions at the border between programs; everything inside a domain has one unit.

Multiply by a constant to come from its unit to eV, Å and eV/Å.
"""

HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # Å, CODATA 2018
HARTREE_PER_BOHR = HARTREE / BOHR  # eV/Å, gradients in atomic units
HARTREE_PER_BOHR2 = HARTREE / BOHR**2  # eV/Å², second derivatives in atomic units
