"""Elaboration: from resolved names to a checked Graph[SPACE].

Takes the definitions of a space and the values of its parameters; returns the
module of graphs, the decision table and the parameters used. Invariant: every
option and every source of every decision has been built and type-checked, so
any architecture of the decision table is well-typed; a mistake is reported at
the innermost place that shows it, together with the use that led there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial

import attrs

from nasdsl.cases import Cases
from nasdsl.diagnostics import Diagnostics, Span, did_you_mean
from nasdsl.ir.graph import Module, Stage
from nasdsl.space import numbers
from nasdsl.space.builder import Builder, Owner, Place
from nasdsl.space.expressions import Expressions
from nasdsl.space.names import Names
from nasdsl.space.values import (
    Abort,
    ListValue,
    Num,
    Operation,
    Tensor,
    Value,
)
from nasdsl.syntax import ast
from nasdsl.types import Dim, TensorType

MAX_DEPTH = 200
_INPUTS = {
    "image": ("channels", "height", "width"),
    "tokens": ("dim", "length"),
    "vector": ("dim",),
}


@attrs.frozen
class Elaborated:
    """What elaboration makes of a space."""

    module: Module
    owners: tuple[Owner, ...]
    parameters: Mapping[str, object]
    input: TensorType


class Elaborator(Expressions):
    """One elaboration of one space."""

    def __init__(self, names: Names, settings: Mapping[str, object], diagnostics: Diagnostics) -> None:
        super().__init__(names, diagnostics)
        self.settings = settings
        self._parameters: dict[str, Value] = {}
        self._pending: list[str] = []
        self._bound: dict[str, Value] = {}
        self._root = Builder("network", Owner(""), {}, self.known, diagnostics)

    def run(self) -> Elaborated | None:
        """Elaborates input, parameters and network; None after errors that leave nothing to build."""
        self._settings_known()
        for param in self.names.items(ast.Param):
            self._quietly(partial(self.parameter, param.name.text, param.name.span))
        inputs = self.names.items(ast.Input)
        networks = self.names.items(ast.Network)
        if not inputs or not networks:
            return None
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, 20_000))
        try:
            return self._network(inputs[0], networks[0])
        except Abort:
            return None
        finally:
            sys.setrecursionlimit(limit)

    def _network(self, declared: ast.Input, network: ast.Network) -> Elaborated | None:
        self.owners[""] = self._root.owner
        for bind in self.names.items(ast.Bind):
            self._quietly(partial(self.binding, bind.name.text))
        type_ = self._input(declared)
        builder = self._root
        memory = [builder.input("x", type_, declared.span)]
        started = False
        for step in network.steps:
            place = Place(builder, step.label.text, label=step.label.text)
            try:
                operation = self.operation(step.value, self.space_scope, place)
                for single, where in operation.steps(place) if operation.steps else [(operation, place)]:
                    out = self.apply(single, self._last(memory, single.arity), where, step.value.span)
                    memory = [*memory, out] if started else [out]
                    started = True
            except Abort:
                return None
        result = memory[-1]
        if result.type.layout != "vector":
            last = network.steps[-1]
            self.diagnostics.error(
                "NAS208",
                "the network must end in a vector with one number a class",
                last.value.span,
                f"this ends in an {result.type.layout} of {self.shown(result.type, builder)}",
                help="end with `global_pool >> linear(classes)`",
            )
            return None
        if not isinstance(builder.size(result.type.channels), int):
            self.diagnostics.error(
                "NAS208",
                "the number of classes must not depend on decisions",
                network.steps[-1].value.span,
                f"this gives {self.shown(result.type, builder)}",
                help="end with `linear(classes)`",
            )
            return None
        graph = builder.finish(result, "")
        module = Module(Stage.SPACE, (graph, *self.graphs.values()))
        plain = {k: _plain(v) for k, v in self._parameters.items()}
        return Elaborated(module, tuple(self.owners.values()), plain, type_)

    @staticmethod
    def _last(memory: list[Tensor], count: int) -> tuple[Tensor, ...]:
        """The last `count` outputs; the first output stands in for those that do not exist yet."""
        missing = max(0, count - len(memory))
        return (*[memory[0]] * missing, *memory[len(memory) - (count - missing) :])

    def _settings_known(self) -> None:
        known = [p.name.text for p in self.names.items(ast.Param)]
        for name in self.settings:
            if name not in known:
                self.diagnostics.error(
                    "NAS109",
                    f"the space has no parameter `{name}`{did_you_mean(name, known)}",
                    self.names.space.name.span,
                    "the space is declared here",
                )

    def _input(self, declared: ast.Input) -> TensorType:
        axes = _INPUTS.get(declared.layout.text)
        if axes is None:
            self.diagnostics.error(
                "NAS101",
                f"there is no input layout `{declared.layout}`{did_you_mean(declared.layout.text, _INPUTS)}",
                declared.layout.span,
                "not known",
            )
            raise Abort
        sizes = [
            self._extent(a.value, f"the {n} of the input")
            for a, n in zip(declared.arguments, axes, strict=False)
        ]
        if declared.layout.text == "image" and len(sizes) == 2:
            sizes.append(sizes[1])
        if (
            len(sizes) != len(axes)
            or len(declared.arguments) > len(axes)
            or any(a.name for a in declared.arguments)
        ):
            self.diagnostics.error(
                "NAS102", f"`{declared.layout}` takes {', '.join(axes)}", declared.span, "does not fit"
            )
            raise Abort
        return TensorType(declared.layout.text, tuple(sizes))

    def _extent(self, expression: ast.Expr, what: str) -> Dim:
        """A size of the input; it may depend on decisions, as a resolution does."""
        value = self.evaluate(expression, self.space_scope, Place(self._root, "input", label="input"))
        found = numbers.integers(value, what, expression.span, self.diagnostics, 1, 10**6)
        return Dim.of(found.value)  # type: ignore[arg-type]

    def binding(self, name: str) -> Value:
        """The value of a name at the level of the space: made once, so its decisions are tied."""
        if name not in self._bound:
            item = self.names.definitions[name]
            if name in self._pending or not isinstance(item, ast.Bind):
                raise Abort  # the cycle has been reported as NAS104
            self._pending.append(name)
            try:
                self._bound[name] = self._make_binding(item)
            finally:
                self._pending.pop()
        return self._bound[name]

    def _make_binding(self, item: ast.Bind) -> Value:
        name = item.name.text
        if item.family is None:
            return self._level(item, name)
        low = self.integer(item.family.low, self.space_scope, "the first index of a family", 1)
        high = self.integer(item.family.high, self.space_scope, "the last index of a family", 0)
        if low != 1:
            raise self.wrong(
                "a family counts from 1", item.family.span, f"this starts at {low}", code="NAS206"
            )
        return ListValue(tuple(self._level(item, f"{name}[{i}]") for i in range(low, high + 1)))

    def _level(self, item: ast.Bind, path: str) -> Value:
        place = Place(self._root, "", role=path, label=path)
        value = self.evaluate(item.value, self.space_scope, place)
        if not isinstance(value, (Num, ListValue, Operation)):
            raise self.wrong(
                "a name at the level of the space is a number, a list or an operation",
                item.value.span,
                f"this is {value.kind}",
            )
        return value

    def parameter(self, name: str, place: Span) -> Value:
        """The value of a parameter of the space: from the command line, else its default."""
        if name not in self._parameters:
            item = self.names.definitions[name]
            if name in self._pending or not isinstance(item, ast.Param):
                raise Abort  # the cycle has been reported as NAS104
            self._pending.append(name)
            if name in self.settings:
                self._parameters[name] = self._setting(name, self.settings[name], item)
            else:
                self._parameters[name] = self.number_or_list(item.value)
            self._pending.pop()
        return self._parameters[name]

    def number_or_list(self, expression: ast.Expr) -> Value:
        value = self.evaluate(expression, self.space_scope, None)
        if not isinstance(value, (Num, ListValue)):
            self.diagnostics.error(
                "NAS201",
                "a parameter is a number or a list of numbers",
                expression.span,
                f"this is {value.kind}",
            )
            raise Abort
        return value

    def number(self, expression: ast.Expr) -> int | float:
        """A number at the level of the space. Raises Abort after NAS201."""
        value = self.evaluate(expression, self.space_scope, None)
        if not isinstance(value, Num) or isinstance(value.value, (bool, Cases, Dim)):
            raise self.wrong("a number is needed here", expression.span, f"this is {value.kind}")
        return value.value

    def _setting(self, name: str, value: object, item: ast.Param) -> Value:
        if isinstance(value, (int, float)):
            return numbers.literal(value, item.name.span, self.diagnostics)
        if isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value):
            return ListValue(tuple(Num.of(v) for v in value))
        self.diagnostics.error(
            "NAS109",
            f"parameter `{name}` cannot be set to {value!r}",
            item.name.span,
            "declared here",
            help="a parameter is a number or a list of numbers such as [4, 4]",
        )
        raise Abort

    def _quietly(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Abort:
            return


def _plain(value: Value) -> object:
    if isinstance(value, Num):
        return value.value
    if isinstance(value, ListValue):
        return [_plain(v) for v in value.items]
    return str(value)
