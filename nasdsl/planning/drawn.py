"""The part of a supernet that one pass computes where one candidate an edge is drawn.

Takes Graph[RELAXED], returns the same with one candidate left of every draw. Invariant: it is the
candidate that keeps most, so what is predicted from it no draw exceeds; a supernet without draws
comes back as it is.
"""

from __future__ import annotations

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.homes import Home, around, homes
from nasdsl.ir.nodes import Dist, Mix
from nasdsl.types import TensorType


def drawn(module: Module) -> Module:
    """The module with the largest candidate of every drawn choice (GDAS)."""
    return module.map(_drawn)


def _drawn(graph: Graph) -> Graph:
    if not any(isinstance(n, Dist) and n.form == "gumbel" for n in graph.nodes):
        return graph
    inside: dict[Home, int] = {}
    found = homes(graph)
    for node in graph.nodes:
        if isinstance(node.type, TensorType):
            for home in around(found, node.id):
                inside[home] = inside.get(home, 0) + 1
    return prune(graph.with_nodes(_one(graph, n, inside) if isinstance(n, Mix) else n for n in graph.nodes))


def _one(graph: Graph, mix: Mix, inside: dict[Home, int]) -> Mix:
    """A sum with one term of every vector that is drawn: the one behind which most is computed."""
    acts = mix.operands[mix.vectors :]
    kept: dict[int, int] = {}
    several: list[int] = []
    for index, term in enumerate(mix.terms):
        if not _is_drawn(graph, mix.operands[term.vector]):
            several.append(index)
            continue
        best = kept.setdefault(term.vector, index)
        if inside.get((mix.id, acts[index]), 0) > inside.get((mix.id, acts[best]), 0):
            kept[term.vector] = index
    order = sorted((*kept.values(), *several))
    operands = (*mix.operands[: mix.vectors], *(acts[i] for i in order))
    return attrs.evolve(mix, operands=operands, terms=tuple(mix.terms[i] for i in order))


def _is_drawn(graph: Graph, vector: str) -> bool:
    node = graph.by_id[vector]
    while node.operands and not isinstance(node, Dist):
        node = graph.by_id[node.operands[0]]
    return isinstance(node, Dist) and node.form == "gumbel"
