"""Which choice a node belongs to.

Takes a graph, returns for each node the choice that alone needs it. Invariant:
the innermost choice is named; a node that anything else needs belongs to none. A node
that belongs to none need not be there (two options may need it, and a third not):
`required` tells what always is.
No `networkx` here: checking a file asks this question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import Branch, Gather, Mix, Select

Home = tuple[str, str]
"""A choice and the operand of it: ids of two nodes."""

ALWAYS: Home = ("", "")


def homes(graph: Graph) -> dict[str, Home]:
    """For every node the innermost choice and the operand of it that alone need the node, or `ALWAYS`."""
    found: dict[str, Home] = {}
    for node in reversed(graph.nodes):
        home: Home | None = None if node.id != graph.result else ALWAYS
        for reader in graph.readers[node.id]:
            chosen = isinstance(graph.by_id[reader], (Select, Branch, Gather, Mix))
            mine = (reader, node.id) if chosen else found[reader]
            home = mine if home is None else _common(found, home, mine)
        found[node.id] = ALWAYS if home is None else home
    return found


def around(found: Mapping[str, Home], name: str) -> Iterator[Home]:
    """The homes that a node lies in, from the innermost outwards."""
    home = found[name]
    while home != ALWAYS:
        yield home
        home = found[home[0]]


def _common(found: dict[str, Home], left: Home, right: Home) -> Home:
    """The innermost home that holds both: an option of an outer choice holds the choices inside it."""
    around = {left}
    while left != ALWAYS:
        left = found[left[0]]
        around.add(left)
    while right not in around:
        right = found[right[0]]
    return right


def searched(graph: Graph) -> set[str]:
    """The nodes that belong to an option of a choice."""
    return {name for name, home in homes(graph).items() if home != ALWAYS}


def may_idle(graph: Graph) -> set[str]:
    """The nodes that belong to a term of a weighted sum which leaves terms out."""
    sparse = {n.id for n in graph.nodes if isinstance(n, Mix) and n.sparse}
    found = homes(graph) if sparse else {}
    return {name for name in found if any(home[0] in sparse for home in around(found, name))}


def required(graph: Graph) -> dict[str, int]:
    """For every node the nodes that it cannot do without, whatever is chosen: bit i is node i of the graph.

    A choice needs what all its operands need, anything else what any of them needs.
    """
    found: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        parts = [found[o] for o in node.operands]
        if isinstance(node, (Select, Branch, Gather)):
            none = isinstance(node, Gather) and node.low == 0
            joint = 0 if none or not parts else reduce(int.__and__, parts)
        else:
            joint = reduce(int.__or__, parts, 0)
        found[node.id] = joint | 1 << index
    return found
