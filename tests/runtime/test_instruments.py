"""Laws of the instruments: known spectra, closed forms, written histories, and that measuring changes nothing."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.rows import Group, Row
from nasdsl.runtime.search import bilevel
from nasdsl.runtime.search.curvature import dominant_eigenvalue, exact_product, finite_product
from nasdsl.runtime.search.instruments import (
    Gap,
    Instruments,
    batch_accuracy,
    discretisation_gap,
    operation_entropy,
    ranking,
    skip_share,
    topology_entropy,
)
from nasdsl.runtime.search.stopping import EarlyStop, Epoch
from nasdsl.runtime.search.undisturbed import batch_statistics, constant, kept, undisturbed
from nasdsl.runtime.supernet import SupernetBase
from nasdsl.runtime.topology import NodeTopology, incidence
from tests.laws.common import batch as images
from tests.laws.common import float64, small
from tests.runtime.test_run import equal
from tests.runtime.toy import SOURCES, ToyDarts, ToySupernet, batch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- curvature ---------------------------------------------------------------


def quadratic(
    spectrum: list[float], seed: int = 0
) -> tuple[Callable[[], Tensor], list[nn.Parameter], Tensor]:
    """x'Hx / 2 + b'x of six numbers in two tensors with a random eigenbasis, and H."""
    g = generator(seed)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=torch.float64))[0]
    hessian = basis @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ basis.T
    slope = torch.randn(6, generator=g, dtype=torch.float64)
    shapes = ((2, 2), (2,))
    parameters = [nn.Parameter(torch.randn(*s, generator=g, dtype=torch.float64)) for s in shapes]

    def loss_of() -> Tensor:
        x = torch.cat([p.flatten() for p in parameters])
        return x @ hessian @ x / 2 + slope @ x

    return loss_of, parameters, hessian


@pytest.mark.parametrize(
    ("spectrum", "dominant"),
    [
        ([5.0, 3.0, 1.0, 0.5, -1.0, -2.0], 5.0),
        ([2.0, 1.0, 0.0, -1.0, -3.0, -4.0], -4.0),
        ([3.0, 3.0, 3.0, 1.0, 0.0, 0.0], 3.0),
        ([-2.0] * 6, -2.0),
        ([1e-9, 0.0, 0.0, 0.0, 0.0, 0.0], 1e-9),
        ([1e9, 1e-3, 1.0, 0.0, -1.0, -1e-3], 1e9),
        ([0.0] * 6, 0.0),
    ],
)
@pytest.mark.parametrize(("product", "bound"), [("exact", 1e-10), ("finite", 1e-8)])
def test_the_dominant_eigenvalue_of_a_known_spectrum(
    spectrum: list[float], dominant: float, product: str, bound: float
) -> None:
    loss_of, parameters, hessian = quadratic(spectrum)
    eigen = dominant_eigenvalue(loss_of, parameters, None, 6, generator(), product=product)
    bound *= max(1.0, abs(dominant))
    assert abs(eigen.value - dominant) < bound
    assert [v.shape for v in eigen.vector] == [p.shape for p in parameters]
    v = torch.cat([part.flatten() for part in eigen.vector])
    assert abs(float(v.norm()) - 1.0) < 1e-12
    assert float((hessian @ v - dominant * v).norm()) < 10 * bound
    assert eigen.residual < 10 * bound


def test_a_pair_of_opposite_signs_is_found_where_the_power_iteration_never_settles() -> None:
    loss_of, parameters, hessian = quadratic([2.0, -2.0, 0.5, 0.1, 0.0, 0.0])
    v = torch.randn(6, generator=generator(), dtype=torch.float64)
    for _ in range(100):
        v = hessian @ v
        v = v / v.norm()
    assert abs(float(v @ hessian @ v)) < 1.9
    eigen = dominant_eigenvalue(loss_of, parameters, None, 6, generator())
    assert abs(abs(eigen.value) - 2.0) < 1e-8
    assert eigen.residual < 1e-7


def test_more_products_only_come_closer_and_a_warm_start_needs_one() -> None:
    loss_of, parameters, _ = quadratic([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    found = [
        dominant_eigenvalue(loss_of, parameters, None, k, generator(), product="exact") for k in range(1, 7)
    ]
    values = [e.value for e in found]
    assert values == sorted(values)
    assert values[0] < 4.9
    assert all(abs(e.value - 5.0) <= e.residual + 1e-10 for e in found[2:])  # what the residual promises
    warm = dominant_eigenvalue(loss_of, parameters, found[-1].vector, 1, generator(), product="exact")
    assert abs(warm.value - 5.0) < 1e-10


def test_a_start_that_is_another_eigenvector_does_not_hide_the_dominant_one() -> None:
    x = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    scale = torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64)
    start = [torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)]
    eigen = dominant_eigenvalue(
        lambda: (scale * x * x).sum() / 2, [x], start, 3, generator(), product="exact"
    )
    assert abs(eigen.value - 7.0) < 1e-10


@pytest.mark.parametrize("product", ["exact", "finite"])
def test_parameters_without_gradient_and_losses_without_curvature(product: str) -> None:
    x, unused = (nn.Parameter(torch.ones(n, dtype=torch.float64)) for n in (2, 3))
    square = dominant_eigenvalue(
        lambda: 3 * (x * x).sum() / 2, [unused, x], None, 5, generator(), product=product
    )
    assert abs(square.value - 3.0) < 1e-8
    assert float(square.vector[0].abs().max()) < 1e-8
    constant = torch.ones((), dtype=torch.float64)
    for loss_of in (lambda: constant, lambda: x.sum() + unused.sum()):
        flat = dominant_eigenvalue(loss_of, [x, unused], None, 5, generator(), product=product)
        assert abs(flat.value) < 1e-9
    diverged = dominant_eigenvalue(lambda: x.sum().log() * math.nan, [x], None, 2, generator())
    assert math.isnan(diverged.value)
    assert bool(diverged.vector[0].isfinite().all())


def test_central_differences_are_of_second_order() -> None:
    x = nn.Parameter(torch.randn(4, generator=generator(1), dtype=torch.float64) / 4)
    mixing = torch.randn(4, 4, generator=generator(2), dtype=torch.float64)

    def loss_of() -> Tensor:
        return torch.logsumexp(mixing @ x, 0) + x.sin().prod()

    v = torch.randn(4, generator=generator(3), dtype=torch.float64)
    truth = exact_product(loss_of, [x])(v)
    errors = [float((finite_product(loss_of, [x], h)(v) - truth).norm()) for h in (0.2, 0.1, 0.05)]
    assert 3.6 < errors[0] / errors[1] < 4.4
    assert 3.8 < errors[1] / errors[2] < 4.2
    assert float((finite_product(loss_of, [x])(v) - truth).norm()) < 1e-9
    # Linear in the vector, whatever its length.
    assert torch.allclose(finite_product(loss_of, [x])(1e3 * v), 1e3 * truth, atol=0, rtol=1e-8)


def test_both_products_agree_on_a_supernet() -> None:
    torch.manual_seed(0)
    net = ToySupernet().double().eval()
    x, y = batch(0, 32)

    def loss_of() -> Tensor:
        return F.cross_entropy(net(x.double()), y)

    variables = net.architecture_parameters()
    times = exact_product(loss_of, variables)
    hessian = torch.stack([times(e) for e in torch.eye(18, dtype=torch.float64)])
    assert torch.allclose(hessian, hessian.T, atol=1e-15)
    spectrum = torch.linalg.eigvalsh(hessian)
    dominant = float(spectrum[spectrum.abs().argmax()])
    assert abs(dominant) > 1e-3
    for product in ("exact", "finite"):
        eigen = dominant_eigenvalue(loss_of, variables, None, 18, generator(), product=product)
        assert abs(eigen.value - dominant) < 1e-8 * abs(dominant)
        assert eigen.residual < 1e-6 * abs(dominant)


class Once(torch.autograd.Function):
    """The square, differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


