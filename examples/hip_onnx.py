"""Energy, forces and Hessian of a molecule from an exported network, with NumPy and ONNX Runtime.

sciml export best.ckpt --out net.onnx --format onnx
python examples/hip_onnx.py net.onnx molecule.xyz
"""

import argparse
import json
from pathlib import Path

import ase.io
import numpy as np
import onnxruntime
from numpy.typing import NDArray


def inputs(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], cutoff: float
) -> dict[str, NDArray[np.generic]]:
    """What the program takes, for one molecule.

    Args:
        numbers: Atomic numbers, shape ``(n,)``.
        positions: Coordinates in Å, shape ``(n, 3)``.
        cutoff: That of the network in Å.
    """
    own = np.arange(len(numbers))
    distance = np.linalg.norm(positions[:, None] - positions, axis=2)
    near = (distance < cutoff) & (own[:, None] != own)
    width = max(int(near.sum(1).max()), 1)
    # neighbours first; an atom's own index stands for none
    neighbors = np.where(near, own, own[:, None])
    order = np.argsort(~near, axis=1, kind="stable")[:, :width]
    pair_i, pair_j = np.triu_indices(len(numbers), 1)
    return {
        "z": numbers.astype(np.int64),
        "pos": positions.astype(np.float64),
        "atoms": own[None],
        "nbr": np.take_along_axis(neighbors, order, axis=1),
        "pair_i": pair_i.astype(np.int64),
        "pair_j": pair_j.astype(np.int64),
    }


def evaluate(program: Path, molecule: Path) -> dict[str, NDArray[np.generic]]:
    """Outputs of the program by name.

    Args:
        program: Written by ``sciml export``, with its description beside it.
        molecule: Any file of coordinates in Å that ASE reads.
    """
    described = json.loads(program.with_name(f"{program.name}.json").read_text())
    atoms = ase.io.read(molecule)
    given = inputs(atoms.numbers, atoms.positions, described["metadata"]["cutoff"])
    names = [port["name"] for port in described["outputs"]]
    session = onnxruntime.InferenceSession(program)
    return dict(zip(names, session.run(names, given), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="file of sciml export, format onnx")
    parser.add_argument("molecule", type=Path, help="coordinates in Å that ASE reads")
    chosen = parser.parse_args()
    found = evaluate(chosen.program, chosen.molecule)
    print(f"energy {found['total_energy'][0]:.6f} eV")
    print(f"largest force {np.abs(found['forces']).max():.4f} eV/Å")
    if "hessian" in found:
        print(f"largest Hessian entry {np.abs(found['hessian']).max():.3f} eV/Å²")
