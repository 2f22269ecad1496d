"""From the model of a picture to SVG text.

Takes cells and steps, returns SVG. Invariant: no script, no font and no address
from outside; every text is escaped; the same model gives the same bytes.

The vertices of a cell stand on a line. An edge to the next vertex is straight;
every other runs on a lane of its own above the line, so labels never meet; what
makes the output runs below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import attrs

from nasdsl.drawing.model import Cell, Edge, Step, cells, steps
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice

# Okabe and Ito's palette: told apart with any colour vision.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
_GREY, _INK, _FAINT = "#9AA0A6", "#202124", "#E8EAED"
_MARGIN, _GAP, _RADIUS, _LANE, _BOX = 32, 148, 17, 30, 118
_FONT = "font-family='Helvetica, Arial, sans-serif'"


def draw_space(space: CheckedSpace) -> str:
    """A picture of a space: every edge with its number of options, dashed where it may be left out."""
    return _picture(space, None)


def draw_architecture(space: CheckedSpace, choices: Mapping[str, Choice]) -> str:
    """A picture of one architecture: every edge with its operation."""
    return _picture(space, choices)


def _picture(space: CheckedSpace, choices: Mapping[str, Choice] | None) -> str:
    panels, boxes = cells(space, choices), steps(space, choices)
    names = sorted({e.text for p in panels for e in p.edges if e.text})
    colours = {name: _PALETTE[i % len(_PALETTE)] for i, name in enumerate(names)}
    canvas = _Canvas()
    title = space.name if choices is None else f"{space.name}: one architecture"
    canvas.text(_MARGIN, 36, title, size=20, weight="bold", anchor="start")
    if space.doc:
        canvas.text(_MARGIN, 58, space.doc, size=12, colour="#5F6368", anchor="start")
    y = 76.0
    for panel in panels:
        y = _panel(canvas, panel, colours, y)
    y = _strip(canvas, boxes, y)
    if choices is None:
        y = _options(canvas, space, y)
    return canvas.svg(y + _MARGIN)


@attrs.frozen
class _Lane:
    edge: Edge
    level: int


def _lanes(edges: Sequence[Edge]) -> list[_Lane]:
    """A lane for every edge that passes over a vertex; edges on one lane do not overlap."""
    busy: list[list[tuple[int, int]]] = []
    placed = []
    for edge in sorted(edges, key=lambda e: (e.target - e.source, e.source)):
        span = (edge.source, edge.target)
        level = next(
            (i for i, taken in enumerate(busy) if all(b <= span[0] or a >= span[1] for a, b in taken)),
            len(busy),
        )
        if level == len(busy):
            busy.append([])
        busy[level].append(span)
        placed.append(_Lane(edge, level))
    return placed


def _panel(canvas: _Canvas, cell: Cell, colours: Mapping[str, str], top: float) -> float:
    """One cell; returns the y below it."""
    out = len(cell.vertices) - 1
    above = _lanes([e for e in cell.edges if e.target != out and e.target - e.source > 1])
    below = _lanes([e for e in cell.edges if e.target == out and e.target - e.source > 1])
    height_above = _LANE * (max((lane.level for lane in above), default=-1) + 1)
    height_below = 14 * (max((lane.level for lane in below), default=-1) + 1)
    line = top + 46 + height_above + _RADIUS + 10
    x = [_MARGIN + 40 + i * _GAP for i in range(len(cell.vertices))]
    bottom = line + _RADIUS + height_below + 22
    canvas.box(_MARGIN - 12, top, x[-1] + 62 - _MARGIN, bottom - top)
    canvas.text(_MARGIN + 4, top + 24, cell.title, size=15, weight="bold", anchor="start")
    if cell.caption:
        canvas.text(x[-1] + 40, top + 24, cell.caption, size=12, colour="#5F6368", anchor="end")
    for edge in cell.edges:
        if edge.target - edge.source == 1:
            _straight(canvas, edge, x, line, colours, labelled=edge.target != out)
    for lane in above:
        _arc(canvas, lane.edge, x, line, line - _RADIUS - 18 - lane.level * _LANE, colours)
    for lane in below:
        _arc(canvas, lane.edge, x, line, line + _RADIUS + 10 + lane.level * 14, colours)
    for i, name in enumerate(cell.vertices):
        canvas.vertex(x[i], line, name, filled=cell.inputs <= i < out)
    return bottom + 18


def _look(edge: Edge, colours: Mapping[str, str]) -> tuple[str, str, str]:
    """Colour, label and dash of an edge."""
    if edge.options:
        return "#5F6368", f"{edge.options} options", "4 3"
    return colours.get(edge.text, _GREY), edge.text, ""


def _straight(
    canvas: _Canvas,
    edge: Edge,
    x: Sequence[float],
    line: float,
    colours: Mapping[str, str],
    *,
    labelled: bool,
) -> None:
    colour, label, dash = _look(edge, colours)
    start, end = x[edge.source] + _RADIUS, x[edge.target] - _RADIUS
    canvas.path(f"M{start:.0f} {line:.0f} L{end:.0f} {line:.0f}", colour, dash)
    if labelled and label:
        canvas.tag((start + end) / 2, line, label, colour)


def _arc(
    canvas: _Canvas, edge: Edge, x: Sequence[float], line: float, level: float, colours: Mapping[str, str]
) -> None:
    """Up (or down) from the source, along the lane, back to the target."""
    colour, label, dash = _look(edge, colours)
    side = -1 if level < line else 1
    start, end, r = x[edge.source] + 7, x[edge.target] - 7, 10
    rim = line + side * (_RADIUS - 2)
    path = (
        f"M{start:.0f} {rim:.0f} L{start:.0f} {level - side * r:.0f} "
        f"Q{start:.0f} {level:.0f} {start + r:.0f} {level:.0f} "
        f"L{end - r:.0f} {level:.0f} Q{end:.0f} {level:.0f} {end:.0f} {level - side * r:.0f} L{end:.0f} {rim:.0f}"
    )
    canvas.path(path, colour, dash)
    if label:
        canvas.tag((start + end) / 2, level, label, colour)


def _strip(canvas: _Canvas, boxes: Sequence[Step], top: float) -> float:
    """The network as a row of boxes, wrapped when it is long."""
    per_row = 8
    canvas.text(_MARGIN - 12, top + 16, "network", size=15, weight="bold", anchor="start")
    y = top + 30
    for start in range(0, len(boxes), per_row):
        row = boxes[start : start + per_row]
        tallest = max(len(b.chosen) for b in row)
        for i, box in enumerate(row):
            x = _MARGIN - 12 + i * (_BOX + 22)
            canvas.box(x, y, _BOX, 58 + 15 * len(box.chosen), fill="#FFFFFF")
            times = f"  x {box.count}" if box.count > 1 else ""
            canvas.text(x + _BOX / 2, y + 19, f"{box.label}{times}", size=13, weight="bold")
            canvas.text(x + _BOX / 2, y + 35, box.what, size=11)
            canvas.text(x + _BOX / 2, y + 50, box.shape, size=11, colour="#5F6368")
            for j, text in enumerate(box.chosen):
                canvas.text(x + _BOX / 2, y + 66 + 15 * j, text, size=10)
            if start + i + 1 < len(boxes) and i + 1 < len(row):
                canvas.path(f"M{x + _BOX:.0f} {y + 29:.0f} L{x + _BOX + 22:.0f} {y + 29:.0f}", _GREY, "")
        y += 58 + 15 * tallest + 18
    return y


def _options(canvas: _Canvas, space: CheckedSpace, top: float) -> float:
    """The different lists of options, once each."""
    lists = list(dict.fromkeys(d.options for d in space.table.decisions if d.kind == "op"))
    y = top + 8
    for options in lists[:6]:
        canvas.text(_MARGIN - 12, y, f"{len(options)} options: {', '.join(options)}", size=12, anchor="start")
        y += 18
    return y


class _Canvas:
    """Collects SVG elements and how far they reach."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._right = 0.0

    def svg(self, height: float) -> str:
        width, tall = f"{self._right + _MARGIN:.0f}", f"{height:.0f}"
        heads = "".join(
            f"<marker id='head-{c[1:]}' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='6' markerHeight='6' "
            f"orient='auto'><path d='M0 0 L8 4 L0 8 Z' fill='{c}'/></marker>"
            for c in dict.fromkeys((*_PALETTE, _GREY, "#5F6368"))
        )
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{tall}' "
            f"viewBox='0 0 {width} {tall}'>\n<defs>{heads}</defs>\n"
            f"<rect width='{width}' height='{tall}' fill='#FFFFFF'/>\n"
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int,
        weight: str = "normal",
        colour: str = _INK,
        anchor: str = "middle",
    ) -> None:
        shown = "".join(c if c.isprintable() else " " for c in text)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        reach = {"start": 1.0, "middle": 0.5, "end": 0.0}[anchor] * 0.56 * size * len(shown)
        self._right = max(self._right, x + reach)
        self._parts.append(
            f"<text x='{x:.0f}' y='{y:.0f}' {_FONT} font-size='{size}' font-weight='{weight}' fill='{colour}' "
            f"text-anchor='{anchor}'>{escape(shown)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str = "#FAFAFA") -> None:
        self._right = max(self._right, x + width)
        self._parts.append(
            f"<rect x='{x:.0f}' y='{y:.0f}' width='{width:.0f}' height='{height:.0f}' rx='8' fill='{fill}' "
            f"stroke='{_FAINT}' stroke-width='1.5'/>"
        )

    def path(self, path: str, colour: str, dash: str) -> None:
        dashed = f" stroke-dasharray='{dash}'" if dash else ""
        self._parts.append(
            f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.8'{dashed} "
            f"marker-end='url(#head-{colour[1:]})'/>"
        )

    def tag(self, x: float, y: float, text: str, colour: str) -> None:
        """A label on a line, on a white ground."""
        width = 6.2 * len(text) + 8
        self._parts.append(
            f"<rect x='{x - width / 2:.0f}' y='{y - 8:.0f}' width='{width:.0f}' height='16' rx='3' fill='#FFFFFF'/>"
        )
        self.text(x, y + 4, text, size=11, colour=colour)

    def vertex(self, x: float, y: float, name: str, *, filled: bool) -> None:
        fill = "#FFFFFF" if not filled else "#E8F0FE"
        self._parts.append(
            f"<circle cx='{x:.0f}' cy='{y:.0f}' r='{_RADIUS}' fill='{fill}' stroke='{_INK}' stroke-width='1.5'/>"
        )
        self.text(x, y + 4, name, size=11)
