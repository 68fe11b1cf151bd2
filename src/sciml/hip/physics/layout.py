"""Hessians as padded matrices and as 3×3 blocks (b molecules, n atoms, p pairs, m most atoms)."""

import torch
from torch import Tensor

from sciml.core.graph import pad_by_graph


def pad_by_molecule(values: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Rows of atoms as one zero-padded block per molecule.

    Args:
        values: One row an atom, shape ``(n, ...)``.
        batch: Molecules with the keys ``batch`` and ``ptr``, or with ``atoms``, which is then used
            alone: the shape of the result follows from its shape.

    Returns:
        Padded rows, shape ``(b, m, ...)``.
    """
    if "atoms" in batch:
        return torch.cat([values, torch.zeros_like(values[:1])])[batch["atoms"]]
    return pad_by_graph(values, batch["batch"], batch["ptr"])


def largest_molecule(ptr: Tensor) -> int:
    """Number of atoms m of the largest molecule.

    Args:
        ptr: First atom of every molecule and the total, shape ``(b + 1,)``.
    """
    return int((ptr[1:] - ptr[:-1]).max())


def entry_mask(ptr: Tensor) -> Tensor:
    """Rows of the padded Hessian that belong to an atom.

    Args:
        ptr: First atom of every molecule and the total, shape ``(b + 1,)``.

    Returns:
        Booleans, shape ``(b, 3m)``; the outer product with itself marks the real entries.
    """
    rows = torch.arange(3 * largest_molecule(ptr), device=ptr.device)
    return rows < 3 * (ptr[1:] - ptr[:-1])[:, None]


def pair_blocks(hessian: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Blocks ``H_ij`` of all pairs i < j.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        batch: Molecules with the keys ``batch``, ``ptr``, ``pair_i`` and ``pair_j``.

    Returns:
        Blocks in eV/Å², shape ``(p, 3, 3)``: rows belong to i, columns to j.
    """
    cells = _cells(batch["pair_i"], batch["pair_j"], batch, hessian.shape[-1] // 3)
    return _as_blocks(hessian).index_select(0, cells)


def diagonal_blocks(hessian: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Blocks ``H_ii`` of all atoms.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        batch: Molecules with the keys ``batch`` and ``ptr``.

    Returns:
        Blocks in eV/Å², shape ``(n, 3, 3)``.
    """
    atoms = torch.arange(len(batch["batch"]), device=hessian.device)
    cells = _cells(atoms, atoms, batch, hessian.shape[-1] // 3)
    return _as_blocks(hessian).index_select(0, cells)


def assemble(pair: Tensor, diagonal: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Padded Hessians from the blocks of all pairs i < j and of all atoms.

    Every entry is written once, so the result does not depend on an order of summation.

    Args:
        pair: Blocks ``H_ij`` in eV/Å², shape ``(p, 3, 3)``; ``H_ji`` is the transpose.
        diagonal: Blocks ``H_ii`` in eV/Å², shape ``(n, 3, 3)``.
        batch: Molecules with the keys ``batch``, ``ptr``, ``pair_i``, ``pair_j`` and, possibly,
            ``atoms``.

    Returns:
        Hessians in eV/Å², zero beyond the atoms of a molecule, shape ``(b, 3m, 3m)``.
    """
    if "atoms" in batch:
        molecules, most = batch["atoms"].shape
    else:
        molecules, most = len(batch["ptr"]) - 1, largest_molecule(batch["ptr"])
    i, j = batch["pair_i"], batch["pair_j"]
    atoms = torch.arange(diagonal.shape[0], device=diagonal.device)
    cells = _cells(torch.cat([i, j, atoms]), torch.cat([j, i, atoms]), batch, most)
    values = torch.cat([pair, pair.mT, diagonal])
    blocks = values.new_zeros(molecules * most * most, 3, 3).index_copy(0, cells, values)
    by_atom = blocks.view(molecules, most, most, 3, 3).transpose(2, 3)
    return by_atom.reshape(molecules, 3 * most, 3 * most)


def _cells(rows: Tensor, columns: Tensor, batch: dict[str, Tensor], most: int) -> Tensor:
    """Position of the block (row atom, column atom) in a list of ``b·m·m`` blocks."""
    molecule = batch["batch"][rows]
    first = batch["ptr"][molecule]
    return (molecule * most + rows - first) * most + columns - first


def _as_blocks(hessian: Tensor) -> Tensor:
    molecules, size = hessian.shape[0], hessian.shape[-1]
    blocks = hessian.view(molecules, size // 3, 3, size // 3, 3).transpose(2, 3)
    return blocks.reshape(-1, 3, 3)
