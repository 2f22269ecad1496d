"""Recalibration: what a path is worth depends on the path alone, and a look changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nasdsl
from nasdsl import Architecture, Space
from nasdsl.runtime.operators.elastic import ElasticBatchNorm, batch_norms
from nasdsl.runtime.paths.judging import Judge, correct, recalibrated
from tests.laws.common import float64
from tests.strategies import checked

SHARED = """
  cell c(x) { n[1..2] = sum of choose 1.. from (x, earlier) via choose { conv(3) >> bn, id, relu >> bn }
                 return n[2] }
  network { stem: conv(3, 4) >> bn  a: repeat 2 { c }  head: global_pool >> linear(3) } }"""
SPACES = {
    "fixed": f"space fixed {{ input image(3, 8, 8) {SHARED}",
    "elastic": """space elastic { input image(3, s, s)  s = choose { 8, 12 }
      network { stem: conv(3, choose { 4, 8 }) >> bn >> relu
                a: repeat choose { 1..2 } { sum(id, conv(choose { 1, 3 }) >> bn(affine=false)) }
                b: conv(1, choose { 4, 6, 8 }) >> bn  head: global_pool >> linear(3) } }""",
}
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(params=SPACES)
def made(request: pytest.FixtureRequest) -> Iterator[tuple[Space, Any]]:
    """A space and its supernet after some training steps, in training mode."""
    with float64():
        space = Space(checked(SPACES[request.param]))
        net = space.compile("spos").supernet(seed=0).train()
        for arch in space.sample(5, seed=5):
            net.set_architecture(arch)
            net(net.fit(torch.rand(4, 3, 12 if net.resolution else 8, 12 if net.resolution else 8)))
        yield space, net


def batches(net: Any, count: int, size: int = 6, seed: int = 0) -> Batches:
    side, random = 12 if net.resolution else 8, torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, 3, side, side, generator=random, dtype=torch.float64) * (i + 1),
            torch.randint(3, (size,), generator=random),
        )
        for i in range(count)
    ]


def on_path(net: Any, x: Tensor) -> list[Any]:
    """The batch norms that run."""
    ran: list[Any] = []
    hooks = [n.register_forward_hook(lambda m, *_: ran.append(m)) for n in batch_norms(net)]
    with torch.no_grad():
        net(net.fit(x))
    for hook in hooks:
        hook.remove()
    return ran


def statistics(net: Any, arch: Architecture, data: Batches) -> dict[str, Tensor]:
    with recalibrated(net, arch.choices, data):
        return {n: b.clone() for n, b in net.named_buffers()}


def everything(net: nn.Module) -> dict[str, Any]:
    """All that a look must not change."""
    return {
        "state": {n: v.clone() for n, v in net.state_dict().items()},
        "modes": [m.training for m in net.modules()],
        "momenta": [n.momentum for n in batch_norms(net)],
        "at": dict(net.path.at),  # type: ignore[arg-type]
        "sizes": dict(net.path.sizes),  # type: ignore[union-attr, arg-type]
        "random": torch.get_rng_state(),
    }


def same(left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, Mapping):
            same(value, right[key])
        elif isinstance(value, Tensor):
            assert torch.equal(value, right[key]), key
        else:
            assert value == right[key], key


def test_two_looks_are_equal_whatever_was_looked_at_between(made: tuple[Space, Any]) -> None:
    space, net = made
    judge = Judge(net, batches(net, 3), batches(net, 2, seed=1))
    one, *others = space.sample(6, seed=1)
    first, alone = judge.accuracy(one.choices), statistics(net, one, judge.calibration)  # type: ignore[arg-type]
    assert judge.accuracy(one.choices) == first
    for other in others:
        judge.accuracy(other.choices)
        net.set_architecture(other)
    assert judge.accuracy(one.choices) == first
    same(statistics(net, one, judge.calibration), alone)  # type: ignore[arg-type]
    assert judge.looks == 8


def test_statistics_are_taken_in_the_precision_in_which_a_path_is_judged(made: tuple[Space, Any]) -> None:
    space, net = made
    entered: list[None] = []

    @contextmanager
    def cast() -> Iterator[None]:
        entered.append(None)
        yield

    Judge(net, batches(net, 3), batches(net, 2, seed=1), cast).accuracy(space.sample(1, seed=1)[0].choices)
    assert len(entered) == 3 + 2


def test_one_batch_has_exactly_its_statistics(made: tuple[Space, Any]) -> None:
    space, net = made
    (whole,) = data = batches(net, 1, 24)
    for arch in space.sample(5, seed=2):
        seen: dict[Any, Tensor] = {}
        with recalibrated(net, arch.choices, data):
            norms = on_path(net, whole[0])
            kept = {n: (n.running_mean.clone(), n.running_var.clone()) for n in norms}
            # The batch passes once more, each norm by what the batch itself has.
            for norm in norms:
                norm.train()
            hooks = [
                n.register_forward_pre_hook(lambda m, x, seen=seen: seen.update({m: x[0]})) for n in norms
            ]
            with torch.no_grad():
                net(net.fit(whole[0]))
            for hook in hooks:
                hook.remove()
        assert norms
        for norm, (mean, var) in kept.items():
            x = seen[norm]
            assert torch.allclose(mean[: x.shape[1]], x.mean((0, 2, 3)), rtol=1e-12, atol=1e-12)
            assert torch.allclose(var[: x.shape[1]], x.var((0, 2, 3), unbiased=True), rtol=1e-12, atol=1e-12)


def test_several_batches_count_alike(made: tuple[Space, Any]) -> None:
    """The mean over batches, not an average that forgets: the order of batches changes nothing at the first norm."""
    space, net = made
    data, arch = batches(net, 4), space.sample(1, seed=3)[0]
    net.set_architecture(arch)
    first = on_path(net, data[0][0])[0]
    name = next(n for n, m in net.named_modules() if m is first)
    single = [statistics(net, arch, [b])[f"{name}.running_mean"] for b in data]
    for order in (data, data[::-1]):
        found = statistics(net, arch, order)
        assert torch.allclose(found[f"{name}.running_mean"], sum(single) / 4, rtol=1e-12)  # type: ignore[arg-type]
        assert found[f"{name}.num_batches_tracked"] == 4


def test_a_look_leaves_no_trace(made: tuple[Space, Any]) -> None:
    space, net = made
    one, two = space.sample(2, seed=4)
    net.set_architecture(one)
    net.head.eval()
    batch_norms(net)[0].momentum = 0.3
    wrong = torch.randn(2, 5, 8, 8), torch.zeros(2, dtype=torch.long)
    before = everything(net)
    Judge(net, batches(net, 2), batches(net, 2)).accuracy(two.choices)
    same(everything(net), before)
    with pytest.raises(ZeroDivisionError), recalibrated(net, two.choices, batches(net, 1)):  # noqa: PT012
        assert not any(m.training for m in net.modules())
        assert {n: net.path.at[n] for n in two.choices} == dict(two.choices)
        raise ZeroDivisionError
    same(everything(net), before)
    with pytest.raises(RuntimeError, match="channels"):
        Judge(net, [wrong], [wrong]).accuracy(two.choices)
    same(everything(net), before)
    with pytest.raises(ValueError, match="there is no decision"):
        Judge(net, batches(net, 1), batches(net, 1)).accuracy({"nowhere": "a"})
    same(everything(net), before)


def test_only_what_lies_on_the_path_is_calibrated(made: tuple[Space, Any]) -> None:
    """Channels beside the cut, and norms beside the path, have the statistics of a new module meanwhile."""
    space, net = made
    (whole,) = data = batches(net, 1)
    cut = 0
    for arch in space.sample(8, seed=6):
        with recalibrated(net, arch.choices, data):
            norms = on_path(net, whole[0])
            for norm in batch_norms(net):
                assert int(norm.num_batches_tracked) == norms.count(norm)
                still = norm.running_mean == 0
                if norm not in norms:
                    assert still.all()
                elif isinstance(norm, ElasticBatchNorm):
                    cut += int(still.sum())
                else:
                    assert not still.any()
    assert cut or not any(isinstance(n, ElasticBatchNorm) for n in batch_norms(net))


def test_without_batches_statistics_stay(made: tuple[Space, Any]) -> None:
    space, net = made
    arch = space.sample(1, seed=7)[0]
    same(statistics(net, arch, []), dict(net.named_buffers()))
    held_out = batches(net, 2)
    net.set_architecture(arch)
    assert Judge(net, [], held_out).accuracy(arch.choices) == correct(net.eval(), held_out)


def test_a_judged_path_is_its_own_network_after_the_same_batches() -> None:
    """The statistics that a stand-alone network gathers by itself from the same batches."""
    space = nasdsl.load("nats_size", resolution=8, classes=3)
    with float64():
        program = space.compile("spos")
        net = program.supernet(seed=0).train()
        data = batches(net, 3)
        for arch in space.sample(3, seed=0):
            child = program.network(arch, inherit=net, form="search")
            for norm in batch_norms(child):
                norm.reset_running_stats()
                norm.momentum = None
            with torch.no_grad():
                for x, _ in data:
                    child.train()(x)
                with recalibrated(net, arch.choices, data):
                    for x, _ in data:
                        assert (net(x) - child.eval()(x)).abs().max() < 1e-10
