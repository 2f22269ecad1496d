"""Accumulation, recorded steps and compiled cells: speed and memory change, numbers do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nasdsl
from nasdsl import Space
from nasdsl.methods import METHODS
from nasdsl.runtime.operators.normalised import NormalisedMix, PointwiseNorm, _each_traced, _sum_traced
from nasdsl.runtime.search import bilevel, captured
from nasdsl.runtime.search.compiled import cells, compile_cells
from nasdsl.runtime.standalone.basics import Mistake, cosine
from nasdsl.runtime.supernet import SupernetBase
from nasdsl.runtime.topology import Regulariser, temperature_at
from tests.laws.common import batch
from tests.runtime.toy import ToySupernet
from tests.runtime.toy import batch as toy_batch
from tests.thinned import thinned

CPU = torch.device("cpu")


def defaults(method: str, **changes: Any) -> dict[str, Any]:
    return {s.name: s.default for s in METHODS.load(method).settings if s.table == "search"} | changes


def darts() -> Space:
    return nasdsl.load("darts", layers=3, C=2, resolution=8)


def supernet(method: str) -> SupernetBase:
    net = darts().compile(method).supernet(seed=0).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for variable in net.architecture_parameters():
            variable.copy_(torch.randn(variable.shape, generator=generator))
    return net


def close(one: nn.Module, two: nn.Module, rtol: float) -> None:
    given = two.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(given[name], value, rtol=rtol, atol=1e-3 * rtol, msg=name)


# --- accumulation ----------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_without_batch_norm_accumulation_is_the_full_batch(parts: int) -> None:
    """Nothing in the toy depends on the batch; 3 parts of 8 examples are unequal."""
    torch.manual_seed(0)
    net = ToySupernet().double().eval()
    other = copy.deepcopy(net)
    for one, count in ((net, 1), (other, parts)):
        weights = torch.optim.SGD(one.weight_parameters(), 0.1, momentum=0.9)
        variables = torch.optim.Adam(one.architecture_parameters(), 0.01)
        losses = []
        for seed in range(3):
            x, y = toy_batch(seed)
            penalty = one.variables["network"].inputs.square().sum()  # type: ignore[union-attr,operator]
            pair = x.double(), y
            losses.append(bilevel.architecture_step(one, pair, variables, penalty=penalty, accumulate=count))
            losses.append(bilevel.weight_step(one, pair, weights, clip=0.1, accumulate=count))
        if count == 1:
            wanted = losses
    torch.testing.assert_close(losses, wanted, rtol=1e-12, atol=0)
    close(net, other, 1e-10)


class Watch:
    """An optimiser that only looks at the gradients."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters, self.seen = parameters, [torch.empty(0)]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        self.seen = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.parameters]


@pytest.mark.parametrize("variables", [False, True])
@pytest.mark.parametrize("sizes", [(4, 4), (4, 3, 3)])
def test_with_batch_norm_the_gradient_is_the_mean_over_micro_batches(
    sizes: tuple[int, ...], variables: bool
) -> None:
    net, (x, y) = supernet("darts"), (batch(darts(), sum(sizes)).double(), torch.arange(10))
    y = y[: sum(sizes)]
    other = copy.deepcopy(net)
    wanted_of: Callable[[SupernetBase], list[nn.Parameter]] = (
        (lambda n: n.architecture_parameters()) if variables else (lambda n: n.weight_parameters())
    )
    watch = Watch(wanted_of(net))
    if variables:
        loss = bilevel.architecture_step(net, (x, y), watch, accumulate=len(sizes))
    else:
        loss = bilevel.weight_step(net, (x, y), watch, clip=0, accumulate=len(sizes))
    mean = [torch.zeros_like(p) for p in wanted_of(other)]
    total = torch.zeros((), dtype=torch.float64)
    for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
        part = F.cross_entropy(other(a), b)
        total += part.detach() * len(b) / len(y)
        found = torch.autograd.grad(part, wanted_of(other), allow_unused=True, materialize_grads=True)
        mean = [m + g * len(b) / len(y) for m, g in zip(mean, found, strict=True)]
    torch.testing.assert_close(loss, total, rtol=1e-12, atol=0)
    torch.testing.assert_close(watch.seen, mean, rtol=1e-9, atol=1e-13)
    # Statistics moved once for each micro-batch, as they do when each goes through by itself.
    for (name, mine), (_, theirs) in zip(net.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-15, msg=name)


