"""Cells are computed again in the backward pass, so that their insides need not be kept.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. Calls of the network are marked
`recompute`, and nothing else changes; `nasdsl.runtime.operators.recompute` runs them.

Which calls: those that free most bytes for the arithmetic of computing them again, until what a
step keeps fits the budget. What is kept follows from one rule for each operation (`_kept`), of the
larger of both steps: the weights' step keeps inputs of convolutions, the variables' step the terms of weighted
sums. While the backward pass is inside a cell that was marked, all that the cell keeps is there again, so the
largest of those counts once.

Cells with operations from Python stay as they are: they may draw random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from nasdsl.errors import UserError
from nasdsl.ir.cost import node_count
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Call, Input, Mix, Op
from nasdsl.ops import PRIMITIVES
from nasdsl.passes.log import Log
from nasdsl.types import TensorType

Sizes = Mapping[str, int]

FLOAT = 4
MIB = 2**20

_INPUT = frozenset(
    {"bn", "avg_pool", "swish", "hswish", "gelu", "leaky_relu", "layer_norm", "se", "attention"}
)
"""Operations whose backward pass reads their input."""
_OUTPUT = frozenset({"relu", "sigmoid", "tanh"})
"""Operations whose backward pass reads their output."""
_CONVOLUTIONS = frozenset({"conv", "dwconv", "dwconv_fan", "dwconv_lanes", "linear"})


@attrs.frozen
class Checkpoint:
    """See the module.

    Attributes:
        budget: MiB that a step may keep for its backward pass; 0 marks every cell.
        batch: examples that are in one forward pass.
    """

    name: ClassVar[str] = "checkpoint"
    summary: ClassVar[str] = "computes cells again in the backward pass instead of keeping their insides"
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = True
    optimises: ClassVar[bool] = True

    budget: int = 0
    batch: int = 1

    def __call__(self, module: Module) -> Module:
        return self.rewrite(module, Log())

    def rewrite(self, module: Module, log: Log) -> Module:
        """The pass, telling what it did. Raises UserError (NAS502) for a budget that no choice of cells meets."""
        marked = self._chosen(module)
        for name in sorted(marked):
            log.add("computed again in the backward pass", module.root, (name,), (name,))

        def mark(graph: Graph) -> Graph:
            if graph.name != module.root:
                return graph
            return graph.with_nodes(
                attrs.evolve(n, recompute=True) if isinstance(n, Call) and n.id in marked else n
                for n in graph.nodes
            )

        return module.map(mark)

    def _chosen(self, module: Module) -> frozenset[str]:
        calls, model = candidates(module), _Model(module)
        price = {call.id: model.price(call) for call in calls}
        order = sorted(price, key=lambda name: price[name])
        if not self.budget:
            return frozenset(order)
        needs = [model.predicted(frozenset(order[:n])) * self.batch for n in range(len(order) + 1)]
        enough = next((n for n, need in enumerate(needs) if need <= self.budget * MIB), None)
        if enough is None:
            raise UserError.plain(
                "NAS502",
                f"setting `memory_budget_mib` cannot be {self.budget}: a step of {self.batch} examples keeps "
                f"{-(-min(needs) // MIB)} MiB at least for its backward pass",
                help="make `batch_size` smaller, or split a step with `accumulate`",
            )
        return frozenset(order[:enough])


def candidates(module: Module) -> list[Call]:
    """The calls of the network that may be computed twice."""
    return [n for n in module.network.nodes if isinstance(n, Call) and not _opaque(module, n.graph)]


def predicted(module: Module, marked: frozenset[str]) -> int:
    """Bytes for one example that a step keeps for its backward pass, at the most, with these calls marked."""
    return _Model(module).predicted(marked)


class _Model:
    """What graphs keep and cost; each graph is looked at once for each set of sizes."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.known: dict[tuple[object, ...], int] = {}

    def predicted(self, marked: frozenset[str]) -> int:
        calls = [n for n in self.module.network.nodes if isinstance(n, Call) and n.id in marked]
        found = []
        for variables in (False, True):
            again = [self.inside(call, {}, variables) for call in calls]
            total = self.kept(self.module.network, {}, variables, marked)
            found.append(total + max(again, default=0))
        return max(found)

    def kept(self, graph: Graph, sizes: Sizes, variables: bool, marked: frozenset[str] = frozenset()) -> int:
        """Bytes for one example that one step keeps of a graph; calls that are marked keep what they read."""
        storages: dict[object, int] = {}
        insides = 0
        for node in graph.nodes:
            if isinstance(node, Input) or not isinstance(node.type, TensorType):
                continue
            if isinstance(node, Call) and node.id not in marked:
                insides += self.inside(node, sizes, variables)
            else:
                storages.update(_kept(graph, node, sizes, variables))
        return insides + sum(storages.values())

    def inside(self, call: Call, sizes: Sizes, variables: bool) -> int:
        """The same of the graph that a call runs."""
        inner = {name: dim.evaluate(sizes) for name, dim in call.sizes}
        key = (call.graph, tuple(inner.items()), variables)
        if key not in self.known:
            self.known[key] = self.kept(self.module.by_name[call.graph], inner, variables)
        return self.known[key]

    def macs(self, call: Call, sizes: Sizes) -> int:
        """Multiply-accumulates of the graph that a call runs."""
        inner = {name: dim.evaluate(sizes) for name, dim in call.sizes}
        key = (call.graph, tuple(inner.items()))
        if key not in self.known:
            graph = self.module.by_name[call.graph]
            self.known[key] = sum(node_count(graph, n, inner).macs for n in graph.nodes) + sum(
                self.macs(n, inner) for n in graph.nodes if isinstance(n, Call)
            )
        return self.known[key]

    def price(self, call: Call) -> float:
        """Multiply-accumulates of computing a cell again for each byte that this frees."""
        freed = max(self.inside(call, {}, variables) for variables in (False, True))
        return self.macs(call, {}) / max(1, freed)


