"""Which choice a node belongs to.

Takes a graph, returns for each node the choice that alone needs it. Invariant:
the innermost choice is named; a node that anything else needs belongs to none.
No `networkx` here: checking a file asks this question.
"""

from __future__ import annotations

from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import Branch, Gather, Mix, Select

Home = tuple[str, str]
"""A choice and the operand of it: ids of two nodes."""

ALWAYS: Home = ("", "")


def homes(graph: Graph) -> dict[str, Home]:
    """For every node the choice and the operand of it that alone needs the node, or `ALWAYS`."""
    found: dict[str, Home] = {}
    for node in reversed(graph.nodes):
        mine: set[Home] = set()
        for reader in graph.readers[node.id]:
            chosen = isinstance(graph.by_id[reader], (Select, Branch, Gather, Mix))
            mine.add((reader, node.id) if chosen else found.get(reader, ALWAYS))
        found[node.id] = mine.pop() if len(mine) == 1 and node.id != graph.result else ALWAYS
    return found


def searched(graph: Graph) -> set[str]:
    """The nodes that belong to an option of a choice."""
    return {name for name, home in homes(graph).items() if home != ALWAYS}
