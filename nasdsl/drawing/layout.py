"""Places for the vertices, labels and edges of a cell.

Takes the edges between vertices with the sizes of what is written, returns
coordinates. Invariant: no two items of a column overlap, and an edge crosses a
column of labels only along a row of its own; so no edge runs through a label.

This is the layered drawing of Sugiyama, Tagawa and Toda (1981): vertices stand in
columns by their longest way from an input, an edge passes every column between as
an item of its own, and its label is such an item (as in Graphviz's dot, Gansner et
al. 1993). Orders come from barycentres, places from least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import attrs

_SWEEPS, _ROUNDS = 12, 120
_STRAIGHT = 16.0
"""How much more an edge's own items are drawn to one row than vertices are."""


@attrs.define(eq=False)
class Item:
    """Something in a column: a vertex (`vertex` >= 0), or an edge passing (`edge` >= 0)."""

    column: int
    width: float
    height: float
    vertex: int = -1
    edge: int = -1
    labelled: bool = False
    x: float = 0.0
    y: float = 0.0
    before: list[Item] = attrs.field(factory=list, repr=False)
    after: list[Item] = attrs.field(factory=list, repr=False)


@attrs.frozen
class Layout:
    """Coordinates from (0, 0). `routes[i]` are the items of edge i from its source to its target."""

    width: float
    height: float
    vertices: tuple[Item, ...]
    routes: tuple[tuple[Item, ...], ...]
    columns: tuple[tuple[float, float], ...]


Size = tuple[float, float]


def arrange(
    sizes: Sequence[Size], roles: Sequence[str], edges: Sequence[tuple[int, int, Size | None]]
) -> Layout:
    """Lays out one cell.

    Args:
        sizes: of every vertex, with what stands beneath it.
        roles: `input`, `node` or `result` for every vertex; vertices are topologically sorted.
        edges: source, target and size of the label.
    """
    ranks = _ranks(roles, [(s, t) for s, t, _ in edges])
    columns: list[list[Item]] = [[] for _ in range(2 * max(ranks) + 1)]
    vertices = []
    for index, (width, height) in enumerate(sizes):
        vertices.append(Item(2 * ranks[index], width, height, vertex=index))
        columns[2 * ranks[index]].append(vertices[-1])
    routes = [_route(vertices, i, edge, columns) for i, edge in enumerate(edges)]
    _order(columns)
    _rows(columns)
    extents = _spread(columns)
    top = min(i.y - i.height / 2 for c in columns for i in c)
    for column in columns:
        for item in column:
            item.y -= top
    height = max(i.y + i.height / 2 for c in columns for i in c)
    return Layout(extents[-1][1], height, tuple(vertices), tuple(map(tuple, routes)), tuple(extents))


def _ranks(roles: Sequence[str], edges: Sequence[tuple[int, int]]) -> list[int]:
    ranks = [0 if role == "input" else 1 for role in roles]
    for vertex, role in enumerate(roles):
        if role == "node":
            ranks[vertex] = max([1, *(ranks[s] + 1 for s, t in edges if t == vertex)])
    last = max([0, *(r for r, role in zip(ranks, roles, strict=True) if role != "result")]) + 1
    return [last if role == "result" else rank for rank, role in zip(ranks, roles, strict=True)]


def _route(
    vertices: list[Item], index: int, edge: tuple[int, int, Size | None], columns: list[list[Item]]
) -> list[Item]:
    """The items an edge passes; its label stands in the column of labels nearest the middle."""
    source, target = vertices[edge[0]], vertices[edge[1]]
    first, last = source.column + 1, target.column - 1
    middle = first + 2 * ((last - first) // 4)
    route = [source]
    for column in range(first, last + 1):
        size = edge[2] if column == middle else None
        width, height = size or (0.0, 10.0)
        route.append(Item(column, width, height, edge=index, labelled=size is not None))
        columns[column].append(route[-1])
    route.append(target)
    for left, right in pairwise(route):
        left.after.append(right)
        right.before.append(left)
    return route


def _order(columns: list[list[Item]]) -> None:
    """Reorders the items of every column for few crossings; ties keep their order."""
    best, fewest = [list(c) for c in columns], _crossings(columns)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        place = _positions(columns)
        for column in columns if forward else reversed(columns):
            _sort(column, place, forward)
            place.update({id(item): float(i) for i, item in enumerate(column)})
        _exchange(columns)
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(c) for c in columns], crossings
    columns[:] = best


