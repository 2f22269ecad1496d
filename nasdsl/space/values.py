"""What expressions evaluate to, and the scopes they are evaluated in.

Takes plain data, returns plain data. Invariant: a number that came from a size
keeps its symbolic form beside its value, so a graph stays valid for every use
of its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Union

import attrs

from nasdsl.diagnostics import Span
from nasdsl.syntax import ast
from nasdsl.types import Dim, TensorType

if TYPE_CHECKING:
    from nasdsl.space.builder import Place


class Abort(Exception):
    """The value cannot be made, and the reason has been reported."""


@attrs.frozen
class Num:
    """A number or a truth value. `dim` is its symbolic form, for integers."""

    value: int | float | bool
    dim: Dim | None = None

    @staticmethod
    def of(value: int | float | bool) -> Num:
        if isinstance(value, bool) or not isinstance(value, int):
            return Num(value)
        return Num(value, Dim.of(value))

    @property
    def kind(self) -> str:
        return "a truth value" if isinstance(self.value, bool) else "a number"


@attrs.frozen
class Tensor:
    """A value in a graph: the id of the node that makes it, its type, and its shape in this use."""

    id: str
    type: TensorType
    shape: tuple[int, ...] = attrs.field(eq=False)
    name: str = ""
    kind = "a value"


@attrs.frozen
class FamilyValue:
    """The members of `n[1..4]` made so far."""

    name: str
    members: tuple[Tensor, ...]
    kind = "a family of values"


@attrs.frozen
class ListValue:
    """`[4, 4, 4]`."""

    items: tuple[Value, ...]
    kind = "a list"


@attrs.frozen
class Text:
    """A string or a word such as `same`."""

    text: str
    kind = "a word"


@attrs.frozen
class Extent:
    """The resolution of an image, for comparison."""

    sizes: tuple[int, ...]
    kind = "a resolution"


@attrs.frozen
class Tuple:
    """`(a, b)`: the inputs of a cell."""

    items: tuple[Tensor, ...]
    kind = "a group of values"


Apply = Callable[[tuple[Tensor, ...], "Place"], Tensor]


@attrs.frozen
class Operation:
    """Something to be applied: `apply(inputs, place)` adds its nodes to the graph of `place`.

    Attributes:
        arity: how many values it reads.
        span: where it was written.
        steps: for `repeat`, the operations it stands for, applied one after another.
    """

    apply: Apply
    arity: int
    span: Span
    steps: Callable[[Place], list[tuple[Operation, Place]]] | None = None
    kind = "an operation"


Value = Union[Num, Tensor, FamilyValue, ListValue, Text, Extent, Tuple, Operation]


@attrs.frozen
class Thunk:
    """A name whose value is made at its first use (`where`, parameters)."""

    expression: ast.Expr
    scope: Scope
    name: str


@attrs.frozen
class Scope:
    """Names visible at a place; `parent` is the enclosing scope."""

    names: Mapping[str, Value | Thunk]
    parent: Scope | None = None

    def find(self, name: str) -> Value | Thunk | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None

    def inner(self, names: Mapping[str, Value | Thunk]) -> Scope:
        return Scope(names, self)
