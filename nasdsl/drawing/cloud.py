"""Figure against cost: a whole space faintly, a part of it in colour.

Takes pairs of numbers, returns SVG text. Invariant: what is no number is left out; at most `MOST_FAINT`
faint points are drawn, the same ones every time, and every point of the part.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

from nasdsl.drawing.axes import Frame, drawable, legend, linear, margin, short
from nasdsl.drawing.canvas import Canvas, fitted
from nasdsl.drawing.colours import LIGHT, NAMES

WIDTH, HEIGHT = 640.0, 420.0
_TOP, _BOTTOM, _RIGHT = 60.0, 60.0, 30.0
MOST_FAINT = 3_000

Point = tuple[float, float]
"""Cost, figure."""


@attrs.frozen
class Layer:
    """Points with the words that stand for them."""

    name: str
    points: tuple[Point, ...]


def points_of(costs: Sequence[object], figures: Sequence[object]) -> tuple[Point, ...]:
    """The pairs that have a place in a picture: both are finite numbers."""
    pairs = zip(costs, figures, strict=True)
    return tuple((float(c), float(f)) for c, f in pairs if drawable(c) and drawable(f))  # type: ignore[arg-type]


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """All of them, or `MOST_FAINT` drawn at random with a fixed seed."""
    return points if len(points) <= MOST_FAINT else random.Random(0).sample(list(points), MOST_FAINT)


def draw_cloud(faint: Layer, strong: Layer, edges: Sequence[float], across: str, up: str) -> str:
    """The picture.

    Args:
        edges: costs at which bins part, drawn as dashed lines.
        across, up: name the axes.
    """
    canvas = Canvas(NAMES)
    lines = sorted({float(e) for e in edges if drawable(e)})
    back = thinned(faint.points)
    shown = (*back, *strong.points)
    left = linear(p[1] for p in shown)
    lower = linear([*(p[0] for p in shown), *lines], short)
    frame = Frame(margin(left), _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM, lower, left)
    frame.draw(canvas)
    canvas.text((frame.left + frame.right) / 2, HEIGHT - 16, fitted(across, 13, WIDTH - 60), 13)
    canvas.text(12, 20, fitted(up, 13, WIDTH - 24), 13, anchor="start")
    for edge in lines:
        x = frame.x(edge)
        canvas.path(
            f"M{x:.1f} {_TOP:.1f} V{frame.bottom:.1f}", LIGHT["grey"], dashed=True, head=False, width=1
        )
    canvas.dots([(frame.x(c), frame.y(f)) for c, f in back], 3, LIGHT["faint"], 0.55)
    many = len(strong.points)
    size = 7 if many <= 500 else 5 if many <= 3_000 else 3
    canvas.dots([(frame.x(c), frame.y(f)) for c, f in strong.points], size, LIGHT["accent"], 0.85)
    legend(canvas, [(n.name, LIGHT[c]) for n, c in ((faint, "faint"), (strong, "accent")) if n.points], WIDTH)
    return canvas.svg(WIDTH, HEIGHT, f"{up} against {across}")


__all__ = ["MOST_FAINT", "Layer", "draw_cloud", "points_of", "thinned"]
