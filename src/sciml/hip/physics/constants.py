"""Units of the hip domain: Å, eV, eV/Å, eV/Å², amu; frequencies in cm⁻¹."""

HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # Å, CODATA 2018
HARTREE_PER_BOHR2 = HARTREE / BOHR**2  # eV/Å², 97.17362
BOLTZMANN = 8.617333262e-5  # eV/K, CODATA 2018
INVERSE_CM = 1.239841984e-4  # eV, CODATA 2018
AMU = 1.66053906660e-27  # kg, CODATA 2018

WAVENUMBER = 521.47090
"""Wavenumber in cm⁻¹ of the curvature 1 eV/Å²/amu: ``√(eV/amu)/Å / (2πc)`` with CODATA 2018."""
