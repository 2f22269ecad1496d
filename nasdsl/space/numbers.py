"""Arithmetic of the language: integers that remember their symbolic form.

Takes values and an operator, returns a value or reports why not. Invariant: the
symbolic form, where there is one, evaluates to the value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from nasdsl.diagnostics import Diagnostics, Span
from nasdsl.space.values import Abort, Extent, Num
from nasdsl.types import Dim

LARGEST = 10**15

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def literal(value: int | float, span: Span, diagnostics: Diagnostics) -> Num:
    """A number as written. Raises Abort (NAS207) when it is beyond any use."""
    if abs(value) > LARGEST:
        diagnostics.error(
            "NAS207",
            "this number is too large",
            span,
            f"more than {LARGEST:.0e}",
            help="use a smaller number",
        )
        raise Abort
    return Num.of(value)


def compare(symbol: str, left: Any, right: Any, span: Span, diagnostics: Diagnostics) -> Num:
    """`<`, `==` and the others, between numbers or between resolutions."""
    if isinstance(left, Num) and isinstance(right, Num):
        return Num(_COMPARE[symbol](left.value, right.value))
    if isinstance(left, Extent) and isinstance(right, Extent) and len(left.sizes) == len(right.sizes):
        if symbol in ("==", "!="):
            return Num(_COMPARE[symbol](left.sizes, right.sizes))
        return Num(all(_COMPARE[symbol](a, b) for a, b in zip(left.sizes, right.sizes, strict=True)))
    diagnostics.error(
        "NAS201",
        f"`{symbol}` compares two numbers, or the `.size` of two values",
        span,
        f"{left.kind} and {right.kind}",
    )
    raise Abort


def arithmetic(symbol: str, left: Any, right: Any, span: Span, diagnostics: Diagnostics) -> Num:
    """`+ - * / // %` on numbers. Raises Abort after NAS201 (not numbers) or NAS207 (zero, too large)."""
    if (
        not (isinstance(left, Num) and isinstance(right, Num))
        or isinstance(left.value, bool)
        or isinstance(right.value, bool)
    ):
        diagnostics.error("NAS201", f"`{symbol}` needs two numbers", span, f"{left.kind} and {right.kind}")
        raise Abort
    if symbol in ("/", "//", "%") and right.value == 0:
        diagnostics.error("NAS207", "division by zero", span, f"the right side of `{symbol}` is 0")
        raise Abort
    value = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": operator.truediv,
        "//": operator.floordiv,
        "%": operator.mod,
    }[symbol](left.value, right.value)
    if isinstance(value, float) and value == int(value) and symbol == "/":
        value = int(value)
    if abs(value) > LARGEST:
        diagnostics.error("NAS207", "this number is too large", span, f"more than {LARGEST:.0e}")
        raise Abort
    return Num(value, _symbolic(symbol, left, right, value))


def _symbolic(symbol: str, left: Num, right: Num, value: int | float) -> Dim | None:
    if not isinstance(value, int):
        return None
    a, b = left.dim, right.dim
    if a is None or b is None:
        return Dim.of(value)
    if symbol == "+":
        return a + b
    if symbol == "-":
        return a - b
    if symbol == "*":
        return a * b
    return a // b if symbol in ("//", "/") else a % b


def call(name: str, arguments: list[Num], span: Span, diagnostics: Diagnostics) -> Num:
    """The functions over numbers: `int`, `round8`, `min`, `max`."""
    if not arguments:
        diagnostics.error("NAS102", f"`{name}` needs a number", span, "none given")
        raise Abort
    values = [a.value for a in arguments]
    if name == "int":
        return arguments[0] if arguments[0].dim is not None else Num.of(int(values[0]))
    if name == "round8":
        rounded = max(8, int(values[0] + 4) // 8 * 8)
        return Num.of(rounded + 8 if rounded < 0.9 * values[0] else rounded)
    return Num.of(min(values) if name == "min" else max(values))


def integer(value: Any, what: str, span: Span, diagnostics: Diagnostics, low: int, high: int) -> int:
    """`value` as an integer in `low..high`. Raises Abort after NAS201 or NAS206."""
    if not isinstance(value, Num) or isinstance(value.value, bool):
        diagnostics.error("NAS201", f"{what} must be an integer", span, f"this is {value.kind}")
        raise Abort
    number = value.value
    if isinstance(number, float):
        diagnostics.error(
            "NAS206",
            f"{what} must be an integer",
            span,
            f"this is {number:g}",
            help="use `//` for integer division",
        )
        raise Abort
    if not low <= number <= high:
        bound = f"at least {low}" if number < low else f"at most {high}"
        diagnostics.error("NAS206", f"{what} must be {bound}", span, f"this is {number}")
        raise Abort
    return int(number)
