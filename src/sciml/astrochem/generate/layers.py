"""Surface and bulk of the ice in networks that tell them apart (``#X`` and ``@X``).

Letters: S species, R reactions, i molecules that ice is made of.
"""

import numpy as np
from scipy.sparse import csr_array

from sciml.astrochem.generate.grain import ACTIVE_LAYERS, MONOLAYER
from sciml.astrochem.generate.network import Floats, Network

EMPTY = 1e-30  # molecules per H below which a layer is not there


class Layers:
    """What moves between the surface of the ice and the bulk below.

    Bulk reactions and swaps happen in one of the ``x_bulk/m`` layers at a time, so their speeds
    carry ``L = min(1, m/x_bulk)``. What all BULKSWAP bring up, SURFSWAP take down, shared out by
    the abundances on the surface. When the surface gains molecules at the rate d, the share
    ``min(1, x_surface/2m)`` of them buries the present surface; when it loses them,
    ``min(1, x_bulk/x_surface)`` of the gap is filled from the bulk. So the surface keeps its two
    layers while the ice grows or shrinks.

    Source: Garrod & Pauly 2011, equations 1 to 4; Ruaud, Wakelam & Hersant 2016 for two layers.

    Args:
        network: The network, checked; each ``#X`` has its ``@X``.
        change: Its stoichiometry, shape ``(S, R)``.
    """

    def __init__(self, network: Network, change: csr_array) -> None:
        names = network.species.names
        self.surface = network.species.places("#")
        self.bulk = np.array([names.index("@" + names[i][1:]) for i in self.surface])
        in_bulk = np.isin(network.reactants[:, 0], self.bulk)
        self._diluted = np.flatnonzero(in_bulk & np.isin(network.kind, ("LH", "BULKSWAP")))
        self._up = network.of("BULKSWAP")
        self._down = network.of("SURFSWAP")
        self._lifted = network.reactants[self._up, 0]
        self._buried = network.reactants[self._down, 0]
        self._change_down = change[:, self._down].toarray()
        self._change_diluted = change[:, self._diluted]

    def dilute(self, k: Floats, x: Floats) -> None:
        """Bring the factors of the bulk and of SURFSWAP into coefficients, in place.

        Args:
            k: Coefficients, shape ``(R,)``.
            x: Abundances, shape ``(S,)``.
        """
        k[self._diluted] *= self._share(x)
        lifted = (k[self._up] * x[self._lifted]).sum()
        k[self._down] *= lifted / max(x[self.surface].sum(), EMPTY)

    def derivatives(self, change: csr_array, speed: Floats, x: Floats) -> Floats:
        """Change of the abundances with the factors and the transfer.

        Args:
            change: Stoichiometry, shape ``(S, R)``.
            speed: Speeds without what this class adds, shape ``(R,)``; changed in place.
            x: Abundances, shape ``(S,)``.

        Returns:
            ``dx/dt`` in s⁻¹, shape ``(S,)``.
        """
        speed[self._diluted] *= self._share(x)
        speed[self._down] *= speed[self._up].sum() / max(x[self.surface].sum(), EMPTY)
        total: Floats = change @ speed
        gain = total[self.surface].sum()
        moved = gain * self._mixture(x, gain)[0]
        total[self.surface] -= moved
        total[self.bulk] += moved
        return total

    def add_to_jacobian(
        self, transposed: Floats, change: csr_array, k: Floats, speed: Floats, x: Floats
    ) -> None:
        """Add what the factors and the transfer bring, in place.

        Args:
            transposed: Jacobian with the factors of `dilute` held fixed, shape ``(S, S)``.
            change: Stoichiometry, shape ``(S, R)``.
            k: Coefficients with the factors, shape ``(R,)``.
            speed: Speeds with the factors, shape ``(R,)``.
            x: Abundances, shape ``(S,)``.
        """
        on_surface, in_bulk = max(x[self.surface].sum(), EMPTY), x[self.bulk].sum()
        thick = in_bulk > MONOLAYER
        swapped = self._change_down @ (x[self._buried] / on_surface)
        lifted = speed[self._up].sum()
        by_bulk = np.zeros(len(x))
        np.add.at(by_bulk, self._lifted, k[self._up])
        if thick:
            by_bulk[self.bulk] -= lifted / in_bulk
            transposed[self.bulk] -= self._change_diluted @ speed[self._diluted] / in_bulk
        transposed += np.outer(by_bulk, swapped)
        transposed[self.surface] -= swapped * lifted / on_surface
        total = change @ speed
        gain = total[self.surface].sum()
        mixture, by_x = self._mixture(x, gain)
        moved = np.outer(transposed[:, self.surface].sum(1), mixture) + gain * by_x
        transposed[:, self.surface] -= moved
        transposed[:, self.bulk] += moved

    def _share(self, x: Floats) -> float:
        """Share of the bulk's pairs that are in one layer."""
        return float(MONOLAYER / max(x[self.bulk].sum(), MONOLAYER))

    def _mixture(self, x: Floats, gain: float) -> tuple[Floats, Floats]:
        """Molecules that move to the bulk for one that the surface gains, and its derivatives.

        Args:
            x: Abundances, shape ``(S,)``.
            gain: Growth of the surface in s⁻¹; its sign says which way molecules move.

        Returns:
            Shares, shape ``(i,)``, and their derivatives by x, shape ``(S, i)``.
        """
        side = self.surface if gain > 0 else self.bulk
        on_surface = max(x[self.surface].sum(), EMPTY)
        present = max(x[side].sum(), EMPTY)
        full = ACTIVE_LAYERS * MONOLAYER if gain > 0 else on_surface
        size = max(present, full)
        by_x = np.zeros((len(x), len(side)))
        by_x[side, np.arange(len(side))] = 1 / size
        if present >= full:
            by_x[side] -= x[side] / size**2
        elif gain <= 0:
            by_x[self.surface] -= x[side] / size**2
        return x[side] / size, by_x
