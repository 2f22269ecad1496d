"""Figure against cost: a whole space faintly, a part of it in colour.

Takes pairs of numbers of which a higher figure is better, returns SVG text. Invariant: what is no number is
left out; at most `MOST_FAINT` faint points are drawn, the same ones every time, and every point of the part;
a few failures, far below all others, do not flatten the rest: they lie on the lower edge.
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


def floor_of(*layers: Layer) -> float:
    """The least figure that has its own place.

    The best 19 of 20 of each layer have theirs, and what is below them by at most half their span.
    """
    figures = [sorted(p[1] for p in layer.points) for layer in layers if layer.points]
    if not figures:
        return 0.0
    usual = min(f[len(f) // 20] for f in figures)
    fence = usual - (max(f[-1] for f in figures) / 2 - usual / 2)
    return min(v for f in figures for v in f if v >= fence)


def draw_cloud(faint: Layer, strong: Layer, edges: Sequence[float], across: str, up: str) -> str:
    """The picture.

    Args:
        edges: costs at which bins part, drawn as dashed lines.
        across, up: name the axes.
    """
    canvas = Canvas(NAMES)
    lines = sorted({float(e) for e in edges if drawable(e)})
    floor = floor_of(faint, strong)
    back, front = thinned(faint.points), strong.points
    shown = [*back, *front]
    left = linear(p[1] for p in shown if p[1] >= floor)
    lower = linear([*(p[0] for p in shown), *lines], short)
    frame = Frame(margin(left), _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM, lower, left)

    def place(point: Point) -> tuple[float, float]:
        return frame.x(point[0]), frame.y(point[1]) if point[1] >= floor else frame.bottom

    frame.draw(canvas)
    canvas.text((frame.left + frame.right) / 2, HEIGHT - 16, fitted(across, 13, WIDTH - 60), 13)
    canvas.text(12, 20, fitted(up, 13, WIDTH - 24), 13, anchor="start")
    for edge in lines:
        x = frame.x(edge)
        canvas.path(
            f"M{x:.1f} {_TOP:.1f} V{frame.bottom:.1f}", LIGHT["grey"], dashed=True, head=False, width=1
        )
    canvas.dots([place(p) for p in back], 5 if len(back) <= 500 else 3, LIGHT["faint"], 0.55)
    many = len(front)
    size = 7 if many <= 500 else 5 if many <= 3_000 else 3
    canvas.dots([place(p) for p in front], size, LIGHT["accent"], 0.85)
    legend(canvas, [(n.name, LIGHT[c]) for n, c in ((faint, "faint"), (strong, "accent")) if n.points], WIDTH)
    return canvas.svg(WIDTH, HEIGHT, f"{up} against {across}")


__all__ = ["MOST_FAINT", "Layer", "draw_cloud", "floor_of", "points_of", "thinned"]
