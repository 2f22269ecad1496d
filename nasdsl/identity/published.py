"""Published notions of sameness: what `distinct by NAME` in a space refers to.

Takes a decision table, returns a `Tally` in a benchmark's own sense. Invariant: these
are the benchmarks' definitions, kept as they are; ours is `nasdsl.identity.distinct`.

- `nasbench201` (Dong and Yang, ICLR 2020, and `CellStructure.to_unique_str` of its code):
  a cell is the string of its last node; `skip_connect` is its input, `none` and what
  reads only zeros are `#`, which stays in sums; sums are sorted, not flattened; an
  operation that is read twice is written twice. 6,466 of 15,625.
- `nasbench101` (Ying et al., ICML 2019, section 2 and appendix S.1): a labelled directed
  acyclic graph of live vertices, up to isomorphism; vertices that do not lie between input
  and output are pruned first, and at most 9 edges may be left. 423,624 graphs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from itertools import permutations
from typing import TYPE_CHECKING

import attrs

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.identity.distinct import Tally
from nasdsl.identity.encodings import Encodings
from nasdsl.space.decisions import Decision, DecisionTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Choices = dict[str, Choice]


def published_tally(notion: str, table: DecisionTable, edges: int | None) -> Tally:
    """The number of distinct architectures in a benchmark's own sense.

    Args:
        edges: the most live edges that the space allows, if it sets a limit.

    Raises:
        UserError: NAS403 when the space has not the form that the notion is about.
    """
    if notion == "nasbench201":
        return _nasbench201(table)
    return _nasbench101(table, edges)


def _misfit(notion: str, why: str) -> UserError:
    return UserError.plain("NAS403", f"`distinct by {notion}` does not fit this space: {why}")


# --- NAS-Bench-201 -----------------------------------------------------------


def _nasbench201(table: DecisionTable) -> Tally:
    found: dict[str, Choices] = {}
    for choices in Encodings(table).all():
        found.setdefault(unique_string(table, choices), choices)
    kept = list(found.values())
    return Tally(len(kept), len(kept), "by the benchmark's strings", lambda rng: dict(rng.choice(kept)))


def unique_string(table: DecisionTable, choices: Mapping[str, Choice]) -> str:
    """The benchmark's string of a cell, with zeros considered."""
    strings: dict[str, str] = {"": "0"}
    last = ""
    for node, edges in _nodes(table).items():
        terms = []
        for source, path in edges:
            op = str(choices[path])
            known = strings[source if source in strings else ""]
            if op == "none" or known == "#":
                terms.append("#")
            else:
                terms.append(known if op == "skip_connect" else f"({known})@{op}")
        strings[node] = "+".join(sorted(terms))
        last = node
    return strings[last]


