"""Change of the abundances with time, and its Jacobian.

Letters: S species, R reactions.
"""

import numpy as np
from scipy.sparse import csr_array

from sciml.astrochem.generate.grain import ACTIVE_LAYERS, MONOLAYER
from sciml.astrochem.generate.layers import Layers
from sciml.astrochem.generate.network import Floats, Indices, Network

ACTIVE = ACTIVE_LAYERS * MONOLAYER  # molecules per H in the layers that take part
_ONE = np.ones(1)
_BOTH_COUNT = ("TWOBODY", "LH", "ER")  # types whose speed has both reactants as factors


class Kinetics:
    """``dx/dt = S v(x)`` of one network with its stoichiometry compiled to flat indices.

    The speed of a reaction is its coefficient times its first reactant (both, for reactions that
    need a meeting), times ``F = 2 m/(2 m + x_ice)`` for THERM and LH and ``1/(2 m + x_ice)`` for
    DESCR and DEUVCR; m is one layer of ice and x_ice the sum of all ``#X``.

    Args:
        network: The network, checked.
    """

    def __init__(self, network: Network) -> None:
        size, count = len(network.species), len(network)
        meets = np.isin(network.kind, _BOTH_COUNT)
        self._size = size
        self._one = network.reactants[:, 0]
        self._two = np.where(meets, network.reactants[:, 1], size)  # the entry behind x is 1
        self._pairs = np.flatnonzero(meets)
        self._change = _stoichiometry(network)
        self._ice = network.species.places("#")
        self._bound = _on_surface(network, "THERM", "LH", "DESCR", "DEUVCR")
        active = np.isin(network.kind[self._bound], ("THERM", "LH"))
        self._weight = np.where(active, ACTIVE, 1.0)
        self._change_bound = self._change[:, self._bound]
        entry, partial, sign = self._entries(count)
        self._places, at = np.unique(entry, return_inverse=True)
        shape = (len(self._places), count + len(self._pairs))
        self._scatter = csr_array((sign, (at, partial)), shape=shape)
        self._layers = Layers(network, self._change) if network.species.places("@").size else None

    def derivatives(self, k: Floats, x: Floats) -> Floats:
        """Change of the abundances.

        Args:
            k: Coefficients of the reactions, shape ``(R,)``.
            x: Abundances per H nucleus, shape ``(S,)``.

        Returns:
            ``dx/dt`` in s⁻¹, shape ``(S,)``.
        """
        full = np.concatenate([x, _ONE])
        speed = k * full[self._one] * full[self._two]
        speed[self._bound] *= self._weight / (ACTIVE + x[self._ice].sum())
        if self._layers:
            return self._layers.derivatives(self._change, speed, x)
        change: Floats = self._change @ speed
        return change

    def jacobian(self, k: Floats, x: Floats) -> Floats:
        """Derivatives of `derivatives` by the abundances.

        Args:
            k: Coefficients of the reactions, shape ``(R,)``.
            x: Abundances per H nucleus, shape ``(S,)``.

        Returns:
            Its transpose, shape ``(S, S)``: row j, column i holds ``∂(dx_i/dt)/∂x_j`` in s⁻¹. So
            the matrix lies in memory as the solvers want it.
        """
        full = np.concatenate([x, _ONE])
        room = 1 / (ACTIVE + x[self._ice].sum())
        k = k.copy()
        k[self._bound] *= self._weight * room
        if self._layers:
            self._layers.dilute(k, x)
        by_one = k * full[self._two]
        by_two = (k * full[self._one])[self._pairs]
        flat = np.zeros(self._size * self._size)
        flat[self._places] = self._scatter @ np.concatenate([by_one, by_two])
        transposed = flat.reshape(self._size, self._size)
        speed = by_one * full[self._one]
        transposed[self._ice] -= self._change_bound @ speed[self._bound] * room
        if self._layers:
            self._layers.add_to_jacobian(transposed, self._change, k, speed, x)
        return transposed

    def _entries(self, count: int) -> tuple[Indices, Indices, Floats]:
        """Place in the flat Jacobian, partial derivative and coefficient of every contribution."""
        changed = self._change.tocoo()
        row, reaction = changed.coords
        column_of_pair = np.zeros(count, dtype=np.int64)
        column_of_pair[self._pairs] = count + np.arange(len(self._pairs))
        both = np.isin(reaction, self._pairs)
        entry = self._one[reaction] * self._size + row
        second = (self._two[reaction] * self._size + row)[both]
        return (
            np.concatenate([entry, second]),
            np.concatenate([reaction, column_of_pair[reaction[both]]]),
            np.concatenate([changed.data, changed.data[both]]),
        )


def _stoichiometry(network: Network) -> csr_array:
    """Products minus reactants, shape ``(S, R)``; a species listed twice counts twice."""
    size = len(network.species)
    species = np.concatenate([network.reactants, network.products], axis=1)
    sign = np.repeat([-1.0, 1.0], [network.reactants.shape[1], network.products.shape[1]])
    reaction, column = np.nonzero(species < size)
    change = csr_array(
        (sign[column], (species[reaction, column], reaction)), shape=(size, len(network))
    )
    change.eliminate_zeros()
    return change


def _on_surface(network: Network, *kinds: str) -> Indices:
    j = network.of(*kinds)
    on_surface: Indices = j[np.isin(network.reactants[j, 0], network.species.places("#"))]
    return on_surface
