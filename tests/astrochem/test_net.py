import math

import pytest
import torch
from torch import Tensor

from sciml.astrochem.net import (
    AutoencoderNet,
    EmulatorNet,
    FlowMap,
    LatentAutoregressive,
    LatentStatistics,
    PcaResidualAutoencoder,
    TiedAutoencoder,
)
from sciml.astrochem.net.flow import rate_features
from sciml.astrochem.physics.statistics import ChemistryStatistics

SCRIPTED = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


def statistics(rows: Tensor) -> ChemistryStatistics:
    names = tuple(f"S{place}" for place in range(rows.shape[1]))
    return ChemistryStatistics(
        species=names, elements=("H",), lo=1e-20, hi=1.0,
        physics_range=torch.tensor([[1e2, 1e-2, 0.1, 10.0], [1e6, 1e2, 100.0, 100.0]]),
        physics_mean=torch.tensor([4.0, 0.0, 0.5, 1.5], dtype=torch.float64),
        physics_std=torch.tensor([1.0, 0.5, 0.3, 0.2], dtype=torch.float64),
        physics_motion=torch.tensor([-1.2, 0.1], dtype=torch.float64),
        mean=rows.mean(0), covariance=torch.cov(rows.T, correction=0),
        dt=1e4, constant_dt=True, charge_conserved=False, element_drift=0.0,
        rows=len(rows), tracers=1,
    )  # fmt: skip


def latents(size: int) -> LatentStatistics:
    generator = torch.Generator().manual_seed(3)
    low = -torch.rand(size, generator=generator)
    joint = torch.eye(size + 4).double()
    return LatentStatistics(
        low,
        low + 2,
        low.double() + 1,
        joint[:size, :size],
        torch.zeros(size + 4).double(),
        joint,
        torch.full((size,), 0.1),
    )


def rows(count: int = 200, species: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(3, species, generator=generator, dtype=torch.float64)
    scores = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, species, generator=generator, dtype=torch.float64)
    return 0.5 + 0.05 * (scores @ basis) + 0.01 * noise


AUTOENCODERS = [
    lambda: TiedAutoencoder(12, (8, 6), 3),
    lambda: TiedAutoencoder(12, (8, 6), 3, norm="layer", output="clamp", latent_act="none"),
    lambda: PcaResidualAutoencoder(12, 3, encoder_dim=8, decoder_dims=(8, 8)),
]
EMULATORS = [
    lambda: FlowMap(5, 16, 2),
    lambda: FlowMap(5, 16, 2, phys_delta=False, rates=False),
    lambda: FlowMap(5, 16, 2, dt_input=True),
    lambda: FlowMap(5, 8, 1, members=3),
    lambda: LatentAutoregressive(5, 16),
    lambda: LatentAutoregressive(5, 16, clamp=False, per_dimension=False),
]


@pytest.fixture(params=AUTOENCODERS)
def autoencoder(request: pytest.FixtureRequest) -> AutoencoderNet:
    torch.manual_seed(0)
    net: AutoencoderNet = request.param()
    net.set_statistics(statistics(rows()))
    with torch.no_grad():  # away from the zeros that some layers start at
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


