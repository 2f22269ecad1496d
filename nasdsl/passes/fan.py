"""Operations of one kind that leave one value become one operation with several results.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. Depthwise convolutions of one
input and one geometry (kernel, stride, padding, dilation) are joined, their filters stacked
in the order of the graph; where each result goes into a normalised pointwise convolution and
another depthwise convolution, those are joined lane by lane. In DARTS that is one operation
for all edges that leave a node: one tensor of filters for the optimiser, one call where the
images are small, and a backward pass that prepares the input once
(`nasdsl.runtime.operators.depthwise`, `nasdsl.runtime.operators.normalised`).

Needs `share` before it, so that edges read one and the same ReLU; and `accumulate`, which has
the first call on what ends in a node. Candidates that may not run stay by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from nasdsl.ir.graph import Graph
from nasdsl.ir.homes import may_idle
from nasdsl.ir.nodes import AnyNode, ArchType, Blend, Mix, Op, Stack, WeightType
from nasdsl.ops import Value
from nasdsl.passes.base import GraphRewrite
from nasdsl.passes.log import Log
from nasdsl.types import Dim, TensorType

_LANES = {"pointwise_norm": "pointwise_norm", "dwconv": "dwconv_lanes"}
"""What goes on lane by lane, and as what."""


@attrs.frozen
class Fan(GraphRewrite):
    """See the module."""

    name: ClassVar[str] = "fan"
    summary: ClassVar[str] = "all depthwise convolutions of one input in one operation, and what follows them"
    exact: ClassVar[bool] = True

    def graph(self, graph: Graph, log: Log) -> Graph:
        """See the module."""
        return _Fans(graph, log).run()


@attrs.frozen
class _Level:
    """One operation of every lane, and what they become."""

    lanes: tuple[Op, ...]
    joined: Op
    stacks: tuple[Stack, ...]


class _Fans:
    def __init__(self, graph: Graph, log: Log) -> None:
        self.graph = graph
        self.log = log
        mixes = [n for n in graph.nodes if isinstance(n, Mix)]
        self.inside = {m.operands[m.vectors + i] for m in mixes for i in m.inside}

    def run(self) -> Graph:
        """The graph with every fan in the place of the last of its lanes' first operations."""
        heads: dict[object, list[Op]] = {}
        alone = {self.graph.result, *may_idle(self.graph)}
        for node in self.graph.nodes:
            if isinstance(node, Op) and node.op == "dwconv" and node.id not in alone:
                forms = tuple(self._form(o) for o in node.operands[1:])
                heads.setdefault((node.operands[0], node.values, forms), []).append(node)
        fans = [self._levels(tuple(group)) for group in heads.values() if len(group) > 1]
        if not fans:
            return self.graph
        gone = {n.id for fan in fans for level in fan for n in level.lanes}
        moved = {n.id for fan in fans for level in fan for n in self._weights(level)}
        at = {fan[0].lanes[0].operands[0]: [] for fan in fans}  # type: dict[str, list[list[_Level]]]
        for fan in fans:
            at[fan[0].lanes[0].operands[0]].append(fan)
        for fan in fans:
            named = [n.id for level in fan for n in level.lanes]
            made = [level.joined.id for level in fan] + [n.id for n in fan[-1].lanes]
            self.log.add(
                "depthwise convolutions of one input in one, and what follows them",
                self.graph.name,
                named,
                made,
            )
        nodes: list[AnyNode] = []
        # Blended filters stand where their source does, and what weighs them before that.
        early = [n for n in self.graph.nodes if isinstance(n.type, ArchType)]
        for node in (*early, *(n for n in self.graph.nodes if not isinstance(n.type, ArchType))):
            if node.id not in gone and node.id not in moved:
                nodes.append(node)
            for fan in at.get(node.id, ()):
                nodes.extend(self._emit(fan))
        return self.graph.with_nodes(nodes)

    def _form(self, name: str) -> object:
        """What filters that stand side by side have in common, beyond their type."""
        node = self.graph.by_id[name]
        if not isinstance(node, Blend):
            return type(node)
        return (node.normalise, *(self.graph.by_id[o].type for o in node.operands))

    def _weights(self, level: _Level) -> list[AnyNode]:
        """The weights and states of all lanes, those that are blended before their blend."""
        found: dict[str, AnyNode] = {}
        for stack in level.stacks:
            for name in stack.operands:
                member = self.graph.by_id[name]
                inner = member.operands[1:] if isinstance(member, Blend) else ()
                found.update({o: self.graph.by_id[o] for o in (*inner, name)})
        return list(found.values())

    def _levels(self, heads: tuple[Op, ...]) -> list[_Level]:
        levels = [self._joined(heads, "dwconv_fan", heads[0].operands[0])]
        while (following := self._following(levels[-1].lanes)) is not None:
            levels.append(self._joined(following, _LANES[following[0].op], levels[-1].joined.id))
        return levels

    def _following(self, lanes: Sequence[Op]) -> tuple[Op, ...] | None:
        """The one reader of every lane, if they are alike."""
        found = []
        for lane in lanes:
            readers = self.graph.readers[lane.id]
            reader = self.graph.by_id[readers[0]] if len(readers) == 1 else None
            if not isinstance(reader, Op) or reader.op not in _LANES or reader.id in self.inside:
                return None
            if reader.id == self.graph.result or lane.id == self.graph.result:
                return None
            found.append(reader)
        alike = {(n.op, n.values, n.type, *(self._form(o) for o in n.operands[1:])) for n in found}
        return tuple(found) if len(alike) == 1 else None

    def _joined(self, lanes: tuple[Op, ...], op: str, source: str) -> _Level:
        first, count = lanes[0], len(lanes)
        name = f"{first.id}.fan"
        stacks, operands = [], [source]
        for position in range(1, len(first.operands)):
            members = [self.graph.by_id[n.operands[position]] for n in lanes]
            kind = members[0].type
            if not isinstance(kind, WeightType):
                raise TypeError(f"%{members[0].id} is no weight")
            whole = attrs.evolve(kind, shape=(kind.shape[0] * Dim.of(count), *kind.shape[1:]))
            stack = Stack(
                id=f"{name}.{position}", operands=tuple(m.id for m in members), type=whole, label=first.label
            )
            stacks.append(stack)
            operands.append(stack.id)
        if not isinstance(first.type, TensorType):
            raise TypeError(f"%{first.id} is no activation")
        kind_of = attrs.evolve(first.type, dims=(first.type.channels * Dim.of(count), *first.type.dims[1:]))
        joined = Op(
            id=name,
            operands=tuple(operands),
            type=kind_of,
            op=op,
            values=_values(first, op, count),
            label=self._label(lanes),
            loc=first.loc,
        )
        return _Level(lanes, joined, tuple(stacks))

    def _label(self, lanes: Sequence[Op]) -> str:
        """What the lanes have in common: `a.sep_conv_3x3` for `n[1].a.sep_conv_3x3`, `n[2].a.sep_conv_3x3`."""
        parts = [lane.label.split(".") for lane in lanes]
        common = 0
        while all(len(p) > common and p[-1 - common] == parts[0][-1 - common] for p in parts):
            common += 1
        return ".".join(parts[0][len(parts[0]) - common :]) or lanes[0].label

    def _emit(self, fan: Sequence[_Level]) -> list[AnyNode]:
        """The weights, the joined operations, and a part for what was the last of each lane."""
        nodes: list[AnyNode] = []
        for level in fan:
            nodes.extend(self._weights(level))
            nodes.extend(level.stacks)
            nodes.append(level.joined)
        last = fan[-1]
        for index, lane in enumerate(last.lanes):
            values: tuple[tuple[str, Value], ...] = (("count", len(last.lanes)), ("index", index))
            nodes.append(attrs.evolve(lane, operands=(last.joined.id,), op="part", values=values))
        return nodes


def _values(first: Op, op: str, count: int) -> tuple[tuple[str, Value], ...]:
    values = dict(first.values)
    if op == "pointwise_norm":
        out = values["out"]
        values["groups"] = count
        values["out"] = (out if isinstance(out, Dim) else Dim.of(int(out))) * Dim.of(count)
    else:
        values["copies"] = count
    return tuple(sorted(values.items()))
