"""The axes of a chart.

Takes numbers, returns scales with round ticks, and a frame that says where a value lies. Invariant: the
first and the last tick of a linear scale hold every value; no two ticks of an axis read alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import attrs

from nasdsl.drawing.canvas import GREY, Canvas, fitted, text_width

HUGE, TINY = 1e290, 1e-290
"""Beyond these arithmetic on differences leaves the numbers there are."""
_GRID = "#E8EAED"


def drawable(value: object) -> bool:
    """Whether it is a number that has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= HUGE


@attrs.frozen
class Axis:
    """A scale; `ticks` are values, `low` and `high` its ends; of a logarithmic one these are logarithms."""

    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def linear(values: Iterable[float], word: Callable[[float, int], str] | None = None) -> Axis:
    """About five round steps around some numbers.

    Args:
        word: how a tick is written with so many significant digits.
    """
    numbers = [0.0 if abs(v) < TINY else v for v in values]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # rounding would be drawn, not differences
        span = abs(high) or 1.0
    step = _step(span / 4)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    ticks = tuple(step * i for i in range(first, last + 1))
    return Axis(ticks, _words(ticks, word or plain), ticks[0], ticks[-1])


def counted(values: Iterable[float], margin: float = 0.5) -> Axis:
    """Whole numbers, with a margin before the first and after the last."""
    numbers = list(values) or [0.0]
    low, high = min(numbers), max(numbers)
    step = max(1, math.ceil(_step((high - low) / 6))) if high > low else 1
    ticks = tuple(float(step * i) for i in range(math.ceil(low / step), math.floor(high / step) + 1))
    return Axis(ticks, tuple(f"{t:,.0f}" for t in ticks), low - margin, high + margin)


def powers(values: Iterable[int]) -> Axis:
    """A logarithmic scale of numbers of 1 and more: its ticks are the logarithms to base 10."""
    logs = [math.log10(max(1, v)) for v in values] or [0.0]
    low, high = math.floor(min(logs)), max(math.ceil(max(logs)), math.floor(min(logs)) + 1)
    stride = math.ceil((high - low) / 5)
    factors = (1, 2, 5) if high - low <= 2 else (1,)
    steps = [(n, f) for n in range(low, high, stride) for f in factors] + [(high, 1)]
    return Axis(tuple(n + math.log10(f) for n, f in steps), tuple(_power(n, f) for n, f in steps), low, high)


def plain(value: float, digits: int) -> str:
    """A number as it is."""
    return f"{value:.{digits}g}"


def percent(value: float, digits: int) -> str:
    """A number of percent."""
    return f"{value:.{digits}g} %"


def short(value: float, digits: int) -> str:
    """1,500,000 as 1.5 M."""
    for size, word in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{word}"
    return f"{value:.{digits}g}"


@attrs.frozen
class Frame:
    """A rectangle of pixels with two axes."""

    left: float
    top: float
    right: float
    bottom: float
    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        """Where a value of the lower axis lies."""
        return self.left + (self.right - self.left) * self.across.share(value)

    def y(self, value: float) -> float:
        """Where a value of the left axis lies."""
        return self.bottom - (self.bottom - self.top) * self.up.share(value)

    def draw(self, canvas: Canvas) -> None:
        """The lines of the ticks and their words."""
        for tick, word in zip(self.across.ticks, self.across.labels, strict=True):
            x = self.x(tick)
            canvas.path(f"M{x:.1f} {self.top:.1f} V{self.bottom:.1f}", _GRID, head=False)
            canvas.text(x, self.bottom + 18, word, 12, colour=GREY)
        for tick, word in zip(self.up.ticks, self.up.labels, strict=True):
            y = self.y(tick)
            canvas.path(f"M{self.left:.1f} {y:.1f} H{self.right:.1f}", _GRID, head=False)
            canvas.text(self.left - 8, y + 4, word, 12, colour=GREY, anchor="end")


def margin(*axes: Axis) -> float:
    """How much the words of left axes need."""
    return max(40.0, *(text_width(word, 12) for axis in axes for word in axis.labels)) + 14


def legend(canvas: Canvas, entries: Sequence[tuple[str, str]], width: float) -> None:
    """Names with their colours, in one line below the name of the left axis."""
    x = 18.0
    for name, colour in entries:
        name = fitted(name, 12, (width - 40 * len(entries)) / len(entries))
        canvas.dots([(x, 40.0)], 8, colour, 1)
        canvas.text(x + 10, 44, name, 12, colour=GREY, anchor="start")
        x += text_width(name, 12) + 34


def _step(rough: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is no smaller."""
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * m for m in (1.0, 2.0, 5.0, 10.0) if unit * m >= rough)


def _words(ticks: Sequence[float], word: Callable[[float, int], str]) -> tuple[str, ...]:
    """Ticks with as many digits as tell them apart."""
    found = tuple(word(t, 6) for t in ticks)
    for digits in range(7, 18):
        if len(set(found)) == len(ticks):
            break
        found = tuple(word(t, digits) for t in ticks)
    return found


def _power(exponent: int, factor: int) -> str:
    if exponent < 5:
        return f"{factor * 10**exponent:,}"
    raised = "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] for d in str(exponent))
    return raised if factor == 1 else f"{factor}·{raised}"


__all__ = [
    "Axis",
    "Frame",
    "counted",
    "drawable",
    "legend",
    "linear",
    "margin",
    "percent",
    "plain",
    "powers",
    "short",
]
