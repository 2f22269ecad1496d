"""Lines over whole numbers: correlations by distance, rounds by their means and sizes.

Takes numbers, returns SVG text. Invariant: what is no number is left out and breaks its line; axes hold
every point and all that is drawn around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

from nasdsl.drawing.axes import Frame, counted, drawable, legend, linear, margin, powers
from nasdsl.drawing.canvas import Canvas, fitted
from nasdsl.drawing.colours import LIGHT, NAMES

WIDTH, HEIGHT, TALL = 640.0, 380.0, 480.0
_TOP, _BOTTOM, _RIGHT = 60.0, 60.0, 30.0
_SPLIT = 300.0
"""Where the upper chart of two ends."""


@attrs.frozen
class Series:
    """One line.

    Attributes:
        points: places and values; a value that is no number is a gap.
        spread: on either side of each value; none where it is no number.
        band: the spread is an area, not bars.
    """

    name: str
    colour: str
    points: tuple[tuple[float, float | None], ...]
    spread: tuple[float | None, ...] = ()
    band: bool = False

    def known(self) -> list[tuple[float, float, float]]:
        """Places, values and spreads of what can be drawn."""
        spread = (*self.spread, *([None] * (len(self.points) - len(self.spread))))
        return [
            (x, y, s if s is not None and drawable(s) else 0.0)
            for (x, y), s in zip(self.points, spread, strict=True)
            if y is not None and drawable(y)
        ]


@attrs.frozen
class Step:
    """A round: its mean and standard error, the size of its set, whether that set was kept."""

    number: int
    mean: float | None
    error: float | None
    size: int
    kept: bool


def draw_lines(
    series: Sequence[Series], across: str, up: str, levels: Sequence[tuple[float, str]] = ()
) -> str:
    """A chart of lines; `levels` are values with a dashed line and a word of a few letters."""
    canvas = Canvas(NAMES)
    left = linear([*_reach(series), *(v for v, _ in levels)])
    lower = counted([x for s in series for x, _ in s.points])
    frame = Frame(margin(left), _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM, lower, left)
    frame.draw(canvas)
    for value, word in levels:
        y = frame.y(value)
        canvas.path(
            f"M{frame.left:.1f} {y:.1f} H{frame.right:.1f}", LIGHT["grey"], dashed=True, head=False, width=1
        )
        canvas.text(frame.right + 4, y + 4, word, 11, colour=LIGHT["grey"], anchor="start")
    for line in series:
        _line(canvas, frame, line)
    legend(canvas, [(s.name, s.colour) for s in series], WIDTH)
    canvas.text((frame.left + frame.right) / 2, HEIGHT - 16, fitted(across, 13, WIDTH - 60), 13)
    canvas.text(12, 20, fitted(up, 13, WIDTH - 24), 13, anchor="start")
    return canvas.svg(WIDTH, HEIGHT, f"{up} by {across}")


def draw_rounds(rounds: Sequence[Step], up: str, size: str) -> str:
    """The means of rounds, and beneath them the sizes of their sets; `up` and `size` name the axes."""
    canvas = Canvas(NAMES)
    means = Series(
        "", LIGHT["accent"], tuple((r.number, r.mean) for r in rounds), tuple(r.error for r in rounds)
    )
    lower = counted([r.number for r in rounds])
    left, below = linear(_reach([means])), powers(r.size for r in rounds)
    edge = margin(left, below)
    frame = Frame(edge, 36, WIDTH - _RIGHT, _SPLIT - 50, lower, left)
    small = Frame(edge, _SPLIT + 6, WIDTH - _RIGHT, TALL - _BOTTOM, lower, below)
    frame.draw(canvas)
    small.draw(canvas)
    hollow = {r.number for r in rounds if not r.kept}
    _line(canvas, frame, means, hollow)
    sizes = tuple((float(r.number), math.log10(max(1, r.size))) for r in rounds)
    _line(canvas, small, Series("", LIGHT["second"], sizes), hollow)
    canvas.text(12, 20, fitted(up, 13, WIDTH - 24), 13, anchor="start")
    canvas.text(12, _SPLIT - 14, fitted(size, 13, WIDTH - 24), 13, anchor="start")
    canvas.text((edge + frame.right) / 2, TALL - 16, "round", 13)
    return canvas.svg(WIDTH, TALL, f"{up} and {size} by round")


def _reach(series: Iterable[Series]) -> list[float]:
    return [v for s in series for _, y, spread in s.known() for v in (y - spread, y + spread)]


def _line(canvas: Canvas, frame: Frame, line: Series, hollow: set[int] | None = None) -> None:
    """A line with its spread; the points in `hollow` are not filled."""
    known = line.known()
    if line.band and len(known) > 1:
        upper = [f"{frame.x(x):.1f} {frame.y(y + s):.1f}" for x, y, s in known]
        under = [f"{frame.x(x):.1f} {frame.y(y - s):.1f}" for x, y, s in reversed(known)]
        canvas.area(f"M{' L'.join((*upper, *under))} Z", line.colour, 0.18)
    elif not line.band:
        for x, y, s in known:
            if s:
                canvas.path(
                    _bar(frame.x(x), frame.y(y - s), frame.y(y + s)), line.colour, head=False, width=1.3
                )
    pieces: list[list[str]] = [[]]
    places = {x: f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y, _ in known}
    for place, _ in line.points:
        if place in places:
            pieces[-1].append(places[place])
        else:
            pieces.append([])
    for piece in pieces:
        if len(piece) > 1:
            canvas.path(f"M{' L'.join(piece)}", line.colour, head=False)
    for x, y, _ in known:
        fill = LIGHT["ground"] if hollow and x in hollow else line.colour
        canvas.circle(frame.x(x), frame.y(y), 3.0 if line.band else 4.0, fill, line.colour)


def _bar(x: float, low: float, high: float) -> str:
    caps = f"M{x - 4:.1f} {low:.1f} h8 M{x - 4:.1f} {high:.1f} h8"
    return f"M{x:.1f} {low:.1f} V{high:.1f} {caps}"


__all__ = ["Series", "Step", "draw_lines", "draw_rounds"]
