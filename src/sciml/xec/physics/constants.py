"""Units and numbers of the domain: cm, degrees, GeV, ns for events, s for channels, photons.

The detector is a cylindrical shell of liquid xenon around the z axis. The direction angle alpha of
a place is measured from the -x axis towards +y: ``x = -r cos(alpha), y = r sin(alpha)``.
"""

SENSORS = 4760
INNER = 4092  # sensors of the inner face, the SiPMs; all others are PMTs
FACES = ("inner", "us", "ds", "outer", "top", "bot")
"""Faces in the order of the output codes 0 to 5, which every file and every embedding uses."""
HARDWARE = (0, 2, 3, 1, 4, 5)
"""The experiment's own code of each face, in the order of `FACES`."""

RADIUS = 64.97  # cm, R: spacer and height of a SiPM, the surface where depth w is 0
SPACER_RADIUS = 64.84  # cm, where the SiPMs are mounted
OUTER_RADIUS = 106.27  # cm, photocathodes of the outer face
HALF_ANGLE = 62.76  # degrees, |alpha| of the top and bottom faces
HALF_LENGTH = 33.515  # cm, |z| of the side faces at the spacer
SIDE_SLOPE = 0.34963  # growth of that |z| with r
SHADOW_RADIUS = 64.9  # cm, no light passes nearer to the axis

INNER_SHAPE = (93, 44)  # rows along alpha, columns along z
INNER_PITCH = (1.3496771, 1.5097721)  # degrees of alpha, cm of z
COARSE_SHAPE = (24, 9)
COARSE_PITCH = (5.23, 10.356)  # degrees, cm
CENTRE_SHAPE = (6, 5)
CENTRE_PITCH = (5.23 * 2 / 3, 6.2)  # degrees, cm
SIDE_SHAPE = (24, 6)  # rows along alpha, columns outwards
SIDE_PITCH = 5.23  # degrees
SIDE_START = (69.53, 35.1547)  # cm, r and |z| of the first column
SIDE_STEP = (6.684, 2.3369)  # cm of r and |z| from column to column
HEX_ROWS = (11, 12, 11, 12, 13, 14)
"""PMTs in each row of the top and bottom faces, inside to outside."""
HEX_START = 68.27  # cm, r of the first row
HEX_PITCH = (6.91, 6.12)  # cm between rows, cm of z within a row

CHIP = 0.59  # cm, side of one of the 2 x 2 chips of a SiPM
CHIP_GAP = 0.05  # cm between them
SIPM_SIDE = 2 * CHIP + CHIP_GAP  # cm, of a SiPM with the gaps between its chips
ACTIVE = (2 * CHIP / SIPM_SIDE) ** 2  # share of that square that sees light
PMT_RADIUS = 2.25  # cm, photocathode
SIPM_EFFICIENCY = 0.12  # photo-electrons per photon, nominal
PMT_EFFICIENCY = 0.16

LIGHT = 29.979  # cm/ns, speed of light in vacuum
INDEX = 1.61  # refractive index for scintillation light
ATTENUATION = 1 / 150 + 1 / 45  # 1/cm, absorption and scattering of direct light
SIGNAL_ENERGY = 0.05283  # GeV

FIDUCIAL = (23.9, 67.9)  # cm, |u| and |v| of the fiducial volume
INVALID = 1e10  # what files hold where there is no value
INVALID_FROM = 9e9  # values beyond it are invalid
