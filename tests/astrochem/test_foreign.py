from pathlib import Path

import pytest
import torch
from torch import Tensor

from sciml.astrochem.apply.foreign import import_autoencoder
from sciml.astrochem.net import TiedAutoencoder


def tied() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return TiedAutoencoder(10, (7, 6), 3).state_dict()


def write(weights: dict[str, Tensor], folder: Path) -> Path:
    torch.save(weights, folder / "AE.pth")
    return folder / "AE.pth"


def test_tied_matrices_may_be_there_twice(tmp_path: Path) -> None:
    weights = tied()
    copies = {
        "up.weight": weights["down1.weight"].t().clone(),
        "same.weight": weights["down2.weight"].clone(),
        "more.num_batches_tracked": torch.tensor(3),
    }
    net, pairs = import_autoencoder(write({**weights, **copies}, tmp_path))
    assert torch.equal(net.down1.weight, weights["down1.weight"])
    assert not set(pairs.values()) & set(copies)


@pytest.mark.parametrize("shape", [(10, 7), (6, 6)])
def test_a_decoder_of_its_own_is_refused(shape: tuple[int, int], tmp_path: Path) -> None:
    path = write({**tied(), "up.weight": torch.randn(shape)}, tmp_path)
    with pytest.raises(ValueError, match=r"more than a TiedAutoencoder .* such as up.weight"):
        import_autoencoder(path)
