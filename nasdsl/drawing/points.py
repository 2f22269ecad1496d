"""Accuracy against cost, a point an architecture.

Takes numbers, returns SVG text. Invariant: axes end at round numbers that hold every point; the front
is drawn over the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nasdsl.drawing.canvas import GREY, INK, LINE, Canvas

WIDTH, HEIGHT = 640.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 30.0, 20.0, 60.0
_FRONT = "#1A73E8"

Point = tuple[float, float, bool]
"""Cost, accuracy (0 to 1), whether no other point is better in both."""


def draw_points(points: Sequence[Point], cost: str) -> str:
    """The picture; `cost` names the lower axis."""
    canvas = Canvas()
    across = _scale([p[0] for p in points])
    up = _scale([100 * p[1] for p in points])

    def place(point: Point) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * across.share(point[0])
        return x, HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * up.share(100 * point[1])

    for tick in across.ticks:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * across.share(tick)
        canvas.path(f"M{x:.1f} {_TOP:.1f} V{HEIGHT - _BOTTOM:.1f}", "#E8EAED", head=False)
        canvas.text(x, HEIGHT - _BOTTOM + 18, _short(tick), 12, colour=GREY)
    for tick in up.ticks:
        y = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * up.share(tick)
        canvas.path(f"M{_LEFT:.1f} {y:.1f} H{WIDTH - _RIGHT:.1f}", "#E8EAED", head=False)
        canvas.text(_LEFT - 8, y + 4, f"{tick:g} %", 12, colour=GREY, anchor="end")
    canvas.text((WIDTH + _LEFT) / 2, HEIGHT - 16, cost, 13, colour=INK)
    for point in points:
        if not point[2]:
            canvas.circle(*place(point), 3.0, "#FFFFFF", LINE)
    front = [place(p) for p in sorted(points) if p[2]]
    if len(front) > 1:
        line = " L".join(f"{x:.1f} {y:.1f}" for x, y in front)
        canvas.path(f"M{line}", _FRONT, head=False)
    for x, y in front:
        canvas.circle(x, y, 4.0, _FRONT, _FRONT)
    return canvas.svg(WIDTH, HEIGHT)


class _Scale:
    def __init__(self, ticks: Sequence[float]) -> None:
        self.ticks = ticks

    def share(self, value: float) -> float:
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


def _scale(values: Sequence[float]) -> _Scale:
    """About five round steps around some numbers."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = high - low or abs(high) or 1.0
    rough = span / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1.0, 2.0, 5.0, 10.0) if unit * m >= rough)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return _Scale([step * i for i in range(first, last + 1)])


def _short(value: float) -> str:
    """1,500,000 as 1.5 M."""
    for size, word in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{word}"
    return f"{value:g}"
