"""Hypergradients against autograd through one step of the weights, and second derivatives of what is ours."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import nasdsl
from nasdsl import Space
from nasdsl.runtime.activation import Idle
from nasdsl.runtime.operators.blended import BlendedConv, BlendedFan
from nasdsl.runtime.operators.depthwise import Depthwise, DepthwiseFan
from nasdsl.runtime.operators.derivatives import twice
from nasdsl.runtime.operators.mixed import mix, mix_running
from nasdsl.runtime.operators.normalised import NormalisedMix, PointwiseNorm
from nasdsl.runtime.search.bilevel import Batch
from nasdsl.runtime.search.hypergradient import Unrolled
from nasdsl.runtime.supernet import SupernetBase
from tests.passes.short import cell
from tests.passes.twins import PLAIN, first, only, second
from tests.runtime.steps import same
from tests.runtime.toy import ToyDarts, batch

HOW = ("exact", "finite")


def toy(dropout: float = 0.0) -> ToyDarts:
    """Smooth, away from equal variables."""
    torch.manual_seed(0)
    net = ToyDarts()
    net.noise.p = dropout
    with torch.no_grad():
        for variable in net.architecture_parameters():
            variable.normal_()
    return net.double()


def pair(seed: int) -> Batch:
    x, y = batch(seed)
    return x.double(), y


def sgd(
    net: SupernetBase, lr: float = 0.5, momentum: float = 0.9, decay: float = 0.1, steps: int = 2
) -> torch.optim.Optimizer:
    """The optimiser of the weights, its momentum buffers filled by some steps that go nowhere."""
    made = torch.optim.SGD(net.weight_parameters(), 0.0, momentum=momentum, weight_decay=decay)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for p in net.weight_parameters():
            p.grad = 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        made.step()
    made.zero_grad(set_to_none=True)
    made.param_groups[0]["lr"] = lr
    return made


def reference(
    net: SupernetBase, weights: torch.optim.Optimizer, train: Batch, valid: Batch
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss at w' and its gradient, by autograd through w'(a) = w - lr u(w, a)."""
    ours = {id(p): n for n, p in net.named_parameters()}
    w = {ours[id(p)]: p.detach().clone().requires_grad_() for p in net.weight_parameters()}
    a = {ours[id(p)]: p.detach().clone().requires_grad_() for p in net.architecture_parameters()}
    fixed = {n: b.clone() for n, b in net.named_buffers()}
    group = weights.param_groups[0]
    buffers = {
        ours[id(p)]: weights.state[p]["momentum_buffer"]
        for p in net.weight_parameters()
        if weights.state.get(p, {}).get("momentum_buffer") is not None
    }

    def loss_at(values: dict[str, Tensor], data: Batch) -> Tensor:
        return F.cross_entropy(functional_call(net, {**values, **a, **fixed}, (data[0],)), data[1])

    with twice():
        gradients = torch.autograd.grad(
            loss_at(w, train), list(w.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        stepped = {}
        for (name, value), gradient in zip(w.items(), gradients, strict=True):
            update = gradient + group["weight_decay"] * value
            if name in buffers:
                update = update + group["momentum"] * buffers[name]
            stepped[name] = value - group["lr"] * update
        loss = loss_at(stepped, valid)
        found = torch.autograd.grad(loss, list(a.values()), allow_unused=True, materialize_grads=True)
    return loss.detach(), list(found)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def gap(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Relative to the largest element of all: a row that matters little is not weighed up."""
    return float((flat(mine) - flat(theirs)).abs().max() / flat(theirs).abs().max())


def hypergradient(
    net: SupernetBase,
    weights: torch.optim.Optimizer,
    train: Batch,
    valid: Batch,
    how: str = "exact",
    radius: float = 0.01,
) -> tuple[Tensor, list[Tensor]]:
    return Unrolled(net, weights, F.cross_entropy, nullcontext, radius).gradients(train, valid, how)


# --- exact -------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 0), (0.9, 0), (0.9, 2)])
def test_exact_is_autograd_through_the_step(momentum: float, steps: int, decay: float) -> None:
    net = toy()
    weights = sgd(net, 0.5, momentum, decay, steps)
    loss, wanted = reference(net, weights, pair(1), pair(2))
    value, found = hypergradient(net, weights, pair(1), pair(2))
    assert float(value) == pytest.approx(float(loss), rel=1e-12)
    assert gap(found, wanted) < 1e-10


def test_momentum_decay_and_rate_each_matter() -> None:
    """What the comparison above could not see if it were not so."""
    found = []
    for changes in ({}, {"momentum": 0.5}, {"decay": 0.0}, {"lr": 0.25}):
        net = toy()
        weights = sgd(net)
        weights.param_groups[0].update({"weight_decay" if n == "decay" else n: v for n, v in changes.items()})
        found.append(hypergradient(net, weights, pair(1), pair(2))[1])
    assert all(gap(other, found[0]) > 1e-3 for other in found[1:])


def test_without_a_rate_it_is_the_first_order_gradient_to_the_bit() -> None:
    net = toy()
    weights = sgd(net, lr=0.0)
    variables = net.architecture_parameters()
    loss = F.cross_entropy(net(pair(2)[0]), pair(2)[1])
    wanted = torch.autograd.grad(loss, [*variables, *net.weight_parameters()], allow_unused=True)
    for how in HOW:
        value, found = hypergradient(net, weights, pair(1), pair(2), how)
        assert torch.equal(value, loss)
        for mine, theirs, variable in zip(found, wanted, variables, strict=False):
            assert torch.equal(mine, torch.zeros_like(variable) if theirs is None else theirs)


class Quadratic(SupernetBase):
    """Weights w (n,) and variables a (m,): w - M a where the input is 0, w + N a where it is 1."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        own = nn.Module()
        own.a = nn.Parameter(torch.randn(3, generator=generator, dtype=torch.float64))
        self.variables = nn.ModuleDict({"network": own})
        self.w = nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64))
        self.m, self.n = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        a = self.variables["network"].a
        return self.w + self.n @ a if bool(x.any()) else self.w - self.m @ a


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("steps", [0, 2])
def test_a_quadratic_problem_by_hand(how: str, steps: int) -> None:
    """L_train = |w - M a|^2 / 2 and L_val = |w + N a - b|^2 / 2; central differences are exact here."""
    net = Quadratic()
    weights = sgd(net, lr=0.3, steps=steps)
    zero, b = torch.zeros(4, dtype=torch.float64), torch.arange(4, dtype=torch.float64)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return (out - y).square().sum() / 2

    unrolled = Unrolled(net, weights, loss, nullcontext, 0.5)
    value, (found,) = unrolled.gradients((torch.zeros(1), zero), (torch.ones(1), b), how)
    w, a = net.w.detach(), net.variables["network"].a.detach()
    buffer = weights.state[net.w]["momentum_buffer"] if steps else zero
    stepped = w - 0.3 * (w - net.m @ a + 0.1 * w + 0.9 * buffer)
    residual = stepped + net.n @ a - b
    torch.testing.assert_close(value, residual.square().sum() / 2, rtol=1e-13, atol=0)
    # d w' / d a = 0.3 M
    torch.testing.assert_close(found, net.n.T @ residual + 0.3 * net.m.T @ residual, rtol=1e-12, atol=1e-13)


# --- finite differences ------------------------------------------------------


def slope(radii: Sequence[float]) -> float:
    """The order in which `finite` comes closer to `exact`, by least squares of logarithms."""
    net = toy()
    weights = sgd(net)
    _, wanted = hypergradient(net, weights, pair(1), pair(2))
    errors = [gap(hypergradient(net, weights, pair(1), pair(2), "finite", r)[1], wanted) for r in radii]
    x, y = (torch.tensor(v, dtype=torch.float64).log() for v in (radii, errors))
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x @ x))


