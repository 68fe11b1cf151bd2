import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from sciml.astrochem.physics.projection import ElementProjection, Mode
from sciml.astrochem.physics.species import (
    ELEMENTS,
    charges,
    default_species,
    initial_abundances,
    stoichiometric_matrix,
)

SPECIES = default_species()
MATRIX = torch.from_numpy(stoichiometric_matrix(SPECIES, ELEMENTS))
START = torch.from_numpy(initial_abundances(SPECIES))


def error(projection: ElementProjection, abundance: Tensor, totals: Tensor) -> float:
    return float(((abundance.double() @ MATRIX) / totals - 1).abs().max())


def states(kind: str, count: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    draw = torch.rand(count, len(SPECIES), generator=generator, dtype=torch.float64)
    noise = torch.randn(count, len(SPECIES), generator=generator, dtype=torch.float64)
    single = torch.full_like(draw, 1e-20)
    single[torch.arange(count), torch.randint(len(SPECIES), (count,), generator=generator)] = 1.0
    return {
        "near": START.clamp(min=1e-20) * 10 ** (0.1 * noise),
        "off by a decade": START.clamp(min=1e-20) * 10**noise,
        "anything": 10 ** (-20 * draw),
        "floor": torch.full_like(draw, 1e-20),
        "ceiling": torch.ones_like(draw),
        "zero": torch.zeros_like(draw),
        "one species": single,
    }[kind]


KINDS = ["near", "off by a decade", "anything", "floor", "ceiling", "zero", "one species"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_totals_are_those_of_the_parcel(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    projection = ElementProjection(MATRIX)
    predicted = states(kind).to(dtype)
    totals = projection.totals(START).expand(len(predicted), -1)
    for result in (projection(predicted, totals), projection.project(predicted, totals).abundance):
        assert bool((result > 0).all())
        assert bool(torch.isfinite(result).all())
        assert error(projection, result.to(dtype), totals) < tolerance


def test_a_state_that_conserves_is_left_alone() -> None:
    projection = ElementProjection(MATRIX)
    state = START[None]
    result = projection(state, projection.totals(state))
    assert torch.allclose(result, state, rtol=1e-12, atol=0)


def test_kl_mode_is_the_state_of_least_relative_entropy() -> None:
    names = ("H", "H2", "O", "OH", "H2O")
    matrix = torch.from_numpy(stoichiometric_matrix(names, ("H", "O")))
    predicted = torch.tensor([[0.3, 0.2, 0.1, 0.05, 0.1]], dtype=torch.float64)
    totals = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    found = ElementProjection(matrix, "kl").project(predicted, totals).abundance[0].numpy()

    start, a, b = predicted[0].numpy(), matrix.numpy(), totals[0].numpy()

    def entropy(x: np.ndarray) -> float:
        return float(np.sum(x * np.log(x / start) - x + start))

    held = {"type": "eq", "fun": lambda x: x @ a - b}
    best = minimize(entropy, start, bounds=[(1e-6, 1)] * 5, constraints=held, tol=1e-12)
    assert found == pytest.approx(best.x, rel=1e-4)


def test_trace_species_hardly_move_in_share_mode() -> None:
    projection = ElementProjection(MATRIX)
    predicted = states("near")
    totals = projection.totals(START).expand(len(predicted), -1)
    change = (projection(predicted, totals) / predicted).log10().abs()
    trace = START < 1e-20
    assert float(change[:, trace].max()) < 0.01


def test_rows_that_cannot_be_mended_in_share_mode_are_reported() -> None:
    projection = ElementProjection(MATRIX)
    totals = projection.totals(START).expand(40, -1)
    assert not projection.project(states("near"), totals).fallen_back.any()
    assert projection.project(states("one species"), totals).fallen_back.all()


def test_net_charge_is_kept_where_asked() -> None:
    charge = torch.from_numpy(charges(SPECIES))
    projection = ElementProjection(MATRIX, charge=charge)
    predicted = states("near")
    totals = projection.totals(START).expand(len(predicted), -1)
    result = projection(predicted, totals)
    ions = result[:, charge > 0].sum(1)
    assert float(((result @ charge) / ions).abs().max()) < 1e-10
    assert error(projection, result, totals[:, :-1]) < 1e-12


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zero"])  # it has no cations
def test_net_charge_is_kept_in_every_fall_back(kind: str) -> None:
    charge = torch.from_numpy(charges(SPECIES))
    projection = ElementProjection(MATRIX, charge=charge)
    predicted = states(kind, 400)
    totals = projection.totals(START).expand(len(predicted), -1)
    found = projection.project(predicted, totals)
    for result in (projection(predicted, totals), found.abundance):
        every = (result @ charge.abs()).clamp(min=1e-15)  # less than that is none
        assert float(((result @ charge - totals[:, -1]).abs() / every).max()) < 1e-12
        assert error(projection, result, totals[:, :-1]) < 1e-12
    assert float(found.residual.max()) < 1e-12


def test_a_charge_that_cannot_be_reached_is_reported() -> None:
    names = ("H", "H2", "E-")  # nothing positive
    matrix = torch.from_numpy(stoichiometric_matrix(names, ("H",)))
    projection = ElementProjection(matrix, charge=torch.tensor([0.0, 0.0, -1.0]))
    found = projection.project(torch.tensor([[0.5, 0.2, 1e-4]]), torch.tensor([[1.0, 1e-4]]))
    assert float(found.residual) > 0.1
    assert error_of(found.abundance, matrix) < 1e-12


def error_of(abundance: Tensor, matrix: Tensor) -> float:
    return float((abundance @ matrix - 1.0).abs().max())


@pytest.mark.parametrize("mode", ["share", "kl", "reservoir"])
def test_exported_program_does_what_its_mode_does(mode: Mode) -> None:
    projection = ElementProjection(MATRIX, mode)
    predicted = states("near")
    totals = projection.totals(START).expand(len(predicted), -1)
    expected = projection.project(predicted, totals).abundance
    torch.testing.assert_close(projection(predicted, totals), expected, rtol=1e-9, atol=0)


def test_missing_elements_are_left_out() -> None:
    projection = ElementProjection(MATRIX)
    totals = projection.totals(START)[None].clone()
    totals[0, ELEMENTS.index("CL")] = 0.0
    result = projection(states("near", 1), totals)
    rest = [place for place, name in enumerate(ELEMENTS) if name != "CL"]
    held = (result @ MATRIX)[:, rest]
    assert torch.allclose(held, totals[:, rest], rtol=1e-10, atol=1e-13)


def test_gradient_through_the_projection() -> None:
    names = ("H", "H2", "O", "OH", "H2O")
    matrix = torch.from_numpy(stoichiometric_matrix(names, ("H", "O")))
    projection = ElementProjection(matrix)
    predicted = torch.tensor([[0.3, 0.2, 0.1, 0.05, 0.1]], dtype=torch.float64)
    totals = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    predicted.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: projection(x, totals), predicted, rtol=1e-4)


def test_reservoir_mode_destroys_trace_atoms() -> None:
    projection = ElementProjection(MATRIX, "reservoir")
    predicted = states("near")
    totals = projection.totals(START).expand(len(predicted), -1)
    atom = SPECIES.index("#C")
    change = projection.project(predicted, totals).abundance[:, atom] / predicted[:, atom]
    assert float(change.log10().abs().median()) > 3


def test_a_matrix_without_an_element_is_refused() -> None:
    with pytest.raises(ValueError, match="in no species"):
        ElementProjection(torch.zeros(3, 2))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_scripted_projection_gives_the_same() -> None:
    projection = ElementProjection(MATRIX)
    predicted = states("near", 3)
    totals = projection.totals(START).expand(3, -1)
    scripted = torch.jit.script(projection)(predicted, totals)
    assert torch.allclose(scripted, projection(predicted, totals))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 8.0))
def test_any_positive_state_reaches_any_feasible_totals(seed: int, decades: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (4, len(SPECIES))
    true = 10 ** (-decades * torch.rand(shape, generator=generator, dtype=torch.float64))
    predicted = 10 ** (-decades * torch.rand(shape, generator=generator, dtype=torch.float64))
    projection = ElementProjection(MATRIX)
    totals = projection.totals(true)
    assert error(projection, projection(predicted, totals), totals) < 1e-10
