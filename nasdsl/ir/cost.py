"""What a node, a graph and a module cost, from the cost rules of the operations alone.

Takes graphs and concrete sizes, returns integers. Invariant: parameters and
multiply-accumulates equal those of the network that is executed.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nasdsl.cases import Cases
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.nodes import AnyNode, Call, Op, Weight
from nasdsl.ops import PRIMITIVES
from nasdsl.ops.conventions import Convention
from nasdsl.types import Dim, Integer, TensorType


@attrs.frozen
class Count:
    """Concrete costs for one example: learnable numbers, multiply-accumulates, numbers written."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.params + other.params, self.macs + other.macs, self.activations + other.activations)


def product(dims: tuple[Dim, ...]) -> Dim:
    total = Dim.of(1)
    for dim in dims:
        total = total * dim
    return total


@attrs.frozen
class Costs:
    """The same, each an integer or a table over decisions."""

    params: Integer = 0
    macs: Integer = 0
    activations: Integer = 0


def node_costs(graph: Graph, node: AnyNode, sizes: Mapping[str, Integer]) -> Costs:
    """The cost of one node by itself; weights carry the parameters, operations the arithmetic."""
    if isinstance(node, Weight):
        return Costs(params=product(node.type.shape).value(sizes))  # type: ignore[union-attr]
    if not isinstance(node.type, TensorType):
        return Costs()
    written = node.type.elements.value(sizes)
    if not isinstance(node, Op):
        return Costs(activations=written if node.kind in ("merge", "mix", "gather") else 0)
    source = graph.by_id[node.operands[0]].type
    if not isinstance(source, TensorType):
        return Costs(activations=written)
    macs = _own_macs(node, source, node.type, sizes)
    return Costs(macs=macs, activations=written)


def _own_macs(node: Op, source: TensorType, result: TensorType, sizes: Mapping[str, Integer]) -> Integer:
    """Multiply-accumulates by the operation's own rule; one from Python is given integers."""
    primitive = PRIMITIVES[node.op]
    if primitive.opaque:
        source = TensorType(source.layout, tuple(Dim.of(d.value(sizes)) for d in source.dims))
    return primitive.macs(source, result, dict(node.values)).value(sizes)


def node_count(graph: Graph, node: AnyNode, sizes: Mapping[str, int]) -> Count:
    """The cost of one node of a graph whose sizes depend on no decision. Raises TypeError for another."""
    costs = node_costs(graph, node, sizes)
    if (
        isinstance(costs.params, Cases)
        or isinstance(costs.macs, Cases)
        or isinstance(costs.activations, Cases)
    ):
        raise TypeError(f"the cost of %{node.id} depends on decisions")
    return Count(costs.params, costs.macs, costs.activations)


def module_count(module: Module) -> Count:
    """The cost of a whole network: every use of every graph."""
    total = Count()
    for use in module.uses():
        for node in use.graph.nodes:
            total = total + node_count(use.graph, node, use.sizes)
    return total


def convention_count(module: Module, convention: Convention) -> int:
    """What a published counter says of a whole network; an operation from Python counts its own macs."""
    total = 0
    for use in module.uses():
        for node in use.graph.nodes:
            if not isinstance(node, Op) or not isinstance(node.type, TensorType):
                continue
            source = use.graph.by_id[node.operands[0]].type
            if not isinstance(source, TensorType):
                continue
            counted: Integer = 0
            if PRIMITIVES[node.op].opaque:
                counted = _own_macs(node, source, node.type, use.sizes)
            elif node.op in convention.rules:
                counted = convention.rules[node.op](source, node.type, dict(node.values)).value(use.sizes)
            if isinstance(counted, Cases):
                raise TypeError(f"what %{node.id} counts depends on decisions")
            total += counted
    return total


def outputs_zero(module: Module) -> bool:
    """Whether the output is zero whatever the input, operations on zero counted as zero.

    By that convention (see `docs/language.md`, identity) 341 encodings of
    NAS-Bench-201 output zero; with an affine batch norm such an output is a constant.
    """
    known: dict[tuple[str, tuple[bool, ...]], bool] = {}

    def zero(graph: Graph, given: tuple[bool, ...]) -> bool:
        key = (graph.name, given)
        if key not in known:
            state = dict(zip((n.id for n in graph.inputs), given, strict=True))
            for node in graph.nodes:
                acts = [state[o] for o in node.operands if o in state]
                if isinstance(node, Call):
                    state[node.id] = zero(module.by_name[node.graph], tuple(acts))
                elif isinstance(node, Op):
                    state[node.id] = PRIMITIVES[node.op].zero or acts[0]
                elif isinstance(node.type, TensorType) and node.id not in state:
                    state[node.id] = all(acts)
            known[key] = state[graph.result]
        return known[key]

    return zero(module.network, (False,))