RADII = (0.32, 0.16, 0.08, 0.04, 0.02, 0.01)
"""Of these the error is all truncation: rounding enters at about 1e-5."""


def test_finite_differences_are_of_second_order() -> None:
    assert slope(RADII) == pytest.approx(2.0, abs=0.05)


def test_the_published_radius_is_near() -> None:
    net = toy()
    weights = sgd(net)
    _, wanted = hypergradient(net, weights, pair(1), pair(2))
    _, found = hypergradient(net, weights, pair(1), pair(2), "finite")
    assert 0.0 < gap(found, wanted) < 1e-4


def wrongly(right: Callable[..., tuple[Tensor, ...]], change: str) -> Callable[..., tuple[Tensor, ...]]:
    """A `_finite` with a mistake in its last line, or with the perturbation of another length."""

    def product(self: Unrolled, train: Batch, w: Any, a: Any, vector: Sequence[Tensor]) -> tuple[Tensor, ...]:
        step = self.radius / float(flat(vector).norm())
        if change == "times":  # (p - n) / 2 * eps
            return tuple(s * step * step for s in right(self, train, w, a, vector))
        if change == "half":
            return tuple(s / 2 for s in right(self, train, w, a, vector))
        found = []  # one-sided: (p - g(w)) / eps
        for scale in (step, 0.0):
            with torch.no_grad():
                for each, v in zip(w, vector, strict=True):
                    each.add_(v, alpha=scale)
            found.append(torch.autograd.grad(self._loss(train), a, allow_unused=True, materialize_grads=True))
            with torch.no_grad():
                for each, v in zip(w, vector, strict=True):
                    each.sub_(v, alpha=scale)
        return tuple((p - n) / step for p, n in zip(*found, strict=True))

    return product


