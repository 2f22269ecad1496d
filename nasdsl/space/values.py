"""What expressions evaluate to, and the scopes they are evaluated in.

Takes plain data, returns plain data. Invariant: a number that came from a size
keeps its symbolic form beside its value, so a graph stays valid for every use
of its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Union

import attrs

from nasdsl.cases import Cases
from nasdsl.diagnostics import Span
from nasdsl.syntax import ast
from nasdsl.types import Dim, TensorType

if TYPE_CHECKING:
    from nasdsl.space.builder import Place


Size = Union[int, Cases, Dim]
"""A size as far as it is known at a use: an integer, a table over decisions, or open (see `Num.value`)."""


class Abort(Exception):
    """The value cannot be made, and the reason has been reported."""


@attrs.frozen
class Num:
    """A number or a truth value, for every combination of the decisions it depends on.

    Attributes:
        value: a plain value or a table over decisions; a polynomial for a width that
            `into split(...)` settles only when the members are chosen.
        dim: its symbolic form, for integers.
    """

    value: int | float | bool | Cases | Dim
    dim: Dim | None = None

    @staticmethod
    def of(value: int | float | bool | Cases) -> Num:
        plain = value.table if isinstance(value, Cases) else (value,)
        if all(isinstance(v, int) and not isinstance(v, bool) for v in plain):
            return Num(value, Dim.of(value))  # type: ignore[arg-type]
        return Num(value)

    @property
    def truth(self) -> bool:
        """Whether this is a truth value."""
        sample = self.value.table[0] if isinstance(self.value, Cases) else self.value
        return isinstance(sample, bool)

    @property
    def decided(self) -> bool:
        """Whether this depends on decisions."""
        return isinstance(self.value, (Cases, Dim))

    @property
    def kind(self) -> str:
        if self.decided and not self.truth:
            return "a number that depends on decisions"
        return "a truth value" if self.truth else "a number"


@attrs.frozen
class Tensor:
    """A value in a graph: the id of the node that makes it, its type, and its shape in this use."""

    id: str
    type: TensorType
    shape: tuple[Size, ...] = attrs.field(eq=False)
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

    sizes: tuple[Size, ...]
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
    """A name whose value is made where it is used, for the place where it was bound (`where`)."""

    expression: ast.Expr
    scope: Scope
    name: str
    place: Place | None = None


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
