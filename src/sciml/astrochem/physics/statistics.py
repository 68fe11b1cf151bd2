"""What the training tracers say that networks and scalers are set up with."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ChemistryStatistics:
    """Numbers of the training tracers, the validation tracers apart.

    Args:
        species: Names in the order of the abundances.
        elements: Elements that are counted, in the order of the totals.
        lo: Abundance that scales to 0.
        hi: Abundance that scales to 1.
        physics_range: Smallest and largest condition, rounded outwards to two significant figures,
            float64 ``(2, 4)`` in H cm⁻³, Habing, mag and K.
        physics_mean: Mean of log10 of the conditions, float64 ``(4,)``.
        physics_std: Its standard deviation, float64 ``(4,)``.
        physics_motion: Mean and standard deviation over the tracers of their `motion`, float64
            ``(2,)``; (0, inf) if no tracer has two steps.
        mean: Mean scaled abundance, float64 ``(S,)``.
        covariance: Covariance of the scaled abundances, float64 ``(S, S)``.
        dt: Median length of a step in years.
        constant_dt: Whether all steps are that long.
        charge_conserved: Whether the net charge of all rows is below 1e-6 of the electrons.
        element_drift: Largest relative change of an element's total over a tracer.
        rows: Rows of the training tracers.
        tracers: Training tracers.
    """

    species: tuple[str, ...]
    elements: tuple[str, ...]
    lo: float
    hi: float
    physics_range: Tensor
    physics_mean: Tensor
    physics_std: Tensor
    physics_motion: Tensor
    mean: Tensor
    covariance: Tensor
    dt: float
    constant_dt: bool
    charge_conserved: bool
    element_drift: float
    rows: int
    tracers: int


def motion(physics: Tensor) -> Tensor:
    """How much the conditions of histories change from step to step.

    Args:
        physics: In physical units, ``(b, t, 4)`` with t > 1.

    Returns:
        log10 of the root mean square change of their log10 over a step, -6 without any, ``(b,)``.
    """
    change = physics.double().log10().diff(dim=1).square().sum(-1).mean(1).sqrt()
    return (change + 1e-6).log10()
