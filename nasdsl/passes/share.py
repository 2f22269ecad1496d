"""What is computed twice is computed once.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. Two operations without
weights that read the same value with the same parameters are one; so are two batch norms
without scale and shift, whose statistics are then the same numbers under two names. In
DARTS every edge that leaves a node applies the same ReLU and the same two poolings to it.

Weights are never shared here: that changes what is learned (see `simplify`).

Of candidates that may not run only what is next to nothing is shared, such as a ReLU: anything else
would be computed for all that read it although none runs, and the statistics of a batch norm
would be of passes that its candidate took no part in.
"""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph
from nasdsl.ir.homes import may_idle
from nasdsl.ir.nodes import AnyNode, Mix, Op, State
from nasdsl.ops import PRIMITIVES
from nasdsl.passes.base import GraphRewrite, Rename
from nasdsl.passes.log import Log


@attrs.frozen
class Share(GraphRewrite):
    """See the module."""

    name: ClassVar[str] = "share"
    summary: ClassVar[str] = (
        "common sub-expressions: one ReLU, one pooling and its norm for all edges of a source"
    )
    exact: ClassVar[bool] = True

    def graph(self, graph: Graph, log: Log) -> Graph:
        """See the module."""
        return _share(graph, log)


def _share(graph: Graph, log: Log) -> Graph:
    rename = Rename()
    apart = _apart(graph)
    known: dict[object, Op] = {}
    made: dict[str, AnyNode] = {}
    again: dict[str, tuple[Op, list[Op]]] = {}
    for node in graph.nodes:
        moved = rename.node(node)
        made[node.id] = moved
        if not isinstance(moved, Op) or not shareable(graph, moved) or node.id == graph.auxiliary:
            continue
        if node.id in apart:
            continue
        key = (moved.op, moved.values, moved.operands[0], str(moved.type), len(moved.operands))
        first = known.setdefault(key, moved)
        if first is moved:
            continue
        del made[node.id]
        rename.set(node.id, first.id)
        again.setdefault(first.id, (first, []))[1].append(moved)
        for mine, other in zip(first.operands[1:], moved.operands[1:], strict=True):
            kept, gone = made[mine], made[other]
            if isinstance(kept, State) and isinstance(gone, State):
                made[mine] = attrs.evolve(kept, aliases=(*kept.aliases, gone.name, *gone.aliases))
    for one, others in again.values():
        left, *more = ((op.id, *op.operands[1:]) for op in (one, *others))
        log.add(f"one `{one.op}` for all that read it", graph.name, (*left, *chain(*more)), left)
    return prune(graph.with_nodes(_told_apart(made, graph), rename(graph.result)))


def shareable(graph: Graph, node: Op) -> bool:
    """Whether an operation is the same function wherever it stands: no weights, nothing random."""
    weights = [graph.by_id[o] for o in node.operands[1:]]
    plain = all(isinstance(w, State) for w in weights)
    return plain and not PRIMITIVES[node.op].opaque and node.op not in ("drop_path", "zeros")


def _apart(graph: Graph) -> set[str]:
    """The operations, by id, that stay where they are because their candidate may not run."""
    terms = {o for n in graph.nodes if isinstance(n, Mix) for o in graph.activations(n)}
    idle = (graph.by_id[name] for name in may_idle(graph))
    return {n.id for n in idle if isinstance(n, Op) and (n.id in terms or PRIMITIVES[n.op].function is None)}


def _told_apart(made: dict[str, AnyNode], graph: Graph) -> list[AnyNode]:
    """The nodes, one that several places read now named by what it reads and not by one of them."""
    readers: dict[str, set[str]] = {}
    for node in made.values():
        for operand in node.operands:
            readers.setdefault(operand, set()).add(node.label)
    found: list[AnyNode] = []
    labels: dict[str, str] = {}
    for node in made.values():
        several = len(readers.get(node.id, ())) > 1
        if (
            isinstance(node, Op)
            and several
            and len(readers[node.id] - {node.label}) > 0
            and node.label.count(".")
        ):
            base = labels.get(node.operands[0], node.label)
            node = attrs.evolve(node, label=f"{base}.{node.op}")
        labels[node.id] = node.label or node.id
        found.append(node)
    return found
