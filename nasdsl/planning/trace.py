"""What a supernet executes, in order, without executing it.

Takes Graph[RELAXED], returns a list of steps on numbered values. Invariant: the order is that
of the generated code: a candidate that only a weighted sum reads is computed when the sum is,
all candidates of a sum are alive together, a term that a sum accumulates is no step of its own,
and a cell's local names live until it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import attrs

from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.nodes import (
    AnyNode,
    ArchType,
    Blend,
    Call,
    Input,
    Merge,
    Mix,
    Op,
    Stack,
    State,
    Weight,
    WeightType,
)
from nasdsl.ops import PRIMITIVES
from nasdsl.ops.base import Values, integer, pad_of
from nasdsl.types import TensorType


@attrs.frozen
class Geometry:
    """The window of an operation: kernel, stride, padding and dilation, the same both ways."""

    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1


@attrs.frozen
class Step:
    """One operation on values.

    Attributes:
        op: the primitive, or `mix`, `accumulate` (a mix with terms that are never formed), `sum`, `concat`.
        reads: the values it reads; of `accumulate` first the plain terms.
        writes: the value it makes.
        weights: numbers in its weights.
        states: numbers in its running statistics.
        macs: multiply-accumulates for one example.
        lanes: operations side by side; the value it makes then has as many results.
        geometry: of its window, if it has one.
        plain: plain terms of `accumulate`.
        blended: numbers in filters that architecture weights blend, padded, and in their blend; 0 if none are.
        biased: whether a bias is added in an operation of its own.
        relu: whether a ReLU is part of it.
        again: the call that computes it again in the backward pass, by number from 1; 0 if none does.
        done: values whose names are gone once this has run.
    """

    op: str
    reads: tuple[int, ...]
    writes: int
    weights: int = 0
    states: int = 0
    macs: int = 0
    lanes: int = 1
    geometry: Geometry = Geometry()
    plain: int = 0
    blended: int = 0
    biased: bool = False
    relu: bool = False
    again: int = 0
    done: tuple[int, ...] = ()


@attrs.define
class Trace:
    """The steps, and the shape of each value for one example; value 0 is the input."""

    steps: list[Step] = attrs.Factory(list)
    shapes: list[tuple[int, ...]] = attrs.Factory(list)
    numbers: list[int] = attrs.Factory(list)

    def value(self, shape: tuple[int, ...]) -> int:
        self.shapes.append(shape)
        self.numbers.append(prod(shape))
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
        self.calls = 0
        self.accumulated = {
            (g.name, n.operands[n.vectors + i])
            for g in module.graphs
            for n in g.nodes
            if isinstance(n, Mix)
            for i in n.inside
        }

    def graph(self, graph: Graph, inputs: list[int], sizes: Mapping[str, int]) -> int:
        """Runs a graph; returns its result."""
        known = dict(zip((n.id for n in graph.inputs), inputs, strict=True))
        local: list[int] = []
        for node in graph.nodes:
            if not isinstance(node.type, TensorType) or isinstance(node, Input):
                continue
            if (graph.name, node.id) in self.accumulated:
                continue
            if self._inline(graph, node) or self._inside(graph, node):
                continue
            known[node.id] = self._run(graph, node, known, sizes)
            local.append(known[node.id])
        result = known[graph.result]
        self._gone([v for v in local if v != result])
        return result

    def _gone(self, values: list[int]) -> None:
        """Names that end with what ran last."""
        if values and self.found.steps:
            last = self.found.steps[-1]
            self.found.steps[-1] = attrs.evolve(last, done=(*last.done, *values))

    @staticmethod
    def _inline(graph: Graph, node: AnyNode) -> bool:
        """Whether the generated code computes the value inside the sum that reads it."""
        readers = graph.readers[node.id]
        if len(readers) != 1 or node.id == graph.result or not isinstance(node, (Op, Call)):
            return False
        return isinstance(graph.by_id[readers[0]], (Mix, Merge))

    def _inside(self, graph: Graph, node: AnyNode) -> bool:
        """Whether the value has no name: the next module of a chain is all that reads it."""
        readers = graph.readers[node.id]
        if len(readers) != 1 or node.id == graph.result or not isinstance(node, Op):
            return False
        after = graph.by_id[readers[0]]
        if not isinstance(after, Op) or (graph.name, after.id) in self.accumulated:
            return False
        modules = all(PRIMITIVES[n.op].module is not None for n in (node, after))
        plain = not _blends(graph, node) and not _blends(graph, after)
        return modules and plain and after.label == node.label

    def _run(self, graph: Graph, node: AnyNode, known: dict[str, int], sizes: Mapping[str, int]) -> int:
        """Runs a node and what only it needs; names that end with it are dropped after it."""
        reads, gone = [], []
        for operand in self._operands(graph, node):
            if operand not in known:
                known[operand] = self._run(graph, graph.by_id[operand], known, sizes)
                gone.append(known[operand])
            reads.append(known[operand])
        if isinstance(node, Call):
            begun = len(self.found.steps)
            inner = {n: d.evaluate(sizes) for n, d in node.sizes}
            result = self.graph(self.module.by_name[node.graph], reads, inner)
            if node.recompute:
                self.calls += 1
                inside = self.found.steps[begun:]
                self.found.steps[begun:] = [attrs.evolve(s, again=self.calls) for s in inside]
        elif isinstance(node, Op) and PRIMITIVES[node.op].identity:
            result = reads[0]
        else:
            result = self._step(graph, node, tuple(reads), sizes)
        self._gone([g for g in gone if g != result])
        return result

    @staticmethod
    def _operands(graph: Graph, node: AnyNode) -> list[str]:
        """What a node reads; of terms that are accumulated, what they would have read."""
        operands = graph.activations(node)
        if not isinstance(node, Mix) or not node.inside:
            return list(operands)
        plain = [o for i, o in enumerate(operands) if i not in node.inside]
        return plain + [graph.by_id[operands[i]].operands[0] for i in node.inside]

    def _step(self, graph: Graph, node: AnyNode, reads: tuple[int, ...], sizes: Mapping[str, int]) -> int:
        if not isinstance(node.type, TensorType):
            raise TypeError(f"%{node.id} is not an activation")
        made = self.found.value(node.type.evaluate(sizes))
        if isinstance(node, Op):
            step = self._operation(graph, node, reads, made, sizes)
        elif isinstance(node, Mix) and node.inside:
            step = self._accumulate(graph, node, reads, made, sizes)
        else:
            step = Step(node.merge if isinstance(node, Merge) else "mix", reads, made)
        self.found.steps.append(step)
        return made

    def _operation(
        self, graph: Graph, node: Op, reads: tuple[int, ...], made: int, sizes: Mapping[str, int]
    ) -> Step:
        source, values = graph.by_id[node.operands[0]].type, dict(node.values)
        if not isinstance(source, TensorType) or not isinstance(node.type, TensorType):
            raise TypeError(f"%{node.id} is no operation on activations")
        weights, states = _held(graph, node, sizes)
        lanes = values.get("copies", values.get("groups", 1) if node.op == "pointwise_norm" else 1)
        return Step(
            op=node.op,
            reads=reads,
            writes=made,
            weights=weights,
            states=states,
            macs=PRIMITIVES[node.op].macs(source, node.type, values).evaluate(sizes),
            lanes=lanes if isinstance(lanes, int) else 1,
            geometry=_geometry(values),
            blended=_blended(graph, node, sizes),
            biased=values.get("bias") is True and node.op not in ("conv", "linear"),
            relu=values.get("relu") is True,
        )

    def _accumulate(
        self, graph: Graph, node: Mix, reads: tuple[int, ...], made: int, sizes: Mapping[str, int]
    ) -> Step:
        terms = [graph.by_id[node.operands[node.vectors + i]] for i in node.inside]
        parts = [
            self._operation(graph, t, (read,), made, sizes)
            for t, read in zip(terms, reads[len(reads) - len(terms) :], strict=True)
            if isinstance(t, Op)
        ]
        return Step(
            op="accumulate",
            reads=reads,
            writes=made,
            weights=sum(p.weights for p in parts),
            states=sum(p.states for p in parts),
            macs=sum(p.macs for p in parts),
            plain=len(reads) - len(terms),
            biased=any(isinstance(t, Op) and dict(t.values)["bias"] is True for t in terms),
        )


def _geometry(values: Values) -> Geometry:
    if not isinstance(values.get("k"), int) or "stride" not in values:
        return Geometry()
    dilation = integer(values, "dilation") if "dilation" in values else 1
    return Geometry(integer(values, "k"), integer(values, "stride"), pad_of(values), dilation)


def _below(graph: Graph, name: str) -> Iterator[AnyNode]:
    """The weights, states and blends that an operand is made of."""
    node = graph.by_id[name]
    yield node
    if isinstance(node, (Stack, Blend)):
        for operand in node.operands:
            yield from _below(graph, operand)


def _blends(graph: Graph, node: Op) -> list[Blend]:
    return [n for o in node.operands[1:] for n in _below(graph, o) if isinstance(n, Blend)]


def _blended(graph: Graph, node: Op, sizes: Mapping[str, int]) -> int:
    """Numbers in the filters that are blended for an operation, padded to one size, and in what they become."""
    found = 0
    for blend in _blends(graph, node):
        vector = graph.by_id[blend.operands[0]].type
        count = vector.length if isinstance(vector, ArchType) else 0
        found += (count + 1) * _numbers(blend, sizes)
    return found


def _numbers(node: AnyNode, sizes: Mapping[str, int]) -> int:
    if not isinstance(node.type, WeightType):
        return 0
    return prod(d.evaluate(sizes) for d in node.type.shape)


def _held(graph: Graph, node: Op, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Numbers in the weights and in the running statistics of an operation."""
    found = {n.id: n for o in node.operands[1:] for n in _below(graph, o) if isinstance(n, (Weight, State))}
    weights = sum(_numbers(n, sizes) for n in found.values() if isinstance(n, Weight))
    return weights, sum(_numbers(n, sizes) for n in found.values() if isinstance(n, State))
