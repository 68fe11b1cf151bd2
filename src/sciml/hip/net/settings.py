"""Groups of network settings, as the command line shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from sciml.core.settings import plain

Update = Literal["agnostic", "residual"]
Group = TypeVar("Group")


@dataclass(frozen=True)
class Radial:
    """How a message depends on the distance.

    Args:
        num_bessel: Number of Bessel functions.
        cutoff_p: Exponent of the smooth cutoff.
        mlp: Widths of the hidden layers behind the Bessel functions.
        apply_cutoff: Whether the cutoff multiplies the input of these layers, which then have no
            biases; otherwise it multiplies their output.
    """

    num_bessel: int = 8
    cutoff_p: int = 5
    mlp: tuple[int, ...] = (64, 64, 64)
    apply_cutoff: bool = True


@dataclass(frozen=True)
class Interaction:
    """How an atom takes up its messages.

    ``agnostic`` mixes the messages by a matrix of the receiving element. ``residual`` adds such a
    mixture of the previous features of the atom to its new ones instead.

    Args:
        first: Form of the first layer.
        rest: Form of every later layer.
    """

    first: Update = "agnostic"
    rest: Update = "residual"


@dataclass(frozen=True)
class Readout:
    """How features become the energy of an atom.

    Args:
        mlp_dim: Hidden width of the readout of the last layer.
        scaling: Unit of the readout: ``rms_forces`` is the root mean square force component of the
            training data, ``std`` the standard deviation of their energy per atom, ``none`` 1 eV.
        shift: Energy added to every atom: ``mean`` is the mean interaction energy per atom of the
            training data, ``none`` is zero.
    """

    mlp_dim: int = 16
    scaling: Literal["rms_forces", "std", "none"] = "rms_forces"
    shift: Literal["mean", "none"] = "none"


@dataclass(frozen=True)
class HessianHead:
    """How pairs of atoms become blocks of the Hessian.

    Args:
        dim: Number of scalars, vectors and tensors per atom that enter a pair.
        r_max: Distance in Å beyond which blocks vanish smoothly; null keeps all pairs.
        r_basis: Range in Å of the radial basis of the head.
        num_basis: Number of functions in this basis.
        mlp: Widths of the hidden layers that give the coefficients of a block.
        layers: Which layers of the trunk are read: ``concat`` all side by side, ``last`` the last,
            ``mean`` their mean, ``softmax`` a learned mean.
        diag: Diagonal blocks: ``sumrule`` from the translational rule, ``node`` from the features
            of the atom, ``sumrule+node`` their sum.
        prior: Whether the pair prior fitted on the training Hessians is added.
        detach: Whether the Hessian loss leaves the trunk alone.
        directional: Whether the coefficients see the direction of the pair relative to the
            features of its atoms.
        out_scale: Factor on the learned part of every block.
        rules_detach_forces: Whether the Hessian loss treats the forces inside the rotational
            rules as given while training.
    """

    dim: int = 64
    r_max: float | None = None
    r_basis: float = 16.0
    num_basis: int = 8
    mlp: tuple[int, ...] = (128, 128)
    layers: Literal["concat", "last", "mean", "softmax"] = "concat"
    diag: Literal["sumrule+node", "sumrule", "node"] = "sumrule+node"
    prior: bool = True
    detach: bool = False
    directional: bool = True
    out_scale: float = 1.0
    rules_detach_forces: bool = True


def as_group(kind: type[Group], value: Group | Mapping[str, object]) -> Group:
    """Settings that may come from a checkpoint, where they are a dictionary.

    Args:
        kind: Class of the group.
        value: The group, or its fields by name.
    """
    if not isinstance(value, Mapping):
        return value
    return kind(**{name: _frozen(field) for name, field in value.items()})


def plain_arguments(arguments: Mapping[str, object]) -> dict[str, object]:
    """Constructor arguments as dictionaries, lists and numbers, which every checkpoint may hold.

    Args:
        arguments: The local names at the start of a constructor.
    """
    names = (name for name in arguments if name not in ("self", "__class__"))
    return {name: plain(arguments[name]) for name in names}


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
