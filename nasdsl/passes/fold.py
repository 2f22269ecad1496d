"""A sum of weighted sums becomes one weighted sum.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. A node that is
`sum_i m_i (sum_o p_io o(x_i))` becomes `sum_io (m_i p_io) o(x_i)`: the products are
of a few scalars, once a step, instead of a pass over each edge's tensor; so
explicit topology costs what DARTS costs. A plain sum of weighted sums is one as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import AnyNode, Arith, Merge, Mix, MixTerm
from nasdsl.passes.base import GraphRewrite
from nasdsl.passes.log import Log


@attrs.frozen
class Fold(GraphRewrite):
    """See the module."""

    name: ClassVar[str] = "fold"
    summary: ClassVar[str] = "multiplies edge weights into operation weights, so no edge is formed by itself"
    exact: ClassVar[bool] = True

    def graph(self, graph: Graph, log: Log) -> Graph:
        """See the module."""
        return _fold(graph, log)


def _fold(graph: Graph, log: Log) -> Graph:
    known = dict(graph.by_id)  # what stands under each name by now
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        made: list[AnyNode] = [node]
        if isinstance(node, (Mix, Merge)):
            inner = _inner(graph, known, node)
            if isinstance(node, Mix) and inner and node.vectors == 1:
                made = _flatten(known, node, inner)
                _note(log, "edge weights multiplied into operation weights", graph, node, inner, made)
            elif isinstance(node, Merge) and node.merge == "sum" and len(inner) == len(node.operands):
                made = [_joined(node, inner)]
                _note(log, "a sum of weighted sums made one weighted sum", graph, node, inner, made)
        known.update({n.id: n for n in made})
        nodes.extend(made)
    return prune(graph.with_nodes(nodes))


def _note(
    log: Log, rule: str, graph: Graph, outer: Mix | Merge, inner: Mapping[str, Mix], made: list[AnyNode]
) -> None:
    log.add(rule, graph.name, (outer.id, *inner), (n.id for n in made))


def _inner(graph: Graph, known: Mapping[str, AnyNode], outer: Mix | Merge) -> dict[str, Mix]:
    """The weighted sums behind a sum that nothing else reads, by operand."""
    found: dict[str, Mix] = {}
    for operand in graph.activations(outer):
        node = known[operand]
        if isinstance(node, Mix) and len(graph.readers[operand]) == 1 and operand != graph.result:
            found[operand] = node
    return found


def _joined(outer: Merge, sums: Mapping[str, Mix]) -> Mix:
    """A sum of weighted sums as one, the vectors side by side."""
    inner = [sums[o] for o in outer.operands]
    vectors: list[str] = []
    terms: list[MixTerm] = []
    for mix in inner:
        terms += [attrs.evolve(t, vector=len(vectors) + t.vector) for t in mix.terms]
        vectors += mix.operands[: mix.vectors]
    return Mix(
        id=outer.id,
        operands=(*vectors, *(o for m in inner for o in m.operands[m.vectors :])),
        type=outer.type,
        vectors=len(vectors),
        terms=tuple(terms),
        sparse=any(m.sparse for m in inner),
        label=outer.label,
        loc=outer.loc,
    )


def _flatten(known: Mapping[str, AnyNode], outer: Mix, sums: Mapping[str, Mix]) -> list[AnyNode]:
    """The outer sum over the terms of the inner ones, after the products of their weights."""
    weight = outer.operands[0]
    scaled: list[AnyNode] = []
    vectors = [weight]
    operands: list[str] = []
    terms: list[MixTerm] = []
    for term, operand in zip(outer.terms, outer.operands[1:], strict=True):
        inner = sums.get(operand)
        if inner is None:
            operands.append(operand)
            terms.append(term)
            continue
        first = len(vectors)
        for number, vector in enumerate(inner.operands[: inner.vectors]):
            product = Arith(
                id=f"{inner.id}.scaled{number or ''}",
                operands=(vector, weight),
                type=known[vector].type,
                form="scale",
                index=term.entry,
                label=inner.label,
                loc=inner.loc,
            )
            scaled.append(product)
            vectors.append(product.id)
        for nested, activation in zip(inner.terms, inner.operands[inner.vectors :], strict=True):
            operands.append(activation)
            terms.append(MixTerm(first + nested.vector, nested.entry, (*term.choices, *nested.choices)))
    # When every edge was folded nothing reads the edge weights by themselves any more.
    used = sorted({t.vector for t in terms})
    vectors = [vectors[i] for i in used]
    terms = [attrs.evolve(t, vector=used.index(t.vector)) for t in terms]
    flat = attrs.evolve(
        outer,
        operands=(*vectors, *operands),
        vectors=len(vectors),
        terms=tuple(terms),
        sparse=outer.sparse or any(m.sparse for m in sums.values()),
    )
    return [*scaled, flat]
