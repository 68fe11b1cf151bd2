"""Statistics on the axes of a network."""

import pytest
import torch

from sciml.hip.physics.statistics import HessianStatistics


def measured() -> HessianStatistics:
    prior = torch.arange(2 * 2 * 24 * 2, dtype=torch.float64).reshape(2, 2, 24, 2)
    blocks = torch.arange(2 * 2 * 7 * 2, dtype=torch.float64).reshape(2, 2, 7, 2)
    energies = torch.tensor([-13.0, -2000.0], dtype=torch.float64)
    return HessianStatistics((1, 8), energies, energies - 1, 5.0, 0.4, 0.1, prior, blocks)


def test_elements_the_data_lack_have_no_energy_and_no_prior() -> None:
    own = measured()
    wide = own.among([1, 6, 8])
    assert wide.elements == (1, 6, 8)
    assert wide.e0[[0, 2]].tolist() == own.e0.tolist()
    assert wide.e0[1].isnan()
    assert wide.e0_fit[1].isnan()
    assert torch.equal(wide.prior[0, 2], own.prior[0, 1])
    assert not wide.prior[1].any()
    assert not wide.mean_blocks[:, 1].any()
    assert torch.equal(wide.mean_blocks[2, 2], own.mean_blocks[1, 1])
    assert wide.forces_rms == own.forces_rms


def test_elements_the_network_lacks_are_refused_with_the_setting() -> None:
    with pytest.raises(ValueError, match=r"--model.net.elements \[1, 6, 8\]"):
        measured().among([1, 6])
