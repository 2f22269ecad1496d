"""What the parts of elaboration ask of each other.

Takes and returns nothing itself: a protocol, so that cells, choices and
primitives can each live in a file of their own below the elaborator.
"""

from __future__ import annotations

from typing import Protocol

from nasdsl.cases import TooManyCasesError
from nasdsl.diagnostics import Diagnostics, Note, Span
from nasdsl.ir.graph import Graph
from nasdsl.space.builder import Builder, Owner, Place
from nasdsl.space.decisions import Decision
from nasdsl.space.names import Names
from nasdsl.space.values import Abort, Operation, Scope, Tensor, Thunk, Value
from nasdsl.syntax import ast
from nasdsl.types import TensorType


class Evaluator(Protocol):
    """See `nasdsl.space.elaborate.Elaborator`, which implements it."""

    names: Names
    diagnostics: Diagnostics
    space_scope: Scope
    graphs: dict[str, Graph]
    owners: dict[str, Owner]
    known: dict[str, Decision]

    def evaluate(self, node: ast.Expr, scope: Scope, place: Place | None) -> Value: ...

    def operation(self, expression: ast.Expr, scope: Scope, place: Place | None) -> Operation: ...

    def value(self, node: ast.Expr, scope: Scope, place: Place | None) -> Tensor: ...

    def apply(self, operation: Operation, inputs: tuple[Tensor, ...], place: Place, span: Span) -> Tensor: ...

    def integer(self, expression: ast.Expr, scope: Scope, what: str, low: int, high: int = ...) -> int: ...

    def bind_formals(
        self,
        formals: ast.Formals,
        arguments: tuple[ast.Argument, ...],
        scope: Scope,
        what: str,
        span: Span,
        place: Place | None = None,
    ) -> dict[str, Value | Thunk]: ...

    def choosing(self, node: ast.Expr) -> bool: ...

    def too_many(self, many: TooManyCasesError, span: Span) -> Abort: ...

    def not_yet(self, what: str, span: Span) -> None: ...

    def wrong(
        self, message: str, span: Span, label: str, code: str = ..., help: str | None = ...
    ) -> Abort: ...

    def shown(self, type_: TensorType, builder: Builder) -> str: ...

    def report_uses(self, place: Place) -> tuple[Note, ...]: ...
