"""What a run of the generator simulates."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sciml.xec.physics.constants import SENSORS

Vertex = Literal["free", "target"]
Spectrum = Literal["mix", "flat", "signal"]


@dataclass(frozen=True, slots=True)
class Beam:
    """Where the gammas come from.

    Args:
        vertex: ``target`` for the muon target; ``free`` for directions that say nothing about it.
        spectrum: ``signal`` for 52.83 MeV, ``flat`` for 15 to 60 MeV, ``mix`` for 35 % of the first
            and 65 % of the second.
        pileup: Probability of a second gamma.

    Raises:
        ValueError: If the probability is none.
    """

    vertex: Vertex = "free"
    spectrum: Spectrum = "mix"
    pileup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.pileup <= 1:
            raise ValueError(f"pileup is {self.pileup:g}; give a probability from 0 to 1")


@dataclass(frozen=True, slots=True)
class Detector:
    """How the sensors see light.

    Args:
        calib_seed: Seed of efficiencies, their calibration and the time offsets.
        miscal: Relative error of the calibrated efficiencies.
        noise: Factor on the electronic noise.
        dead: Ids of the dead channels.

    Raises:
        ValueError: If a number is out of its range.
    """

    calib_seed: int = 7
    miscal: float = 0.03
    noise: float = 1.0
    dead: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.calib_seed < 0:
            raise ValueError(f"calib_seed is {self.calib_seed}; give 0 or more")
        if not 0 <= self.miscal <= 0.2:  # beyond, efficiencies come near 0
            raise ValueError(f"miscal is {self.miscal:g}; give a number from 0 to 0.2")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise is {self.noise:g}; give 0 or more")
        for channel in self.dead:
            if not 0 <= channel < SENSORS:
                raise ValueError(f"no channel {channel}; give dead ids from 0 to {SENSORS - 1}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Gammas and detector of a run.

    Args:
        beam: Where the gammas come from.
        detector: How the sensors see them.
    """

    beam: Beam = field(default_factory=Beam)
    detector: Detector = field(default_factory=Detector)

    def as_json(self) -> dict[str, Any]:
        """Plain values by name, to be written down and compared with those of an earlier run."""
        values = asdict(self.beam) | asdict(self.detector)
        return values | {"dead": list(self.detector.dead)}
