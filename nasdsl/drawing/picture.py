"""From the model of a picture to SVG text.

Takes a checked space and perhaps an architecture, returns SVG: a panel for every
cell with decisions, the network as a row of boxes, and what the colours mean.
Invariant: the same space and architecture give the same bytes, and an operation
has the same colour in every picture of its space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from nasdsl.drawing.canvas import GREY, GROUND, INK, LINE, Canvas, text_width
from nasdsl.drawing.colours import PALETTE
from nasdsl.drawing.layout import Layout, arrange
from nasdsl.drawing.model import Cell, Choices, Label, Reader, Step, Vertex
from nasdsl.space.checked import CheckedSpace

_MARGIN, _GAP, _PAD, _WIDEST = 24.0, 16.0, 20.0, 1120.0
_RADIUS, _TAG, _NOTE, _HEAD = 18.0, 22.0, 16.0, 38.0
_FADED = "#BDC1C6"


def draw_space(space: CheckedSpace) -> str:
    """A picture of a space: every edge with its options, dashed where it may be left out."""
    return _Picture(space, None).svg()


def draw_architecture(space: CheckedSpace, choices: Choices, canvas: Canvas | None = None) -> str:
    """A picture of one architecture: every edge that it takes, with its operation.

    Args:
        canvas: an empty one to draw on, such as one with names for a page.
    """
    return _Picture(space, choices, canvas).svg()


def colours_of(options: Iterable[str]) -> dict[str, str]:
    """The colour of every option of a space but `none`, by their order."""
    named = [o for o in options if o != "none"]
    return {o: PALETTE[i % len(PALETTE)] for i, o in enumerate(named)}


class _Picture:
    def __init__(self, space: CheckedSpace, choices: Choices | None, canvas: Canvas | None = None) -> None:
        self.space = space
        self.architecture = choices is not None
        self.reader = Reader(space, choices)
        self.colours = colours_of(self.reader.options())
        self.canvas = canvas or Canvas()
        self.right = 0.0
        taken = [str(choices[p]) for p in self.reader.active if p in choices] if choices else []
        self.taken = {o: n for o in self.colours if (n := taken.count(o))}

    def svg(self) -> str:
        title = f"{self.space.name}: one architecture" if self.architecture else self.space.name
        self._write(_MARGIN, 40, title, 20, bold=True)
        y = 54.0
        if self.space.doc:
            self._write(_MARGIN, 60, self.space.doc, 12, colour=GREY)
            y = 72.0
        y = self._panels(y + 4)
        y = self._strip(self.reader.steps(), y)
        y = self._legend(y)
        return self.canvas.svg(self.right + _MARGIN, y + 4)

    def _write(
        self, x: float, y: float, text: str, size: float, *, bold: bool = False, colour: str = INK
    ) -> None:
        self.canvas.text(x, y, text, size, bold=bold, colour=colour, anchor="start")
        self.right = max(self.right, x + text_width(text, size))

    def _panels(self, y: float) -> float:
        """All panels, side by side while they fit; returns the y below them."""
        rows: list[list[tuple[Cell, Layout]]] = []
        used = math.inf
        for cell in self.reader.cells():
            layout = _layout(cell)
            width = _panel_size(cell, layout)[0]
            if used + width > _WIDEST:
                rows.append([])
                used = 0.0
            rows[-1].append((cell, layout))
            used += width + _GAP
        for row in rows:
            x, height = _MARGIN, max(_panel_size(cell, layout)[1] for cell, layout in row)
            for cell, layout in row:
                self._panel(cell, layout, x, y, height)
                x += _panel_size(cell, layout)[0] + _GAP
                self.right = max(self.right, x - _GAP)
            y += height + _GAP
        return y

    def _panel(self, cell: Cell, layout: Layout, x: float, y: float, height: float) -> None:
        width, own = _panel_size(cell, layout)
        self.canvas.box(x, y, width, height, fill=GROUND)
        self.canvas.text(x + 14, y + 24, cell.title, 15, bold=True, anchor="start")
        if cell.caption:
            self.canvas.text(x + width - 14, y + 24, cell.caption, 11.5, colour=GREY, anchor="end")
        left, top = x + (width - layout.width) / 2, y + _HEAD + 8 + (height - own) / 2
        ends = _ports(layout, cell)
        for index, edge in enumerate(cell.edges):
            colour = self._colour(edge.label)
            if cell.vertices[edge.source].faded or cell.vertices[edge.target].faded:
                colour = _FADED
            path = _curve(layout, index, ends, left, top)
            self.canvas.path(path, colour, dashed=edge.optional)
        for index, edge in enumerate(cell.edges):
            if edge.label is not None:
                item = next(i for i in layout.routes[index] if i.labelled)
                self._tag(left + item.x, top + item.y, edge.label)
        for item in layout.vertices:
            self._vertex(left + item.x, top + item.y, cell.vertices[item.vertex])
        for i, line in enumerate(cell.listed):
            self.canvas.text(x + 14, top + layout.height + 22 + 16 * i, line, 11.5, anchor="start")

    def _colour(self, label: Label | None) -> str:
        return self.colours.get(label.text, LINE) if label is not None and label.option else LINE

    def _tag(self, x: float, y: float, label: Label) -> None:
        """A label in a frame of its operation's colour."""
        width = _tag_width(label)
        self.canvas.box(x - width / 2, y - 9, width, 18, stroke=self._colour(label), radius=9)
        self.canvas.text(x, y + 4, label.text, 11)

    def _vertex(self, x: float, y: float, vertex: Vertex) -> None:
        fill = {"input": "#FFFFFF", "node": "#E8F0FE", "result": "#F1F3F4"}[vertex.role]
        ink = _FADED if vertex.faded else INK
        self.canvas.circle(x, y, _RADIUS, "#FFFFFF" if vertex.faded else fill, ink)
        size = 11.0 if len(vertex.name) <= 5 else max(6.0, 55 / len(vertex.name))
        self.canvas.text(x, y + 4, vertex.name, size, colour=ink)
        if vertex.note is None:
            return
        if vertex.note.option:
            self._tag(x, y + _RADIUS + 12, vertex.note)
        else:
            self.canvas.text(x, y + _RADIUS + 13, vertex.note.text, 10, colour=GREY)

    def _strip(self, steps: Sequence[Step], top: float) -> float:
        """The network as boxes in rows, an arrow from each to the next; returns the y below."""
        self._write(_MARGIN, top + 16, "network", 15, bold=True)
        x, y, tallest = _MARGIN, top + 28, 0.0
        before: tuple[float, float] | None = None
        for step in steps:
            width, height = _box_size(step)
            if x > _MARGIN and x + width > _WIDEST + _MARGIN and before is not None:
                fold = y + tallest + 9
                self.canvas.path(
                    f"M{before[0]:.1f} {before[1]:.1f} h8 V{fold:.1f} H{_MARGIN - 12:.1f} "
                    f"V{fold + 9 + 31:.1f} H{_MARGIN:.1f}",
                    LINE,
                )
                x, y, tallest, before = _MARGIN, fold + 9, 0.0, None
            if before is not None:
                self.canvas.path(f"M{before[0]:.1f} {before[1]:.1f} L{x:.1f} {before[1]:.1f}", LINE)
            self._step(step, x, y, width, height)
            before = (x + width, y + 31)
            self.right = max(self.right, x + width + 8)
            x, tallest = x + width + 24, max(tallest, height)
        return y + tallest + _GAP

    def _step(self, step: Step, x: float, y: float, width: float, height: float) -> None:
        self.canvas.box(x, y, width, height)
        middle = x + width / 2
        self.canvas.text(middle, y + 19, _times(step), 13, bold=True)
        line = y + 36
        for text, colour in ((step.what, INK), (step.shape, GREY)):
            if text:
                self.canvas.text(middle, line, text, 11, colour=colour)
                line += 16
        for label in step.chosen:
            self._tag(middle, line + 2, label)
            line += _TAG

    def _legend(self, top: float) -> float:
        """What the colours mean, and each list of options once; returns the y below."""
        if self.architecture:
            return self._entries("", [(o, f"{o} ({n})") for o, n in self.taken.items()], top)
        for options, name in self.reader.lists.items():
            top = self._entries(name, [(o, o) for o in options], top)
        return top

    def _entries(self, name: str, entries: Sequence[tuple[str, str]], top: float) -> float:
        """A row of colours with their operations, wrapped to the width of the picture."""
        x, y = _MARGIN, top + 14
        if name:
            self._write(x, y, name, 12, bold=True)
            x += text_width(name, 12) + 14
        start, limit = x, max(self.right, _WIDEST)
        for option, text in entries:
            width = 16 + text_width(text, 12) + 14
            if x > start and x + width > limit:
                x, y = start, y + 19
            colour = self.colours.get(option, _FADED)
            self.canvas.box(x, y - 9, 10, 10, fill=colour, stroke=colour, radius=2)
            self._write(x + 15, y, text, 12)
            x += width
        return y + 10


