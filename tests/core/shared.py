"""The supplied files, where they lie beside the repository or where SCIML_SHARED says."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SCIML_SHARED", Path(__file__).parents[3] / "shared"))
HIP = SHARED / "data" / "hip"
ASTROCHEM = SHARED / "data" / "astrochem"
XEC = SHARED / "data" / "xec"
ABSENT = "the supplied data are not there"
needs_shared = pytest.mark.skipif(not (ASTROCHEM / "uclchem_grav.h5").is_file(), reason=ABSENT)
needs_hip = pytest.mark.skipif(not (HIP / "xtb_train.h5").is_file(), reason=ABSENT)
needs_xec = pytest.mark.skipif(not (XEC / "train_000.root").is_file(), reason=ABSENT)
