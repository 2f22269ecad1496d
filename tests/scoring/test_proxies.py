"""Proxies by their definitions: closed forms, autograd, and what they leave as it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nasdsl
from nasdsl.cli.scores import PROXIES as OPTIONS
from nasdsl.runtime.search import proxies
from nasdsl.runtime.search.proxies import PROXIES, fitted, grad_norm, jacov, minibatch, naswot, synflow
from nasdsl.scoring.proxy import NAMES
from tests.scoring.spaces import TINY


class Whole(nn.Module):
    """Everything that a proxy might disturb or miss."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Conv2d(6, 5, 3, bias=False)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.second(self.first(x))).mean((2, 3))
        logits: Tensor = self.head(self.drop(x))
        return logits


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def examples(shape: tuple[int, ...], seed: int = 1) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=drawn), torch.randint(0, 10, shape[:1], generator=drawn)


def test_every_list_of_proxies_is_the_same() -> None:
    assert tuple(PROXIES) == NAMES == OPTIONS


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_synflow_of_a_linear_network_is_its_closed_form(
    inputs: int, middle: int, out: int, seed: int
) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(inputs, middle, bias=False), nn.Linear(middle, out, bias=False))
    first, second = (layer.weight.detach().double().abs() for layer in net)  # type: ignore[union-attr, operator]
    # Every layer conserves the flow, so each adds the whole of it: R = 1' |W2| |W1| 1.
    flow = float((second @ first).sum())
    assert synflow(net, torch.randn(3, inputs), torch.zeros(3)) == pytest.approx(2 * flow)


def test_synflow_looks_at_no_example_and_at_no_normalisation() -> None:
    net = seeded(Whole)
    first, second = (synflow(net, *examples((4, 1, 8, 8), s)) for s in (1, 2))
    assert first == second > 0
    with torch.no_grad():
        net.first[1].weight.mul_(7)  # type: ignore[index, union-attr, operator]
        net.first[1].running_var.mul_(7)  # type: ignore[index, union-attr, operator]
    assert synflow(net, *examples((4, 1, 8, 8))) == first


def test_a_flow_beyond_all_numbers_is_refused() -> None:
    net = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(12)))
    for layer in net:
        nn.init.constant_(layer.weight, 1e30)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no number"):
        synflow(net, *examples((4, 2)))


@pytest.mark.parametrize("as_function", [False, True])
def test_naswot_is_the_log_determinant_of_agreements(as_function: bool) -> None:
    layer = seeded(lambda: nn.Linear(7, 40))

    class AsFunction(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.layer(x))

    net = AsFunction() if as_function else nn.Sequential(layer, nn.ReLU())
    x, y = examples((6, 7))
    codes = (layer(x) > 0).numpy()
    agreements = (codes[:, None, :] == codes[None, :, :]).sum(-1)
    sign, wanted = numpy.linalg.slogdet(agreements)
    assert sign == 1
    assert naswot(net, x, y) == pytest.approx(wanted)


def test_naswot_counts_every_activation_and_all_layers() -> None:
    net = seeded(Whole)
    x, y = examples((5, 1, 8, 8))
    inside: list[Tensor] = []
    own = copy.deepcopy(net).train()
    own.first[1].register_forward_hook(lambda m, i, o: inside.append(o.detach()))  # type: ignore[index, union-attr]
    own.second.register_forward_hook(lambda m, i, o: inside.append(o.detach()))  # type: ignore[union-attr]
    own(x)
    codes = numpy.hstack([(part.reshape(5, -1) > 0).numpy() for part in inside])
    agreements = (codes[:, None, :] == codes[None, :, :]).sum(-1)
    assert naswot(net, x, y) == pytest.approx(numpy.linalg.slogdet(agreements)[1])


def test_naswot_needs_an_activation_and_examples_that_differ() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with pytest.raises(ValueError, match="no activation"):
        naswot(net[0], *examples((4, 3)))
    assert naswot(net, torch.ones(4, 3), torch.zeros(4)) == -math.inf


