"""Laws of activations: which distribution is drawn from, which gradient it has, what does not run."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime import activation
from nasdsl.runtime.activation import (
    At,
    Idle,
    clipped,
    concentration,
    concrete,
    dirichlet,
    gumbel,
    gumbel_noise,
    mean_weights,
    running,
)
from nasdsl.runtime.operators.mixed import mix, mix_running
from nasdsl.runtime.search.engine import Engine
from nasdsl.runtime.supernet import SupernetBase
from tests.runtime.steps import images, program, search, supernet

LOGITS = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
DRAWS = 20_000
TEMPERATURES = (0.1, 1.0, 10.0)
CHI_SQUARE = {2: 13.8, 3: 16.3}
"""Exceeded once in a thousand, by degrees of freedom."""
RANDOM = ("gumbel", "concrete", "dirichlet")


def rows(logits: Tensor = LOGITS, number: int = DRAWS) -> Tensor:
    return logits.expand(number, -1).clone().requires_grad_()


def chi_square(index: Tensor, probabilities: Tensor) -> float:
    seen = torch.bincount(index, minlength=len(probabilities)).double()
    wanted = probabilities * len(index)
    return float(((seen - wanted).square() / wanted).sum())


# --- noise -------------------------------------------------------------------


def test_noise_is_standard_gumbel() -> None:
    """Kolmogorov and Smirnov: exceeded once in a thousand above 1.95."""
    torch.manual_seed(0)
    noise = gumbel_noise(torch.empty(DRAWS, dtype=torch.float64)).sort().values
    law = (-(-noise).exp()).exp()
    steps = torch.arange(1, DRAWS + 1, dtype=torch.float64) / DRAWS
    assert float((law - steps).abs().max()) * math.sqrt(DRAWS) < 1.95


# --- gumbel ------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_hard_draws_have_the_distribution_of_the_softmax(temperature: float) -> None:
    torch.manual_seed(0)
    weights, runs = gumbel(rows(), At(noise_temperature=temperature))
    assert chi_square(weights.argmax(-1), LOGITS.softmax(0)) < CHI_SQUARE[3]
    assert torch.equal(torch.tensor(runs).double(), weights)  # exactly one-hot, and what runs is the one


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_of_a_hard_draw_is_that_of_the_soft_one(temperature: float) -> None:
    factors = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for hard in (True, False):
        torch.manual_seed(0)
        logits, at = rows(number=64), At(noise_temperature=temperature)
        weights = gumbel(logits, at)[0] if hard else concrete(logits, at)
        found.append(torch.autograd.grad((weights * factors).sum(), logits)[0])
    torch.testing.assert_close(*found, rtol=1e-13, atol=0)
    assert float(found[0].abs().max()) > 1e-3


class Called:
    """Candidates that say when they are computed."""

    def __init__(self, *outputs: Tensor) -> None:
        self.outputs, self.calls = outputs, [0] * len(outputs)

    def terms(self) -> list[Callable[[], Tensor]]:
        return [lambda i=i: self._call(i) for i in range(len(self.outputs))]  # type: ignore[misc]

    def _call(self, index: int) -> Tensor:
        self.calls[index] += 1
        return self.outputs[index]


def leaves(number: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(number)
    ]


def test_an_operation_that_does_not_run_adds_its_bare_weight_as_in_the_code_of_gdas() -> None:
    """There: `sum(w[k] * op(x) if k == argmax else w[k] for k, op in enumerate(ops))`."""
    found = []
    for ours in (True, False):
        torch.manual_seed(3)
        outputs, logits = leaves(4), LOGITS.clone().requires_grad_()
        weights, runs = gumbel(logits.unsqueeze(0), At(noise_temperature=0.7))
        index = runs[0].index(True)
        if ours:
            called = Called(*outputs)
            total = mix_running(running(weights[0], runs[0], counted=True), called.terms(), nn.Module())
            assert called.calls == [int(k == index) for k in range(4)]
        else:
            w = weights[0]
            total = sum((w[k] * outputs[k] if k == index else w[k] for k in range(4)), torch.zeros(()))
        loss = total.sin().sum()
        found.append((total, *torch.autograd.grad(loss, [logits, outputs[index]])))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


def test_the_gradient_of_a_bare_weight_is_the_sum_of_what_comes_in() -> None:
    weights = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    x, factor = leaves(2)
    parts = (weights[0], Idle(weights[1], counted=True), Idle(weights[2], counted=False))
    total = mix_running(parts, [lambda: x, _never, _never], nn.Module())
    assert torch.equal(total, x)
    (gradient,) = torch.autograd.grad((total * factor).sum(), weights)
    wanted = torch.stack([(x * factor).sum(), factor.sum(), torch.zeros((), dtype=torch.float64)])
    torch.testing.assert_close(gradient, wanted.detach(), rtol=1e-13, atol=1e-13)


def _never() -> Tensor:
    raise AssertionError("a candidate that does not run was computed")


# --- concrete ----------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_largest_of_a_soft_draw_has_the_distribution_of_the_softmax(temperature: float) -> None:
    torch.manual_seed(1)
    weights = concrete(rows(), At(noise_temperature=temperature))
    torch.testing.assert_close(weights.sum(-1), torch.ones(DRAWS, dtype=torch.float64))
    assert chi_square(weights.argmax(-1), LOGITS.softmax(0)) < CHI_SQUARE[3]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_log_odds_are_logistic_about_those_of_the_logits_over_the_temperature(temperature: float) -> None:
    torch.manual_seed(2)
    logits = torch.tensor([0.8, -0.4], dtype=torch.float64)
    weights = concrete(rows(logits), At(noise_temperature=temperature)).detach()
    odds = (weights[:, 0].log() - weights[:, 1].log()).sort().values
    law = torch.sigmoid(odds * temperature - 1.2)
    steps = torch.arange(1, DRAWS + 1, dtype=torch.float64) / DRAWS
    assert float((law - steps).abs().max()) * math.sqrt(DRAWS) < 1.95


def test_the_gradient_of_a_soft_draw_follows_its_noise() -> None:
    """d w_i / d a_j = w_i ([i = j] - w_j) / tau: the noise is a constant, and so is what log_softmax takes off."""
    torch.manual_seed(0)
    temperature = 0.6
    logits = LOGITS.clone().requires_grad_()
    weights = concrete(logits.unsqueeze(0), At(noise_temperature=temperature))[0]
    jacobian = torch.stack([torch.autograd.grad(w, logits, retain_graph=True)[0] for w in weights])
    w = weights.detach()
    torch.testing.assert_close(jacobian, (torch.diag(w) - torch.outer(w, w)) / temperature)


# --- dirichlet ---------------------------------------------------------------

NEAR = torch.tensor([0.7, -1.2, 0.0, 1.5], dtype=torch.float64)


def test_concentrations_are_elu_plus_one() -> None:
    found = concentration(torch.tensor([-1.2, 0.0, 1.5], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([math.exp(-1.2), 1.0, 2.5], dtype=torch.float64))


def test_draws_have_the_moments_of_the_distribution() -> None:
    torch.manual_seed(0)
    drawn = dirichlet(rows(NEAR, 100_000), At()).detach()
    torch.testing.assert_close(drawn.sum(-1), torch.ones(len(drawn), dtype=torch.float64))
    c = concentration(NEAR)
    total = c.sum()
    mean = c / total
    covariance = (torch.diag(mean) - torch.outer(mean, mean)) / (total + 1)
    # Five standard errors of a mean of numbers in [0, 1] of that variance; a variance has one of 1/2 n^(-1/2) at most.
    assert bool(((drawn.mean(0) - mean).abs() < 5 * (covariance.diagonal() / 100_000).sqrt()).all())
    assert float((torch.cov(drawn.T) - covariance).abs().max()) < 2.5e-3
    torch.testing.assert_close(dirichlet(NEAR.unsqueeze(0), At(random=False))[0], mean)


def test_pathwise_gradients_are_those_of_the_moments() -> None:
    """E[sum_i k_i x_i^2] = sum_i k_i c_i (c_i + 1) / (c (c + 1)); within five standard errors of the mean."""
    torch.manual_seed(0)
    factors = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    logits = rows(NEAR, 100_000)
    value = (dirichlet(logits, At()).square() * factors).sum()
    (each,) = torch.autograd.grad(value, logits)
    near = NEAR.clone().requires_grad_()
    c = concentration(near)
    total = c.sum()
    (wanted,) = torch.autograd.grad((factors * c * (c + 1)).sum() / (total * (total + 1)), near)
    error = each.std(0) / math.sqrt(len(each))
    assert bool(((each.mean(0) - wanted).abs() < 5 * error).all())
    assert bool((error < 0.1 * wanted.abs()).all())  # so that another gradient would be seen


def test_draws_and_gradients_are_those_of_torch() -> None:
    found = []
    for ours in (True, False):
        torch.manual_seed(4)
        logits = NEAR.unsqueeze(0).clone().requires_grad_()
        if ours:
            drawn = dirichlet(logits, At())
        else:
            drawn = torch.distributions.Dirichlet(F.elu(logits) + 1).rsample()
        found.append((drawn, torch.autograd.grad(drawn[0, 1], logits)[0]))
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_an_architecture_was_set_it_is_drawn(dtype: torch.dtype) -> None:
    logits = torch.full((200, 4), -1e4, dtype=dtype)
    logits[:, 2] = 0.0
    logits.requires_grad_()
    torch.manual_seed(0)
    drawn = dirichlet(logits, At())
    wanted = F.one_hot(torch.tensor(2), 4).to(dtype).expand(200, 4)
    torch.testing.assert_close(drawn.detach(), wanted, rtol=0, atol=2 * torch.finfo(dtype).eps)
    (gradient,) = torch.autograd.grad(drawn.square().sum(), logits)
    assert bool(gradient.isfinite().all())


# --- clipped -----------------------------------------------------------------


def jacobian(form: str, logits: Tensor) -> Tensor:
    found: Tensor = torch.autograd.functional.jacobian(lambda a: mean_weights(form, a), logits)
    return found


def test_clipped_weights_do_not_compete() -> None:
    logits = torch.tensor([-0.5, 0.0, 0.3, 0.9, 1.0, 1.7], dtype=torch.float64)
    assert torch.equal(clipped(logits), torch.tensor([0.0, 0.0, 0.3, 0.9, 1.0, 1.0], dtype=torch.float64))
    slopes = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)  # one at either bound
    assert torch.equal(jacobian("clipped", logits), torch.diag(slopes))
    competing = jacobian("softmax", logits)
    assert bool((competing - torch.diag(competing.diagonal()) < 0).sum() == 30)


def test_a_pruned_entry_has_neither_weight_nor_gradient() -> None:
    logits = torch.full((2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    alive = torch.tensor([[True, False], [True, True]])
    weights = clipped(logits, alive)
    assert torch.equal(weights, 0.5 * alive)
    (gradient,) = torch.autograd.grad(weights.sum(), logits)
    assert torch.equal(gradient, alive.double())


def engine(net: SupernetBase, method: str, name: str = "nasbench201", **changes: object) -> Engine:
    return Engine(net, {**program(name, method).compilation.settings, **changes})


def test_momentum_brings_no_pruned_entry_back() -> None:
    net = supernet(program("nasbench201", "cbo"))
    made = engine(net, "cbo", epochs=20, arch_lr=0.1, arch_weight_decay=0.0, schedule="alternate")
    alive = net.variables["infer"].op_alive
    (op,) = net.architecture_parameters()
    counts = []
    for number in range(30):
        dead = ~alive.clone()
        search(made, [number], measure=False)
        assert bool((op[~alive] == 0).all())
        assert not bool(alive[dead].any())
        counts.append(int((~alive).sum()))
    assert 2 < counts[-1] < 24  # some were pruned on the way, not all
    momentum, dead = made.variables.state[op]["exp_avg"], ~alive.clone()
    assert bool((momentum[dead] != 0).any())
    momentum[dead] = -1.0  # Adam moves them up
    search(made, range(30, 33), measure=False)
    assert not bool(alive[dead].any())
    assert bool((op[dead] == 0).all())


def into(net: SupernetBase, node: str) -> list[Tensor]:
    return [net.logits(d) for d in net.DECISIONS if d["kind"] == "op" and d["sum"] == node]


@pytest.mark.parametrize("node", ["n[1]", "n[2]", "n[3]"])
@pytest.mark.parametrize("norm", ["true", "false"])
def test_only_with_a_norm_the_scale_of_the_weights_into_a_node_says_nothing(node: str, norm: str) -> None:
    net = supernet(program("nasbench201", "cbo", node_norm=norm))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30
    with torch.no_grad():
        for parameter in net.architecture_parameters():
            parameter.mul_(0.3)  # so that three times as much is below one
    x, _ = images(0)
    before = net(x).detach()
    with torch.no_grad():
        for weights in into(net, node):
            weights.mul_(3.0)
    gap = float((net(x).detach() - before).abs().max() / before.abs().max())
    assert gap < 1e-9 if norm == "true" else gap > 1e-3


# --- what does not run -------------------------------------------------------


@pytest.mark.parametrize("idle", [(), (0,), (1, 3), (0, 1, 2)])
def test_leaving_out_is_the_sum_with_weights_of_zero(idle: tuple[int, ...]) -> None:
    runs = [k not in idle for k in range(4)]
    found = []
    for form in ("left out", "computed"):
        outputs = leaves(4)
        weights = torch.tensor([0.4, 0.7, -0.2, 1.0], dtype=torch.float64).requires_grad_()
        called = Called(*outputs)
        if form == "left out":
            total = mix_running(running(weights, runs, counted=False), called.terms(), nn.Module())
            assert called.calls == [int(r) for r in runs]
        else:
            kept = weights * torch.tensor(runs)
            total = mix(kept.unbind(), outputs)
        wanted = [weights, *(o for o, r in zip(outputs, runs, strict=True) if r)]
        found.append((total, *torch.autograd.grad(total.sin().sum(), wanted)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)


def test_nothing_that_runs_is_a_zero() -> None:
    """Trap b: the sum of nothing is an integer, which no batch norm takes."""
    weights = torch.tensor([0.4, 0.7], dtype=torch.float64, requires_grad=True)
    x, _ = leaves(2)
    total = mix_running(running(weights, [False, False], counted=False), [lambda: x, _never], nn.Module())
    assert torch.equal(total, torch.zeros_like(x))
    assert not total.requires_grad
    counted = mix_running(running(weights, [False, False], counted=True), [lambda: x, _never], nn.Module())
    (gradient,) = torch.autograd.grad(counted.sum(), weights)
    assert torch.equal(gradient, torch.full((2,), float(x.numel()), dtype=torch.float64))


@pytest.mark.parametrize("which", ["a node", "all"])
@pytest.mark.parametrize("order", ["first", "finite", "exact"])
def test_steps_go_on_where_everything_was_pruned(which: str, order: str) -> None:
    net = supernet(program("nasbench201", "cbo"))
    with torch.no_grad():
        for weights in into(net, "n[1]") if which == "a node" else net.architecture_parameters():
            weights.zero_()
    off = net.prune()
    assert off == (4 if which == "a node" else 24)
    # Without a penalty nothing is left that the variables could learn from.
    made = engine(net, "cbo", hypergradient=order, schedule="alternate", admm=False)
    weights_before = [p.detach().clone() for p in net.weight_parameters()]
    seen = search(made, range(2), measure=False)
    assert [turn for turn, _ in seen] == ["variables", "weights"] * 2
    assert all(bool(loss.isfinite()) for _, loss in seen)
    assert not all(torch.equal(a, b) for a, b in zip(weights_before, net.weight_parameters(), strict=True))
    assert net.prune() >= off
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("method", ["gdas", "cbo"])
def test_a_supernet_calls_no_candidate_that_does_not_run(method: str) -> None:
    """The convolutions of every cell, by edge."""
    net = supernet(program("nasbench201", method))
    if method == "cbo":
        with torch.no_grad():
            net.variables["infer"].op[:, 1::2] = 0.0  # convolutions 1x1, and pooling
        net.prune()
    calls: dict[str, int] = {}
    for name, module in net.named_modules():
        if name.endswith(("_nor_conv_1x1", "_nor_conv_3x3")):
            calls[name] = 0

            def count(*_: object, name: str = name) -> None:
                calls[name] += 1

            module.register_forward_hook(count)
    given: list[dict[str, dict[str, tuple[Tensor | Idle, ...]]]] = []
    mixing = net.mixing
    net.mixing = lambda: given.append(mixing()) or given[-1]  # type: ignore[func-returns-value, method-assign]
    torch.manual_seed(0)
    total = 0
    for number in range(5):
        calls.update(dict.fromkeys(calls, 0))
        net(images(number)[0])
        runs = 0
        for vector, weights in given[-1]["infer"].items():
            node, edge = vector.split(".op")  # n2.opn1.dist
            edge = edge.removesuffix(".dist")
            for kind, entry in (("1x1", -3), ("3x3", -2)):
                run = not isinstance(weights[entry], Idle)
                runs += run
                for name, number_of in calls.items():
                    if name.endswith(f"{node}_{edge}_nor_conv_{kind}"):
                        assert number_of == int(run), name
        assert sum(calls.values()) == 3 * runs  # one draw serves all three cells
        total += runs
    assert 0 < total < 5 * 12


# --- chance ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gdas", "snas", "drnas"])
def test_one_draw_serves_all_cells_of_a_pass(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """One for each kind of cell, and none in evaluation or where chance is off."""
    draws = []

    def counting(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*given: object) -> Tensor:
            draws.append(1)
            return draw(*given)

        return run

    law = torch.distributions.Dirichlet
    monkeypatch.setattr(activation, "gumbel_noise", counting(activation.gumbel_noise))
    monkeypatch.setattr(law, "rsample", counting(law.rsample))
    for name, kinds in (("nasbench201", 1), ("darts", 2)):
        net = supernet(program(name, method))
        x, _ = images(0, name)
        for expected in (kinds, 2 * kinds):
            net(x)
            assert len(draws) == expected
        net.random = False
        net(x)
        net.random = True
        net.eval()
        net(x)
        assert len(draws) == 2 * kinds
        draws.clear()


@pytest.mark.parametrize("method", ["gdas", "snas", "drnas"])
def test_evaluation_draws_nothing_and_training_does(method: str) -> None:
    net = supernet(program("nasbench201", method))
    x, _ = images(0)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = net(x), net(x)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    net.eval()
    first, second = net(x), net(x)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", ["gdas", "snas", "drnas", "cbo", "darts"])
def test_the_seed_decides_a_supernet_and_its_draws(method: str) -> None:
    made = program("nasbench201", method)
    state = torch.get_rng_state()
    nets = [made.supernet(seed=s) for s in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is its own
    values = [torch.cat([p.detach().flatten() for p in net.parameters()]) for net in nets]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    outputs = []
    for net in nets[:2]:
        torch.manual_seed(5)
        outputs.append(torch.stack([net(images(n)[0].float()).detach() for n in range(3)]))
    assert torch.equal(*outputs)


def test_evaluation_takes_the_mode_or_the_mean() -> None:
    at = At(random=False)
    weights, runs = gumbel(LOGITS.unsqueeze(0), at)
    assert runs == [[False, False, True, False]]
    assert torch.equal(weights[0].detach(), torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.equal(concrete(LOGITS, at), LOGITS.softmax(-1))
    for form in ("softmax", "gumbel", "concrete"):
        assert torch.equal(mean_weights(form, LOGITS), LOGITS.softmax(-1))
    torch.testing.assert_close(
        mean_weights("dirichlet", NEAR), concentration(NEAR) / concentration(NEAR).sum()
    )


# --- temperatures ------------------------------------------------------------

PUBLISHED: dict[str, tuple[str, int, Callable[[int, int], float]]] = {
    "gdas": ("nasbench201", 250, lambda e, n: 10 - (10 - 0.1) * e / (n - 1)),
    "snas": ("darts", 150, lambda e, n: 1 + (0.03 - 1) * e / (n - 1)),
}
"""Space, epochs, temperature in epoch e of n."""


@pytest.mark.parametrize("method", list(PUBLISHED))
def test_temperatures_are_the_published_ones(method: str) -> None:
    name, epochs, law = PUBLISHED[method]
    net = supernet(program(name, method))
    made = engine(net, method, name)
    assert made.settings["epochs"] == epochs
    for epoch in (0, 1, epochs // 2, epochs - 1):
        made.begin(epoch)
        assert net.noise_temperature == pytest.approx(law(epoch, epochs), rel=1e-12)
        assert net.temperature == 1.0
    assert net.noise_temperature == pytest.approx({"gdas": 0.1, "snas": 0.03}[method], rel=1e-12)


@pytest.mark.parametrize("method", list(PUBLISHED))
def test_the_temperature_reaches_the_weights(method: str) -> None:
    net = supernet(program("nasbench201", method))
    made = engine(net, method)
    found = []
    for epoch in (0, made.settings["epochs"] - 1):
        made.begin(epoch)
        torch.manual_seed(0)
        (vectors,) = net.mixing().values()
        weights = [w.weight if isinstance(w, Idle) else w for v in vectors.values() for w in v]
        (op,) = net.architecture_parameters()
        (gradient,) = torch.autograd.grad(weights[0], op)
        found.append(float(gradient.abs().max()))
        soft = torch.stack(weights)
        if method == "snas":
            found[-1] = float(soft.detach().max())
    assert found[0] != pytest.approx(found[1], rel=0.1)
