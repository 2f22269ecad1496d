"""A pointwise convolution and the batch norm behind it become one operation.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. The statistics of a linear
map's output follow from the mean and the covariance of its input, so the convolution's
output need not exist (`nasdsl.runtime.operators.normalised` has the algebra). A ReLU behind it
becomes part of it.

It applies to batch norm without scale and shift behind a pointwise convolution at stride 1
that has no more inputs than outputs: the covariance costs inputs^2 a pixel, the convolution
inputs * outputs.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import AnyNode, Op
from nasdsl.passes.base import GraphRewrite
from nasdsl.passes.log import Log
from nasdsl.types import TensorType


@attrs.frozen
class Normalise(GraphRewrite):
    """See the module."""

    name: ClassVar[str] = "normalise"
    summary: ClassVar[str] = (
        "pointwise convolution, batch norm and ReLU in one, the convolution's output never stored"
    )
    exact: ClassVar[bool] = True

    def graph(self, graph: Graph, log: Log) -> Graph:
        """See the module."""
        return _normalise(graph, log)


def _normalise(graph: Graph, log: Log) -> Graph:
    made: dict[str, AnyNode] = {}
    taken: dict[str, str] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        if isinstance(node, Op) and node.op == "bn":
            conv = _pointwise(graph, node)
            if conv is not None:
                made[node.id] = _joined(conv, node)
                parts[node.id] = (conv.id, node.id)
                continue
        if isinstance(node, Op) and node.op == "relu":
            norm = made.get(node.operands[0])
            if isinstance(norm, Op) and norm.op == "pointwise_norm" and _only(graph, norm.id, node.id):
                values = tuple((n, True if n == "relu" else v) for n, v in norm.values)
                made[node.id] = attrs.evolve(norm, id=node.id, values=values)
                taken[norm.id] = node.id
                parts[node.id] = (*parts.pop(norm.id), node.id)
                continue
        made[node.id] = node
    for name, joined in parts.items():
        kinds = "convolution, batch norm and ReLU" if len(joined) > 2 else "convolution and batch norm"
        log.add(f"{kinds} in one", graph.name, joined, (name,))
    return prune(graph.with_nodes(n for name, n in made.items() if name not in taken))


def _only(graph: Graph, name: str, reader: str) -> bool:
    return graph.readers[name] == (reader,) and name != graph.result


def _pointwise(graph: Graph, norm: Op) -> Op | None:
    """The pointwise convolution in front of a batch norm, where they can be joined."""
    conv = graph.by_id[norm.operands[0]]
    if dict(norm.values)["affine"] or not isinstance(conv, Op) or conv.op != "conv":
        return None
    values, source = dict(conv.values), graph.by_id[conv.operands[0]].type
    if not isinstance(source, TensorType) or not isinstance(conv.type, TensorType):
        return None
    plain = (
        values["k"] == 1 and values["stride"] == 1 and values["groups"] == 1 and values["pad"] in ("same", 0)
    )
    square = source.channels == conv.type.channels
    return conv if plain and square and _only(graph, conv.id, norm.id) else None


def _joined(conv: Op, norm: Op) -> Op:
    values = dict(conv.values)
    chosen = {"out": values["out"], "groups": values["groups"], "bias": values["bias"], "relu": False}
    return attrs.evolve(
        norm,
        op="pointwise_norm",
        operands=(*conv.operands, norm.operands[-1]),
        values=tuple(sorted(chosen.items())),
        label=conv.label,
    )