def _layout(cell: Cell) -> Layout:
    return arrange(
        [_vertex_size(v) for v in cell.vertices],
        [v.role for v in cell.vertices],
        [(e.source, e.target, (_tag_width(e.label), _TAG) if e.label else None) for e in cell.edges],
    )


def _panel_size(cell: Cell, layout: Layout) -> tuple[float, float]:
    head = 28 + text_width(cell.title, 16) + (24 + text_width(cell.caption, 11.5) if cell.caption else 0)
    listed = max((28 + text_width(line, 11.5) for line in cell.listed), default=0.0)
    height = _HEAD + 8 + layout.height + 16 + (16 * len(cell.listed) + 8 if cell.listed else 0)
    return max(layout.width + 2 * _PAD, head, listed), height


def _vertex_size(vertex: Vertex) -> tuple[float, float]:
    """Symmetric about the circle, so that edges meet it at the item's own y."""
    if vertex.note is None:
        return 2 * _RADIUS, 2 * _RADIUS + 6
    width = _tag_width(vertex.note) if vertex.note.option else text_width(vertex.note.text, 10)
    return max(2 * _RADIUS, width), 2 * _RADIUS + 6 + 2 * _NOTE


def _tag_width(label: Label) -> float:
    return text_width(label.text, 11) + 14


