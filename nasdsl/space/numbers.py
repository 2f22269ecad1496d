"""Arithmetic of the language: numbers that remember their symbolic form and what they depend on.

Takes values and an operator, returns a value or reports why not. Invariant: the
symbolic form, where there is one, evaluates to the value; an operation on
numbers that depend on decisions is carried out for every combination of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from nasdsl.cases import Cases, Scalar, lift
from nasdsl.diagnostics import Diagnostics, Span
from nasdsl.space.values import Abort, Extent, Num, Size
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
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
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
        return Num(_compared(symbol, left.value, right.value, span, diagnostics))
    if isinstance(left, Extent) and isinstance(right, Extent) and len(left.sizes) == len(right.sizes):
        relation = "==" if symbol == "!=" else symbol
        pairs = zip(left.sizes, right.sizes, strict=True)
        every = [_compared(relation, a, b, span, diagnostics) for a, b in pairs]
        held = lift(lambda *found: all(found), *every)
        return Num(lift(lambda h: not h, held) if symbol == "!=" else held)
    diagnostics.error(
        "NAS201",
        f"`{symbol}` compares two numbers, or the `.size` of two values",
        span,
        f"{left.kind} and {right.kind}",
    )
    raise Abort


def _compared(
    symbol: str, left: Scalar | Size, right: Scalar | Size, span: Span, diagnostics: Diagnostics
) -> bool | Cases:
    if isinstance(left, Dim) or isinstance(right, Dim):
        if symbol in ("==", "<=", ">=") and left == right:
            return True
        diagnostics.error(
            "NAS201", f"`{symbol}` cannot be told here", span, "one side is a width that is open"
        )
        raise Abort
    found = lift(_COMPARE[symbol], left, right)
    return found if isinstance(found, Cases) else bool(found)


def arithmetic(symbol: str, left: Any, right: Any, span: Span, diagnostics: Diagnostics) -> Num:
    """`+ - * / // %` on numbers. Raises Abort after NAS201 (not numbers) or NAS207 (zero, too large)."""
    if not (isinstance(left, Num) and isinstance(right, Num)) or left.truth or right.truth:
        cure = None
        if left.kind == "an operation":
            # `f with C=2*W` is `(f with C=2)*W`.
            cure = "`with NAME=` takes one value: put an expression in parentheses, as in `with C=(2*W)`"
        kinds = f"{left.kind} and {right.kind}"
        diagnostics.error("NAS201", f"`{symbol}` needs two numbers", span, kinds, help=cure)
        raise Abort
    if isinstance(left.value, Dim) or isinstance(right.value, Dim):
        return _open(symbol, left, right, span, diagnostics)
    if symbol in ("/", "//", "%") and any(v == 0 for v in _plain(right.value)):
        sometimes = " for some decisions" if right.decided else ""
        diagnostics.error(
            "NAS207", f"division by zero{sometimes}", span, f"the right side of `{symbol}` is 0{sometimes}"
        )
        raise Abort
    value = lift(_whole if symbol == "/" else _ARITHMETIC[symbol], left.value, right.value)
    if any(abs(v) > LARGEST for v in _plain(value)):
        diagnostics.error("NAS207", "this number is too large", span, f"more than {LARGEST:.0e}")
        raise Abort
    return Num(value, _symbolic(symbol, left, right, value))


def _plain(value: Any) -> tuple[Any, ...]:
    return value.table if isinstance(value, Cases) else (value,)


def _whole(left: Any, right: Any) -> int | float:
    """True division, an integer when it comes out even."""
    value = left / right
    return int(value) if value == int(value) else value


def _open(symbol: str, left: Num, right: Num, span: Span, diagnostics: Diagnostics) -> Num:
    """Arithmetic with a width that is settled later: it stays a polynomial."""
    if left.dim is None or right.dim is None or right.dim == Dim.of(0):
        diagnostics.error(
            "NAS201", f"`{symbol}` cannot be told here", span, "one side is a width that is open"
        )
        raise Abort
    dim = _polynomial(symbol, left.dim, right.dim)
    return Num(dim, dim)


def _symbolic(symbol: str, left: Num, right: Num, value: Scalar | Cases) -> Dim | None:
    if not all(isinstance(v, int) for v in _plain(value)):
        return None
    if left.dim is None or right.dim is None:
        return Dim.of(value)  # type: ignore[arg-type]
    return _polynomial(symbol, left.dim, right.dim)


def _polynomial(symbol: str, a: Dim, b: Dim) -> Dim:
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
    if name == "int" and arguments[0].dim is not None:
        return arguments[0]
    values = [a.value for a in arguments]
    if any(isinstance(v, Dim) for v in values):
        diagnostics.error("NAS201", f"`{name}` cannot be told here", span, "a width that is open")
        raise Abort
    return Num.of(lift(_FUNCTIONS[name], *values))  # type: ignore[arg-type]


def _round8(value: float) -> int:
    """To a multiple of 8, never more than a tenth below (MobileNetV2's `_make_divisible`)."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


_FUNCTIONS: dict[str, Callable[..., Scalar]] = {
    "int": int,
    "round8": _round8,
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
}


def integers(value: Any, what: str, span: Span, diagnostics: Diagnostics, low: int, high: int) -> Num:
    """`value` as an integer in `low..high`, for every combination of what it depends on.

    Raises Abort after NAS201 or NAS206.
    """
    if not isinstance(value, Num) or value.truth:
        diagnostics.error("NAS201", f"{what} must be an integer", span, f"this is {value.kind}")
        raise Abort
    if isinstance(value.value, Dim):
        return value
    for number in _plain(value.value):
        sometimes = " for some decisions" if value.decided else ""
        if isinstance(number, float):
            diagnostics.error(
                "NAS206",
                f"{what} must be an integer",
                span,
                f"this is {number:g}{sometimes}",
                help="use `//` for integer division",
            )
            raise Abort
        if not low <= number <= high:
            bound = f"at least {low}" if number < low else f"at most {high}"
            diagnostics.error("NAS206", f"{what} must be {bound}", span, f"this is {number}{sometimes}")
            raise Abort
    return value


def integer(value: Any, what: str, span: Span, diagnostics: Diagnostics, low: int, high: int) -> int:
    """An integer in `low..high` that depends on no decision. Raises Abort after NAS201 or NAS206."""
    found = integers(value, what, span, diagnostics, low, high).value
    if not isinstance(found, int):
        on = f": {', '.join(found.decisions)}" if isinstance(found, Cases) else ""
        diagnostics.error("NAS201", f"{what} must not depend on decisions", span, f"this does{on}")
        raise Abort
    return found