def test_an_operation_without_a_second_derivative_is_not_taken_for_linear() -> None:
    x = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def loss_of() -> Tensor:
        square: Tensor = Once.apply(x.exp())
        return square.sum().exp()

    m = 2 * math.exp(2)  # the sum; second derivatives are e^m (4 m / 2 [i = j] + m^2)
    truth = math.exp(m) * (2 * m + 2 * m * m)
    assert abs(dominant_eigenvalue(loss_of, [x], None, 2, generator()).value / truth - 1) < 1e-6
    with pytest.raises(RuntimeError, match="no second derivative"):
        dominant_eigenvalue(loss_of, [x], None, 2, generator(), product="exact")


@pytest.mark.parametrize("product", ["exact", "finite"])
def test_parameters_are_restored_to_the_bit_and_no_gradient_is_left(product: str) -> None:
    x = nn.Parameter(torch.rand(50, generator=generator()))
    before = x.detach().clone()
    dominant_eigenvalue(lambda: x.exp().sum(), [x], None, 4, generator(), product=product)
    assert torch.equal(x, before)
    assert x.grad is None
    with pytest.raises(ZeroDivisionError):
        finite_product(lambda: x.sum() / (1 // 0), [x])(torch.ones(50).double())
    assert torch.equal(x, before)


# --- leaving no trace --------------------------------------------------------


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.register_buffer("hidden", torch.tensor([math.nan, 1.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.hidden + 1
        made: Tensor = self.layers(x)
        return made


def test_undisturbed_restores_buffers_modes_and_generators() -> None:
    net = Buffered().train()
    net.layers[2].eval()
    buffers = dict(net.named_buffers())
    values = {name: b.clone() for name, b in buffers.items()}
    state = torch.get_rng_state()
    with suppress(KeyError), undisturbed(net):
        net.train()
        net(torch.randn(4, 3))
        assert not torch.equal(net.layers[1].running_mean, values["layers.1.running_mean"])
        assert not torch.equal(torch.get_rng_state(), state)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)
    for name, b in net.named_buffers():
        assert b is buffers[name], name
        assert torch.equal(b.nan_to_num(-1.0), values[name].nan_to_num(-1.0)), name
    assert [net.training, net.layers[1].training, net.layers[2].training] == [True, True, False]


def test_constant_parameters_want_no_gradient_and_get_their_wish_back() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    with constant(layer.parameters()):
        assert not layer(torch.ones(1, 2)).requires_grad
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


class Normalised(ToySupernet):
    """The toy with a batch norm in front of its head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))  # type: ignore[assignment]


class Drawn(Normalised):
    """Weights are drawn in training, as in `SupernetBase.mixing`."""

    def mixing(self) -> Any:
        scale = torch.rand(()) if self.random and self.training else torch.ones(())
        mixed = super().mixing()[""]
        return {"": {edge: [w * scale for w in weights] for edge, weights in mixed.items()}}


@pytest.mark.parametrize("kind", [Normalised, Drawn])
def test_batch_statistics_neither_drop_nor_draw_nor_read_running_statistics(kind: type[Normalised]) -> None:
    torch.manual_seed(0)
    net = kind().train()
    x, _ = batch(0)
    with torch.no_grad():
        with batch_statistics(net):
            first, again = net(x), net(x)
            assert net.head[0].training
            assert not net.noise.training
        net.head[0].running_mean.fill_(100.0)
        with batch_statistics(net):
            third = net(x)
        assert torch.equal(first, again)
        assert torch.equal(first, third)
        assert not torch.equal(first, net(x))  # something is dropped or drawn again
        assert net.random


SKIPS = {f"op[{s}]": frozenset({"narrow"}) for s in SOURCES}


def instruments(net: SupernetBase, **more: Any) -> Instruments:
    return Instruments(net, SKIPS, generator(5), **more)


def search(measured: bool) -> tuple[dict[str, Any], list[dict[str, float]]]:
    torch.manual_seed(0)
    net = Normalised().train()
    weights = torch.optim.SGD(net.weight_parameters(), 0.1, momentum=0.9)
    variables = torch.optim.Adam(net.architecture_parameters(), 0.05)
    tools, log = instruments(net), []
    for epoch in range(3):
        for step in range(3):
            bilevel.architecture_step(net, batch(10 * epoch + step), variables)
            bilevel.weight_step(net, batch(100 + 10 * epoch + step), weights)
        if measured:
            log.append(tools.measure(epoch + 1, [batch(900), batch(901)]))
            assert all(p.grad is None and p.requires_grad for p in net.parameters())
    parts = {"net": net.state_dict(), "weights": weights.state_dict(), "variables": variables.state_dict()}
    return {**parts, "random": torch.get_rng_state()}, log


def test_a_run_with_instruments_is_the_run_without_them_to_the_last_bit() -> None:
    with_them, log = search(measured=True)
    without, _ = search(measured=False)
    assert equal(with_them, without)
    assert [set(entry) for entry in log] == [
        {
            "hessian_eigenvalue",
            "entropy_operations",
            "entropy_topology",
            "skip_share",
            "discretisation_gap",
            "supernet_accuracy",
            "projected_accuracy",
        }
    ] * 3
    for entry in log:
        assert all(type(value) is float and math.isfinite(value) for value in entry.values())
        gap = entry["supernet_accuracy"] - entry["projected_accuracy"]
        assert entry["discretisation_gap"] == gap
        assert entry["hessian_eigenvalue"] != 0.0
    assert log[0]["entropy_operations"] > 0.9


# --- how decided -------------------------------------------------------------


def entropy_of(rows: list[list[float]]) -> float | None:
    parameter = nn.Parameter(torch.zeros(len(rows), len(rows[0])))
    each = tuple(Row(f"op[{i}]", parameter, i, tuple("abcd"[: len(rows[0])])) for i in range(len(rows)))
    return operation_entropy([Group("n", "", each)], {parameter: torch.tensor(rows)})


@pytest.mark.parametrize(
    ("rows", "entropy"),
    [
        ([[0.25, 0.25, 0.25, 0.25]], 1.0),
        ([[0.0, 1.0, 0.0, 0.0]], 0.0),
        ([[0.5, 0.5, 0.0, 0.0]], 0.5),
        ([[3.0, 3.0, 0.0, 0.0]], 0.5),
        ([[0.0, 0.0, 0.0, 0.0]], 0.0),
        ([[0.1, 0.1, 0.1, 0.1], [1.0, 0.0, 0.0, 0.0]], 0.5),
        ([[0.25, 0.75]], 2.0 - 0.75 * math.log2(3)),
        ([[0.7]], 0.0),
    ],
)
def test_the_entropy_of_operations_in_closed_form(rows: list[list[float]], entropy: float) -> None:
    assert entropy_of(rows) == pytest.approx(entropy, abs=1e-6)


def node(logits: list[float], low: int = 1, high: int = 1) -> NodeTopology:
    count = len(logits)
    return NodeTopology("n", "", nn.Parameter(torch.tensor(logits)), incidence(count, low, high), ("a",))


def test_the_entropy_of_topologies_in_closed_form() -> None:
    assert topology_entropy([], 1.0) is None
    assert operation_entropy([], {}) is None
    assert topology_entropy([node([1.0, 1.0, 1.0])], 1.0) == pytest.approx(1.0)
    assert topology_entropy([node([0.0, -1e4, -1e4])], 1e-3) == 0.0
    assert topology_entropy([node([3.0])], 1.0) == 0.0
    assert topology_entropy([node([3.0]), node([1.0, 1.0])], 1.0) == pytest.approx(0.5)
    quarter = node([0.0, 2.0 * math.log(3.0)])
    assert topology_entropy([quarter], 2.0) == pytest.approx(2.0 - 0.75 * math.log2(3), abs=1e-6)


def test_a_ranking_orders_entries_and_leaves_none_out() -> None:
    net = ToySupernet()
    parameter = net.variables["network"].op
    values = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    groups, weights = net.groups(), {parameter: values}
    wide, narrow = ["wide", "narrow"], ["narrow", "wide"]
    assert ranking(groups, weights) == [narrow, wide, narrow, wide]
    only = {f"op[{s}]": frozenset({"wide"}) for s in SOURCES}
    assert ranking(groups, weights, only) == [["wide"]] * 4


def test_skip_connections_are_counted_by_cell() -> None:
    skip = frozenset({"id"})
    skips = {"a.op[1]": skip, "a.op[2]": skip, "b.op[1]": skip, "b.op[2]": frozenset[str](), "b.op[3]": skip}
    owners = {path: path[0] for path in skips}
    choices = {"a.op[1]": "id", "a.op[2]": "conv", "b.op[1]": "id", "b.op[2]": "id", "a.inputs": ("id",)}
    found = skip_share(choices, skips, owners)
    assert (found.number, found.share) == (2, 0.5)
    assert found.by_owner == {"a": 1, "b": 1}
    assert skip_share({}, skips, owners).share == 0.0


# --- discretisation ----------------------------------------------------------


def decided(net: SupernetBase, examples: int = 64) -> list[bilevel.Batch]:
    """Examples with the labels that the supernet gives them."""
    x, _ = batch(3, examples)
    with torch.no_grad(), batch_statistics(net):
        return [(x, net(x).argmax(1))]


def test_discretisation_loses_nothing_at_an_architecture_and_something_elsewhere() -> None:
    torch.manual_seed(0)
    net = Normalised()
    examples = decided(net)
    before = copy.deepcopy(net.state_dict())
    gap = discretisation_gap(net, examples)
    assert gap.before == 1.0
    assert gap.after is not None
    assert gap.after < 1.0
    assert gap.size == 1.0 - gap.after
    assert equal(net.state_dict(), before)
    other = {"inputs": ("c", "d"), "op[c]": "narrow", "op[d]": "narrow"}
    assert net.derive() != other
    assert discretisation_gap(net, examples, set_to=other) != gap
    net.set_architecture(net.derive())
    assert discretisation_gap(net, examples) == Gap(gap.after, gap.after)

    def careless(net: SupernetBase, batches: Sequence[bilevel.Batch]) -> float:
        return float(net.train()(batches[0][0]).detach().sum())

    before, state = copy.deepcopy(net.eval().state_dict()), torch.get_rng_state()
    discretisation_gap(net, examples, careless)
    assert equal([net.state_dict(), torch.get_rng_state(), net.training], [before, state, False])


def test_running_statistics_are_used_where_they_are_asked_for() -> None:
    torch.manual_seed(0)
    net = Normalised()
    examples = decided(net)
    net.head[0].running_mean.copy_(torch.tensor([50.0, -50.0, 50.0, -50.0, 50.0]))
    assert discretisation_gap(net, examples, bilevel.accuracy).before < 1.0
    assert discretisation_gap(net, examples, batch_accuracy).before == 1.0


class Always(ToyDarts):
    """A relaxation that cannot switch an edge off."""

    DECISIONS: ClassVar = tuple({**d, "none": None} for d in ToyDarts.DECISIONS)


def test_an_architecture_outside_the_relaxation_has_no_accuracy() -> None:
    torch.manual_seed(0)
    net = Always()
    with torch.no_grad():
        net.variables["network"].op[0, 0] = 3.0  # so that a kept edge is set before another one is refused
    before = copy.deepcopy(net.state_dict())
    with kept(net.architecture_parameters()), pytest.raises(ValueError, match="always takes this edge"):
        net.set_architecture(net.derive())
    gap = discretisation_gap(net, decided(net))
    assert (gap.before, gap.after, gap.size) == (1.0, None, None)
    assert equal(net.state_dict(), before)
    log = instruments(net).measure(1, decided(net))
    assert "supernet_accuracy" in log
    assert not {"projected_accuracy", "discretisation_gap", "entropy_topology"} & set(log)


@pytest.mark.parametrize("method", ["darts", "toponas"])
def test_a_compiled_supernet_is_measured_and_left_alone(method: str) -> None:
    space = small("nasbench201")
    with float64():
        net = space.compile(method).supernet(seed=0)
        x, y = images(space, 6), torch.arange(6)
        edges = [row.path for group in net.groups() for row in group.rows]
        skips = {path: frozenset({"skip_connect"}) for path in edges}
        tools = Instruments(net, skips, generator(), EarlyStop("skip", limit=1, start=2))
        before = copy.deepcopy(net.state_dict())
        log = tools.measure(1, [(x, y)])
        assert equal(net.state_dict(), before)
        assert log["entropy_operations"] > 0.99
        assert log["hessian_eigenvalue"] != 0.0
        assert tools.stop.reason is None
        tools.product, tools.vector = "exact", None
        exact = tools.measure(1, [(x, y)])
        assert exact["hessian_eigenvalue"] == pytest.approx(log["hessian_eigenvalue"], rel=1e-6)

        found = next(a for a in space.sample(50, seed=0) if "skip_connect" in a.choices.values())
        net.set_architecture(found)
        log = tools.measure(2, [(x, y)])
        assert log["discretisation_gap"] == 0.0
        assert log["entropy_operations" if method == "darts" else "entropy_topology"] == 0.0
        number = list(net.derive().values()).count("skip_connect")
        assert log["skip_share"] == number / 6
        assert tools.stop.reason is not None
        assert tools.stop.reason.startswith(f"infer has {number} skip")


# --- early stopping ----------------------------------------------------------


def through_json(stop: EarlyStop, **options: Any) -> EarlyStop:
    again = EarlyStop(**options)
    again.load_state_dict(json.loads(json.dumps(stop.state_dict())))
    return again


def watch(options: dict[str, Any], history: list[Epoch], resumed: bool) -> tuple[EarlyStop, int | None]:
    """The rule after a history and the epoch at which it stopped."""
    stop, at = EarlyStop(**options), None
    for epoch in history:
        if stop.observe(epoch) is not None and at is None:
            at = epoch.number
        if resumed:
            stop = through_json(stop, **options)
    return stop, at


def choices_of(number: int) -> dict[str, str | tuple[str, ...]]:
    return {"op": f"op {number}", "inputs": ("a", str(number))}


def eigenvalues(values: list[float | None]) -> list[Epoch]:
    return [Epoch(n, choices_of(n), value) for n, value in enumerate(values, 1)]


@pytest.mark.parametrize("resumed", [False, True])
def test_the_skip_rule(resumed: bool) -> None:
    counts = [(0, 0), (1, 1), (1, 2), (1, 1), (2, 0), (0, 0)]
    history = [
        Epoch(n, choices_of(n), skips={"normal": a, "reduce": b}) for n, (a, b) in enumerate(counts, 1)
    ]
    stop, at = watch({"rule": "skip"}, history, resumed)
    assert (at, stop.best_epoch, stop.best) == (3, 3, choices_of(3))
    assert stop.reason is not None
    assert stop.reason.startswith("reduce has 2 skip connections")
    assert watch({"rule": "skip", "cells": ("normal",)}, history, resumed)[1] == 5
    assert watch({"rule": "skip", "limit": 1}, history, resumed)[1] == 2
    assert watch({"rule": "skip", "start": 4}, history, resumed)[1] == 5
    never, at = watch({"rule": "skip", "limit": 3}, history, resumed)
    assert (at, never.reason, never.best_epoch, never.best) == (None, None, 6, choices_of(6))
    assert watch({"rule": "off"}, history, resumed)[1] is None


@pytest.mark.parametrize("resumed", [False, True])
def test_the_ranking_rule(resumed: bool) -> None:
    one, two = [["a", "b"], ["a", "b"]], [["a", "b"], ["b", "a"]]
    history = [Epoch(n, choices_of(n), ranking=one if n <= 8 else two) for n in range(1, 30)]
    stop, at = watch({"rule": "ranking"}, history, resumed)  # it changes at 9 and stays for 10 epochs
    assert (at, stop.best_epoch) == (19, 19)
    assert watch({"rule": "ranking", "patience": 7}, history, resumed)[1] == 8
    assert watch({"rule": "ranking", "start": 15}, history, resumed)[1] == 25
    assert watch({"rule": "ranking"}, [Epoch(n, {}) for n in range(1, 30)], resumed)[1] is None


@pytest.mark.parametrize("resumed", [False, True])
def test_the_eigenvalue_rule_stops_in_hindsight(resumed: bool) -> None:
    # Two of the five measurements around epoch 20 are doubled at epoch 22: 1.4 > 1 / 0.75.
    history = eigenvalues([1.0] * 20 + [2.0] * 10)
    stop, at = watch({"rule": "eigenvalue"}, history, resumed)
    assert (at, stop.best_epoch, stop.best) == (22, 16, choices_of(16))
    assert stop.reason == "the dominant eigenvalue rose from 1 around epoch 16 to 1.4 around epoch 20"
    assert watch({"rule": "eigenvalue", "ratio": 0.9}, history, resumed)[1] == 21
    assert watch({"rule": "eigenvalue", "window": 1}, history, resumed)[1] == 21
    assert watch({"rule": "eigenvalue", "back": 1}, history, resumed)[1] is None
    # Only at 23 is the epoch before the rise one that may be taken.
    late, at = watch({"rule": "eigenvalue", "start": 17}, history, resumed)
    assert (at, late.best_epoch) == (23, 17)
    # The first epoch that may be taken is the eleventh.
    early, at = watch({"rule": "eigenvalue"}, eigenvalues([1.0] * 12 + [2.0] * 10), resumed)
    assert (at, early.best_epoch) == (17, 11)
    # Measured every second epoch, `back` and `window` count measurements.
    sparse = [Epoch(e.number, e.choices, e.eigenvalue if e.number % 2 else None) for e in history]
    stop, at = watch({"rule": "eigenvalue"}, sparse, resumed)
    assert (at, stop.best_epoch) == (23, 11)


@pytest.mark.parametrize(
    "values",
    [
        [1.0] * 40,
        [2.0] * 20 + [1.0] * 20,
        [-1.0] * 20 + [-3.0] * 20,
        [math.nan] * 40,
        [0.0] * 40,
        [None] * 40,
    ],
)
def test_nothing_stops_where_curvature_does_not_rise(values: list[float | None]) -> None:
    stop, at = watch({"rule": "eigenvalue"}, eigenvalues(values), resumed=False)
    assert at is None
    assert stop.best_epoch == 40


@pytest.mark.parametrize("seed", range(5))
def test_the_eigenvalue_rule_is_its_definition_over_the_whole_history(seed: int) -> None:
    """l(i), the mean over i - 2 to i + 2, is known once i + 2 is measured; what it forgets it does not need."""
    values = (torch.rand(60, generator=generator(seed)) + torch.arange(60) / 40).tolist()

    def average(i: int) -> float:
        around = values[max(0, i - 2) : i + 3]
        return sum(around) / len(around)

    expected = next(
        (
            (now + 3, now - 4 + 1)  # counted from 1
            for now in range(4, 58)
            if now - 4 + 1 >= 3 and average(now - 4) < 0.75 * average(now)
        ),
        None,
    )
    stop, at = watch({"rule": "eigenvalue", "start": 3}, eigenvalues(values), resumed=True)
    assert expected is not None
    assert (at, stop.best_epoch) == expected


def test_options_of_early_stopping_are_checked() -> None:
    with pytest.raises(ValueError, match="rule"):
        EarlyStop("sometimes")
    with pytest.raises(ValueError, match="window=4 must be odd"):
        EarlyStop("eigenvalue", window=4)


# --- all together ------------------------------------------------------------


def test_instruments_continue_from_their_state() -> None:
    torch.manual_seed(0)
    net = Normalised()
    batches = [batch(1), batch(2)]

    def made(seed: int) -> Instruments:
        tools = instruments(net, iterations=2, every=2, stop=EarlyStop("ranking", patience=3))
        tools.generator.manual_seed(seed)
        return tools

    tools = made(1)
    for n in range(1, 5):
        again = made(2)  # another seed, so that the state of the generator counts
        again.load_state_dict(copy.deepcopy(tools.state_dict()))
        log = tools.measure(n, batches)
        assert log == again.measure(n, batches)
        assert ("hessian_eigenvalue" in log, "supernet_accuracy" in log) == (n % 2 == 0, n % 2 == 0)
        assert tools.stop.reason == again.stop.reason
    assert tools.stop.reason == "the ranking of operations has not changed for 3 epochs"


def test_a_measurement_starts_where_the_last_one_ended() -> None:
    torch.manual_seed(0)
    tools = instruments(Normalised().double(), iterations=18)
    batches = [(batch(1)[0].double(), batch(1)[1])]
    whole = tools.measure(1, batches)["hessian_eigenvalue"]
    tools.iterations = 1
    assert tools.measure(2, batches)["hessian_eigenvalue"] == pytest.approx(whole, rel=1e-6)
    tools.vector = None
    assert abs(tools.measure(3, batches)["hessian_eigenvalue"]) < 0.9 * abs(whole)


class Noisy(ToySupernet):
    """Draws whatever the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.rand_like(x[:, :3])


def test_the_loss_whose_curvature_is_measured_is_one_function_of_the_variables_alone() -> None:
    torch.manual_seed(0)
    net = Noisy().double()
    wanted = set()

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        wanted.update(p.requires_grad for p in net.weight_parameters())
        return F.cross_entropy(logits, y)

    batches = [(batch(1)[0].double(), batch(1)[1])]
    found = {
        product: instruments(net, product=product, loss=loss).measure(1, batches)["hessian_eigenvalue"]
        for product in ("finite", "exact")
    }
    assert found["finite"] == pytest.approx(found["exact"], rel=1e-6)
    assert wanted == {False}


def test_zero_measures_what_is_free_only() -> None:
    log = instruments(ToySupernet(), every=0).measure(1, [])
    assert set(log) == {"entropy_operations", "entropy_topology", "skip_share"}
