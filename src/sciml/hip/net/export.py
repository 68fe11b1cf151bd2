"""A network as a plain function of tensors, for programs that leave Python.

Shapes: b molecules, n atoms, m atoms in the largest molecule, k neighbours, p pairs.
"""

from collections.abc import Sequence

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from sciml.core.export.ports import ExportInputs, Port, Sample
from sciml.core.graph import all_pairs, neighbor_table
from sciml.hip.net.base import Batch, HIPNet
from sciml.hip.physics.layout import pad_by_molecule

INPUTS = (
    Port("z", ("n",), "", "atomic numbers"),
    Port("pos", ("n", 3), "Å", "coordinates"),
    Port("atoms", ("b", "m"), "", "index of the atoms of every molecule, n beyond its last"),
    Port("nbr", ("n", "k"), "", "neighbours within the cutoff; the atom itself as padding"),
    Port("pair_i", ("p",), "", "first atom of all pairs i < j of a molecule"),
    Port("pair_j", ("p",), "", "second atom of these pairs"),
)
OUTPUTS = (
    Port("energy", ("b",), "eV", "energy without those of the elements"),
    Port("total_energy", ("b",), "eV", "energy"),
    Port("forces", ("n", 3), "eV/Å", "-∂E/∂x"),
    Port("hessian", ("b", "3m", "3m"), "eV/Å²", "∂²E/∂x∂x, zero beyond the atoms of a molecule"),
)
PARTS = {"hessian": OUTPUTS, "forces": OUTPUTS[:3], "energy": OUTPUTS[:2]}
SIZES = {"traced": (9, 4, 7, 5), "smaller": (2,), "larger": (12, 1, 4, 20, 3, 10)}  # atoms
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}  # of the largest number of an output
SPACING, SHIFT = 1.5, 0.2  # Å, of the grid that sample molecules lie on and of their atoms off it


class Program(nn.Module):
    """Energy, forces and Hessian of a batch without a step that depends on values.

    Inputs and outputs are those of `HIPNet`; what it reads besides follows from the inputs.
    A molecule with an element that the network does not know becomes NaN.

    Args:
        net: Network, which is frozen.
        outputs: Names of the outputs of the network, in the order wanted.
    """

    known: Tensor

    def __init__(self, net: HIPNet, outputs: tuple[str, ...]) -> None:
        super().__init__()
        net.freeze()
        self.net = net
        self.outputs = outputs
        elements = net.trained_elements()
        self.stand_in = elements[0]  # for unknown elements
        known = torch.zeros(len(chemical_symbols), dtype=torch.bool)
        known[list(elements)] = True
        self.register_buffer("known", known)

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
        known = self.known[z]
        molecule = (own[:, None] >= ends).sum(1)
        batch: Batch = {
            "z": torch.where(known, z, self.stand_in),
            "pos": pos,
            "batch": molecule,
            "ptr": torch.cat([torch.zeros_like(ends[:1]), ends]),
            "atoms": atoms,
            "nbr": nbr,
            "nbr_mask": nbr != own[:, None],
            "pair_i": pair_i,
            "pair_j": pair_j,
        }
        found = self.net(batch, hessian="hessian" in self.outputs, forces="forces" in self.outputs)
        good = pad_by_molecule((~known)[:, None], batch).sum((1, 2)) == 0
        by_row = {"forces": good[molecule][:, None], "hessian": good[:, None, None]}
        return tuple(
            torch.where(by_row.get(name, good), found[name], torch.nan) for name in self.outputs
        )


def describe(net: HIPNet, what: str) -> ExportInputs:
    """Tensors of a program and samples with the network's own results for them.

    Args:
        net: Network.
        what: Part of it, one of `PARTS`.
    """
    outputs = PARTS[what]
    net.eval()
    samples = {}
    for size, atoms in SIZES.items():
        batch = sample_batch(atoms, net.trained_elements(), net.cutoff)
        found = net(batch, hessian=what == "hessian", forces=what != "energy")
        batch["atoms"] = atom_table(batch)
        samples[size] = Sample(
            {port.name: batch[port.name] for port in INPUTS},
            {port.name: found[port.name] for port in outputs},
        )
    return ExportInputs(
        inputs=INPUTS,
        outputs=outputs,
        samples=samples,
        tolerance=TOLERANCE,
        metadata={
            "net": type(net).__name__,
            "elements": list(net.trained_elements()),
            "cutoff": net.cutoff,
            "cutoff_unit": "Å",
            "unknown_elements": "all results of the molecule are NaN",
        },
        derivatives=True,
    )


def sample_batch(sizes: Sequence[int], elements: Sequence[int], cutoff: float) -> Batch:
    """Molecules of random elements near the points of a grid, always the same ones.

    Args:
        sizes: Atoms of every molecule.
        elements: Atomic numbers to draw from.
        cutoff: Radius of the neighbour table in Å, which is as wide as the largest molecule needs.
    """
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor(sizes)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    graph = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    side = torch.arange(3, dtype=torch.float64)
    grid = SPACING * torch.cartesian_prod(side, side, side)
    positions = torch.cat([grid[:size] for size in sizes])
    off = torch.rand(positions.shape, generator=generator, dtype=torch.float64)
    drawn = torch.randint(len(elements), (len(graph),), generator=generator)
    positions = positions + SHIFT * (2 * off - 1)
    neighbors, real = neighbor_table(positions, graph, ptr, cutoff)
    missing = max(sizes) - 1 - neighbors.shape[1]  # a width of its own, whatever the cutoff
    own = torch.arange(len(graph))[:, None].expand(-1, missing)
    pair_i, pair_j = all_pairs(graph, ptr)
    return {
        "z": torch.tensor(elements)[drawn],
        "pos": positions,
        "batch": graph,
        "ptr": ptr,
        "nbr": torch.cat([neighbors, own], dim=1),
        "nbr_mask": torch.cat([real, torch.zeros_like(own, dtype=torch.bool)], dim=1),
        "pair_i": pair_i,
        "pair_j": pair_j,
    }


def atom_table(batch: Batch) -> Tensor:
    """Index of the atoms of every molecule, n beyond its last, shape ``(b, m)``.

    Args:
        batch: Molecules with the key ``ptr``.
    """
    ptr = batch["ptr"]
    counts = ptr.diff()
    place = torch.arange(int(counts.max()), device=ptr.device)
    return torch.where(place < counts[:, None], ptr[:-1, None] + place, ptr[-1])
