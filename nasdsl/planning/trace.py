"""What a supernet executes, in order, without executing it.

Takes Graph[RELAXED], returns a list of steps on numbered values. Invariant: the order is that
of the generated code: a candidate that only a weighted sum reads is computed when the sum is,
all candidates of a sum are alive together, and a cell's local names live until it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import attrs

from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.nodes import AnyNode, Call, Input, Merge, Mix, Op, Weight, WeightType
from nasdsl.ops import PRIMITIVES
from nasdsl.types import TensorType


@attrs.frozen
class Step:
    """One operation on values.

    Attributes:
        op: the primitive, or `mix`, `sum`, `concat`.
        reads: the values it reads.
        writes: the value it makes.
        weights: numbers in its weights.
        macs: multiply-accumulates for one example.
        done: values whose names are gone once this has run.
    """

    op: str
    reads: tuple[int, ...]
    writes: int
    weights: int = 0
    macs: int = 0
    done: tuple[int, ...] = ()


@attrs.define
class Trace:
    """The steps, and how many numbers one example of each value has; value 0 is the input."""

    steps: list[Step] = attrs.Factory(list)
    numbers: list[int] = attrs.Factory(list)
    channels: list[int] = attrs.Factory(list)

    def value(self, shape: tuple[int, ...]) -> int:
        self.numbers.append(prod(shape))
        self.channels.append(shape[0])
        return len(self.numbers) - 1


def trace(module: Module) -> Trace:
    """Everything that one forward pass of a supernet executes."""
    found = Trace()
    root = module.network
    source = root.inputs[0].type
    shape = source.evaluate({}) if isinstance(source, TensorType) else ()
    _Tracer(module, found).graph(root, [found.value(shape)], {})
    return found


class _Tracer:
    def __init__(self, module: Module, found: Trace) -> None:
        self.module = module
        self.found = found

    def graph(self, graph: Graph, inputs: list[int], sizes: Mapping[str, int]) -> int:
        """Runs a graph; returns its result."""
        known = dict(zip((n.id for n in graph.inputs), inputs, strict=True))
        local: list[int] = []
        for node in graph.nodes:
            if not isinstance(node.type, TensorType) or isinstance(node, Input):
                continue
            if self._inline(graph, node) or self._inside(graph, node):
                continue
            known[node.id] = self._run(graph, node, known, sizes)
            local.append(known[node.id])
        result = known[graph.result]
        gone = tuple(v for v in local if v != result)
        if gone and self.found.steps:
            last = self.found.steps[-1]
            self.found.steps[-1] = attrs.evolve(last, done=(*last.done, *gone))
        return result

    @staticmethod
    def _inline(graph: Graph, node: AnyNode) -> bool:
        """Whether the generated code computes the value inside the sum that reads it."""
        readers = graph.readers[node.id]
        if len(readers) != 1 or node.id == graph.result or not isinstance(node, (Op, Call)):
            return False
        return isinstance(graph.by_id[readers[0]], (Mix, Merge))

    @staticmethod
    def _inside(graph: Graph, node: AnyNode) -> bool:
        """Whether the value has no name: the next module of a chain is all that reads it."""
        readers = graph.readers[node.id]
        if len(readers) != 1 or node.id == graph.result or not isinstance(node, Op):
            return False
        after = graph.by_id[readers[0]]
        return isinstance(after, Op) and after.label == node.label

    def _run(self, graph: Graph, node: AnyNode, known: dict[str, int], sizes: Mapping[str, int]) -> int:
        """Runs a node and what only it needs; names that end with it are dropped after it."""
        reads, gone = [], []
        for operand in graph.activations(node):
            if operand not in known:
                known[operand] = self._run(graph, graph.by_id[operand], known, sizes)
                gone.append(known[operand])
            reads.append(known[operand])
        if isinstance(node, Call):
            inner = {n: d.evaluate(sizes) for n, d in node.sizes}
            result = self.graph(self.module.by_name[node.graph], reads, inner)
            if gone and self.found.steps:
                last = self.found.steps[-1]
                self.found.steps[-1] = attrs.evolve(
                    last, done=(*last.done, *(g for g in gone if g != result))
                )
            return result
        return self._step(graph, node, tuple(reads), tuple(gone), sizes)

    def _step(
        self,
        graph: Graph,
        node: AnyNode,
        reads: tuple[int, ...],
        gone: tuple[int, ...],
        sizes: Mapping[str, int],
    ) -> int:
        if not isinstance(node.type, TensorType):
            raise TypeError(f"%{node.id} is not an activation")
        if isinstance(node, Op) and PRIMITIVES[node.op].identity:
            return reads[0]
        made = self.found.value(node.type.evaluate(sizes))
        op, weights, macs = "", 0, 0
        if isinstance(node, Op):
            op = node.op
            for operand in node.operands:
                weight = graph.by_id[operand]
                if isinstance(weight, Weight) and isinstance(weight.type, WeightType):
                    weights += prod(d.evaluate(sizes) for d in weight.type.shape)
            source = graph.by_id[node.operands[0]].type
            if isinstance(source, TensorType):
                macs = PRIMITIVES[op].macs(source, node.type, dict(node.values)).evaluate(sizes)
        elif isinstance(node, Mix):
            op = "mix"
        elif isinstance(node, Merge):
            op = node.merge
        self.found.steps.append(Step(op, reads, made, weights, macs, gone))
        return made
