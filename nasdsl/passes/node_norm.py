"""A batch norm behind every node whose inputs are weighed.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: what reads a weighted sum of candidates
that is part of no further sum reads it normalised, without scale and shift; nothing else changes.

It comes before channels are divided, so that a node is what it sums and not a part of it.

Weights of the clipped activation do not add up to one, so the size of a node's sum says nothing
(Maile et al., 2021, and its code: one batch norm for each node). The retrained network has none.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nasdsl.errors import UserError
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Merge, Mix
from nasdsl.passes.base import Rename
from nasdsl.passes.search_form import batch_norm
from nasdsl.types import TensorType


@attrs.frozen
class NodeNorm:
    """See the module."""

    name: ClassVar[str] = "node_norm"
    summary: ClassVar[str] = "batch norm without scale and shift behind every node of a cell (CBO)"
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    def __call__(self, module: Module) -> Module:
        return module.map(_normalised)


def _normalised(graph: Graph) -> Graph:
    sums = weighed(graph)
    rename = Rename()
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        nodes.append(rename.node(node))
        if node.id in sums:
            if isinstance(node.type, TensorType) and node.type.layout not in ("image", "vector"):
                place = f" ({node.loc.file}:{node.loc.line})" if node.loc is not None else ""
                raise UserError.plain(
                    "NAS504",
                    f"a batch norm behind {node.label or node.id}{place} does not fit {node.type.layout}",
                    help="node_norm=false leaves it out",
                )
            state, norm = batch_norm(nodes[-1])
            nodes += [state, norm]
            rename.set(node.id, norm.id)
    return graph.with_nodes(nodes, rename(graph.result))


def weighed(graph: Graph) -> frozenset[str]:
    """The sums, by id, whose terms are weighed candidates and that are no terms themselves."""
    found: set[str] = set()
    for node in graph.nodes:
        terms = [graph.by_id[o] for o in graph.activations(node)]
        inner = {t.id for t in terms} & found
        if isinstance(node, Mix) or (isinstance(node, Merge) and node.merge == "sum" and inner):
            found.add(node.id)
            found -= {i for i in inner if graph.readers[i] == (node.id,)}
    return frozenset(found)
