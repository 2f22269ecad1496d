"""When a node is in the network as it is written.

Takes a graph at stage SPACE, the owner of its decisions and the table of decisions, returns
tables over decisions. Invariant: they agree with `Specialise(choices, dead=True)`, operations
kept that nothing reads.
"""

from __future__ import annotations

from nasdsl.cases import Value, decided, lift
from nasdsl.ir.graph import Graph
from nasdsl.ir.homes import around, homes
from nasdsl.ir.nodes import Branch, Gather, Merge, Mix, Select
from nasdsl.space.decisions import DecisionTable


class NotAdditiveError(ArithmeticError):
    """The cost has no structure that this can use; the message says why."""


def presence(graph: Graph, owner: str, table: DecisionTable) -> dict[str, Value]:
    """For every node of a graph, when the network as it is written holds it."""
    if any(isinstance(n, Gather) and n.widths for n in graph.nodes):
        raise NotAdditiveError("widths are shared among the members that are chosen")
    kept = (Select, Branch, Gather, Mix, Merge)
    found: dict[str, Value] = {}
    built: dict[str, Value] = {}
    owners = homes(graph)
    for node in reversed(graph.nodes):
        held: Value = node.id == graph.result
        there: Value = held
        for reader in dict.fromkeys(graph.readers[node.id]):
            chosen = taken(graph, owner, table, reader, node.id)
            held = either(held, both(found[reader], chosen))
            # An input that a choice leaves out is built all the same; the edge to it is not.
            fixed = isinstance(graph.by_id[reader], (Select, Branch))
            there = either(there, both(built[reader], chosen if fixed else True))
        built[node.id] = there
        if isinstance(node, kept):
            for choice, operand in around(owners, node.id):
                if isinstance(graph.by_id[choice], Gather):
                    there = both(there, taken(graph, owner, table, choice, operand))
            held = either(held, there)
        found[node.id] = held
    return found


def taken(graph: Graph, owner: str, table: DecisionTable, reader: str, operand: str) -> Value:
    """When a node reads an operand."""
    node = graph.by_id[reader]
    if isinstance(node, Branch):
        yes, _ = node.operands
        return node.condition if operand == yes else lift(lambda c: not c, node.condition)
    if not isinstance(node, (Select, Gather)):
        return True
    path = node.decision[1:] if node.decision.startswith("/") else f"{owner}.{node.decision}".lstrip(".")
    axis = table.by_path[path].axis
    names = node.options if isinstance(node, Select) else node.names
    mine = {n for n, o in zip(names, node.operands, strict=True) if o == operand}
    return decided(
        axis, tuple((v in mine) if isinstance(v, str) else not mine.isdisjoint(v) for v in axis.values)
    )


def both(left: Value, right: Value) -> Value:
    """Where both hold."""
    if left is True or right is False:
        return right
    return left if right is True else lift(lambda a, b: bool(a and b), left, right)


def either(left: Value, right: Value) -> Value:
    """Where one holds."""
    if left is False or right is True:
        return right
    return left if right is False else lift(lambda a, b: bool(a or b), left, right)
