"""What there is to draw: cells as vertices and edges, the network as a row of steps.

Takes a checked space and perhaps an architecture; returns plain data. Invariant:
an edge goes from an earlier vertex to a later one; every decision that is active
is on an edge, at a vertex, in a step, or listed under its panel.

The vertices of a cell are its lines (`a`, `n[1]`, `y`), told by the labels of the
nodes. An input that only one undecided line reads (`b = p1 >> pre`) is one vertex with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from nasdsl.cases import Cases
from nasdsl.ir.graph import Graph, Use
from nasdsl.ir.nodes import AnyNode, Branch, Call, Gather, Merge, Op, Select
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice, Decision
from nasdsl.types import TensorType

Choices = Mapping[str, Choice]
_RESULT = "out"


@attrs.frozen
class Label:
    """What is written on an edge, at a vertex or in a step.

    Attributes:
        text: an option's name, a list's name, or the names of fixed operations.
        option: whether `text` is an option that an architecture chose.
    """

    text: str
    option: bool = False


@attrs.frozen
class Edge:
    """From vertex to vertex, by index. `optional`: an architecture may leave it out."""

    source: int
    target: int
    label: Label | None = None
    optional: bool = False


@attrs.frozen
class Vertex:
    """A line of a cell. `note` stands beneath it; a `faded` one does not reach the result."""

    name: str
    role: str
    note: Label | None = None
    faded: bool = False


@attrs.frozen
class Cell:
    """One panel: the decisions of one owner, or of several that look the same."""

    title: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    caption: str = ""
    listed: tuple[str, ...] = ()


@attrs.frozen
class Step:
    """One box of the network: `count` equal steps in a row."""

    label: str
    what: str
    shape: str
    count: int = 1
    chosen: tuple[Label, ...] = ()


class Reader:
    """Reads a space, and perhaps one architecture of it, for a picture."""

    def __init__(self, space: CheckedSpace, choices: Choices | None) -> None:
        self.space = space
        self.choices = choices
        shown = space.table.decisions if choices is None else space.table.active(choices)
        self.active = {d.path: d for d in shown}
        lists = dict.fromkeys(d.options for d in space.table.decisions if d.kind == "op")
        self.lists: dict[tuple[str, ...], str] = {
            o: _list_name(i, o, len(lists)) for i, o in enumerate(lists)
        }

    def options(self) -> tuple[str, ...]:
        """Every option of an operation, once, in the order of the decisions."""
        return tuple(dict.fromkeys(o for options in self.lists for o in options))

    def label(self, path: str) -> Label | None:
        """What a decision about an operation says, None when it is not active."""
        decision = self.active.get(path)
        if decision is None:
            return None
        if self.choices is None:
            return Label(self.lists[decision.options])
        return Label(str(self.choices.get(path, "")), option=True)

    def cells(self) -> tuple[Cell, ...]:
        """Every owner with active decisions; owners of one form that look the same share a panel."""
        found: dict[tuple[str, Cell], list[str]] = {}
        seen: set[str] = set()
        for use in self.space.module.uses():
            if use.graph.name == self.space.module.root or use.owner in seen:
                continue
            seen.add(use.owner)
            if any(use.decision(n.decision) in self.active for n in _choosing(use.graph)):
                found.setdefault((use.graph.name, _CellReader(self, use).cell()), []).append(use.owner)
        return tuple(attrs.evolve(cell, title=_title(owners)) for (_, cell), owners in found.items())

    def steps(self) -> tuple[Step, ...]:
        """The network's steps in order; equal neighbours are one box."""
        network = self.space.module.network
        there = self._there(network)
        groups: dict[str, list[AnyNode]] = {}
        for node in network.nodes:
            if node.label and isinstance(node.type, TensorType) and node.kind != "input" and node.id in there:
                groups.setdefault(node.label.split(".")[0], []).append(node)
        groups = _depths_first(groups)
        steps = [(name, self._step(name, nodes)) for name, nodes in groups.items()]
        shared = [d for d in self.active.values() if d.kind == "number" and not _owned(d, groups)]
        if shared and network.inputs:
            chosen = tuple(self._number(d, d.path) for d in shared)
            steps.insert(
                0, ("all steps", Step("", "", _shape(network.inputs[0].type, self.choices), chosen=chosen))
            )
        return _collapse(steps)

    def _there(self, network: Graph) -> set[str]:
        """The nodes that are in the picture: all, or those that the architecture has."""
        if self.choices is None:
            return {n.id for n in network.nodes}
        found: set[str] = set()
        stack = [network.result]
        while stack:
            name = stack.pop()
            if name in found:
                continue
            found.add(name)
            node = network.by_id[name]
            if isinstance(node, Branch):
                stack.append(node.operands[0 if node.condition.at(self.choices) else 1])
            else:
                stack.extend(node.operands)
        return found

    def _number(self, decision: Decision, role: str) -> Label:
        """A chosen number: its options, or its value."""
        value = _numbers(decision) if self.choices is None else str(self.choices.get(decision.path, ""))
        return Label(f"{role}: {value}")

    def _step(self, name: str, nodes: list[AnyNode]) -> Step:
        mine = [d for d in self.active.values() if d.kind == "number" and d.path.rpartition(".")[0] == name]
        chosen = [self._number(d, d.path.rpartition(".")[2]) for d in mine]
        for node in nodes:
            label = self.label(node.decision) if isinstance(node, Select) else None
            if isinstance(node, Select) and label is not None:
                role = node.decision.partition(".")[2]
                text = label.text if role in ("op", "") else f"{role}: {label.text}"
                chosen.append(attrs.evolve(label, text=text, option=label.option and text == label.text))
        last = nodes[-1]
        if all(isinstance(n, Branch) for n in nodes):
            return Step("", "", "", chosen=tuple(chosen))
        what = "" if chosen else _fixed(nodes)
        if isinstance(last, Call):
            what = self.space.module.by_name[last.graph].cell or last.graph
            what = last.owner if last.owner and not last.independent else what
        return Step("", what, _shape(last.type, self.choices), chosen=tuple(chosen))