@pytest.mark.parametrize("change", ["times", "half", "one-sided"])
def test_a_wrong_difference_is_not_of_second_order(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr(Unrolled, "_finite", wrongly(Unrolled._finite, change))
    assert slope(RADII) < 1.5


def test_where_the_validation_loss_is_flat_nothing_is_divided_by_zero() -> None:
    net = toy()
    weights = sgd(net)

    def flat_loss(out: Tensor, y: Tensor) -> Tensor:
        return (out * 0).sum()

    for how in HOW:
        _, found = Unrolled(net, weights, flat_loss, nullcontext).gradients(pair(1), pair(2), how)
        assert all(torch.equal(g, torch.zeros_like(g)) for g in found)


# --- no trace ----------------------------------------------------------------


def everything(net: SupernetBase, weights: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "values": {n: v.clone() for n, v in net.state_dict().items()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()},
        "wants": {n: p.requires_grad for n, p in net.named_parameters()},
        "optimiser": copy.deepcopy(weights.state_dict()),
        "generator": torch.get_rng_state(),
        "modes": [m.training for m in net.modules()],
    }


@cache
def space(name: str) -> Space:
    """A shipped space at its smallest, or `cell`: every kind of candidate in a cell of two nodes."""
    if name == "cell":
        return cell("sep(3), sep(5), dil(5), rcb(1), rcb(3), pool: avg_pool(3), id", 2, "sum of choose 1")
    parameters = {
        "darts": {"layers": 3, "C": 2, "resolution": 8},
        "nasbench201": {"N": 1, "C": 4, "resolution": 4},
    }
    return nasdsl.load(name, **parameters[name])


def images(name: str, seed: int, size: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = space(name).checked.input.evaluate({})
    x = torch.randn(size, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (size,), generator=generator)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ["toy", "batch norm", "dropout"])
def test_it_leaves_no_trace(kind: str, how: str) -> None:
    if kind == "batch norm":
        net: SupernetBase = first(space("nasbench201").compile("darts")).net
        data = images("nasbench201", 1), images("nasbench201", 2)
    else:
        net, data = toy(0.5 if kind == "dropout" else 0.0), (pair(1), pair(2))
    weights = sgd(net)
    for number, p in enumerate(net.parameters()):
        if number % 2:
            p.grad = torch.full_like(p, float(number))
    before = everything(net, weights)
    hypergradient(net, weights, *data, how)
    after = everything(net, weights)
    for name, value in before.items():
        assert same(value, after[name]), name


@pytest.mark.parametrize("how", HOW)
def test_also_where_it_fails(how: str) -> None:
    net = toy()
    weights = sgd(net)
    before = everything(net, weights)
    good, bad = pair(1), (torch.zeros(2, 9, dtype=torch.float64), torch.zeros(2).long())
    for data in ((bad, good), (good, bad)):
        with pytest.raises(RuntimeError, match="mat1"):
            hypergradient(net, weights, *data, how)
        assert same(before, everything(net, weights))


@pytest.mark.parametrize("how", HOW)
def test_every_pass_drops_the_same_units(how: str) -> None:
    """One function is differentiated: with other masks at both ends a difference would be noise over a radius."""
    net = toy(dropout=0.5)
    weights = sgd(net)
    drawn = torch.get_rng_state()

    class Seeded(ToyDarts):
        def forward(self, x: Tensor) -> Tensor:
            torch.set_rng_state(drawn)
            return super().forward(x)

    net.__class__ = Seeded
    _, wanted = reference(net, weights, pair(1), pair(2))
    net.__class__ = ToyDarts
    torch.set_rng_state(drawn)
    _, found = hypergradient(net, weights, pair(1), pair(2), how, 1e-4)
    assert gap(found, wanted) < (1e-10 if how == "exact" else 1e-6)


@pytest.mark.parametrize("how", HOW)
def test_weights_that_the_user_froze_take_no_step(how: str) -> None:
    net = toy()
    weights = sgd(net)
    net.head.weight.requires_grad_(False)
    frozen = net.head.weight.detach().clone()
    _, found = hypergradient(net, weights, pair(1), pair(2), how, 1e-4)
    assert torch.equal(net.head.weight, frozen)
    assert not net.head.weight.requires_grad
    # The same as if the frozen weights were no weights.
    other = toy()
    held = other.head.weight.detach().clone()
    assert torch.equal(held, frozen)
    del other.head.weight
    other.head.register_buffer("weight", held)
    fresh = torch.optim.SGD(other.weight_parameters(), 0.5, momentum=0.9, weight_decay=0.1)
    given = dict(net.named_parameters())
    for name, p in other.named_parameters():
        if given[name] in weights.state:
            fresh.state[p] = weights.state[given[name]]
    _, wanted = reference(other, fresh, pair(1), pair(2))
    assert gap(found, wanted) < (1e-10 if how == "exact" else 1e-6)


# --- compiled supernets ------------------------------------------------------


@attrs.frozen
class Case:
    """A supernet with what makes it special."""

    space: str
    method: str
    settings: dict[str, Any] = attrs.field(factory=dict)
    passes: str = ""
    has: tuple[str, ...] = ()


JOINED = ("NormalisedMix(", "PointwiseNorm(", "DepthwiseFan(")
CASES = {
    "darts": Case("darts", "darts", has=(*JOINED, "StridedPointwise(")),
    "cell": Case("cell", "darts", has=JOINED),
    "no pass": Case("cell", "darts", passes=only(), has=("Depthwise(", " mix(")),
    "recomputed": Case(
        "nasbench201", "darts", {"memory_budget_mib": 1, "batch_size": 80}, has=("recomputed(self.body",)
    ),
    "stored": Case("nasbench201", "darts"),
    "subsets": Case("cell", "toponas", passes="-simplify", has=(*JOINED, "_rows'", "at.temperature")),
    "simplified": Case("cell", "toponas", has=("BlendedFan(", "BlendedConv(", "_rows'")),
    "edges": Case("cell", "pcdarts", {"partial_channels": 2}, has=(*JOINED, "softmax(self.n")),
    "clipped": Case("cell", "cbo", {"schedule": "alternate"}, has=("clipped(", "mix_running(")),
    "clipped, not pruned": Case("cell", "cbo", {"prune": False}, has=("clipped(", "NormalisedMix(")),
}


@cache
def compiled(name: str) -> Any:
    case = CASES[name]
    return space(case.space).compile(case.method, settings=case.settings, passes=case.passes)


def away(name: str) -> SupernetBase:
    """Away from special points; clipped variables inside, below and above their bounds."""
    program = compiled(name)
    net = first(program).net
    if net.ACTIVATION == "clipped":
        with torch.no_grad():
            for variable in net.architecture_parameters():
                variable.mul_(0.6).add_(0.4)
        net.prune()
    return net


@pytest.mark.parametrize("name", list(CASES))
def test_the_cases_are_what_they_are_for(name: str) -> None:
    text = compiled(name).files()["supernet.py"]
    assert [part for part in CASES[name].has if part not in text] == []


@pytest.mark.parametrize("name", list(CASES))
def test_on_a_supernet_it_is_autograd_through_the_step(name: str) -> None:
    net, data = away(name), (images(CASES[name].space, 1), images(CASES[name].space, 2))
    weights = sgd(net, lr=0.1)
    other = away(
        "stored" if name == "recomputed" else name
    )  # what is computed again would read other weights
    other.load_state_dict(net.state_dict())
    _, wanted = reference(other, sgd(other, lr=0.1), *data)
    _, found = hypergradient(net, weights, *data)
    assert gap(found, wanted) < 1e-10
    weights.param_groups[0]["lr"] = 0.0
    assert gap(hypergradient(net, weights, *data)[1], wanted) > 1e-3  # first order is something else
    weights.param_groups[0]["lr"] = 0.1
    # So small a radius crosses no kink of a ReLU.
    assert gap(hypergradient(net, weights, *data, "finite", 1e-6)[1], wanted) < 1e-5


@pytest.mark.parametrize("method", ["darts", "toponas", "pcdarts"])
def test_exact_passes_change_no_hypergradient(method: str) -> None:
    """Against the same weights in plain modules: with all passes, and without any."""
    settings = {"partial_channels": 2} if method == "pcdarts" else {}
    forms = [space("cell").compile(method, settings=settings, passes=p) for p in (PLAIN, only())]
    mine = first(forms[0])
    theirs = second(forms[1], mine)
    data = images("cell", 1), images("cell", 2)
    found = []
    for twin in (mine, theirs):
        weights = torch.optim.SGD(twin.net.weight_parameters(), 0.1, weight_decay=0.1)
        named = [n for n, _ in twin.net.variables.named_parameters()]
        found.append(dict(zip(named, hypergradient(twin.net, weights, *data)[1], strict=True)))
    assert found[0].keys() == found[1].keys()
    assert gap(list(found[0].values()), [found[1][n] for n in found[0]]) < 1e-9
    assert len(list(mine.net.modules())) != len(list(theirs.net.modules()))


@pytest.mark.parametrize("name", list(CASES))
def test_what_can_be_differentiated_twice_is_the_same_function(name: str) -> None:
    """Values, all first gradients and statistics."""
    net, (x, y) = away(name), images(CASES[name].space, 1)
    start = {n: v.clone() for n, v in net.state_dict().items()}
    found = []
    for context in (nullcontext, twice):
        net.load_state_dict(start)
        with context():
            out = net(x)
            gradients = torch.autograd.grad(
                F.cross_entropy(out, y), list(net.parameters()), allow_unused=True, materialize_grads=True
            )
        found.append(([out.detach()], gradients, [b.double().clone() for b in net.buffers()]))
    for mine, theirs in zip(*found, strict=True):
        assert gap(mine, theirs) < 1e-10


def test_outside_a_supernet_refuses() -> None:
    """A hypergradient that forgot `twice` would be no number, rather than a wrong one."""
    net, (x, y) = away("cell"), images("cell", 1)
    for wanted in (net.architecture_parameters(), net.weight_parameters()[:1]):
        with pytest.raises(RuntimeError, match="first derivative only"):
            torch.autograd.grad(F.cross_entropy(net(x), y), wanted, create_graph=True, allow_unused=True)


# --- operations of ours ------------------------------------------------------

Function = Callable[..., Any]


def of_module(module: nn.Module, call: Callable[[Any, Sequence[Tensor]], Any], shapes: Sequence[Any]) -> Any:
    """A module as a function of what it reads and of its parameters, and leaves for it."""
    module = module.double().train()
    names = [n for n, _ in module.named_parameters()]
    own = {n: b.clone() for n, b in module.named_buffers()}
    count = len(shapes)

    def function(*leaves: Tensor) -> Any:
        values = dict(zip(names, leaves[count:], strict=True))

        class Bound:
            def __call__(self, *given: Any) -> Any:
                fixed = {n: b.clone() for n, b in own.items()}
                return functional_call(module, {**values, **fixed}, given)

        return call(Bound(), leaves[:count])

    return function, [*shapes, *(tuple(p.shape) for p in module.parameters())]


def operation(name: str) -> tuple[Function, list[Tensor]]:
    """An operation of ours as a function, and tiny leaves."""
    kind, _, form = name.partition(" ")
    image = (2, 2, 3, 3)
    if kind == "mix":
        made = (lambda a, x, y, z: mix(a.unbind(), (x, y, z))), [(3,), image, image, image]
    elif kind == "mix_running":

        def some(a: Tensor, x: Tensor, y: Tensor) -> Tensor:
            weights = (a[0], Idle(a[1], counted=True), Idle(a[2], counted=False), a[3])
            return mix_running(weights, (lambda: x, _never, _never, lambda: y), nn.Module()) ** 2

        made = some, [(4,), image, image]
    elif kind == "PointwiseNorm":
        copies = 2 if "copies" in form else 1
        module: nn.Module = PointwiseNorm(2, 2, copies, "bias" in form, "relu" in form)
        made = of_module(module, lambda f, x: f(tuple(x) if copies > 1 else x[0]), [image] * copies)
    elif kind == "NormalisedMix":
        count, plain = (2, 1) if form == "terms" else (1, 0)
        made = of_module(
            NormalisedMix(2, 2, count),
            lambda f, x: f(x[0].unbind(), x[1 : 1 + plain], x[1 + plain :]),
            [(plain + count,), *[image] * (plain + count)],
        )
    elif kind == "Depthwise":
        kernel, stride, dilation = map(int, form.split())
        pad = dilation * (kernel - 1) // 2
        module = Depthwise(2, kernel, stride, pad, dilation, bias=True)
        made = of_module(module, lambda f, x: f(x[0]), [(1, 2, 4, 4)])
    elif kind == "DepthwiseFan":
        copies = 2 if form == "lanes" else 1
        module = DepthwiseFan(2, 3, 1, 1, copies=2)
        made = of_module(module, lambda f, x: f(tuple(x) if copies > 1 else x[0]), [image] * copies)
    elif kind == "BlendedConv":
        groups, how = form.split()
        module = BlendedConv(2, 2, (1, 3), groups=int(groups), normalise=how, bias=how == "none")
        made = of_module(module, lambda f, x: f(x[0], x[1]), [image, (2,)])
    else:
        module = BlendedFan(2, (1, 3), 2, normalise=form)
        made = of_module(module, lambda f, x: f(x[0], tuple(x[1])), [image, (2, 2)])
    function, shapes = made
    generator = torch.Generator().manual_seed(1)
    leaves = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    return function, leaves


def _never() -> Tensor:
    raise AssertionError("a term that does not run was computed")


OPERATIONS = (
    "mix",
    "mix_running",
    "PointwiseNorm",
    "PointwiseNorm copies bias",
    "PointwiseNorm relu",
    "NormalisedMix",
    "NormalisedMix terms",
    "Depthwise 3 1 1",
    "Depthwise 5 1 2",
    "Depthwise 3 2 1",
    "Depthwise 3 2 2",
    "DepthwiseFan",
    "DepthwiseFan lanes",
    "BlendedConv 1 filter",
    "BlendedConv 2 kernel",
    "BlendedConv 2 none",
    "BlendedFan kernel",
    "BlendedFan filter",
)


def one(made: Any) -> Tensor:
    """All results side by side, curved, so that no second derivative vanishes."""
    parts = made if isinstance(made, (tuple, list)) else (made,)
    return torch.cat([p.flatten() for p in parts]).sin()


@pytest.mark.parametrize("name", OPERATIONS)
def test_second_derivatives_are_those_of_the_function(name: str) -> None:
    function, leaves = operation(name)
    with twice():
        assert torch.autograd.gradgradcheck(lambda *x: one(function(*x)).sum(), leaves)


@pytest.mark.parametrize("name", OPERATIONS)
def test_outside_a_second_derivative_is_refused_and_never_wrong(name: str) -> None:
    """With respect to each leaf alone, where the refusal of `once_differentiable` is never met."""
    function, leaves = operation(name)
    refused = 0
    for leaf in leaves:
        try:
            found = curvature(function, leaves, leaf)
        except RuntimeError as error:
            assert "first derivative only" in str(error)  # noqa: PT017 - a leaf beside it is not refused
            refused += 1
        else:  # a bias, say, whose gradient does not pass through what is ours
            with twice():
                for mine, theirs in zip(found, curvature(function, leaves, leaf), strict=True):
                    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    assert refused >= len(leaves) / 2


def curvature(function: Function, leaves: Sequence[Tensor], leaf: Tensor) -> tuple[Tensor, ...]:
    """Derivatives, by all leaves, of the squared norm of the derivative by one of them."""
    (first_,) = torch.autograd.grad(one(function(*leaves)).sum(), inputs=[leaf], create_graph=True)
    return torch.autograd.grad(first_.square().sum(), leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_forms_agree(name: str) -> None:
    function, leaves = operation(name)
    found = []
    for context in (nullcontext, twice):
        with context():
            out = one(function(*leaves))
            found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_contexts_nest_and_end_with_an_error() -> None:
    function, leaves = operation("mix")

    def differentiate() -> None:
        torch.autograd.grad(one(function(*leaves)).sum(), leaves, create_graph=True)

    def fail() -> None:
        with twice():
            with twice():
                pass
            differentiate()  # still inside of one
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(RuntimeError, match="first derivative only"):
        differentiate()
