"""What a node, a graph and a module cost, from the cost rules of the operations alone.

Takes graphs and concrete sizes, returns integers. Invariant: parameters and
multiply-accumulates equal those of the network that is executed.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import AnyNode, Op, Weight
from nasdsl.ops import PRIMITIVES
from nasdsl.types import Dim, TensorType


@attrs.frozen
class Count:
    """Concrete costs for one example: learnable numbers, multiply-accumulates, numbers written."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.params + other.params, self.macs + other.macs, self.activations + other.activations
        )


def product(dims: tuple[Dim, ...]) -> Dim:
    total = Dim.of(1)
    for dim in dims:
        total = total * dim
    return total


def node_count(graph: Graph, node: AnyNode, sizes: Mapping[str, int]) -> Count:
    """The cost of one node by itself; weights carry the parameters, operations the arithmetic."""
    if isinstance(node, Weight):
        return Count(params=product(node.type.shape).evaluate(sizes))  # type: ignore[union-attr]
    if not isinstance(node.type, TensorType):
        return Count()
    written = node.type.elements().evaluate(sizes)
    if not isinstance(node, Op):
        return Count(activations=written if node.kind in ("merge", "mix", "gather") else 0)
    source = graph.by_id[node.operands[0]].type
    if not isinstance(source, TensorType):
        return Count(activations=written)
    macs = PRIMITIVES[node.op].macs(source, node.type, dict(node.values)).evaluate(sizes)
    return Count(macs=macs, activations=written)
