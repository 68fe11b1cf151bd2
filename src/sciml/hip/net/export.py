"""A network as a plain function of tensors, for programs that leave Python.

Shapes: b molecules, n atoms, m atoms in the largest molecule, k neighbours, p pairs.
"""

import torch
from torch import Tensor, nn

from sciml.hip.net.base import Batch, HIPNet

INPUTS = ("z", "pos", "atoms", "nbr", "pair_i", "pair_j")


class Program(nn.Module):
    """Energy, forces and Hessian of a batch without a step that depends on values.

    Inputs and outputs are those of `HIPNet`; what it reads besides follows from the inputs.
    A molecule with an element that the network does not know becomes NaN.

    Args:
        net: Network, which is frozen.
        outputs: Names of the outputs of the network, in the order wanted.
    """

    def __init__(self, net: HIPNet, outputs: tuple[str, ...]) -> None:
        super().__init__()
        net.freeze()
        self.net = net
        self.outputs = outputs

    def forward(
        self, z: Tensor, pos: Tensor, atoms: Tensor, nbr: Tensor, pair_i: Tensor, pair_j: Tensor
    ) -> tuple[Tensor, ...]:
        """Evaluate.

        Args:
            z: Atomic numbers, int64, shape ``(n,)``.
            pos: Coordinates in Å, float64, shape ``(n, 3)``.
            atoms: Index of the atoms of every molecule, n beyond its last, shape ``(b, m)``.
            nbr: Index of the neighbours of every atom, shape ``(n, k)``; padding is the index of
                the atom itself.
            pair_i: First atom of all pairs i < j of the same molecule, shape ``(p,)``.
            pair_j: Second atom, shape ``(p,)``.

        Returns:
            The outputs in their order.
        """
        own = torch.arange(z.shape[0], device=z.device)  # len() would fix the number
        ends = (atoms < z.shape[0]).sum(1).cumsum(0)
        unknown = self.net._species[z] < 0
        batch: Batch = {
            "z": z,
            "pos": torch.where(unknown[:, None], torch.nan, pos),
            "batch": (own[:, None] >= ends).sum(1),
            "ptr": torch.cat([torch.zeros_like(ends[:1]), ends]),
            "atoms": atoms,
            "nbr": nbr,
            "nbr_mask": nbr != own[:, None],
            "pair_i": pair_i,
            "pair_j": pair_j,
        }
        found = self.net(batch, hessian="hessian" in self.outputs, forces="forces" in self.outputs)
        return tuple(found[name] for name in self.outputs)


def atom_table(batch: Batch) -> Tensor:
    """Index of the atoms of every molecule, n beyond its last, shape ``(b, m)``.

    Args:
        batch: Molecules with the key ``ptr``.
    """
    ptr = batch["ptr"]
    counts = ptr.diff()
    place = torch.arange(int(counts.max()), device=ptr.device)
    return torch.where(place < counts[:, None], ptr[:-1, None] + place, ptr[-1])
