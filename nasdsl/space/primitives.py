"""Uses of primitives: parameters settled, shapes checked, nodes built.

Takes a primitive and its arguments, returns the operation. Invariant: a
parameter of kind `size` may stay symbolic; all others are settled to plain
values or to tables over decisions, so the structure of a graph never depends on
a name; the shape rule has been tried for every case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from nasdsl.cases import Cases
from nasdsl.diagnostics import Span
from nasdsl.ops import Misfit, Parameter, Primitive
from nasdsl.ops import Value as OpValue
from nasdsl.ops.base import CHANNELS_IN
from nasdsl.space import numbers, proof
from nasdsl.space.builder import Place
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Abort, Num, Operation, Scope, Size, Tensor, Text
from nasdsl.syntax import ast
from nasdsl.types import Dim, TensorType

OPEN_WIDTH = 10_007
"""Stands for a width that is open when shapes are checked: a prime, so that nothing divides it."""


def use_primitive(
    elab: Evaluator, primitive: Primitive, arguments: tuple[ast.Argument, ...], scope: Scope, span: Span
) -> Operation:
    """The operation `primitive(arguments)`. Raises Abort after NAS102, NAS201 or NAS206."""
    given: dict[str, ast.Expr] = {}
    positional = [a for a in arguments if a.name is None]
    if len(positional) > len(primitive.parameters):
        raise Abort  # reported as NAS102
    for parameter, argument in zip(primitive.parameters, positional, strict=False):
        given[parameter.name] = argument.value
    given.update({a.name.text: a.value for a in arguments if a.name is not None})
    if any(primitive.parameter(name) is None for name in given):
        raise Abort  # reported as NAS102
    late = [n for n, e in given.items() if elab.choosing(e)]  # in the order in which they are written
    if any(p.name not in given and (p.required or p.default is None) for p in primitive.parameters):
        raise Abort  # reported as NAS102
    settled: dict[str, OpValue] = {
        p.name: p.default for p in primitive.parameters if p.default is not None and p.default != CHANNELS_IN
    }
    kinds = {p.name: p for p in primitive.parameters}
    for name, expression in given.items():
        if name not in late:
            settled[name] = _settle(elab, primitive, kinds[name], expression, scope, None)

    def run(inputs: tuple[Tensor, ...], place: Place) -> Tensor:
        source = inputs[0]
        values = dict(settled)
        for name in late:
            # A choice among the arguments belongs to the place where the operation is used.
            values[name] = _settle(
                elab, primitive, kinds[name], given[name], scope, attrs.evolve(place, role=name)
            )
        for parameter in primitive.parameters:
            if parameter.name not in given and parameter.default == CHANNELS_IN:
                values[parameter.name] = source.type.channels
        type_ = _result(elab, primitive, source.type, values, place, span)
        if primitive.identity:
            return source
        if primitive.opaque:
            source = _known(elab, source, place, span)
        return place.builder.op(primitive.name, source, values, type_, place, span)

    return Operation(run, 1, span)


def _known(elab: Evaluator, source: Tensor, place: Place, span: Span) -> Tensor:
    """The input of an operation from Python, with its sizes as integers. Raises Abort after NAS205."""
    shape = place.builder.shape(source.type)
    if not all(isinstance(s, int) for s in shape):
        raise elab.wrong(
            "an operation from Python needs an input whose size does not depend on decisions",
            span,
            f"its input: {elab.shown(source.type, place.builder)}",
            code="NAS205",
        )
    type_ = TensorType(source.type.layout, tuple(Dim.of(s) for s in shape))
    return attrs.evolve(source, type=type_)


def _result(
    elab: Evaluator,
    primitive: Primitive,
    source: TensorType,
    values: Mapping[str, OpValue],
    place: Place,
    span: Span,
) -> TensorType:
    """The result's type, the shape rule tried for every case it asks about. Raises Abort after NAS2xx."""
    builder = place.builder
    decided = {
        p.name: builder.size(v)
        for p in primitive.parameters
        if p.kind == "integer" and isinstance(v := values[p.name], Dim)
    }

    def rule(settle: Callable[[Size], int]) -> TensorType | Misfit:
        concrete = {**values, **{name: settle(size) for name, size in decided.items()}}
        try:
            return primitive.infer(source, concrete, lambda dim: settle(builder.size(dim)))
        except Misfit as misfit:
            return misfit

    cases = proof.every_case(rule, place.given, OPEN_WIDTH)
    for witness, found in cases:
        if isinstance(found, Misfit):
            elab.diagnostics.error(
                found.code,
                found.message,
                span,
                f"its input: {proof.shown(builder.shape(source), source.layout, witness)}",
                notes=(*elab.report_uses(place), *proof.witness_notes(witness, elab.known)),
                help=found.help,
            )
            raise Abort
    return proof.combined(builder, [(c, t) for c, t in cases if isinstance(t, TensorType)], elab.known)


def _settle(
    elab: Evaluator,
    primitive: Primitive,
    parameter: Parameter,
    node: ast.Expr,
    scope: Scope,
    place: Place | None,
) -> OpValue:
    value = elab.evaluate(node, scope, place)
    what = f"`{parameter.name}` of `{primitive.name}`"
    if parameter.kind == "flag":
        if isinstance(value, Num) and isinstance(value.value, bool):
            return value.value
        raise elab.wrong(f"{what} is `true` or `false`", node.span, f"this is {value.kind}")
    if parameter.kind == "pad" and isinstance(value, Text) and value.text == "same":
        return "same"
    if parameter.kind == "number" and isinstance(value, Num) and isinstance(value.value, (int, float)):
        return value.value
    number = numbers.integers(value, what, node.span, elab.diagnostics, parameter.minimum, 10**6)
    if parameter.kind == "size" and number.dim is not None:
        return number.dim
    if isinstance(number.value, int):
        return number.value
    if isinstance(number.value, Cases) and parameter.kind == "integer":
        return Dim.of(number.value)
    raise elab.wrong(f"{what} must not depend on decisions", node.span, f"this is {value.kind}")
