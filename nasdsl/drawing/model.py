"""What there is to draw: cells as vertices and edges, the network as a row of steps.

Takes a checked space and perhaps an architecture; returns plain data. Invariant:
vertices stand in topological order, so every edge points from left to right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from nasdsl.ir.graph import Graph, Use
from nasdsl.ir.homes import ALWAYS, homes
from nasdsl.ir.nodes import AnyNode, Call, Gather, Merge, Select
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice
from nasdsl.types import TensorType

Choices = Mapping[str, Choice]


@attrs.frozen
class Edge:
    """From vertex to vertex, by index. `text` is the operation; "" carries a value on as it is."""

    source: int
    target: int
    text: str = ""
    options: int = 0


@attrs.frozen
class Cell:
    """One panel: the decisions of one owner."""

    title: str
    vertices: tuple[str, ...]
    inputs: int
    edges: tuple[Edge, ...]
    caption: str = ""


@attrs.frozen
class Step:
    """One box of the network: `count` equal steps in a row."""

    label: str
    what: str
    shape: str
    count: int = 1
    chosen: tuple[str, ...] = ()


def cells(space: CheckedSpace, choices: Choices | None) -> tuple[Cell, ...]:
    """Every owner with decisions on edges, once."""
    found: dict[str, Cell] = {}
    for use in space.module.uses():
        if use.graph.name != space.module.root and use.owner not in found:
            cell = _cell(use, choices)
            if cell is not None:
                found[use.owner] = cell
    return tuple(found.values())


def _cell(use: Use, choices: Choices | None) -> Cell | None:
    graph, always = use.graph, homes(use.graph)
    sums: list[Gather | Merge] = [
        n
        for n in graph.nodes
        if isinstance(n, (Gather, Merge)) and n.names and (always[n.id] == ALWAYS or n.id == graph.result)
    ]
    if not sums:
        return None
    own = {n.label: n for n in sums}
    outer = [name for n in sums for name in n.names if name not in own]
    inputs = list(dict.fromkeys(outer))
    vertices = [*inputs, *own, "out"]
    index = {name: i for i, name in enumerate(vertices)}
    edges: list[Edge] = []
    for node in sums:
        edges.extend(_node_edges(use, node, index, choices))
    edges.extend(Edge(index[name], index["out"]) for name in _outputs(graph, {n.id: n.label for n in sums}))
    gathers = [n for n in sums if isinstance(n, Gather)]
    caption = ""
    if choices is None and gathers:
        low, high = gathers[0].low, gathers[-1].high
        caption = f"each node takes {low} of its inputs" if low == high else "each node chooses its inputs"
    return Cell(use.owner or graph.name, tuple(vertices), len(inputs), tuple(edges), caption)


def _node_edges(
    use: Use, node: Gather | Merge, index: Mapping[str, int], choices: Choices | None
) -> list[Edge]:
    taken = node.names
    if choices is not None and isinstance(node, Gather):
        value = choices.get(use.decision(node.decision), ())
        taken = (value,) if isinstance(value, str) else value
    edges = []
    for name, operand in zip(node.names, node.operands, strict=True):
        if name not in taken:
            continue
        chosen = use.graph.by_id[operand]
        if not isinstance(chosen, Select):
            edges.append(Edge(index[name], index[node.label]))
        elif choices is None:
            edges.append(Edge(index[name], index[node.label], "", len(chosen.options)))
        else:
            option = str(choices.get(use.decision(chosen.decision), ""))
            if option and option != "none":
                edges.append(Edge(index[name], index[node.label], option))
    return edges


def _outputs(graph: Graph, sums: Mapping[str, str]) -> list[str]:
    """The nodes that the result is made of, looking through merges and operations."""
    found: list[str] = []
    waiting = [graph.result]
    while waiting:
        name = waiting.pop(0)
        if name in sums:
            found.append(sums[name])
            continue
        waiting.extend(graph.activations(graph.by_id[name]))
    return list(dict.fromkeys(found))


def steps(space: CheckedSpace, choices: Choices | None) -> tuple[Step, ...]:
    """The network's steps in order; repetitions that do the same are one box."""
    boxes: dict[str, Step] = {}
    for node in space.module.network.nodes:
        if not node.label or not isinstance(node.type, TensorType) or node.kind == "input":
            continue
        top = node.label.split(".")[0]
        boxes[top] = Step(_stem(top), _what(node, boxes.get(top)), _shape(node.type))
    root = [d for d in space.table.decisions if d.path.split(".")[0] in boxes]
    result: list[Step] = []
    for top, box in boxes.items():
        texts = tuple(
            f"{d.path.partition('.')[2]}: {choices[d.path]}"
            for d in root
            if choices is not None and d.path in choices and d.path.split(".")[0] == top and d.kind == "op"
        )
        box = attrs.evolve(box, chosen=texts)
        last = result[-1] if result else None
        if last is not None and attrs.evolve(last, count=1) == box:
            result[-1] = attrs.evolve(last, count=last.count + 1)
        else:
            result.append(box)
    return tuple(result)


def _stem(label: str) -> str:
    return re.sub(r"\[\d+\]$", "", label)


def _what(node: AnyNode, before: Step | None) -> str:
    if isinstance(node, Call):
        return node.owner if not node.independent else node.graph
    if isinstance(node, Select):
        return f"{len(node.options)} options"
    return before.what if before is not None else ""


def _shape(type_: TensorType) -> str:
    sizes = type_.evaluate({})
    return f"{sizes[0]} x {sizes[1]} x {sizes[2]}" if len(sizes) == 3 else str(sizes[0])
