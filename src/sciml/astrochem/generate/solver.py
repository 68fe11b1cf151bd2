"""The embedded network, integrated step by step.

Letters: S species.
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.integrate import odeint, solve_ivp

from sciml.astrochem.generate.backend import Chemistry, StepError
from sciml.astrochem.generate.kinetics import Kinetics
from sciml.astrochem.generate.network import Floats, Network
from sciml.astrochem.generate.rates import Rates
from sciml.astrochem.physics.constants import FLOOR, YEAR

METHODS = {"LSODA": 1.0, "BDF": 1.0, "Radau": 10.0}  # factor on the relative tolerance
PATIENCE = 20_000  # evaluations of a step; the hardest of the ordinary ones needs 2,000
NEGATIVE = -1e-12  # below what rounding and the tolerances explain


Change = Callable[[float, Floats], Floats]
"""Right-hand side of the equations: time in s, abundances to their change in s⁻¹."""


class _StalledError(Exception):
    """A method uses more evaluations than a step can be worth."""


class EmbeddedChemistry(Chemistry):
    """A network solved with LSODA; steps it cannot do go to BDF, then to Radau.

    Rate coefficients and shielding columns are those of the start of a step. The Jacobian is
    analytic, so elements and charge are conserved to rounding.

    Args:
        network: The network, checked.
        zeta: Cosmic-ray ionisation in units of 1.3e-17 s⁻¹.
        rtol: Relative tolerance.
        atol: Absolute tolerance per H nucleus.
    """

    def __init__(
        self, network: Network, zeta: float = 1.0, rtol: float = 1e-5, *, atol: float = 1e-22
    ) -> None:
        table = network.species
        super().__init__(
            table.names, table.elements, composition=table.composition, charge=table.charge
        )
        self._rates = Rates(network, zeta)
        self._kinetics = Kinetics(network)
        self._rtol, self._atol = rtol, atol

    def advance(self, x: Floats, p: Floats, dt: float) -> Floats:
        k = self._rates(p, x)
        reasons: list[str] = []
        for method, factor in METHODS.items():
            end = self._integrate(method, k, x, dt * YEAR, rtol=self._rtol * factor)
            if not isinstance(end, str):
                if reasons:
                    self.fallbacks[method] += 1
                return np.maximum(end, FLOOR)
            reasons.append(f"{method}: {end}")
        density, light, extinction, temperature = p
        raise StepError(
            f"no method integrates {dt:g} yr at {density:.4g} cm⁻³, {light:.4g} Habing,"
            f" {extinction:.4g} mag and {temperature:.4g} K ({'; '.join(reasons)})"
        )

    def _integrate(
        self, method: str, k: Floats, x: Floats, seconds: float, *, rtol: float
    ) -> Floats | str:
        """Abundances at the end of a step, or why there are none."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # the methods say in warnings why they give up
            try:
                run = self._lsoda if method == "LSODA" else self._implicit(method)
                return run(_counted(self._kinetics.derivatives, k), k, x, seconds, rtol)
            except (_StalledError, np.linalg.LinAlgError, ValueError) as error:
                return str(error)  # ValueError: matrices of numbers that are not finite

    def _lsoda(
        self, change: Change, k: Floats, x: Floats, seconds: float, rtol: float
    ) -> Floats | str:
        # not through solve_ivp, which keeps the work arrays of every call for ever
        states, report = odeint(
            change,
            x,
            (0.0, seconds),
            Dfun=lambda time, y: self._kinetics.jacobian(k, y).T,
            tfirst=True,
            rtol=rtol,
            atol=self._atol,
            mxstep=PATIENCE,
            full_output=True,
        )
        if report["message"] != "Integration successful.":
            return str(report["message"]).rstrip(".")
        return _checked(states[-1])

    def _implicit(self, method: str) -> Callable[..., Floats | str]:
        def run(change: Change, k: Floats, x: Floats, seconds: float, rtol: float) -> Floats | str:
            solution = solve_ivp(
                change,
                (0.0, seconds),
                x,
                method=method,
                jac=lambda time, y: self._kinetics.jacobian(k, y).T,
                rtol=rtol,
                atol=self._atol,
            )
            if not solution.success:
                return str(solution.message).rstrip(".")
            return _checked(solution.y[:, -1])

        return run


def _checked(end: Floats) -> Floats | str:
    if not np.isfinite(end).all() or end.min() < NEGATIVE:
        return "negative abundances or numbers that are not finite"
    return end


def _counted(
    derivatives: Callable[[Floats, Floats], Floats], k: Floats
) -> Callable[[float, Floats], Floats]:
    """Right-hand side of the equations that gives up after `PATIENCE` calls."""
    left = PATIENCE

    def change(time: float, x: Floats) -> Floats:
        nonlocal left
        left -= 1
        if left < 0:
            raise _StalledError(f"stalled after {PATIENCE} evaluations")
        return derivatives(k, x)

    return change