def test_more_micro_batches_than_examples_are_refused() -> None:
    net = ToySupernet()
    with pytest.raises(Mistake, match="accumulate=9 splits a batch of 8"):
        bilevel.weight_step(net, toy_batch(0), torch.optim.SGD(net.weight_parameters(), 0.1), accumulate=9)
    assert all(p.requires_grad for p in net.parameters())


# --- recorded steps --------------------------------------------------------------


def search(
    net: SupernetBase, s: dict[str, Any], tensors: bool, start: Any = None
) -> tuple[list[Tensor], Any]:
    """A short search of two epochs as the script does it; returns losses, and optimisers to go on with."""
    weights, variables = start or (bilevel.weight_optimizer(net, s), bilevel.variable_optimizer(net, s))
    steps = captured.TensorSteps(net, weights, variables, s, nullcontext) if tensors else None
    nodes = net.topology()
    regulariser = Regulariser.from_settings(s) if "regulariser" in s else None
    losses = []
    for epoch in range(2):
        weights.param_groups[0]["lr"] = cosine(s["weight_lr"], s["weight_lr_min"], epoch / 2)
        temperature, strength = 1.0, 1.0
        if regulariser is not None:
            temperature = temperature_at(
                s["temperature_schedule"], s["temperature"], s["temperature_end"], epoch, 2
            )
            regulariser.set_epoch(epoch)
            strength = regulariser.strength
        net.temperature = temperature
        if steps is not None:
            steps.set(weights.param_groups[0]["lr"], temperature, strength)
        for number in range(2):
            pair = batch(darts(), 6, 10 * epoch + number).double(), torch.arange(6) % 10
            if steps is not None:
                losses += [steps.architecture_step(pair), steps.weight_step(pair)]
                continue
            extra = None if regulariser is None else regulariser.loss(nodes, temperature)
            many = s["accumulate"]
            losses.append(bilevel.architecture_step(net, pair, variables, penalty=extra, accumulate=many))
            losses.append(bilevel.weight_step(net, pair, weights, clip=s["clip"], accumulate=many))
    return losses, (weights, variables)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "darts": ("darts", {"arch_lr": 0.05}),
    "nesterov, no decay, clipped": ("darts", {"nesterov": True, "weight_decay": 0.0, "clip": 0.01}),
    "no momentum, no clipping": ("darts", {"weight_momentum": 0.0, "clip": 0.0}),
    "accumulated": ("darts", {"accumulate": 2}),
    "toponas": (
        "toponas",
        {
            "temperature": 2.0,
            "temperature_end": 0.5,
            "temperature_schedule": "linear",
            "regulariser_delta": 0.01,
            "regulariser_ramp_epochs": 4,
            "arch_lr": 0.05,
        },
    ),
    "residual mass": (
        "toponas",
        {"regulariser": "v3", "regulariser_delta": 0.01, "regulariser_ramp_epochs": 4},
    ),
    "no penalty": ("toponas", {"regulariser": "off"}),
}


@pytest.mark.parametrize("case", thinned(CASES, 4))
def test_steps_whose_schedules_are_tensors_are_the_ordinary_steps(case: str) -> None:
    """What a graph records, run on the CPU: loss for loss, weight for weight, state for state."""
    method, changes = CASES[case]
    s = defaults(method, **changes)
    net = supernet(method)
    other = copy.deepcopy(net)
    wanted, (sgd, adam) = search(net, s, tensors=False)
    found, (mine, also) = search(other, s, tensors=True)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    close(net, other, 1e-8)
    for one, two in ((sgd, mine), (adam, also)):
        states = one.state_dict(), two.state_dict()
        assert states[0]["param_groups"] == states[1]["param_groups"]
        for key, state in states[0]["state"].items():
            for name, value in state.items():
                if value is not None:
                    torch.testing.assert_close(states[1]["state"][key][name], value, rtol=1e-8, atol=1e-12)


