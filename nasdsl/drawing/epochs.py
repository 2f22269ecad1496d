"""Small charts over the epochs of a run: lines, and what a decision leans to.

Takes numbers, returns SVG text with where its epochs lie. Invariant: what is no number is left out and breaks
its line; axes hold every point; all charts of the same epochs have them at the same places, so that one mark
fits all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import attrs

from nasdsl.drawing.axes import Axis, Frame, counted, drawable, linear, plain
from nasdsl.drawing.canvas import Canvas, fitted, text_width
from nasdsl.drawing.colours import LIGHT, NAMES

WIDTH, HEIGHT = 340.0, 200.0
SMALL_WIDTH, SMALL_HEIGHT = 220.0, 104.0
DASHES: tuple[str, ...] = ("", "7 3", "2 3", "9 3 2 3", "5 2", "1 2")
"""How lines of one chart differ beside their colours."""
Value = TypeVar("Value")
_MOST_MARKS = 30
_BAND = 8.0


@attrs.frozen
class Line:
    """Epochs and values; a value that is no number is a gap, but for a line that is `sparse`."""

    name: str
    colour: str
    points: tuple[tuple[int, float | None], ...]
    sparse: bool = False


@attrs.frozen
class Chart:
    """A picture; epoch `e` lies at `first + step * e` pixels of its own width, between `top` and `bottom`."""

    svg: str
    first: float
    step: float
    top: float
    bottom: float


def draw_epochs(
    lines: Sequence[Line],
    title: str,
    epochs: Sequence[int],
    word: Callable[[float, int], str] = plain,
    include: Sequence[float] = (),
) -> Chart:
    """Lines over epochs.

    Args:
        title: read to who cannot see it.
        epochs: all of the run.
        include: values that the left axis holds, whatever the lines.
    """
    canvas = Canvas(NAMES)
    known = [v for line in lines for _, v in line.points if v is not None and drawable(v)]
    frame = Frame(58.0, 10.0, WIDTH - 10, HEIGHT - 26, counted(epochs), linear([*known, *include], word))
    frame.draw(canvas)
    for number, line in enumerate(lines):
        _line(canvas, frame, line, DASHES[number % len(DASHES)])
    return _chart(canvas.svg(WIDTH, HEIGHT, title), frame)


def _line(canvas: Canvas, frame: Frame, line: Line, dashed: str) -> None:
    pieces: list[list[tuple[float, float]]] = [[]]
    for epoch, value in line.points:
        if value is not None and drawable(value):
            pieces[-1].append((frame.x(epoch), frame.y(value)))
        elif not line.sparse:
            pieces.append([])
    for piece in pieces:
        if len(piece) > 1:
            path = " L".join(f"{x:.1f} {y:.1f}" for x, y in piece)
            canvas.path(f"M{path}", line.colour, head=False, dashed=dashed)
    many = sum(map(len, pieces)) > _MOST_MARKS
    marks = [p for piece in pieces for p in piece if not many or len(piece) == 1]
    canvas.dots(marks, 5, line.colour, 1)


def draw_shares(
    shares: Sequence[tuple[int, Sequence[float]]],
    colours: Sequence[str],
    chosen: Sequence[tuple[int, str]],
    title: str,
    epochs: Sequence[int],
) -> Chart:
    """What a decision leans to: probabilities stacked to 1, and beneath them what would be derived.

    Args:
        shares: epochs with a share of every option, first at the bottom; empty where they are not known.
        colours: of the options.
        chosen: epochs with the colour of the derived option.
    """
    canvas = Canvas(NAMES)
    bottom = SMALL_HEIGHT - 18
    across = _ends(epochs)
    up = Axis((0.0, 0.5, 1.0), ("0", "", "1"), 0.0, 1.0)
    frame = Frame(16.0, 4.0, SMALL_WIDTH - 4, bottom - (_BAND + 4 if shares else 0), across, up)
    if shares:
        _stack(canvas, frame, shares, colours)
        for value in (0.0, 1.0):
            canvas.text(12, frame.y(value) + (0 if value == 0 else 7), f"{value:g}", 9.5, anchor="end")
    else:
        frame = attrs.evolve(frame, top=bottom - 3 * _BAND)
    top = bottom - (_BAND if shares else 3 * _BAND)
    for colour, first, last in _runs(chosen):
        canvas.area(_rectangle(frame, first, last, top, bottom), colour, 1)
    _feet(canvas, frame)
    return _chart(canvas.svg(SMALL_WIDTH, SMALL_HEIGHT, title), attrs.evolve(frame, bottom=bottom))


def draw_inputs(
    shares: Sequence[tuple[int, Sequence[float]]],
    colours: Sequence[str],
    names: Sequence[str],
    taken: Sequence[tuple[int, Sequence[bool]]],
    title: str,
    epochs: Sequence[int],
) -> Chart:
    """Which inputs a node takes: a row an input, the stronger the more likely, underlined where it is taken.

    Args:
        shares: epochs with the probability of every input; empty where they are not known.
        taken: epochs with whether the derived architecture takes each.
    """
    canvas = Canvas(NAMES)
    bottom, top = SMALL_HEIGHT - 18, 4.0
    across = _ends(epochs)
    left = 12 + max((text_width(fitted(n, 9.5, 60), 9.5) for n in names), default=0)
    frame = Frame(left, top, SMALL_WIDTH - 4, bottom, across, Axis((), (), 0.0, 1.0))
    height = min(24.0, (bottom - top) / max(1, len(names)))
    for row, (name, colour) in enumerate(zip(names, colours, strict=True)):
        y, low = top + row * height, top + (row + 1) * height - 3
        canvas.text(left - 4, (y + low) / 2 + 4, fitted(name, 9.5, 60), 9.5, anchor="end")
        for value, first, last in _runs((e, round(20 * min(1.0, max(0.0, v[row]))) / 20) for e, v in shares):
            if value > 0:
                canvas.area(_rectangle(frame, first, last, y, low - 1), colour, 0.85 * value)
        for value, first, last in _runs((e, float(t[row])) for e, t in taken):
            if value:
                canvas.area(_rectangle(frame, first, last, y if not shares else low, low + 2), colour, 1)
    _feet(canvas, frame)
    return _chart(canvas.svg(SMALL_WIDTH, SMALL_HEIGHT, title), frame)


def _runs(values: Iterable[tuple[int, Value]]) -> Iterator[tuple[Value, int, int]]:
    """Values with the first and the last of the epochs, following each other, that have them."""
    numbered = groupby(enumerate(values), key=lambda item: (item[1][1], item[1][0] - item[0]))
    for (value, _), group in numbered:
        span = [epoch for _, (epoch, _) in group]
        yield value, span[0], span[-1]


def _rectangle(frame: Frame, first: int, last: int, top: float, bottom: float) -> str:
    left, right = frame.x(first - 0.5), frame.x(last + 0.5)
    return f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}Z"


def _feet(canvas: Canvas, frame: Frame) -> None:
    """The first and the last epoch below a small chart."""
    for tick, anchor in zip(frame.across.ticks, ("start", "end"), strict=False):
        at = frame.left if anchor == "start" else frame.right
        canvas.text(at, SMALL_HEIGHT - 5, f"{tick:.0f}", 9.5, colour=LIGHT["grey"], anchor=anchor)


def _stack(
    canvas: Canvas, frame: Frame, shares: Sequence[tuple[int, Sequence[float]]], colours: Sequence[str]
) -> None:
    """Areas from the highest edge to the lowest, each over those before: one edge an area is enough.

    An epoch has the width of its place, so that a run of one epoch has a picture, too; one without shares has none.
    """
    numbered = groupby(enumerate(shares), key=lambda item: item[1][0] - item[0])
    parts = [[share for _, share in group] for _, group in numbered]
    for index in reversed(range(len(colours))):
        path = ""
        for part in parts:
            path += f"M{frame.x(part[0][0] - 0.5):.1f} {frame.bottom:.1f}"
            for epoch, values in part:
                y = frame.y(min(1.0, max(0.0, sum(values[: index + 1]))))
                path += f"V{y:.1f}H{frame.x(epoch + 0.5):.1f}"
            path += f"V{frame.bottom:.1f}Z"
        canvas.area(path, colours[index], 1)


def _ends(epochs: Sequence[int]) -> Axis:
    """The first and the last epoch, each with its own width."""
    low, high = (min(epochs), max(epochs)) if epochs else (1, 1)
    ticks = (float(low), float(high)) if high > low else (float(low),)
    return Axis(ticks, tuple(f"{t:.0f}" for t in ticks), low - 0.5, high + 0.5)


def _chart(svg: str, frame: Frame) -> Chart:
    first = frame.x(0)
    return Chart(svg, round(first, 3), round(frame.x(1) - first, 5), frame.top, frame.bottom)


__all__ = ["DASHES", "Chart", "Line", "draw_epochs", "draw_inputs", "draw_shares"]
