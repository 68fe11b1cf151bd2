"""Tensors out of pickled PyG objects, without PyG and without running what a pickle asks for."""

import pickle
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

# everything damaged or hostile bytes make the unpickler or torch.load raise
DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
    AssertionError,
)
TORCH_STARTS = (b"\x80\x02", b"PK")  # of what torch.save writes: pickle protocol 2, or a zip


class Fields:
    """Tensors of one pickled ``torch_geometric.data.Data``, decoded one by one when asked for.

    Args:
        content: The pickle. Only seven globals are allowed in it: four classes of PyG, which become
            inert holders of their state, the two functions that rebuild tensors, which are
            replaced, and ``OrderedDict``.

    Raises:
        UnpicklingError: If another global is named. Nothing of the pickle has been run then.
    """

    def __init__(self, content: bytes) -> None:
        reader = _Unpickler(BytesIO(content))
        loaded = reader.load()
        store = loaded.state.get("_store") if isinstance(loaded, _Holder) else None
        mapping = store.state.get("_mapping") if isinstance(store, _Holder) else None
        if not isinstance(mapping, dict):
            raise pickle.UnpicklingError("it is not a pickled torch_geometric Data")
        self._storages = reader.storages
        self._tensors = {
            str(name): value for name, value in mapping.items() if isinstance(value, _Tensor)
        }

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without decoding it."""
        return tuple(int(length) for length in self._tensors[name].size)

    def array(self, name: str) -> NDArray[Any]:
        """A tensor as an array.

        Raises:
            UnpicklingError: If its bytes ask for anything but a tensor.
        """
        values: NDArray[Any] = self._tensors[name].load().numpy()
        return values

    def verify(self) -> None:
        """Decode every storage, also those that no field names.

        Raises:
            UnpicklingError: If the bytes of one ask for anything but a tensor.
        """
        for storage in self._storages:
            storage.load()


def load_count(content: bytes) -> int:
    """A pickled whole number.

    Raises:
        UnpicklingError: If it is anything else.
    """
    value = _Unpickler(BytesIO(content)).load()
    if not isinstance(value, int):
        raise pickle.UnpicklingError("it is not a whole number")
    return value


class _Holder:
    """Stands in for any allowed class; keeps the state and does nothing."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __new__(cls, *args: object) -> "_Holder":
        self = super().__new__(cls)
        self.state = {}
        return self

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("the state of an object is not a dictionary")
        self.state = state


class _Storage:
    """Bytes of a tensor, decoded at most once."""

    def __init__(self, content: bytes) -> None:
        if not isinstance(content, bytes):
            raise pickle.UnpicklingError("a tensor does not consist of bytes")
        self._content = content
        self._loaded: Any = None

    def load(self) -> Any:
        """The storage, read by torch with its own list of allowed globals."""
        if self._loaded is None:
            if not self._content.startswith(TORCH_STARTS):
                raise pickle.UnpicklingError("the bytes of a tensor were not written by torch")
            # the function of this name in torch would open a second, unrestricted pickle
            self._loaded = torch.load(BytesIO(self._content), weights_only=True)
        return self._loaded


class _Tensor:
    """Arguments of ``_rebuild_tensor_v2``, kept until the values are wanted."""

    def __init__(
        self,
        storage: _Storage,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        *_: object,
    ) -> None:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor has no storage")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def load(self) -> Tensor:
        """The tensor."""
        storage = self.storage.load()
        if not isinstance(storage, torch.storage.TypedStorage):
            raise pickle.UnpicklingError("a tensor has no storage")
        flat = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
        return flat.as_strided(self.size, self.stride, self.offset)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO) -> None:
        super().__init__(file)
        self.storages: list[_Storage] = []

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "torch_geometric.data.data.Data": _Holder,
            "torch_geometric.data.data.DataEdgeAttr": _Holder,
            "torch_geometric.data.data.DataTensorAttr": _Holder,
            "torch_geometric.data.storage.GlobalStorage": _Holder,
            "torch._utils._rebuild_tensor_v2": _Tensor,
            "torch.storage._load_from_bytes": self._keep,
            "collections.OrderedDict": OrderedDict,
        }
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which is refused")
        return allowed[f"{module}.{name}"]

    def _keep(self, content: bytes) -> _Storage:
        self.storages.append(_Storage(content))
        return self.storages[-1]
