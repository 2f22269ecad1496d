"""Expressions: from syntax to values.

Takes an expression, the scope and the place that it stands in; returns its value.
Invariant: nothing is built without a place; nesting and total work are bounded
(NAS307), so evaluation always ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import attrs

from nasdsl.cases import Cases, TooManyCasesError, lift
from nasdsl.diagnostics import Diagnostics, Label, Note, Span, did_you_mean
from nasdsl.ir.graph import Graph
from nasdsl.space import choices, gathers, numbers, proof, repeats
from nasdsl.space.builder import MAX_STEPS, Builder, Owner, Place
from nasdsl.space.cells import CellCache, Poison, use_cell
from nasdsl.space.decisions import Decision
from nasdsl.space.names import CONSTANTS, FUNCTIONS, WORDS, Names
from nasdsl.space.primitives import use_primitive
from nasdsl.space.resolve import children
from nasdsl.space.values import (
    Abort,
    Extent,
    FamilyValue,
    ListValue,
    Num,
    Operation,
    Scope,
    Tensor,
    Text,
    Thunk,
    Tuple,
    Value,
)
from nasdsl.syntax import ast
from nasdsl.types import Dim, TensorType

MAX_DEPTH = 200


class Expressions(ABC):
    """Evaluates the expressions of one space; `cells`, `choices` and `primitives` hold the cases it calls on."""

    def __init__(self, names: Names, diagnostics: Diagnostics) -> None:
        self.names = names
        self.diagnostics = diagnostics
        self.space_scope = Scope({})
        self.graphs: dict[str, Graph] = {}
        self.owners: dict[str, Owner] = {}
        self.known: dict[str, Decision] = {}
        self._choosing: dict[int, bool] = {}
        self._cells = CellCache()
        self._depth = 0
        self._fuel = MAX_STEPS

    @abstractmethod
    def parameter(self, name: str, place: Span) -> Value:
        """The value of a parameter of the space."""

    @abstractmethod
    def binding(self, name: str) -> Value:
        """The value of a name at the level of the space."""

    # --- helpers -------------------------------------------------------------

    def enter(self, span: Span) -> None:
        """Bounds nesting and total work (NAS307); every `enter` that returns has its `leave`."""
        self._depth += 1
        self._fuel -= 1
        if self._depth > MAX_DEPTH or self._fuel < 0:
            what = (
                f"definitions nest more than {MAX_DEPTH} deep"
                if self._fuel >= 0
                else "the space is too large"
            )
            self._depth -= 1
            raise self.wrong(
                what,
                span,
                "reached here",
                code="NAS307",
                help=f"at most {MAX_STEPS:,} steps are taken; use cells, or fewer repetitions",
            )

    def leave(self) -> None:
        self._depth -= 1

    def too_many(self, many: TooManyCasesError, span: Span) -> Abort:
        """Reports NAS308: a value that depends on too many combinations to be proved for each."""
        some = ", ".join(f"`{d}`" for d in many.decisions[:6])
        return self.wrong(
            "this depends on too many decisions at once",
            span,
            f"on {some}" + (f" and {len(many.decisions) - 6} more" if len(many.decisions) > 6 else ""),
            code="NAS308",
            help="give the value a fixed width with `conv(1, ...)`, or tie decisions by giving one choice a name",
        )

    def choosing(self, node: ast.Expr) -> bool:
        """Whether an expression holds a choice, written there."""
        found = self._choosing.get(id(node))
        if found is None:
            found = isinstance(node, ast.Choose) or any(self.choosing(c) for c in children(node))
            self._choosing[id(node)] = found
        return found

    def not_yet(self, what: str, span: Span) -> None:
        """Reports NAS901 and gives up on the value."""
        self.diagnostics.error("NAS901", f"{what} are not yet available", span, "written here")
        raise Abort

    def wrong(
        self, message: str, span: Span, label: str, code: str = "NAS201", help: str | None = None
    ) -> Abort:
        """Reports a diagnostic and returns the exception to raise."""
        self.diagnostics.error(code, message, span, label, help=help)
        return Abort()

    def shown(self, type_: TensorType, builder: Builder) -> str:
        """A type in the words of an error: `64 channels, 16 x 16`."""
        return proof.shown(builder.shape(type_), type_.layout)

    def integer(self, expression: ast.Expr, scope: Scope, what: str, low: int, high: int = 10**4) -> int:
        value = self.evaluate(expression, scope, None)
        return numbers.integer(value, what, expression.span, self.diagnostics, low, high)

    def operation(self, expression: ast.Expr, scope: Scope, place: Place | None) -> Operation:
        """`expression` as an operation. Raises Abort after NAS201 for anything else."""
        value = self.evaluate(expression, scope, place)
        if not isinstance(value, Operation):
            raise self.wrong("an operation is needed here", expression.span, f"this is {value.kind}")
        return value

    def apply(self, operation: Operation, inputs: tuple[Tensor, ...], place: Place, span: Span) -> Tensor:
        """Applies an operation; reports NAS102 when it reads another number of values."""
        if operation.arity != len(inputs):
            raise self.wrong(
                f"this reads {operation.arity} value{'s' if operation.arity != 1 else ''}, and is given {len(inputs)}",
                operation.span,
                "used here",
                code="NAS102",
            )
        self.enter(span)
        try:
            return operation.apply(inputs, place)
        finally:
            self.leave()

    # --- expressions ---------------------------------------------------------

    def evaluate(self, node: ast.Expr, scope: Scope, place: Place | None) -> Value:
        """The value of an expression. `place` is None where nothing may be built."""
        handler = self._HANDLERS.get(type(node))
        if handler is None:
            raise self.wrong(f"this is not allowed here: {type(node).__name__.lower()}", node.span, "here")
        self.enter(node.span)
        try:
            value: Value = handler(self, node, scope, place)
            return value
        except TooManyCasesError as many:
            raise self.too_many(many, node.span) from None
        finally:
            self.leave()

    def _number(self, node: ast.Number, scope: Scope, place: Place | None) -> Value:
        try:
            value = node.value
        except ValueError:
            value = numbers.LARGEST * 10
        return numbers.literal(value, node.span, self.diagnostics)

    def _string(self, node: ast.String, scope: Scope, place: Place | None) -> Value:
        return Text(node.value)

    def _name(self, node: ast.Name, scope: Scope, place: Place | None) -> Value:
        found = scope.find(node.text)
        if isinstance(found, Thunk):
            bound_at = found.place or place
            role = bound_at and attrs.evolve(bound_at, role=found.name)
            return self.evaluate(found.expression, found.scope, role)
        if isinstance(found, Poison):
            raise Abort
        if found is not None:
            return found
        return self.defined(node.text, node.span, (), scope, place)

    def defined(
        self, name: str, span: Span, arguments: tuple[ast.Argument, ...], scope: Scope, place: Place | None
    ) -> Value:
        """A use of a definition of the space or of a word of the language, with its arguments."""
        item = self.names.definitions.get(name)
        if isinstance(item, ast.Param):
            return self.parameter(name, span)
        if isinstance(item, ast.OpDef):
            return self.use_op(item, arguments, scope, span)
        if isinstance(item, (ast.CellDef, ast.CellAlias)):
            return use_cell(self, self._cells, name, span, arguments, scope, independent=False)
        if isinstance(item, ast.SetDef):
            raise self.wrong(
                "a set is not an operation", span, "this is a set", help=f"write `choose {name}`"
            )
        if isinstance(item, ast.Bind):
            return self.binding(name)
        if name in CONSTANTS:
            return Text(name) if name == "same" else Num(name == "true")
        primitive = self.names.primitive(name)
        if primitive is not None:
            return use_primitive(self, primitive, arguments, scope, span)
        if name in WORDS:
            raise self.wrong(
                f"`{name}` is known inside an operation only",
                span,
                "no operation here",
                code="NAS101",
                help="define an `op` for this; inside it `cin` is the number of channels of its input",
            )
        raise Abort  # reported as NAS101

    def use_op(
        self, item: ast.OpDef, arguments: tuple[ast.Argument, ...], scope: Scope, span: Span
    ) -> Operation:
        """An operation of the language: its body is evaluated anew for every input it is applied to."""
        what = f"operation `{item.name}`"
        late = any(self.choosing(a.value) for a in arguments)
        early = None if late else self.bind_formals(item.formals, arguments, scope, what, span)

        def run(inputs: tuple[Tensor, ...], place: Place) -> Tensor:
            inside = attrs.evolve(place, role="", uses=(*place.uses, (item.name.text, span)))
            bound = early
            if bound is None:
                # A choice among the arguments belongs to the place where the operation is used.
                bound = self.bind_formals(item.formals, arguments, scope, what, span, inside)
            names: dict[str, Value | Thunk] = dict(bound)
            type_ = inputs[0].type
            names["cin"] = Num(place.builder.size(type_.channels), type_.channels)
            body_scope = Scope(names, self.space_scope)
            for where in item.where:
                names[where.name.text] = Thunk(where.value, body_scope, where.name.text, inside)
            inside = attrs.evolve(inside, role=place.role)
            body = self.operation(item.body, body_scope, inside)
            return self.apply(body, inputs, inside, item.body.span)

        return Operation(run, 1, span)

    def bind_formals(
        self,
        formals: ast.Formals,
        arguments: tuple[ast.Argument, ...],
        scope: Scope,
        what: str,
        span: Span,
        place: Place | None = None,
    ) -> dict[str, Value | Thunk]:
        """Own formals from arguments and defaults; ambient ones by keyword, else by name at the place of use."""
        given: dict[str, ast.Expr] = {}
        positional = [a for a in arguments if a.name is None]
        for formal, argument in zip(formals.own, positional, strict=False):
            given[formal.name.text] = argument.value
        given.update({a.name.text: a.value for a in arguments if a.name is not None})
        bound: dict[str, Value | Thunk] = {}
        ambient = {f.name.text for f in formals.ambient}
        for formal in (*formals.own, *formals.ambient):
            name = formal.name.text
            visible = scope.find(name) if name in ambient else None
            if name in given:
                bound[name] = self.evaluate(given[name], scope, place and attrs.evolve(place, role=name))
            elif isinstance(visible, Thunk):
                bound[name] = self.evaluate(visible.expression, visible.scope, visible.place)
            elif visible is not None:
                bound[name] = visible
            elif name in ambient and isinstance(self.names.definitions.get(name), ast.Param):
                bound[name] = self.parameter(name, span)
            elif formal.default is not None:
                bound[name] = self.evaluate(formal.default, Scope(bound, self.space_scope), None)
            elif name in ambient:
                self.diagnostics.error(
                    "NAS107",
                    f"{what} takes `{name}` from its place of use, and nothing there is called `{name}`",
                    span,
                    "used here",
                    secondary=(Label(formal.span, "taken by name"),),
                    help=f"write `{name}=...` as an argument, or `with {name}=...` after the use",
                )
                raise Abort
            else:
                raise Abort  # reported as NAS102
        return bound

    def _call(self, node: ast.Call, scope: Scope, place: Place | None) -> Value:
        target = node.function
        if isinstance(target, ast.Independent):
            return use_cell(
                self, self._cells, target.cell.text, node.span, node.arguments, scope, independent=True
            )
        if not isinstance(target, ast.Name):
            raise self.wrong("this cannot be called", target.span, "not an operation with a name")
        if target.text in FUNCTIONS and scope.find(target.text) is None:
            values = [self.evaluate(a.value, scope, place) for a in node.arguments]
            wanted = [v for v in values if isinstance(v, Num) and not v.truth]
            if len(wanted) != len(values):
                raise self.wrong(f"`{target.text}` takes numbers", node.span, "not a number")
            return numbers.call(target.text, wanted, node.span, self.diagnostics)
        if scope.find(target.text) is not None:
            raise self.wrong(
                f"`{target.text}` takes no arguments here", node.span, "a value, not a definition"
            )
        return self.defined(target.text, node.span, node.arguments, scope, place)

    def _independent(self, node: ast.Independent, scope: Scope, place: Place | None) -> Value:
        return use_cell(self, self._cells, node.cell.text, node.span, (), scope, independent=True)

    def _list(self, node: ast.List, scope: Scope, place: Place | None) -> Value:
        return ListValue(tuple(self.evaluate(i, scope, place) for i in node.items))

    def _group(self, node: ast.Group, scope: Scope, place: Place | None) -> Value:
        return Tuple(tuple(self.value(i, scope, place) for i in node.items))

    def value(self, node: ast.Expr, scope: Scope, place: Place | None) -> Tensor:
        """`node` as a value. Raises Abort after NAS201 for anything else."""
        found = self.evaluate(node, scope, place)
        if not isinstance(found, Tensor):
            raise self.wrong("a value is needed here", node.span, f"this is {found.kind}")
        return found

    def _negate(self, node: ast.Negate, scope: Scope, place: Place | None) -> Value:
        operand = self.evaluate(node.operand, scope, place)
        return numbers.arithmetic("-", Num.of(0), operand, node.span, self.diagnostics)

    def _binary(self, node: ast.Binary, scope: Scope, place: Place | None) -> Value:
        left = self.evaluate(node.left, scope, place)
        if node.operator in ("and", "or"):
            first = self.truth(left, node.left.span)
            if first is (node.operator == "or"):
                return left
            second = self.truth(self.evaluate(node.right, scope, place), node.right.span)
            if node.operator == "and":
                return Num(lift(lambda a, b: a and b, first, second))
            return Num(lift(lambda a, b: a or b, first, second))
        right = self.evaluate(node.right, scope, place)
        act = numbers.arithmetic if node.operator in ("+", "-", "*", "/", "//", "%") else numbers.compare
        return act(node.operator, left, right, node.operator_span, self.diagnostics)

    def truth(self, value: Value, span: Span) -> bool | Cases:
        """A truth value, for every combination of the decisions it depends on. Raises Abort after NAS201."""
        if isinstance(value, Num) and value.truth and not isinstance(value.value, Dim):
            return value.value if isinstance(value.value, Cases) else bool(value.value)
        raise self.wrong(
            "a condition is needed here", span, f"this is {value.kind}", help="compare it with something"
        )

    def _if(self, node: ast.If, scope: Scope, place: Place | None) -> Value:
        condition = self.truth(self.evaluate(node.condition, scope, place), node.condition.span)
        if isinstance(condition, Cases):
            return choices.branch(self, node, condition, scope, place)
        return self.evaluate(node.yes if condition else node.no, scope, place)

    def _pipe(self, node: ast.Pipe, scope: Scope, place: Place | None) -> Value:
        first = self.evaluate(node.stages[0], scope, place)
        rest = node.stages[1:]
        if isinstance(first, (Tensor, Tuple)):
            if place is None:
                raise self.wrong("nothing can be built here", node.span, "a number is needed")
            inputs = first.items if isinstance(first, Tuple) else (first,)
            return self._chain(inputs, rest, scope, place)
        if not isinstance(first, Operation):
            raise self.wrong(
                "`>>` joins a value or an operation with operations",
                node.stages[0].span,
                f"this is {first.kind}",
            )
        head = first

        def run(inputs: tuple[Tensor, ...], where: Place) -> Tensor:
            out = self.apply(head, inputs, where, node.stages[0].span)
            return self._chain((out,), rest, scope, where)

        return Operation(run, head.arity, node.span)

    def _chain(
        self, inputs: tuple[Tensor, ...], stages: tuple[ast.Expr, ...], scope: Scope, place: Place
    ) -> Tensor:
        for stage in stages:
            inputs = (self.apply(self.operation(stage, scope, place), inputs, place, stage.span),)
        return inputs[0]

    def _with(self, node: ast.With, scope: Scope, place: Place | None) -> Value:
        bound = self.evaluate(node.value, scope, place and attrs.evolve(place, role=node.name.text))
        return self.evaluate(node.target, scope.inner({node.name.text: bound}), place)

    def _index(self, node: ast.Index, scope: Scope, place: Place | None) -> Value:
        target = self.evaluate(node.target, scope, place)
        if isinstance(target, ListValue):
            found = self.evaluate(node.index, scope, place)
            at = numbers.integers(
                found, "an index", node.index.span, self.diagnostics, 1, len(target.items)
            ).value
            if isinstance(at, int):
                return target.items[at - 1]
            items = [i.value for i in target.items if isinstance(i, Num) and not isinstance(i.value, Dim)]
            if isinstance(at, Dim) or len(items) != len(target.items):
                raise self.wrong(
                    "only a number can be looked up by a decision", node.index.span, "this depends on one"
                )
            return Num.of(lift(lambda index, *values: values[int(index) - 1], at, *items))
        if isinstance(target, FamilyValue):
            at = self.integer(
                node.index, scope, f"an index of `{target.name}`", 1, max(1, len(target.members))
            )
            if not target.members:
                raise self.wrong(
                    f"`{target.name}` has no members yet", node.span, "used before the first is made"
                )
            return target.members[at - 1]
        raise self.wrong(
            "only a list or a family of values has an index", node.target.span, f"this is {target.kind}"
        )

    def _attribute(self, node: ast.Attribute, scope: Scope, place: Place | None) -> Value:
        target = self.value(node.target, scope, place)
        if node.name.text == "channels":
            return Num(target.shape[0], target.type.channels)
        if node.name.text == "size":
            return Extent(target.shape[1:])
        raise self.wrong(
            f"a value has no `.{node.name}`{did_you_mean(node.name.text, ('channels', 'size'))}",
            node.name.span,
            "not known",
            code="NAS101",
        )

    def report_uses(self, place: Place) -> tuple[Note, ...]:
        """Notes that say by which uses a definition was reached."""
        return tuple(Note(f"in the use of `{name}` here", span) for name, span in reversed(place.uses[-2:]))

    _HANDLERS: ClassVar[Mapping[type, Callable[..., Value]]] = {
        ast.Number: _number,
        ast.String: _string,
        ast.Name: _name,
        ast.Call: _call,
        ast.Independent: _independent,
        ast.List: _list,
        ast.Group: _group,
        ast.Negate: _negate,
        ast.Binary: _binary,
        ast.If: _if,
        ast.Pipe: _pipe,
        ast.With: _with,
        ast.Index: _index,
        ast.Attribute: _attribute,
        ast.Merge: gathers.merge,
        ast.Gather: gathers.gather,
        ast.Choose: choices.choose,
        ast.Repeat: repeats.repeat,
    }