def test_a_checkpoint_of_one_sort_of_step_goes_on_with_the_other() -> None:
    s = defaults("darts", arch_lr=0.05)
    net = supernet("darts")
    _, start = search(net, s, tensors=True)
    other = copy.deepcopy(net)
    fresh = bilevel.weight_optimizer(other, s), bilevel.variable_optimizer(other, s)
    for optimizer, given in zip(fresh, start, strict=True):
        optimizer.load_state_dict(copy.deepcopy(given.state_dict()))
    wanted, _ = search(net, s, tensors=False, start=start)
    found, _ = search(other, s, tensors=True, start=fresh)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_schedules_reach_the_steps() -> None:
    """A number that was burnt in would not notice."""
    net = supernet("toponas")
    s = defaults("toponas", regulariser_delta=0.0, weight_momentum=0.0, weight_decay=0.0, clip=0.0)
    start = {n: v.clone() for n, v in net.state_dict().items()}
    steps = captured.TensorSteps(
        net,
        bilevel.weight_optimizer(net, s),
        torch.optim.SGD(net.architecture_parameters(), 0.1),
        s,
        nullcontext,
    )
    pair = batch(darts(), 6).double(), torch.arange(6) % 10
    moved = []
    for rate, temperature, strength in ((0.1, 1.0, 1.0), (0.2, 1.0, 1.0), (0.1, 2.0, 1.0), (0.1, 1.0, 0.5)):
        net.load_state_dict(start)
        steps.set(rate, temperature, strength)
        steps.weight_step(pair)
        weight = net.weight_parameters()[0].detach().clone()
        steps.architecture_step(pair)
        moved.append((weight, [p.detach().clone() for p in net.architecture_parameters()]))
    first = moved[0]
    assert not torch.equal(first[0], moved[1][0])
    for other in moved[2:]:
        assert any(not torch.equal(a, b) for a, b in zip(first[1], other[1], strict=True))