def _kept(graph: Graph, node: AnyNode, sizes: Sizes, variables: bool) -> dict[object, int]:
    """The storages that the backward pass of a node reads, by name, with their bytes for one example."""
    reads = graph.activations(node)
    if isinstance(node, Call):
        return {_source(graph, o): _bytes(graph, o, sizes) for o in reads}
    if isinstance(node, Mix):
        return _kept_of_mix(graph, node, sizes, variables)
    if not isinstance(node, Op) or PRIMITIVES[node.op].identity:
        return {}
    source, whole = _source(graph, reads[0]), _bytes(graph, reads[0], sizes)
    if node.op in _OUTPUT:
        return {node.id: _bytes(graph, node.id, sizes)}
    if node.op in _INPUT or (node.op in _CONVOLUTIONS and not variables):
        return {source: whole}
    if node.op == "max_pool":  # and where the largest numbers were
        return {source: whole, (node.id, "indices"): 2 * _bytes(graph, node.id, sizes)}
    if node.op == "pointwise_norm" and not _inside(graph, node):
        kept: dict[object, int] = {(node.id, "centred"): whole}
        return {**kept, node.id: _bytes(graph, node.id, sizes)} if dict(node.values)["relu"] else kept
    return {}


def _kept_of_mix(graph: Graph, node: Mix, sizes: Sizes, variables: bool) -> dict[object, int]:
    terms = node.operands[node.vectors :]
    kept: dict[object, int] = {}
    for index, term in enumerate(terms):
        if index in node.inside:  # the centred input of what is never formed
            source = graph.by_id[term].operands[0]
            kept[node.id, term] = _bytes(graph, source, sizes)
        elif variables or node.inside:
            kept[_source(graph, term)] = _bytes(graph, term, sizes)
    return kept


def _inside(graph: Graph, node: AnyNode) -> bool:
    """Whether a weighted sum accumulates the value without forming it."""
    readers = [graph.by_id[r] for r in graph.readers[node.id]]
    return any(
        isinstance(r, Mix) and node.id in {r.operands[r.vectors + i] for i in r.inside} for r in readers
    )


def _source(graph: Graph, name: str) -> str:
    """The value whose storage this one is: parts of a bundle are the bundle's."""
    node = graph.by_id[name]
    while isinstance(node, Op) and PRIMITIVES[node.op].identity:
        node = graph.by_id[node.operands[0]]
    return node.id


def _bytes(graph: Graph, name: str, sizes: Sizes) -> int:
    found = graph.by_id[name].type
    return FLOAT * found.elements.evaluate(sizes) if isinstance(found, TensorType) else 0


def _opaque(module: Module, name: str) -> bool:
    """Whether a graph, or one that it calls, has operations from Python."""
    for node in module.by_name[name].nodes:
        if isinstance(node, Op) and PRIMITIVES[node.op].opaque:
            return True
        if isinstance(node, Call) and _opaque(module, node.graph):
            return True
    return False
