"""A node is accumulated without forming its candidates.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. A weighted sum's terms that
end in a pointwise convolution and its batch norm are summed by one matrix product, the
architecture weights folded into the rescaled filters: no candidate's output is formed or
kept for the backward pass (`nasdsl.runtime.operators.normalised` has the algebra).

Needs `normalise` before it. Terms of the most frequent shape are taken; others stay as they are.
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import attrs

from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import AnyNode, Mix, Op
from nasdsl.passes.base import GraphRewrite
from nasdsl.passes.log import Log


@attrs.frozen
class Accumulate(GraphRewrite):
    """See the module."""

    name: ClassVar[str] = "accumulate"
    summary: ClassVar[str] = "sums candidates in one matrix product, their outputs never formed"
    exact: ClassVar[bool] = True

    def graph(self, graph: Graph, log: Log) -> Graph:
        """See the module."""
        return _accumulate(graph, log)


def _accumulate(graph: Graph, log: Log) -> Graph:
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        if isinstance(node, Mix) and not node.sparse and (inside := _inside(graph, node)):
            node = attrs.evolve(node, inside=inside)
            named = (node.id, *(node.operands[node.vectors + i] for i in inside))
            log.add("candidates summed in one matrix product", graph.name, named, named)
        nodes.append(node)
    return graph.with_nodes(nodes)


def _inside(graph: Graph, mix: Mix) -> tuple[int, ...]:
    """The terms to accumulate, by number."""
    shapes: dict[int, object] = {}
    for index, operand in enumerate(mix.operands[mix.vectors :]):
        term = graph.by_id[operand]
        if not isinstance(term, Op) or term.op != "pointwise_norm" or operand == graph.result:
            continue
        values = dict(term.values)
        if graph.readers[operand] == (mix.id,) and values["groups"] == 1 and not values["relu"]:
            shapes[index] = (graph.by_id[term.operands[1]].type, values["bias"])
    if not shapes:
        return ()
    best, _ = Counter(shapes.values()).most_common(1)[0]
    return tuple(i for i, shape in shapes.items() if shape == best)
