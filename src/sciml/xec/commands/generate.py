"""``sciml xec generate``: gammas in the detector, as ROOT files."""

from pathlib import Path

from sciml.core.parallel import progress_bar
from sciml.xec.data.dead import dead_channels
from sciml.xec.generate.dataset import Plan, Summary, generate_dataset
from sciml.xec.generate.files import Compression
from sciml.xec.generate.settings import Beam, Detector, Settings, Spectrum, Vertex


def generate(
    *,
    out: Path,
    events: int = 1000,
    files: int = 1,
    seed: int = 0,
    calib_seed: int = 7,
    vertex: Vertex = "free",
    spectrum: Spectrum = "mix",
    dead: int | list[int] | Path = 0,
    noise: float = 1.0,
    pileup: float = 0.0,
    miscal: float = 0.03,
    workers: int | None = None,
    compression: Compression = "zstd",
) -> Summary:
    """Make a set of events: gammas with what the 4760 sensors record of them.

    Each gamma showers in the liquid xenon; its light reaches the sensors directly and diffusely,
    and becomes photon counts and hit times. A run that was stopped goes on when it is repeated; the
    events do not depend on --workers.

    Args:
        out: Folder of the files, events_0000.root and so on. Files that exist are never replaced.
        events: Events in every file.
        files: How many files; each is made by one process.
        seed: Seed of the gammas and the noise.
        calib_seed: Seed of the detector: efficiencies, errors of their calibration, time offsets
            and the dead channels that are drawn. 7 is the detector of the example files.
        vertex: target for gammas from the muon target, free for directions that do not tell where
            a gamma comes from.
        spectrum: signal for 52.83 MeV, flat for 15 to 60 MeV, mix for 35 % and 65 % of the two.
        dead: Number of dead channels, a list of their ids such as [17,4200], or a file of them: an
            id on each line, .npz with the array dead, or .root with a branch dead.
        noise: Factor on the electronic noise.
        pileup: Probability of a second gamma within 60 ns.
        miscal: Relative error of the calibrated efficiencies.
        workers: Processes, with one thread each; by default one for every core.
        compression: Of the files; zstd is small and quick.

    Returns:
        What was made, also printed.
    """
    settings = Settings(
        beam=Beam(vertex=vertex, spectrum=spectrum, pileup=pileup),
        detector=Detector(
            calib_seed=calib_seed,
            miscal=miscal,
            noise=noise,
            dead=dead_channels(dead, max(calib_seed, 0)),
        ),
    )
    plan = Plan(events=events, files=files, seed=seed, compression=compression)
    with progress_bar("files") as progress:
        summary = generate_dataset(out, settings, plan, workers=workers, progress=progress)
    print(summary)
    return summary
