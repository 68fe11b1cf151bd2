"""Pair prior and mean blocks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.physics.blocks import (
    DISTANCE_BINS,
    MeanBlocks,
    PriorFit,
    distance_bin,
    element_index,
    frame_blocks,
    mean_block_hessian,
    pair_frame,
    pair_geometry,
    prior_basis,
    prior_hessian,
    sum_rule,
)
from sciml.hip.physics.layout import assemble, diagonal_blocks, pair_blocks
from sciml.hip.physics.rules import rule_residuals

ELEMENTS = (1, 6, 8)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _molecules(count: int, seed: int = 0) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    records = []
    for size in rng.integers(1, 8, count):
        numbers = rng.choice(ELEMENTS, size).astype(np.int64)
        records.append(Record(numbers, 1.8 * rng.normal(size=(size, 3))))
    batch = collate(records, 5.0)
    batch["w_hessian"] = torch.ones(count, dtype=torch.float64)
    return batch


def _springs(batch: dict[str, Tensor], table: Tensor) -> Tensor:
    """Hessian whose stiffness is a table of element pair and Gaussian, by loops."""
    pair = torch.zeros(len(batch["pair_i"]), 3, 3, dtype=torch.float64)
    centers = np.linspace(0.7, 6.0, 24)
    for index, (i, j) in enumerate(zip(batch["pair_i"], batch["pair_j"], strict=True)):
        offset = batch["pos"][j] - batch["pos"][i]
        distance = float(offset.norm())
        values = np.exp(-0.5 * ((distance - centers) / (5.3 / 23)) ** 2)
        first, second = (ELEMENTS.index(int(batch["z"][atom])) for atom in (i, j))
        along, across = torch.from_numpy(values) @ table[first, second]
        outer = torch.outer(offset, offset) / distance**2
        pair[index] = along * outer + across * (torch.eye(3) - outer)
    return assemble(pair, sum_rule(pair, batch), batch)


def _table() -> Tensor:
    table = torch.randn(3, 3, 24, 2, dtype=torch.float64)
    return table + table.transpose(0, 1)


def test_frame_of_a_spring() -> None:
    direction = torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64))
    along, across = torch.randn(2, 4, dtype=torch.float64)
    found = pair_frame(frame_blocks(along, across, direction), direction)
    torch.testing.assert_close(found, (along, across))


def test_prior_recovers_springs() -> None:
    train, table = _molecules(400), _table()
    train["hessian"] = _springs(train, table)
    fit = PriorFit(ELEMENTS, ridge=1e-12)
    fit.update(train)
    unseen = _molecules(10, seed=1)
    distance, _ = pair_geometry(unseen["pos"], unseen)
    found = prior_hessian(unseen, ELEMENTS, fit.solve())
    assert distance.min() > 0.3
    torch.testing.assert_close(found, _springs(unseen, table), atol=1e-5, rtol=0)


def test_prior_is_the_ridge_solution() -> None:
    batch = _molecules(30)
    noise = torch.randn(batch["hessian"].shape, dtype=torch.float64)
    batch["hessian"] = noise + noise.mT
    fit = PriorFit(ELEMENTS)
    fit.update(batch)
    distance, direction = pair_geometry(batch["pos"], batch)
    along, _ = pair_frame(pair_blocks(batch["hessian"], batch), direction)
    z = batch["z"]
    low = torch.minimum(z[batch["pair_i"]], z[batch["pair_j"]])
    high = torch.maximum(z[batch["pair_i"]], z[batch["pair_j"]])
    chosen = (low == 1) & (high == 8)
    # ridge as least squares with 24 more rows of √λ
    design = torch.cat([prior_basis(distance[chosen]), 0.1 * torch.eye(24, dtype=torch.float64)])
    target = torch.cat([along[chosen], torch.zeros(24, dtype=torch.float64)])
    expected = torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
    torch.testing.assert_close(fit.solve()[0, 2, :, 0], expected)
    torch.testing.assert_close(fit.solve()[2, 0, :, 0], expected)


def test_fits_do_not_depend_on_the_batches() -> None:
    whole = _molecules(6)
    whole["hessian"] = _springs(whole, _table())
    for kind in (PriorFit, MeanBlocks):
        once, parts = kind(ELEMENTS), kind(ELEMENTS)
        once.update(whole)
        for molecule in range(6):
            atoms = slice(whole["ptr"][molecule], whole["ptr"][molecule + 1])
            size = 3 * (atoms.stop - atoms.start)
            record = Record(
                whole["z"][atoms].numpy(),
                whole["pos"][atoms].numpy(),
                hessian=whole["hessian"][molecule, :size, :size].numpy(),
            )
            parts.update(collate([record], 5.0))
        torch.testing.assert_close(parts.solve(), once.solve())


def test_molecules_without_hessian_are_left_out() -> None:
    batch = _molecules(8)
    batch["hessian"] = _springs(batch, _table())
    half = PriorFit(ELEMENTS)
    batch["w_hessian"][::2] = 0
    half.update(batch)
    batch["hessian"][::2] = 100.0
    spoiled = PriorFit(ELEMENTS)
    spoiled.update(batch)
    assert torch.equal(half.solve(), spoiled.solve())


def test_fitted_hessians_obey_the_translation_rule() -> None:
    batch = _molecules(5)
    hessian = prior_hessian(batch, ELEMENTS, _table())
    residuals = rule_residuals(hessian, batch["pos"], 0 * batch["pos"], batch)
    assert residuals[:, 0].max() < 1e-12


def test_sum_rule_balances_asymmetric_blocks() -> None:
    batch = _molecules(5)
    pair = torch.randn(len(batch["pair_i"]), 3, 3, dtype=torch.float64)
    hessian = assemble(pair, sum_rule(pair, batch), batch)
    blocks = hessian.view(5, -1, 3, hessian.shape[1] // 3, 3).sum(3)
    rows = torch.cat([blocks[g, :n] for g, n in enumerate(batch["ptr"].diff())])
    torch.testing.assert_close(rows, -rows.mT)  # only an antisymmetric part can stay
    assert torch.equal(diagonal_blocks(hessian, batch), diagonal_blocks(hessian, batch).mT)


def test_mean_blocks_are_means_of_bins() -> None:
    batch = _molecules(40)
    noise = torch.randn(batch["hessian"].shape, dtype=torch.float64)
    batch["hessian"] = noise + noise.mT
    mean = MeanBlocks(ELEMENTS)
    mean.update(batch)
    distance, direction = pair_geometry(batch["pos"], batch)
    along, across = pair_frame(pair_blocks(batch["hessian"], batch), direction)
    z = batch["z"]
    carbons = (z[batch["pair_i"]] == 6) & (z[batch["pair_j"]] == 6)
    chosen = carbons & (distance >= 1.6) & (distance < 2.5)
    table = mean.solve()
    assert table.shape == (3, 3, 7, 2)
    expected = torch.stack([along[chosen].mean(), across[chosen].mean()])
    torch.testing.assert_close(table[1, 1, 2], expected)
    found = pair_blocks(mean_block_hessian(batch, ELEMENTS, table), batch)
    k, g = pair_frame(found[chosen], direction[chosen])
    torch.testing.assert_close(torch.stack([k, g], 1), expected.expand(len(k), 2))


def test_bins_are_open_above() -> None:
    distances = torch.tensor([0.5, *DISTANCE_BINS, 20.0], dtype=torch.float64)
    assert distance_bin(distances).tolist() == [0, 1, 2, 3, 4, 5, 6, 6]


def test_unknown_element_is_named() -> None:
    assert element_index(torch.tensor([8, 1, 6]), ELEMENTS).tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="element 7 is not among"):
        element_index(torch.tensor([1, 7]), ELEMENTS)
    with pytest.raises(ValueError, match="element 9 is not among"):
        element_index(torch.tensor([9]), ELEMENTS)


def test_fit_of_nothing_is_zero() -> None:
    assert not PriorFit(ELEMENTS).solve().any()
    assert not MeanBlocks(ELEMENTS).solve().any()