def _nodes(table: DecisionTable) -> dict[str, list[tuple[str, str]]]:
    """For every node of the cell its edges: (source, decision)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for decision in table.decisions:
        node, _, role = decision.path.rpartition(".op[")
        if decision.kind != "op" or not role or "none" not in decision.options:
            raise _misfit("nasbench201", f"`{decision.path}` is not an operation on an edge")
        found.setdefault(node.rpartition(".")[2] if "." in node else node, []).append(
            (role[:-1], decision.path)
        )
    return found


# --- NAS-Bench-101 -----------------------------------------------------------


@attrs.frozen
class _Vertices:
    """The decisions of a cell of that form."""

    inputs: tuple[Decision, ...]
    ops: tuple[Decision, ...]
    output: Decision
    direct: Decision


def _vertices(table: DecisionTable) -> _Vertices:
    chosen = [d for d in table.decisions if d.kind == "inputs"]
    ops = [d for d in table.decisions if d.kind == "op"]
    if len(chosen) != len(ops) + 2 or len(ops) > 5 or len(ops) + len(chosen) != len(table.decisions):
        raise _misfit(
            "nasbench101", "it needs one operation a vertex and a choice of inputs for each and the output"
        )
    *members, output, direct = chosen
    for index, decision in enumerate(members):
        if len(decision.options) != index + 1 or (decision.low, decision.high) != (1, index + 1):
            raise _misfit("nasbench101", f"`{decision.path}` is not any number of earlier vertices")
    whole = (output.low, output.high) == (0, len(ops)) and (direct.low, direct.high) == (0, 1)
    if not whole or len({d.options for d in ops}) != 1:
        raise _misfit(
            "nasbench101", "the output reads any vertices and perhaps the input, all vertices take one set"
        )
    return _Vertices(tuple(members), tuple(ops), output, direct)


@attrs.frozen
class _Graphs:
    """Unlabelled graphs of one size: adjacency, symmetries of the vertices between input and output."""

    edges: tuple[tuple[tuple[int, int], ...], ...]
    symmetries: tuple[tuple[tuple[int, ...], ...], ...]


def _nasbench101(table: DecisionTable, edges: int | None) -> Tally:
    cell = _vertices(table)
    labels = len(cell.ops[0].options)
    most = len(cell.ops) + 2
    classes = []
    for size in range(2, most + 1):
        graphs = _full_graphs(size, edges if edges is not None else size * size)
        for links, symmetries in zip(graphs.edges, graphs.symmetries, strict=True):
            weights = [labels ** _cycle_count(s) for s in symmetries]
            classes.append((size, links, symmetries, weights, sum(weights) // len(symmetries)))
    total = sum(c[-1] for c in classes)

    def draw(rng: random.Random) -> Choices:
        ticket = rng.randrange(total)
        for size, links, symmetries, weights, count in classes:
            if ticket < count:
                return _encoding(cell, size, links, _colours(symmetries, weights, labels, rng))
            ticket -= count
        raise AssertionError("the counts do not add up")

    return Tally(total, total, "live labelled graphs up to isomorphism", draw)


def _cycle_count(permutation: tuple[int, ...]) -> int:
    return len(list(_cycles(permutation)))


def _cycles(permutation: tuple[int, ...]) -> list[list[int]]:
    seen: set[int] = set()
    found = []
    for start in range(len(permutation)):
        cycle = []
        at = start
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = permutation[at]
        if cycle:
            found.append(cycle)
    return found


def _colours(
    symmetries: tuple[tuple[int, ...], ...], weights: list[int], labels: int, rng: random.Random
) -> list[int]:
    """Labels of the vertices, uniform up to symmetry (Burnside's lemma)."""
    ticket = rng.randrange(sum(weights))
    chosen = symmetries[0]
    for symmetry, weight in zip(symmetries, weights, strict=True):
        if ticket < weight:
            chosen = symmetry
            break
        ticket -= weight
    colours = [0] * len(chosen)
    for cycle in _cycles(chosen):
        colour = rng.randrange(labels)
        for vertex in cycle:
            colours[vertex] = colour
    return colours


def _encoding(cell: _Vertices, size: int, links: tuple[tuple[int, int], ...], colours: list[int]) -> Choices:
    """An encoding of a graph; vertices that it lacks are made and not read."""
    inner = size - 2
    choices: Choices = {}
    for index, (inputs, op) in enumerate(zip(cell.inputs, cell.ops, strict=True)):
        there = index < inner
        taken = {a for a, b in links if b == index + 1} if there else {0}
        choices[inputs.path] = tuple(o for n, o in enumerate(inputs.options) if n in taken)
        choices[op.path] = op.options[colours[index] if there else 0]
    last = size - 1
    choices[cell.output.path] = tuple(o for n, o in enumerate(cell.output.options) if (n + 1, last) in links)
    choices[cell.direct.path] = cell.direct.options if (0, last) in links else ()
    return choices


@lru_cache(maxsize=16)
def _full_graphs(size: int, most: int) -> _Graphs:
    """Graphs on `size` vertices in which each lies between the first and the last, up to isomorphism."""
    import numpy as np

    pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
    codes = np.arange(1 << len(pairs), dtype=np.int64)
    bits = [(codes >> i) & 1 for i in range(len(pairs))]
    good = sum(bits) <= most
    for vertex in range(size):
        if vertex > 0:
            good &= sum(bits[i] for i, (_, b) in enumerate(pairs) if b == vertex) > 0
        if vertex < size - 1:
            good &= sum(bits[i] for i, (a, _) in enumerate(pairs) if a == vertex) > 0
    codes = codes[good]
    orders = list(permutations(range(size - 2)))
    moved = np.stack([_moved(codes, pairs, size, order) for order in orders])
    canonical = moved.min(axis=0)
    _, first = np.unique(canonical, return_index=True)
    edges, symmetries = [], []
    for index in first:
        edges.append(tuple(p for i, p in enumerate(pairs) if (int(codes[index]) >> i) & 1))
        own = moved[0, index]  # the identity comes first
        symmetries.append(tuple(o for n, o in enumerate(orders) if moved[n, index] == own))
    return _Graphs(tuple(edges), tuple(symmetries))


def _moved(
    codes: NDArray[np.int64], pairs: list[tuple[int, int]], size: int, order: tuple[int, ...]
) -> NDArray[np.int64]:
    """Adjacency as one number after the inner vertices are renamed."""
    import numpy as np

    name = [0, *(o + 1 for o in order), size - 1]
    found = np.zeros_like(codes)
    for i, (a, b) in enumerate(pairs):
        found |= ((codes >> i) & 1) << (name[a] * size + name[b])
    return found
