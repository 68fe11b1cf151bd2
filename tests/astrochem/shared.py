"""The supplied files, where they lie beside the repository or where SCIML_SHARED says."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SCIML_SHARED", Path(__file__).parents[3] / "shared"))
ASTROCHEM = SHARED / "data" / "astrochem"
needs_shared = pytest.mark.skipif(
    not (ASTROCHEM / "uclchem_grav.h5").is_file(), reason="the supplied data are not there"
)