def _sort(column: list[Item], place: dict[int, float], forward: bool) -> None:
    def barycentre(item: Item) -> float:
        near = item.before if forward else item.after
        return sum(place[id(n)] for n in near) / len(near) if near else place[id(item)]

    column.sort(key=barycentre)


def _positions(columns: list[list[Item]]) -> dict[int, float]:
    return {id(item): float(i) for column in columns for i, item in enumerate(column)}


def _exchange(columns: list[list[Item]]) -> None:
    """Swaps neighbours while that removes crossings."""
    place = _positions(columns)
    improved = True
    while improved:
        improved = False
        for column in columns:
            for i in range(len(column) - 1):
                upper, lower = column[i], column[i + 1]
                if _pair(upper, lower, place) > _pair(lower, upper, place):
                    column[i], column[i + 1] = lower, upper
                    place[id(lower)], place[id(upper)] = float(i), float(i + 1)
                    improved = True


def _pair(upper: Item, lower: Item, place: dict[int, float]) -> int:
    """Crossings of the edges of two items, the first above the second."""
    return sum(
        place[id(a)] > place[id(b)]
        for ups, lows in ((upper.before, lower.before), (upper.after, lower.after))
        for a in ups
        for b in lows
    )


def _crossings(columns: list[list[Item]]) -> int:
    place = _positions(columns)
    return sum(
        place[id(a)] > place[id(b)]
        for column in columns
        for i, upper in enumerate(column)
        for lower in column[i + 1 :]
        for a in upper.after
        for b in lower.after
    )


def _rows(columns: list[list[Item]]) -> None:
    """Gives every item a y near its neighbours', in order and without overlap."""
    for column in columns:
        _stack(column, lambda item: 0.0)
    for turn in range(_ROUNDS):
        for column in columns if turn % 2 == 0 else reversed(columns):
            _stack(column, _wanted)


def _wanted(item: Item) -> float:
    total = weight = 0.0
    for near in (*item.before, *item.after):
        w = _STRAIGHT if near.edge >= 0 and item.edge >= 0 else 1.0
        total, weight = total + w * near.y, weight + w
    return total / weight if weight else item.y


def _stack(column: list[Item], wanted: Callable[[Item], float]) -> None:
    """The least-squares places under the order: pooled neighbours share their mean."""
    offsets, reach = [], 0.0
    for i, item in enumerate(column):
        reach += item.height / 2 + (column[i - 1].height / 2 + 6 if i else 0)
        offsets.append(reach)
    blocks: list[tuple[float, float, int]] = []
    for item, offset in zip(column, offsets, strict=True):
        weight = _STRAIGHT if item.edge >= 0 else 4.0
        block = (weight * (wanted(item) - offset), weight, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    places = [total / weight for total, weight, count in blocks for _ in range(count)]
    for item, offset, place in zip(column, offsets, places, strict=True):
        item.y = place + offset


def _spread(columns: list[list[Item]]) -> list[tuple[float, float]]:
    """Gives every column its x: wide enough for its items, with room for the curves before it."""
    extents: list[tuple[float, float]] = []
    x = 0.0
    for number, column in enumerate(columns):
        width = max((item.width for item in column), default=0.0)
        if number:
            steep = max((abs(item.y - b.y) for item in column for b in item.before), default=0.0)
            x += min(max(26.0, 14 + 0.3 * steep), 64.0)
        extents.append((x, x + width))
        for item in column:
            item.x = x + width / 2
        x += width
    return extents
