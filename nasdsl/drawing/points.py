"""Accuracy against cost, a point an architecture.

Takes numbers, returns SVG text. Invariant: axes end at round numbers that hold every point; the front
is drawn over the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from nasdsl.drawing.axes import Frame, linear, percent, short
from nasdsl.drawing.canvas import Canvas
from nasdsl.drawing.colours import LIGHT

WIDTH, HEIGHT = 640.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 30.0, 20.0, 60.0

Point = tuple[float, float, bool]
"""Cost, accuracy (0 to 1), whether no other point is better in both."""


def draw_points(points: Sequence[Point], cost: str, canvas: Canvas | None = None) -> str:
    """The picture; `cost` names the lower axis, `canvas` is an empty one, such as one with names for a page."""
    canvas = canvas or Canvas()
    across = linear([p[0] for p in points], short)
    up = linear([100 * p[1] for p in points], percent)
    frame = Frame(_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM, across, up)

    def place(point: Point) -> tuple[float, float]:
        return frame.x(point[0]), frame.y(100 * point[1])

    frame.draw(canvas)
    canvas.text((WIDTH + _LEFT) / 2, HEIGHT - 16, cost, 13)
    for point in points:
        if not point[2]:
            canvas.circle(*place(point), 3.0, LIGHT["ground"], LIGHT["faint"])
    front = [place(p) for p in sorted(points) if p[2]]
    if len(front) > 1:
        line = " L".join(f"{x:.1f} {y:.1f}" for x, y in front)
        canvas.path(f"M{line}", LIGHT["accent"], head=False)
    for x, y in front:
        canvas.circle(x, y, 4.0, LIGHT["accent"], LIGHT["accent"])
    return canvas.svg(WIDTH, HEIGHT, f"accuracy against {cost}")
