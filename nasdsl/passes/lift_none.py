"""`none` among the options of an edge becomes a choice of inputs.

Takes a space whose nodes sum all their inputs over options that hold `none`
(NAS-Bench-201), returns one whose nodes sum any non-empty subset of inputs over
options without `none`. Invariant: every architecture of the result is one of the
original, by `Lifted.restore`; those that use no input of some node are lost
(NAS-Bench-201: 11,904 of 15,625 encodings stay reachable). A reconstruction: see
`papers/nasbench201` in the documentation of `toponas`.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Gather, Merge, Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.types import TensorType


@attrs.frozen
class Lifted:
    """One lifted choice, in paths local to its graph.

    `edges` are (source, decision of the edge's operation, name of its `none`).
    """

    decision: str
    edges: tuple[tuple[str, str, str], ...]


@attrs.frozen
class LiftNone:
    """See the module."""

    name: ClassVar[str] = "lift_none"
    summary: ClassVar[str] = "turns `none` among the options of every edge of a node into a choice of inputs"
    source: ClassVar[Stage] = Stage.SPACE
    target: ClassVar[Stage] = Stage.SPACE
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    def __call__(self, module: Module) -> Module:
        return module.map(_lift)


def lifted(graph: Graph) -> tuple[Lifted, ...]:
    """What the pass would lift in a graph."""
    found = []
    for node in graph.nodes:
        edges = _edges(graph, node)
        if edges:
            found.append(Lifted(_path(node), edges))
    return tuple(found)


def _path(node: AnyNode) -> str:
    return f"{node.label}.inputs"


def _edges(graph: Graph, node: AnyNode) -> tuple[tuple[str, str, str], ...]:
    if not (isinstance(node, Merge) and node.merge == "sum" and node.names and node.decision is None):
        return ()
    edges = []
    for source, operand in zip(node.names, node.operands, strict=True):
        chosen = graph.by_id[operand]
        if not isinstance(chosen, Select) or len(graph.readers[operand]) != 1:
            return ()
        zeros = [n for n, o in zip(chosen.options, chosen.operands, strict=True) if _zero(graph, o)]
        if len(zeros) != 1 or len(chosen.options) < 2:
            return ()
        edges.append((source, chosen.decision, zeros[0]))
    return tuple(edges)


def _zero(graph: Graph, name: str) -> bool:
    node = graph.by_id[name]
    return isinstance(node, Op) and PRIMITIVES[node.op].zero


def _lift(graph: Graph) -> Graph:
    without: dict[str, str] = {}
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        without.update({decision: none for _, decision, none in _edges(graph, node)})
    for node in graph.nodes:
        edges = _edges(graph, node)
        if edges and isinstance(node.type, TensorType):
            nodes.append(
                Gather(
                    id=node.id,
                    operands=node.operands,
                    type=node.type,
                    label=node.label,
                    loc=node.loc,
                    merge="sum",
                    decision=_path(node),
                    names=tuple(source for source, _, _ in edges),
                    low=1,
                    high=len(edges),
                )
            )
        elif isinstance(node, Select) and node.decision in without:
            kept = [
                (n, o)
                for n, o in zip(node.options, node.operands, strict=True)
                if n != without[node.decision]
            ]
            nodes.append(
                attrs.evolve(node, options=tuple(n for n, _ in kept), operands=tuple(o for _, o in kept))
            )
        else:
            nodes.append(node)
    decisions = [n.id for n in nodes if isinstance(n, (Select, Gather))]
    return prune(graph.with_nodes(nodes), decisions)
