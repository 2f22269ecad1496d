"""Uses of primitives: parameters settled, shapes checked, nodes built.

Takes a primitive and its arguments, returns the operation. Invariant: a
parameter of kind `size` may stay symbolic; all others are settled to plain
values, so the structure of a graph never depends on a name.
"""

from __future__ import annotations

from nasdsl.diagnostics import Span
from nasdsl.ops import Misfit, Parameter, Primitive
from nasdsl.ops import Value as OpValue
from nasdsl.ops.base import CHANNELS_IN
from nasdsl.space import numbers
from nasdsl.space.builder import Place
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Abort, Num, Operation, Scope, Tensor, Text
from nasdsl.syntax import ast


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
    settled: dict[str, OpValue] = {}
    for parameter in primitive.parameters:
        if parameter.name in given:
            settled[parameter.name] = _settle(elab, primitive, parameter, given[parameter.name], scope)
        elif parameter.required or parameter.default is None:
            raise Abort  # reported as NAS102
        elif parameter.default != CHANNELS_IN:
            settled[parameter.name] = parameter.default

    def run(inputs: tuple[Tensor, ...], place: Place) -> Tensor:
        source = inputs[0]
        values = dict(settled)
        for parameter in primitive.parameters:
            if parameter.name not in values:
                values[parameter.name] = source.type.channels
        builder = place.builder
        try:
            type_ = primitive.infer(source.type, values, builder.size)
        except Misfit as misfit:
            elab.diagnostics.error(
                misfit.code,
                misfit.message,
                span,
                f"its input: {elab.shown(source.type, builder)}",
                notes=elab.report_uses(place),
                help=misfit.help,
            )
            raise Abort from None
        if primitive.identity:
            return source
        return builder.op(primitive.name, source, values, type_, place, span)

    return Operation(run, 1, span)


def _settle(
    elab: Evaluator, primitive: Primitive, parameter: Parameter, node: ast.Expr, scope: Scope
) -> OpValue:
    value = elab.evaluate(node, scope, None)
    what = f"`{parameter.name}` of `{primitive.name}`"
    if parameter.kind == "flag":
        if isinstance(value, Num) and isinstance(value.value, bool):
            return value.value
        raise elab.wrong(f"{what} is `true` or `false`", node.span, f"this is {value.kind}")
    if parameter.kind == "pad" and isinstance(value, Text) and value.text == "same":
        return "same"
    if parameter.kind == "number" and isinstance(value, Num) and not isinstance(value.value, bool):
        return value.value
    number = numbers.integer(value, what, node.span, elab.diagnostics, parameter.minimum, 10**6)
    if parameter.kind == "size" and isinstance(value, Num) and value.dim is not None:
        return value.dim
    return number