class _CellReader:
    """One use of a cell."""

    def __init__(self, reader: Reader, use: Use) -> None:
        self.reader = reader
        self.use = use
        self.graph = use.graph
        self.line = {n.id: _line(n) for n in self.graph.nodes}
        self.shown: set[str] = set()
        self.edges: dict[tuple[str, str, Label | None, bool], None] = {}
        self.notes: dict[str, Label] = {}

    def cell(self) -> Cell:
        lines = dict.fromkeys(self.line[n.id] for n in self.graph.nodes if isinstance(n.type, TensorType))
        for line in lines:
            self._line_edges(line)
        if self.line[self.graph.result] != _RESULT:
            self.edges[self.line[self.graph.result], _RESULT, None, False] = None
        names = [name for name in lines if name != _RESULT]
        inputs = [self.line[n.id] for n in self.graph.inputs]
        names, inputs = self._contract(names, inputs)
        names.append(_RESULT)
        index = {name: i for i, name in enumerate(names)}
        edges = tuple(Edge(index[s], index[t], label, opt) for s, t, label, opt in self.edges)
        alive = _alive(edges, {index[i] for i in inputs}, index[_RESULT])
        vertices = tuple(
            Vertex(
                name,
                "input" if name in inputs else "result" if name == _RESULT else "node",
                self.notes.get(name),
                faded=index[name] not in alive,
            )
            for name in names
        )
        return Cell("", vertices, edges, self._caption(), self._listed())

    def _line_edges(self, line: str) -> None:
        """The edges into one line: those of its gathers first, then what else it reads."""
        nodes = [n for n in self.graph.nodes if self.line[n.id] == line]
        inside: set[str] = set()
        for node in nodes:
            if isinstance(node, (Gather, Merge)) and node.names:
                for name, operand in zip(node.names, node.operands, strict=True):
                    self._edge(line, node, name, operand, inside)
        rest = [n for n in nodes if n.id not in inside]
        for node in rest:
            if not (isinstance(node, (Gather, Merge)) and node.names):
                for operand in self.graph.activations(node):
                    if self.line[operand] != line:
                        self.edges[self.line[operand], line, None, False] = None
        self._note(line, rest)

    def _edge(self, line: str, node: Gather | Merge, name: str, operand: str, inside: set[str]) -> None:
        own, sources = self._behind(operand, line)
        inside |= own
        choices = self.reader.choices
        if (
            choices is not None
            and isinstance(node, Gather)
            and name not in choices.get(self.use.decision(node.decision), ())
        ):
            return
        chosen = self.graph.by_id[operand]
        label = None
        if isinstance(chosen, Select) and self.line[chosen.id] == line:
            path = self.use.decision(chosen.decision)
            label = self.reader.label(path)
            self.shown.add(path)
            if label is not None and label.option and label.text == "none":
                return
        elif own and (text := _fixed([n for n in self.graph.nodes if n.id in own])):
            label = Label(text)
        optional = choices is None and isinstance(node, Gather) and node.low < len(node.names)
        for source in sources:
            self.edges[source, line, label, optional] = None

    def _behind(self, operand: str, line: str) -> tuple[set[str], list[str]]:
        """The nodes of `line` that lead to an operand, and the lines they start from."""
        own: set[str] = set()
        sources: dict[str, None] = {}
        waiting = [operand]
        while waiting:
            name = waiting.pop(0)
            if self.line[name] != line:
                sources[self.line[name]] = None
            elif name not in own:
                own.add(name)
                waiting.extend(self.graph.activations(self.graph.by_id[name]))
        return own, list(sources)

    def _note(self, line: str, nodes: list[AnyNode]) -> None:
        """A line's own operation: a choice where there is one, else what the result is made by."""
        for node in reversed(nodes):
            if isinstance(node, Select) and node.label == line:
                path = self.use.decision(node.decision)
                label = self.reader.label(path)
                self.shown.add(path)
                if label is not None:
                    self.notes[line] = label
                return
        text = _fixed(nodes) if line == _RESULT else ""
        if text:
            self.notes[line] = Label(text)

    def _contract(self, names: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        """Draws an input and the one undecided line that reads it as one vertex."""
        for source in tuple(inputs):
            out = [e for e in self.edges if e[0] == source]
            if len(out) != 1 or out[0][2:] != (None, False):
                continue
            line = out[0][1]
            entering = [e for e in self.edges if e[1] == line]
            if len(entering) == 1 and line != _RESULT and line not in self.notes and self._undecided(line):
                del self.edges[out[0]]
                names = [n for n in names if n != source]
                inputs = [line if n == source else n for n in inputs]
                self.notes[line] = Label(f"from {source}")
        return [*inputs, *(n for n in names if n not in inputs)], inputs

    def _undecided(self, line: str) -> bool:
        return not any(self.line[n.id] == line for n in _choosing(self.graph)) and not any(
            isinstance(n, Merge) and n.names and self.line[n.id] == line for n in self.graph.nodes
        )

    def _caption(self) -> str:
        if self.reader.choices is not None:
            return ""
        limits = {(n.low, n.high) for n in self.graph.nodes if isinstance(n, Gather)}
        counted = sorted({low if low == high else 0 for low, high in limits})
        if not counted:
            return ""
        if counted == [0] or len(counted) > 1:
            low, high = min(a for a, _ in limits), max(b for _, b in limits)
            return f"every node takes {low} to {high} of its inputs"
        return f"every node takes {counted[0]} of its inputs"

    def _listed(self) -> tuple[str, ...]:
        """Decisions that stand nowhere else: those within options."""
        found = []
        for node in self.graph.nodes:
            path = self.use.decision(node.decision) if isinstance(node, Select) else ""
            label = self.reader.label(path)
            if isinstance(node, Select) and path not in self.shown and label is not None:
                found.append(f"{node.decision}: {label.text}")
        return tuple(dict.fromkeys(found))


def _choosing(graph: Graph) -> list[Select | Gather]:
    return [n for n in graph.nodes if isinstance(n, (Select, Gather))]


def _line(node: AnyNode) -> str:
    """The line of the cell that a node was written in."""
    found = re.match(r"\w+(\[\d+\])?", node.label or node.id)
    name = found[0] if found else node.id
    return _RESULT if name == "result" else name


def _alive(edges: tuple[Edge, ...], inputs: set[int], result: int) -> set[int]:
    """Vertices on a way from an input to the result; inputs and the result always count."""
    fed, read = set(inputs), {result}
    for edge in sorted(edges, key=lambda e: e.target):
        if edge.source in fed:
            fed.add(edge.target)
    for edge in sorted(edges, key=lambda e: -e.source):
        if edge.target in read:
            read.add(edge.source)
    return (fed & read) | inputs | {result}


def _fixed(nodes: list[AnyNode]) -> str:
    """The operations of some nodes, by name."""
    names = [n.op if isinstance(n, Op) else n.merge if isinstance(n, Merge) else "" for n in nodes]
    text = ", ".join(n for n in names if n)
    return text if len(text) <= 24 else text[:21].rstrip(", ") + "..."


def _list_name(position: int, options: tuple[str, ...], lists: int) -> str:
    count = f"{len(options)} option" + ("s" if len(options) != 1 else "")
    if lists == 1:
        return count
    letter, again = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[position % 26], position // 26
    return f"{letter}{again or ''}: {count}"


def _title(owners: list[str]) -> str:
    return ", ".join(owners) if len(owners) <= 3 else f"{owners[0]}, ..., {owners[-1]} ({len(owners)} alike)"


def _collapse(steps: list[tuple[str, Step]]) -> tuple[Step, ...]:
    """Equal neighbours of one repetition as one box, named by what it covers."""
    runs: list[tuple[list[str], Step]] = []
    for name, step in steps:
        if runs and runs[-1][1] == step and _stem(runs[-1][0][-1]) == _stem(name):
            runs[-1][0].append(name)
        else:
            runs.append(([name], step))
    stems = [_stem(names[0]) for names, _ in runs]
    found = []
    for names, step in runs:
        stem = _stem(names[0])
        label = stem
        if stems.count(stem) > 1 and names[0] != stem:
            first, last = (n[len(stem) + 1 : -1] for n in (names[0], names[-1]))
            label = names[0] if len(names) == 1 else f"{stem}[{first}..{last}]"
        found.append(attrs.evolve(step, label=label, count=len(names)))
    return tuple(found)


def _stem(label: str) -> str:
    return re.sub(r"\[\d+\]$", "", label)


def _shape(type_: object, choices: Choices | None) -> str:
    """A shape; a size that depends on decisions as its range, or as it is in the architecture."""
    sizes = type_.value({}) if isinstance(type_, TensorType) else ()
    return " × ".join(_size(s, choices) for s in sizes)


def _size(size: int | Cases, choices: Choices | None) -> str:
    if not isinstance(size, Cases):
        return str(size)
    if choices is not None:
        return str(size.at(choices))
    return f"{min(size.table)}..{max(size.table)}"


def _depths_first(groups: dict[str, list[AnyNode]]) -> dict[str, list[AnyNode]]:
    """Steps in order, a chosen number of repetitions before the repetitions."""
    ends = {name: nodes for name, nodes in groups.items() if all(isinstance(n, Branch) for n in nodes)}
    found: dict[str, list[AnyNode]] = {}
    for name, nodes in groups.items():
        stem = _stem(name)
        if stem in ends and stem not in found:
            found[stem] = ends[stem]
        if name not in ends or name not in found:
            found.setdefault(name, nodes)
    return found


def _owned(decision: Decision, groups: Mapping[str, object]) -> bool:
    """Whether a decision belongs to a step, and not to the space or to a cell."""
    return decision.path.rpartition(".")[0] in groups


def _numbers(decision: Decision) -> str:
    """The options of a number, shortened: `8, 16, 24` or `128..224`."""
    text = ", ".join(decision.options)
    return text if len(text) <= 12 else f"{decision.options[0]}..{decision.options[-1]}"
