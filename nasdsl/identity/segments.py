"""The network as a chain of segments, each with decisions of its own.

Takes a space, returns its segments. Invariant: the network is the composition of its
segments; every decision of the space that a segment's part of the network depends on
is among the segment's.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import attrs

from nasdsl.cases import Cases, Choice, assignments
from nasdsl.identity.canonical import Expander, Form, live
from nasdsl.identity.letters import ZERO, Word, word
from nasdsl.ir.graph import Graph, Module, call_owner
from nasdsl.ir.nodes import AnyNode, Branch, Call, Gather, Input, Merge, Op, Select
from nasdsl.space.decisions import DecisionTable
from nasdsl.types import Dim, TensorType

MAX_WORDS = 5_000
MAX_JOINED = 5_000


@attrs.frozen
class Segment:
    """A part of the network between two values that everything behind reads.

    Attributes:
        first, last: ids of the value that it starts from and of the one that it gives.
        nodes: what lies between them, `last` included.
        decisions: full paths of the decisions that it depends on.
        call: the node, when the segment is one use of a cell and nothing else.
    """

    first: str
    last: str
    nodes: tuple[AnyNode, ...]
    decisions: frozenset[str]
    call: Call | None

    def word(self, module: Module, choices: Mapping[str, Choice]) -> Word:
        """What the segment computes under an architecture, as letters."""
        form = Form()
        entry = form.add(("in",))
        expander = Expander(module, choices, form)
        form.result = expander.value(module.network, "", self.last, {self.first: entry}, {})
        return word(live(form))


def segments(module: Module, table: DecisionTable) -> tuple[Segment, ...]:
    """The segments of the root graph, in order."""
    graph = module.network
    chain = [n for n in graph.nodes if isinstance(n.type, TensorType)]
    position = {n.id: i for i, n in enumerate(chain)}
    reach = 0  # the furthest reader of anything before the present node
    found: list[Segment] = []
    start = 0
    waits = _waits(table)
    for index, node in enumerate(chain):
        readers = [position[r] for r in graph.readers[node.id] if r in position]
        if index >= reach and (index > start or index == 0):
            if index > 0:
                found.append(_segment(module, graph, chain[start : index + 1], waits))
            start = index
        reach = max([reach, *readers])
        if node.id == graph.result:
            break
    if chain[start].id != graph.result:
        found.append(_segment(module, graph, chain[start : position[graph.result] + 1], waits))
    return tuple(found)


def _segment(
    module: Module, graph: Graph, nodes: list[AnyNode], waits: Mapping[str, frozenset[str]]
) -> Segment:
    inside = nodes[1:]
    decisions: set[str] = set()
    for node in inside:
        decisions |= decisions_of(module, graph, node, "")
    for path in tuple(decisions):
        decisions |= waits[path]
    first = nodes[0].id
    single = inside[0] if len(inside) == 1 and isinstance(inside[0], Call) else None
    return Segment(first, nodes[-1].id, tuple(inside), frozenset(decisions), single)


def _waits(table: DecisionTable) -> dict[str, frozenset[str]]:
    """For every decision, those that settle whether it is made."""
    found: dict[str, frozenset[str]] = {}
    for decision in table.decisions:
        direct = {e.decision for guard in decision.when or () for e in guard}
        found[decision.path] = frozenset(direct).union(*(found[d] for d in direct))
    return found


def decisions_of(module: Module, graph: Graph, node: AnyNode, owner: str) -> set[str]:
    """Full paths of the decisions that a node depends on, those inside a called graph included.

    Sizes of images do not count: the same operations are the same at every resolution.
    """
    found: set[str] = set()
    if isinstance(node, (Select, Gather)):
        local = node.decision
        found.add(local[1:] if local.startswith("/") else f"{owner}.{local}" if owner else local)
    if isinstance(node, Branch):
        found.update(node.condition.decisions)
    if isinstance(node, (Op, Merge, Gather)) and isinstance(node.type, TensorType):
        found |= _in(node.type.channels)
    if isinstance(node, Op):
        for _, value in node.values:
            if isinstance(value, Dim):
                found |= _in(value)
    if isinstance(node, Call):
        target = module.by_name[node.graph]
        inner = call_owner(owner, node)
        used = {n for n, _ in node.sizes}
        for name, dim in node.sizes:
            if name in used and not name.startswith(("h_", "w_", "l_")):
                found |= _in(dim)
        for each in target.nodes:
            found |= decisions_of(module, target, each, inner)
    return found


def _in(dim: Dim) -> set[str]:
    return {d for cases in dim.cases for d in cases.decisions}


def revealed(
    module: Module, parts: tuple[Segment, ...], table: DecisionTable
) -> dict[str, tuple[Choice, ...]]:
    """Decisions that show in the network whatever else is chosen, with their values.

    What is in the type of the input shows. Beyond that the word of the network is read from the
    front: a part that depends on one decision not yet known, and gives a word for each of its values
    of which none begins another, tells which value it is.
    """
    known: dict[str, tuple[Choice, ...]] = {}
    for node in module.network.nodes:
        if isinstance(node, Input) and isinstance(node.type, TensorType):
            for dim in node.type.dims:
                size = dim.fixed
                if (
                    isinstance(size, Cases)
                    and len(size.axes) == 1
                    and len(set(size.table)) == len(size.table)
                ):
                    known[size.axes[0].decision] = size.axes[0].values
    for part in parts:
        new = part.decisions - set(known)
        if not new:
            continue
        path = next(iter(new))
        decision = table.by_path[path]
        context = [table.by_path[d].axis for d in sorted(part.decisions & set(known))]
        many = len(decision.values) * prod(len(a.values) for a in context)
        if len(new) > 1 or decision.when is not None or many > MAX_WORDS:
            break
        if not all(
            _tells(module, part, path, decision.values, given) for given in assignments(tuple(context))
        ):
            break
        known[path] = decision.values
    return known


def _tells(
    module: Module, part: Segment, path: str, values: tuple[Choice, ...], given: Mapping[str, Choice]
) -> bool:
    words = sorted((part.word(module, {**given, path: v}) for v in values), key=repr)
    return ZERO not in words and not any(
        a == b[: len(a)] for i, a in enumerate(words) for j, b in enumerate(words) if i != j
    )


def coalesced(
    parts: tuple[Segment, ...], table: DecisionTable, apart: frozenset[str]
) -> tuple[tuple[Segment, ...], frozenset[str]]:
    """Parts joined until each decision lies in one, and the decisions that reach too far for that.

    Args:
        apart: decisions that are left alone.
    """
    spans: dict[str, tuple[int, int]] = {}
    for index, part in enumerate(parts):
        for path in part.decisions - apart:
            first, _ = spans.get(path, (index, index))
            spans[path] = (first, index)
    far: set[str] = set()
    joined = [(i, i) for i in range(len(parts))]
    for path, (first, last) in sorted(spans.items(), key=lambda s: (s[1][1] - s[1][0], s[0])):
        inside = [r for r in joined if r[1] >= first and r[0] <= last]
        span = (min(r[0] for r in inside), max(r[1] for r in inside))
        mine = frozenset().union(*(p.decisions for p in parts[span[0] : span[1] + 1])) - apart - far
        reach = [d for d in mine if spans[d][0] >= span[0] and spans[d][1] <= span[1]]
        if len(inside) > 1 and _encodings(table, reach) > MAX_JOINED:
            far.add(path)
        elif len(inside) > 1:
            joined = [r for r in joined if r not in inside] + [span]
    return tuple(_joined(parts[a : b + 1]) for a, b in sorted(joined)), frozenset(far)


def _encodings(table: DecisionTable, paths: list[str]) -> int:
    return prod(len(table.by_path[p].values) for p in paths)


def _joined(parts: tuple[Segment, ...]) -> Segment:
    if len(parts) == 1:
        return parts[0]
    nodes = tuple(n for p in parts for n in p.nodes)
    return Segment(
        parts[0].first, parts[-1].last, nodes, frozenset().union(*(p.decisions for p in parts)), None
    )


__all__ = ["Segment", "coalesced", "decisions_of", "revealed", "segments"]
