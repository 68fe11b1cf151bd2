"""Units of the astrochem domain: years, H nuclei per cm³, Habing, mag, K; abundances per H."""

YEAR = 3.16e7  # s, the year of UCLCHEM
PHYSICS = ("Density", "Radfield", "Av", "gasTemp")
"""Conditions of a gas parcel, in the order of every array."""
PHYSICS_UNITS = ("cm⁻³", "Habing", "mag", "K")
FLOOR = 1e-30  # abundance of a species that is not there
RADFIELD_FLOOR = 1e-4  # Habing; simulations write 0 where the field is shielded away
LO, HI = 1e-20, 1.0  # abundances that scale to 0 and to 1
