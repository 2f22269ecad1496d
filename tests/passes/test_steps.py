"""Each step of a bilevel search differentiates what it moves and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nasdsl.runtime.search import bilevel
from nasdsl.runtime.supernet import SupernetBase
from tests.laws.common import batch
from tests.passes.short import named
from tests.passes.twins import PLAIN, only

PASSES = [PLAIN, only(), "+simplify"]


@attrs.define
class Watched:
    """What the graph of a loss leads to: parameters, and how many steps it has back to them."""

    leaves: set[int] = attrs.field(factory=set)
    nodes: int = 0

    def loss(self, out: Tensor, labels: Tensor) -> Tensor:
        found = F.cross_entropy(out, labels)
        stack, seen = [found.grad_fn], set()
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if hasattr(node, "variable"):
                self.leaves.add(id(node.variable))
            stack.extend(following for following, _ in node.next_functions)
        self.nodes = len(seen)
        return found


class Masks(TorchDispatchMode):
    """Which gradients every convolution of a backward pass was asked for: (input, weight)."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bool, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.asked.append(tuple(args[10][:2]))
        return func(*args, **(kwargs or {}))


@contextmanager
def saved() -> Iterator[list[int]]:
    """Bytes that are kept for the backward pass."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    total: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        yield total
    total.append(sum(sizes.values()))


def supernet(passes: str) -> tuple[SupernetBase, tuple[Tensor, Tensor]]:
    space = named("cells")
    net = space.compile("toponas", passes=passes).supernet()
    return net, (batch(space, 2), torch.tensor([1, 2]))


@pytest.mark.parametrize("passes", PASSES)
def test_each_step_differentiates_what_it_moves_and_nothing_else(passes: str) -> None:
    net, data = supernet(passes)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    sides = {
        "architecture": (bilevel.architecture_step, net.architecture_parameters()),
        "weight": (bilevel.weight_step, net.weight_parameters()),
    }
    for name, (step, moved) in sides.items():
        watched, masks = Watched(), Masks()
        with masks:
            step(net, data, torch.optim.SGD(moved, 0.1), loss=watched.loss)
        assert watched.leaves <= {id(p) for p in moved}
        assert watched.leaves
        if name == "architecture":
            assert watched.leaves == {id(p) for p in moved}
            assert masks.asked
            # Blended filters are made of the variables: there a filter's gradient is asked for.
            assert any(weight for _, weight in masks.asked) is (passes == "+simplify")
        else:
            assert all(weight for _, weight in masks.asked)
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        changed = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
        assert changed <= {n for n, p in net.named_parameters() if id(p) in {id(q) for q in moved}}
        assert changed
        before = {n: p.detach().clone() for n, p in net.named_parameters()}


def test_a_step_of_one_kind_keeps_less_than_a_step_of_both() -> None:
    """The reference code differentiates both in either step."""
    net, data = supernet(PLAIN)
    kept, nodes = {}, {}
    for name, parameters in (
        ("both", [*net.parameters()]),
        ("architecture", net.architecture_parameters()),
        ("weight", net.weight_parameters()),
    ):
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        watched = Watched()
        with saved() as found:
            watched.loss(net(data[0]), data[1])
        kept[name], nodes[name] = found[0], watched.nodes
    assert nodes["architecture"] < nodes["both"]
    assert nodes["weight"] < nodes["both"]
    assert kept["architecture"] < kept["both"]
    assert kept["weight"] <= kept["both"]