def test_jacov_against_autograd() -> None:
    net = nn.Sequential(seeded(lambda: nn.Linear(9, 20)), nn.Tanh(), nn.Linear(20, 3))
    x, y = examples((6, 9))
    rows = [torch.autograd.functional.jacobian(net, one).sum(0).numpy() for one in x]
    values = numpy.linalg.eigvalsh(numpy.corrcoef(numpy.array(rows, dtype=float)))
    wanted = -sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in values)
    assert jacov(net, x, y) == pytest.approx(wanted, rel=1e-4)


def test_jacov_is_worst_where_examples_cannot_be_told_apart() -> None:
    linear = nn.Linear(9, 3)  # one Jacobian for all: the correlation has rank one
    random = nn.Sequential(nn.Linear(9, 50), nn.Tanh(), nn.Linear(50, 3))
    x, y = examples((6, 9))
    assert jacov(linear, x, y) < jacov(random, x, y)
    dead = nn.Linear(9, 3)
    nn.init.zeros_(dead.weight)
    assert jacov(dead, x, y) == -math.inf


def test_grad_norm_against_autograd() -> None:
    net = nn.Sequential(seeded(lambda: nn.Linear(9, 20)), nn.ReLU(), nn.LayerNorm(20), nn.Linear(20, 10))
    x, y = examples((6, 9))
    weights = [net[0].weight, net[3].weight]
    norms = [float(g.norm()) for g in torch.autograd.grad(F.cross_entropy(net(x), y), weights)]
    assert grad_norm(net, x, y) == pytest.approx(sum(norms))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_the_network_stays_what_it_was_and_the_number_is_the_same(name: str, training: bool) -> None:
    net = seeded(Whole).train(training)
    x, y = examples((5, 1, 8, 8))
    net.second.weight.grad = torch.ones_like(net.second.weight)  # type: ignore[union-attr, arg-type]
    before, given = copy.deepcopy(net.state_dict()), x.clone()
    torch.manual_seed(5)
    first = PROXIES[name](net, x, y)
    after = torch.random.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(torch.random.get_rng_state(), after)
    torch.manual_seed(6)
    assert PROXIES[name](net, x, y) == first
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(before[key].dtype == value.dtype for key, value in net.state_dict().items())
    assert torch.equal(x, given)
    assert x.grad is None
    assert not x.requires_grad
    assert [m.training for m in net.modules()] == [training] * len(list(net.modules()))
    assert torch.equal(net.second.weight.grad, torch.ones_like(net.second.weight))  # type: ignore[union-attr, arg-type]
    assert net.head.weight.grad is None  # type: ignore[union-attr]
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("name", NAMES)
def test_a_network_through_which_nothing_flows_ranks_last(name: str) -> None:
    space = nasdsl.load("nasbench201", **TINY)
    x, y, _ = minibatch("digits", ("image", 3, 8, 8), 10, "data", 8, 0)
    dead = space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    alive = space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    )
    low, high = (PROXIES[name](space.network(a), x, y) for a in (dead, alive))
    assert low < high


def test_the_minibatch_follows_from_its_seed() -> None:
    (x, y, _), (again, _, _), (other, _, _) = (
        minibatch("digits", ("image", 1, 8, 8), 10, "data", 16, seed) for seed in (0, 0, 1)
    )
    assert x.shape == (16, 1, 8, 8)
    assert len(set(y.tolist())) > 3
    assert torch.equal(x, again)
    assert not torch.equal(x, other)


def test_images_are_fitted_to_what_a_network_reads() -> None:
    x = torch.ones(2, 3, 8, 8)
    assert fitted(x, (3, 8, 8)) is x
    assert torch.allclose(fitted(x, (3, 4, 4)), torch.ones(2, 3, 4, 4))
    vectors = torch.ones(2, 5)
    assert fitted(vectors, (5,)) is vectors
    assert proxies.WORST < -1e300