@pytest.fixture(params=EMULATORS)
def emulator(request: pytest.FixtureRequest) -> EmulatorNet:
    torch.manual_seed(0)
    net: EmulatorNet = request.param()
    net.set_statistics(statistics(rows()), latents(5))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def physics(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([1e4, 1.0, 3.0, 30.0])
    return scale * (0.5 + torch.rand(*shape, 4, generator=generator))


# numbers of the original networks: design document and trained configuration
@pytest.mark.parametrize(("hidden", "count"), [((160, 80), 68_775), ((320, 160), 162_775)])
def test_tied_autoencoder_has_the_published_size(hidden: tuple[int, int], count: int) -> None:
    net = TiedAutoencoder(333, hidden, 14)
    assert sum(p.numel() for p in net.parameters()) == count


def test_flow_map_has_the_published_size() -> None:
    assert sum(p.numel() for p in FlowMap(32, rates=False).parameters()) // 1000 == 415


def test_tied_decoder_uses_the_encoders_weights() -> None:
    net = TiedAutoencoder(12, (8, 6), 3).eval()
    latent = torch.randn(4, 3)
    before = net.decode(latent)
    with torch.no_grad():
        net.down1.weight.mul_(2)
    assert not torch.allclose(net.decode(latent), before)
    matrices = [name for name, value in net.named_parameters() if value.ndim == 2]
    assert matrices == ["down1.weight", "down2.weight", "down3.weight"]


def test_tied_autoencoder_matches_its_formula() -> None:
    torch.manual_seed(0)
    net = TiedAutoencoder(12, (8, 6), 3).double().eval()
    s = torch.rand(4, 12, dtype=torch.float64)
    act = torch.nn.functional.gelu
    h = act(net.norms[0](s @ net.down1.weight.T))
    h = act(net.norms[1](h @ net.down2.weight.T))
    z = act(net.norms[2](h @ net.down3.weight.T + net.down3.bias))
    g = act(net.up_norms[0](z @ net.down3.weight + net.up_bias[0]))
    g = act(net.up_norms[1](g @ net.down2.weight + net.up_bias[1]))
    expected = torch.sigmoid(g @ net.down1.weight + net.up_bias[2])
    assert torch.allclose(net(s), expected, atol=1e-12)


def test_latents_of_the_tied_autoencoder_stay_above_the_minimum_of_gelu() -> None:
    net = TiedAutoencoder(12, (8, 6), 3).eval()
    # min of x Φ(x) is -0.16997 at x = -0.7518
    with torch.no_grad():
        assert float(net.encode(100 * torch.randn(500, 12)).min()) > -0.17


def test_residual_autoencoder_starts_at_the_principal_components() -> None:
    data = rows()
    net = PcaResidualAutoencoder(12, 3).double().eval()
    net.set_statistics(statistics(data))
    mean = data.mean(0)
    _, _, axes = torch.linalg.svd(data - mean, full_matrices=False)
    expected = mean + (data - mean) @ axes[:3].T @ axes[:3]
    assert torch.allclose(net(data), expected, atol=1e-9)
    assert torch.allclose(net.encode(data).std(0, correction=0), torch.ones(3).double(), atol=1e-9)


def test_more_latents_than_species_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        PcaResidualAutoencoder(5, 6)


def test_noise_is_for_training_only(autoencoder: AutoencoderNet) -> None:
    latent = torch.zeros(50, autoencoder.latent_dim)
    assert torch.equal(autoencoder.eval().perturb(latent), latent)
    assert not torch.equal(autoencoder.train().perturb(latent), latent)
    x = rows(8).float()
    assert torch.equal(autoencoder.eval()(x), autoencoder(x))


def test_decoding_some_species_gives_their_columns(autoencoder: AutoencoderNet) -> None:
    latent = torch.randn(4, autoencoder.latent_dim)
    columns = torch.tensor([7, 0, 11])
    net = autoencoder.eval()
    assert torch.allclose(net.decode_species(latent, columns), net.decode(latent)[:, columns])


def test_rows_do_not_see_each_other(autoencoder: AutoencoderNet) -> None:
    x = rows(6).float()
    net = autoencoder.eval()
    alone = torch.cat([net(row[None]) for row in x])
    assert torch.allclose(net(x), alone, atol=1e-6)


def test_rollout_is_repeated_step(emulator: EmulatorNet) -> None:
    state, history = torch.randn(4, 5), physics(4, 7)
    dt = 1e4 * (1 + torch.rand(4, 7))
    rolled = emulator.rollout(state, history, dt)
    before = history[:, 0]
    for step in range(7):
        state = emulator.step(state, history[:, step], dt[:, step], before)
        before = history[:, step]
        assert torch.allclose(rolled[:, step], state, atol=1e-5)


def test_the_map_is_the_mean_of_its_members() -> None:
    torch.manual_seed(0)
    net = FlowMap(5, 8, 1, members=3)
    net.set_statistics(statistics(rows()), latents(5))
    for branch in net.branches:
        torch.nn.init.normal_(branch.fall.weight)
    state, history = torch.rand(4, 5), physics(4, 1)
    each = net.rollout_each(state, history)
    assert each.shape == (3, 4, 1, 5)
    assert float(each.detach().std(0).min()) > 0
    assert torch.allclose(net.rollout(state, history), each.mean(0), atol=1e-6)


def test_members_roll_out_on_their_own() -> None:
    torch.manual_seed(0)
    pair, alone = FlowMap(5, 8, 1, members=2), FlowMap(5, 8, 1)
    for net in (pair, alone):
        net.set_statistics(statistics(rows()), latents(5))
    torch.nn.init.normal_(pair.branches[1].fall.weight)
    alone.branches[0].load_state_dict(pair.branches[1].state_dict())
    state, history = torch.rand(4, 5), physics(4, 6)
    assert torch.equal(pair.rollout_each(state, history)[1], alone.rollout(state, history))


def test_a_map_without_members_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FlowMap(5, members=0)


def test_rates_enter_as_their_exponentials() -> None:
    physics = torch.tensor([[1e5, 10.0, 2.0, 15.0]], dtype=torch.float64)
    found = rate_features(physics)[0].tolist()
    photo = math.log10(10.0 * math.exp(-2 * 2.0)) / 3
    assert found == pytest.approx([photo, math.exp(-2.0), 1.0, math.exp(-2.0)], rel=1e-4)
    dark = rate_features(torch.tensor([[1e5, 1.0, 500.0, 10.0]]))[0]
    assert bool(torch.isfinite(dark).all())
    assert dark[0].item() == pytest.approx(-8 / 3)


def test_untrained_maps_hold_the_state() -> None:
    state, history = torch.rand(4, 5), physics(4, 7)
    flow = FlowMap(5).eval()
    flow.set_statistics(statistics(rows()), latents(5))
    assert torch.equal(flow.rollout(state, history)[:, -1], state)


def test_delta_is_left_out_without_history() -> None:
    net = FlowMap(5, 16, 2)
    net.set_statistics(statistics(rows()), latents(5))
    torch.nn.init.normal_(net.branches[0].fall.weight)
    state, now = torch.rand(4, 5), physics(4)
    assert torch.equal(net.step(state, now), net.step(state, now, None, now))
    assert not torch.equal(net.step(state, now), net.step(state, now, None, 2 * now))


def test_markov_map_does_not_see_the_past() -> None:
    net = FlowMap(5, 16, 2, phys_delta=False)
    net.set_statistics(statistics(rows()), latents(5))
    torch.nn.init.normal_(net.branches[0].fall.weight)
    state, now = torch.rand(4, 5), physics(4)
    assert torch.equal(net.step(state, now), net.step(state, now, None, 2 * now))


def test_default_step_is_that_of_the_data() -> None:
    net = FlowMap(5, 16, 2, dt_input=True)
    net.set_statistics(statistics(rows()), latents(5))
    torch.nn.init.normal_(net.branches[0].fall.weight)
    state, now = torch.rand(4, 5), physics(4)
    assert torch.equal(net.step(state, now), net.step(state, now, torch.full((4,), 1e4)))
    assert not torch.equal(net.step(state, now), net.step(state, now, torch.full((4,), 2e4)))


def test_clamped_latents_stay_in_the_range_of_training() -> None:
    net = LatentAutoregressive(5, 16, small_start=False).eval()
    known = latents(5)
    net.set_statistics(statistics(rows()), known)
    rolled = net.rollout(10 * torch.randn(20, 5), physics(20, 30))
    assert bool((rolled >= known.low - 1e-5).all())
    assert bool((rolled <= known.high + 1e-5).all())


def test_gradients_reach_every_parameter(emulator: EmulatorNet) -> None:
    rolled = emulator.rollout(torch.randn(4, 5), physics(4, 3), torch.full((4, 3), 2e4))
    rolled.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in emulator.parameters())


class _Step(torch.nn.Module):
    def __init__(self, net: EmulatorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, latent: Tensor, physics: Tensor) -> Tensor:
        return self.net.step(latent, physics)


@SCRIPTED
def test_scripted_step_gives_the_same(emulator: EmulatorNet) -> None:
    state, now = torch.randn(4, 5), physics(4)
    assert torch.equal(torch.jit.script(_Step(emulator))(state, now), emulator.step(state, now))