def test_what_a_graph_cannot_serve_is_refused_in_words() -> None:
    with pytest.raises(Mistake, match="needs a CUDA device, and this run is on cpu"):
        captured.refuse(CPU, defaults("darts"), compiled=False)
    cuda = torch.device("cuda")
    captured.refuse(cuda, defaults("darts"), compiled=False)
    captured.refuse(cuda, defaults("toponas"), compiled=False)
    captured.refuse(cuda, defaults("toponas", regulariser="off", regulariser_form="pa"), compiled=False)
    with pytest.raises(Mistake, match="regulariser_form=pa"):
        captured.refuse(cuda, defaults("toponas", regulariser_form="pa"), compiled=False)
    with pytest.raises(Mistake, match="--compile"):
        captured.refuse(cuda, defaults("darts"), compiled=True)
    for name, value in (
        ("hypergradient", "exact"),
        ("level", "single"),
        ("schedule", "informed"),
        ("proximity", "plain"),
        ("admm", True),
        ("beta_decay", 0.5),
        ("dirichlet_kl", 0.1),
    ):
        with pytest.raises(Mistake, match=name):
            captured.refuse(cuda, defaults("darts", **{name: value}), compiled=False)
    with pytest.raises(Mistake, match="which candidates run"):
        captured.refuse(cuda, defaults("gdas"), compiled=False, sparse=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_are_the_ordinary_steps(case: str) -> None:
    method, changes = CASES[case]
    s = defaults(method, **changes)
    nets = [darts().compile(method).supernet(seed=0).cuda() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    found = []
    for net, tensors in zip(nets, (False, True), strict=True):
        weights, variables = bilevel.weight_optimizer(net, s), bilevel.variable_optimizer(net, s)
        graphs = None
        if tensors:
            graphs = captured.Captured(captured.TensorSteps(net, weights, variables, s, nullcontext))
            graphs.set(s["weight_lr"])
        regulariser = Regulariser.from_settings(s) if "regulariser" in s else None
        losses = []
        for number in range(8):
            pair = batch(darts(), 6, number).cuda(), (torch.arange(6) % 10).cuda()
            if graphs is not None:
                losses += [graphs.architecture_step(pair), graphs.weight_step(pair)]
                continue
            extra = None if regulariser is None else regulariser.loss(net.topology(), 1.0)
            many = s["accumulate"]
            losses.append(bilevel.architecture_step(net, pair, variables, penalty=extra, accumulate=many))
            losses.append(bilevel.weight_step(net, pair, weights, clip=s["clip"], accumulate=many))
        found.append(torch.stack(losses).cpu())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


# --- compiled cells ----------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_what_the_compiler_sees_is_the_function_with_its_gradients_and_statistics(bias: bool) -> None:
    """The plain form of both fused modules against their own backward passes, float64."""
    torch.manual_seed(0)
    each, node = PointwiseNorm(3, 4, 2, bias, relu=True).double(), NormalisedMix(3, 4, 2, bias).double()
    xs = [torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    plain = [torch.randn(5, 4, 4, 4, dtype=torch.float64, requires_grad=True)]
    factors = torch.rand(3, dtype=torch.float64, requires_grad=True)
    leaves = [*xs, *plain, factors, each.conv.weight, node.conv.weight]
    found = []
    for traced in (False, True):
        for norm in (each.norm, node.norm):
            norm.reset_running_stats()
        if traced:
            parts = _each_traced(each.norm, each.conv, True, torch.float64, tuple(xs))
            total = _sum_traced(1, node.norm, node.conv, torch.float64, factors, *plain, *xs)
        else:
            parts, total = each(xs), node(factors.unbind(), plain, xs)
        made = torch.cat([*parts, total], 1)
        gradients = torch.autograd.grad(made.pow(3).sum(), leaves)
        kept = [b.clone() for m in (each, node) for b in m.buffers()]
        found.append([made.detach(), *gradients, *kept])
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


SPACE = """
space tiny {
  input image(3, 8)
  set candidates(; C) = {
    conv: relu >> dwconv(3) >> conv(1, C) >> bn,
    far: relu >> dwconv(3, dilation=2) >> conv(1, C) >> bn,
    skip: id
  }
  cell body(x; C) {
    n[1..2] = sum of choose 1 from (x, earlier) via choose candidates
    return concat(n)
  }
  network {
    stem: conv(3, 4) >> bn
    one: body(C=4)
    fit: conv(1, 4)
    two: body(C=4)
    head: global_pool >> linear(10)
  }
}
"""


def test_compiled_cells_are_the_cells(tmp_path: Any) -> None:
    """A tiny cell, traced and differentiated by the compiler, run by PyTorch: `aot_eager`."""
    (tmp_path / "tiny.nas").write_text(SPACE)
    space = nasdsl.load(tmp_path / "tiny.nas")
    net = space.compile("darts").supernet(seed=0).double()
    other = copy.deepcopy(net)
    from torch._dynamo.backends.debugging import aot_eager

    compiled: list[Any] = []

    def counted(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return aot_eager(graph, inputs)

    torch._dynamo.reset()
    before = {n: p.shape for n, p in other.named_parameters()}
    assert compile_cells(other, counted) == 1
    assert before == {n: p.shape for n, p in other.named_parameters()}
    assert len(list(cells(other))) == 2
    s = defaults("darts", arch_lr=0.05)
    for one in (net, other):
        weights, variables = bilevel.weight_optimizer(one, s), bilevel.variable_optimizer(one, s)
        losses = []
        for seed in range(3):
            pair = batch(space, 6, seed).double(), torch.arange(6) % 10
            losses.append(bilevel.architecture_step(one, pair, variables))
            losses.append(bilevel.weight_step(one, pair, weights))
        if one is net:
            wanted = losses
    torch.testing.assert_close(losses, wanted, rtol=1e-9, atol=0)
    close(net, other, 1e-8)
    # Two cells of one class and one size, two sorts of step; only the first cell's input may need no gradient.
    assert 2 <= len(compiled) <= 4, len(compiled)
