"""Candidates of all edges that leave one value become one, computed once.

Takes Graph[RELAXED], returns Graph[RELAXED]. **Approximating**: the weights of an operation that
several edges offer on the same input are tied, so each edge has weights of its own for the sum and
none of its own for the operation. Never a variable changes. At a one-hot point the network is the
chosen one, its edges sharing what they read alike.

An extension of nasdsl to topological simplification, which shares on single edges; it is not in the
TopoNAS papers. Of the DARTS cells' 14 edges 5 sets of candidates are left, one a source.
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph
from nasdsl.ir.homes import homes
from nasdsl.ir.nodes import AnyNode, Mix, State, Weight
from nasdsl.passes.base import GraphRewrite, Rename
from nasdsl.passes.edges import Chain, Edge
from nasdsl.passes.log import Log


@attrs.frozen
class Tie(GraphRewrite):
    """See the module."""

    name: ClassVar[str] = "tie"
    summary: ClassVar[str] = "candidates of all edges that leave one node are tied and computed once (ours)"
    exact: ClassVar[bool] = False

    def graph(self, graph: Graph, log: Log) -> Graph:
        """See the module."""
        return _tie(graph, log)


def _tie(graph: Graph, log: Log) -> Graph:
    rename, aliases = Rename(), dict[str, list[str]]()
    for first, *others in _groups(graph):
        named = [_named(chain) for chain in (first, *others)]
        log.add(
            "R1 across the edges of one source", graph.name, [n for group in named for n in group], named[0]
        )
        for other in others:
            for kept, gone in zip(first.stones, other.stones, strict=True):
                rename.set(gone.op.id, kept.op.id)
                for mine, theirs in zip(kept.op.operands[1:], gone.op.operands[1:], strict=True):
                    node = graph.by_id[theirs]
                    if isinstance(node, (Weight, State)):
                        aliases.setdefault(mine, []).extend((node.name, *node.aliases))
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        if isinstance(node, (Weight, State)) and node.id in aliases:
            node = attrs.evolve(node, aliases=(*node.aliases, *aliases[node.id]))
        nodes.append(rename.node(node))
    return prune(graph.with_nodes(nodes)) if aliases else graph


def _named(chain: Chain) -> list[str]:
    """Ids of a chain's operations and of their weights."""
    return [n for s in chain.stones for n in (*s.op.operands[1:], s.op.id)]


def _groups(graph: Graph) -> list[list[Chain]]:
    """Chains of different sums that read one value and are alike; the first in the graph first."""
    found = homes(graph)
    groups: dict[object, dict[str, Chain]] = {}
    for node in graph.nodes:
        if isinstance(node, Mix) and node.vectors == 1:
            edge = Edge(graph, node, found)
            alike: Counter[object] = Counter()
            for chain in edge.chains():
                form = (chain.source, tuple(edge.exact(s) for s in chain.stones))
                # An edge that offers one candidate twice has two sets of weights, here as everywhere.
                groups.setdefault((form, alike[form]), {})[node.id] = chain
                alike[form] += 1
    several = [list(group.values()) for group in groups.values() if len(group) > 1]
    return [sorted(g, key=lambda c: graph.position[c.stones[-1].op.id]) for g in several]
