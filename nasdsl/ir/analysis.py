"""Views of a graph for questions that graph theory answers.

Takes a graph, returns `networkx` views and sets of node ids. Invariant: nothing
here changes a graph.
"""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import Dist, Input, Marginal, Var


def digraph(graph: Graph) -> nx.DiGraph[str]:
    """The graph as a `networkx.DiGraph` from operands to readers."""
    view: nx.DiGraph[str] = nx.DiGraph()
    for node in graph.nodes:
        view.add_node(node.id, node=node)
        for operand in node.operands:
            view.add_edge(operand, node.id)
    return view


def live(graph: Graph, also: Iterable[str] = ()) -> frozenset[str]:
    """Ids of the nodes that the result and `also` depend on; inputs and variables always.

    Variables belong to the method, not to the graph: a decision that nothing reads keeps its own.
    """
    view = digraph(graph)
    kept = {n.id for n in graph.nodes if isinstance(n, (Input, Var, Dist, Marginal))}
    results = {graph.result, *filter(None, (graph.auxiliary,)), *also}
    return frozenset(set().union(*(nx.ancestors(view, r) for r in results)) | results | kept)


def prune(graph: Graph, also: Iterable[str] = ()) -> Graph:
    """The graph without what its result and `also` do not depend on."""
    kept = live(graph, also)
    return (
        graph if len(kept) == len(graph.nodes) else graph.with_nodes(n for n in graph.nodes if n.id in kept)
    )
