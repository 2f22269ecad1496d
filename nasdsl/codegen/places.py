"""Where nodes come from: lines of the file, decisions and options.

Takes nodes of a graph, returns a place. Invariant: every line is one that a node was written in;
decisions and options are those whose candidates the nodes are, or those of the weighted sums among
them where no node is a candidate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from nasdsl.ir.graph import Graph, Use
from nasdsl.ir.homes import Home, around
from nasdsl.ir.nodes import AnyNode, Arith, Dist, Mix, MixTerm, Var

Lines = tuple[tuple[str, tuple[int, ...]], ...]
Chosen = tuple[str, str]
"""A decision and one of its options."""


@attrs.frozen
class Place:
    """Lines by file, full paths of decisions, and options; each in order, once."""

    lines: Lines = ()
    decisions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def joined(self, other: Place) -> Place:
        """Both, at the same lines."""
        return Place(
            self.lines,
            tuple(dict.fromkeys((*self.decisions, *other.decisions))),
            tuple(dict.fromkeys((*self.options, *other.options))),
        )

    @property
    def lines_text(self) -> str:
        """`darts.nas:20, 22`."""
        return "; ".join(f"{file}:{', '.join(map(str, lines))}" for file, lines in self.lines)

    @property
    def decisions_text(self) -> str:
        """Decisions that differ in what stands in brackets as one, with their number."""
        groups: dict[str, list[str]] = {}
        for path in self.decisions:
            groups.setdefault(_form(path), []).append(path)
        alone = (paths[0] if len(paths) == 1 else f"{form} ({len(paths)})" for form, paths in groups.items())
        return ", ".join(alone)


def place_of(graph: Graph, nodes: Sequence[AnyNode], found: Mapping[str, Home], uses: Sequence[Use]) -> Place:
    """The place of nodes; `found` are the homes of the graph (`nasdsl.ir.homes`)."""
    sums = [n for n in nodes if isinstance(n, Mix)]
    pairs = _candidates(graph, [n for n in nodes if not isinstance(n, Mix)], found)
    pairs = pairs or _candidates(graph, sums, found)
    local = dict.fromkeys(d for d, _ in pairs)
    if not pairs:
        local = dict.fromkeys(t.choices[-1][0] for m in sums for t in m.terms if t.choices)
    owners = {use.owner: use for use in uses}
    return Place(
        _lines(nodes),
        tuple(dict.fromkeys(use.decision(d) for use in owners.values() for d in local)),
        tuple(dict.fromkeys(option.removeprefix("%") for _, option in pairs)),
    )


def _form(path: str) -> str:
    """A path with all that stands in brackets as `*`; brackets may hold brackets."""
    before = ""
    while path != before:
        before, path = path, re.sub(r"\[[^\[\]]*\]", "\0", path)
    return path.replace("\0", "[*]")


def _lines(nodes: Sequence[AnyNode]) -> Lines:
    lines: dict[str, set[int]] = {}
    for node in nodes:
        if node.loc is not None:
            lines.setdefault(node.loc.file.replace("\\", "/").rpartition("/")[2], set()).add(node.loc.line)
    return tuple((file, tuple(sorted(found))) for file, found in sorted(lines.items()))


def _candidates(graph: Graph, nodes: Sequence[AnyNode], found: Mapping[str, Home]) -> list[Chosen]:
    return list(dict.fromkeys(pair for n in nodes for pair in _candidate(graph, n, found)))


def _candidate(graph: Graph, node: AnyNode, found: Mapping[str, Home]) -> tuple[Chosen, ...]:
    """The innermost choice that a node is a candidate of, and the options that it stands for."""
    for mix, operand in around(found, node.id):
        outer = graph.by_id[mix]
        if isinstance(outer, Mix):
            terms = zip(outer.operands[outer.vectors :], outer.terms, strict=True)
            mine = (t for name, t in terms if name == operand and t.choices)
            return tuple(pair for t in mine for pair in _options(graph, outer, t))
    return ()


def _options(graph: Graph, mix: Mix, term: MixTerm) -> tuple[Chosen, ...]:
    """The options of a term: of candidates that were joined all, where the term itself names the first."""
    decision, _ = term.choices[-1]
    node: AnyNode = graph.by_id[mix.operands[term.vector]]
    entries: tuple[int, ...] = (term.entry,)
    while isinstance(node, (Arith, Dist)):
        if isinstance(node, Arith) and node.groups:
            entries = tuple(e for i in entries for e in node.groups[i])
        node = graph.by_id[node.operands[0]]
    if isinstance(node, Var) and node.decision == decision:
        return tuple((decision, node.entries[e]) for e in entries)
    return (term.choices[-1],)
