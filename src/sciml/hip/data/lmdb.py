"""HORM LMDB files: pickled PyG molecules, read without PyG and without running pickled code."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciml.hip.data.energies import HORM_E0, total_energy
from sciml.hip.data.environment import SharedEnvironment
from sciml.hip.data.handle import Handle
from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.pickled import DAMAGE, Fields, load_count
from sciml.hip.data.record import Record
from sciml.hip.data.source import Source

ONE_HOT = np.array([1, 6, 7, 8, 9])  # atomic numbers of the columns of `one_hot`: H, C, N, O, F
TOLERANCE = 0.02  # eV; float32 rounding of a total energy of -30 000 eV is 0.002
PROBES = 32  # records whose true size is compared with the size computed from their length
STRUCTURE = {"pos", "charges", "one_hot", "natoms", "rxn", "ae"}  # fields that are no labels


class LmdbSource(Source):
    """Records of a HORM LMDB file.

    Where a record has ``ae``, its energy is ``ae`` plus the reference energies it was made with,
    in float64: the float32 total that stands beside it is rounded to 0.001 eV.

    Args:
        path: A file, or a folder that holds ``data.mdb``.
        labels: Names of the labels.

    Raises:
        ValueError: If the file is truncated or no LMDB.
    """

    def __init__(self, path: Path, labels: Labels = USUAL) -> None:
        super().__init__(path, labels)
        self._handle = Handle(partial(SharedEnvironment.open, path))
        self._keys: NDArray[np.int64] | None = None
        count = self._get(b"length")
        if count is None:
            self._keys = np.sort(self._lengths()[0])
            self._count = len(self._keys)
        else:
            try:
                self._count = load_count(count)
            except DAMAGE as error:
                raise ValueError(f"{path}: its 'length' cannot be read: {error}") from None
        self._uses_ae: bool | None = None

    def __len__(self) -> int:
        return self._count

    def raw(self, index: int) -> Record:
        where = self.where(index)
        fields = self._fields(index)
        try:
            fields.verify()
            return self._record(index, fields)
        except DAMAGE as error:
            raise _refusal(where, error) from None

    def names(self, index: int) -> list[str]:
        return [name for name in self._fields(index) if name not in STRUCTURE]

    def numbers(self, index: int) -> NDArray[np.int64]:
        try:
            numbers: NDArray[np.int64] = self._fields(index).array("charges").astype(np.int64)
            return numbers
        except DAMAGE as error:
            raise _refusal(self.where(index), error) from None

    def reaction(self, index: int) -> int:
        fields = self._fields(index)
        return int(fields.array("rxn")) if "rxn" in fields else -1

    def sizes(self) -> NDArray[np.int64]:
        """Atoms of every record, from the lengths of the values.

        A value is a constant number of bytes plus those of its per-atom and per-pair arrays, known
        from the first record. If some evenly spaced records do not have the size computed so, all
        are unpickled.
        """
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        keys, lengths = self._lengths()
        wanted = np.arange(len(self)) if self._keys is None else self._keys
        order = np.argsort(keys)
        place = np.searchsorted(keys[order], wanted)
        missing = place >= len(keys)
        missing[~missing] = keys[order][place[~missing]] != wanted[~missing]
        if missing.any():
            raise self._missing(int(missing.argmax()))
        sizes = self._atoms_of(lengths[order][place])
        probes = np.linspace(0, len(self) - 1, min(PROBES, len(self))).astype(np.int64)
        if any(self._atoms(probe) != sizes[probe] for probe in probes.tolist()):
            return np.array([self._atoms(index) for index in range(len(self))], dtype=np.int64)
        return sizes

    @property
    def declared_e0(self) -> dict[int, float] | None:
        """The constants ``ae`` was made with, None for a file without ``ae`` or with another."""
        return dict(HORM_E0) if self._is_interaction() else None

    @property
    def level_of_theory(self) -> str:
        """That of HORM for a file with its ``ae``."""
        return "ωB97X/6-31G(d)" if self._is_interaction() else "unknown"

    def close(self) -> None:
        self._handle.close()

    def _record(self, index: int, fields: Fields) -> Record:
        where = self.where(index)
        numbers = self._numbers(fields, where)
        energy, forces, hessian = self._label_names(list(fields), where)
        return Record(
            numbers=numbers,
            positions=fields.array("pos"),
            energy=None if energy is None else self._energy(fields, energy, numbers, where),
            forces=None if forces is None else fields.array(forces),
            hessian=None if hessian is None else fields.array(hessian),
            identifier=self._key(index),
            reaction=int(fields.array("rxn")) if "rxn" in fields else -1,
        )

    def _numbers(self, fields: Fields, where: str) -> NDArray[np.int64]:
        absent = [name for name in ("pos", "charges") if name not in fields]
        if absent:
            found = ", ".join(sorted(fields))
            raise ValueError(f"{where} has no '{absent[0]}'; found: {found}. It is no HORM record")
        numbers: NDArray[np.int64] = fields.array("charges").astype(np.int64)
        if "one_hot" in fields:
            hot = fields.array("one_hot")
            known = np.isin(numbers, ONE_HOT)
            wanted = (numbers[:, None] == ONE_HOT) if hot.shape == (len(numbers), 5) else None
            if wanted is None or not np.array_equal(hot[known] > 0.5, wanted[known]):
                raise ValueError(
                    f"{where}: 'charges' (the atomic numbers) and 'one_hot' name different "
                    "elements; the record is damaged: remove it"
                )
        return numbers

    def _energy(
        self, fields: Fields, name: str, numbers: NDArray[np.int64], where: str
    ) -> float | None:
        total = float(fields.array(name))
        if name != "energy" or "ae" not in fields or not self._is_interaction():
            return total
        if not HORM_E0.keys() >= set(numbers.tolist()):
            return total
        precise = total_energy(float(fields.array("ae")), numbers, HORM_E0)
        if abs(precise - total) > TOLERANCE:
            raise ValueError(
                f"{where}: 'energy' is {total:.3f} eV but 'ae' and the reference energies of HORM "
                f"add up to {precise:.3f} eV; name the one you mean with energy_key"
            )
        return precise

    def _is_interaction(self) -> bool:
        # the first record says whether `ae` was made with the constants of HORM
        if self._uses_ae is None:
            self._uses_ae = False
            if len(self) and self.labels.energy_key == "energy":
                fields = self._fields(0)
                if "ae" in fields and "energy" in fields:
                    numbers = self._numbers(fields, self.where(0))
                    if HORM_E0.keys() >= set(numbers.tolist()):
                        total = total_energy(float(fields.array("ae")), numbers, HORM_E0)
                        self._uses_ae = abs(total - float(fields.array("energy"))) < TOLERANCE
        return self._uses_ae

    def _fields(self, index: int) -> Fields:
        content = self._get(str(self._key(index)).encode())
        if content is None:
            raise self._missing(index)
        try:
            return Fields(content)
        except DAMAGE as error:
            raise _refusal(self.where(index), error) from None

    def _atoms(self, index: int) -> int:
        return self._fields(index).shape("charges")[0]

    def _atoms_of(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        # bytes = per_pair n² + per_atom n + rest, solved for n
        fields = self._fields(0)
        atoms = self._atoms(0)
        per_pair = per_atom = 0.0
        for name in fields:
            count = int(np.prod(fields.shape(name)))
            width = fields.array(name).itemsize
            if count == 9 * atoms**2 and len(fields.shape(name)) == 1 and atoms != 1:
                per_pair += 9 * width
            elif fields.shape(name) and count % atoms == 0:
                per_atom += count // atoms * width
        content = self._get(str(self._key(0)).encode()) or b""
        rest = len(content) - per_pair * atoms**2 - per_atom * atoms
        if per_pair == 0:
            solved = (lengths - rest) / max(per_atom, 1)
        else:
            root = np.sqrt(np.maximum(per_atom**2 + 4 * per_pair * (lengths - rest), 0))
            solved = (root - per_atom) / (2 * per_pair)
        sizes: NDArray[np.int64] = np.rint(solved).astype(np.int64)
        return sizes

    def _key(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self.path}, which has {len(self)}")
        return index if self._keys is None else int(self._keys[index])

    def _missing(self, index: int) -> ValueError:
        return ValueError(
            f"{self.where(index)} is missing although the file promises {len(self)} records; "
            "copy or download it again"
        )

    def _get(self, key: bytes) -> bytes | None:
        with self._handle.get().environment.begin() as transaction:
            content: bytes | None = transaction.get(key)
        return content

    def _lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # numeric keys and the bytes of their values; the values themselves are never touched
        keys, lengths = [], []
        with self._handle.get().environment.begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                name = bytes(key)
                if name.isdigit():
                    keys.append(int(name))
                    lengths.append(len(value))
        return np.array(keys, dtype=np.int64), np.array(lengths, dtype=np.int64)


def _refusal(where: str, error: BaseException) -> ValueError:
    if isinstance(error, ValueError) and str(error).startswith(where):
        return error
    if isinstance(error, pickle.UnpicklingError):
        reason = str(error).split("\n")[0]
        if "weights_only" in reason:
            reason = "a tensor in it asks to run code, which is refused"
        return ValueError(f"{where} is not read: {reason}; do not trust this file")
    return ValueError(f"{where} is damaged ({error}); remove it or copy the file again")