def _times(step: Step) -> str:
    return f"{step.label} × {step.count}" if step.count > 1 else step.label


def _box_size(step: Step) -> tuple[float, float]:
    widths = [
        text_width(_times(step), 13.5),
        text_width(step.what, 11),
        text_width(step.shape, 11),
        *(_tag_width(label) for label in step.chosen),
    ]
    lines = bool(step.what) + bool(step.shape)
    return max(86.0, max(widths) + 20), max(62.0, 28 + 16.0 * lines + _TAG * len(step.chosen))


Ports = dict[tuple[int, int], float]
"""The angle at which an edge meets a vertex, by (edge, vertex)."""


def _ports(layout: Layout, cell: Cell) -> Ports:
    """Spreads the ends of edges over the two sides of a vertex, so that arrow heads do not meet."""
    found: Ports = {}
    for vertex in layout.vertices:
        for after in (False, True):
            step = 1 if after else -2
            meeting = [i for i, r in enumerate(layout.routes) if r[0 if after else -1] is vertex]
            meeting.sort(key=lambda i: layout.routes[i][step].y)
            spread = min(28.0, 120.0 / max(len(meeting), 1))
            for place, edge in enumerate(meeting):
                found[edge, vertex.vertex] = math.radians(spread * (place - (len(meeting) - 1) / 2))
    return found


def _curve(layout: Layout, edge: int, ports: Ports, left: float, top: float) -> str:
    """An edge as SVG path commands: level through every column, curved between them."""
    route = layout.routes[edge]
    source, target = route[0], route[-1]
    leave, meet = ports[edge, source.vertex], ports[edge, target.vertex]
    x = left + source.x + _RADIUS * math.cos(leave)
    y = top + source.y + _RADIUS * math.sin(leave)
    path = f"M{x:.1f} {y:.1f}"
    slope = math.tan(leave) * 0.6
    for item in route[1:-1]:
        start, end = (left + v for v in layout.columns[item.column])
        pull = (start - x) * 0.5
        path += (
            f" C{x + pull:.1f} {y + pull * slope:.1f} {start - pull:.1f} {top + item.y:.1f} "
            f"{start:.1f} {top + item.y:.1f} H{end:.1f}"
        )
        x, y, slope = end, top + item.y, 0.0
    end_x = left + target.x - _RADIUS * math.cos(meet)
    end_y = top + target.y + _RADIUS * math.sin(meet)
    pull = (end_x - x) * 0.5
    bend = math.tan(meet) * 0.6
    return (
        path + f" C{x + pull:.1f} {y + pull * slope:.1f} {end_x - pull:.1f} {end_y + pull * bend:.1f} "
        f"{end_x:.1f} {end_y:.1f}"
    )
