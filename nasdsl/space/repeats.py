"""Repetition: a fixed number of times, or as often as decisions say.

Takes `repeat` expressions, returns operations. Invariant: a round exists exactly where the number
reaches it; what is chosen in it is decided only there.
"""

from __future__ import annotations

import attrs

from nasdsl.cases import Cases, lift
from nasdsl.space import numbers
from nasdsl.space.builder import Place
from nasdsl.space.choices import either
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Num, Operation, Scope, Tensor, Value
from nasdsl.syntax import ast
from nasdsl.types import Dim


def repeat(elab: Evaluator, node: ast.Repeat, scope: Scope, place: Place | None) -> Value:
    """`repeat n as i { body }`: the body n times, one after another; n may be a choice (`depth`)."""
    if elab.choosing(node.count):
        return Operation(lambda inputs, where: _deep(elab, node, scope, inputs, where), 1, node.span)
    counted = elab.evaluate(node.count, scope, place)
    count = numbers.integers(counted, "a number of repetitions", node.count.span, elab.diagnostics, 0, 10**4)
    if not isinstance(count.value, int):
        return Operation(lambda inputs, where: _deep(elab, node, scope, inputs, where, count), 1, node.span)
    fixed = count.value

    def steps(where: Place) -> list[tuple[Operation, Place]]:
        return [_body(elab, node, scope, where, i) for i in range(1, fixed + 1)]

    def run(inputs: tuple[Tensor, ...], where: Place) -> Tensor:
        memory = list(inputs)
        for single, at in steps(where):
            memory.append(elab.apply(single, _recent(memory, single.arity), at, node.body.span))
        return memory[-1]

    return Operation(run, 1, node.span, steps)


def _body(elab: Evaluator, node: ast.Repeat, scope: Scope, where: Place, i: int) -> tuple[Operation, Place]:
    """The i-th repetition and its place."""
    inner = scope.inner({node.index.text: Num.of(i)}) if node.index is not None else scope
    path = f"{where.path}[{i}]"
    at = attrs.evolve(where, path=path, label=f"{where.label}[{i}]", role="")
    return elab.operation(node.body, inner, at), at


def _recent(memory: list[Tensor], arity: int) -> tuple[Tensor, ...]:
    """The last outputs; the first stands in for those that do not exist yet."""
    missing = max(0, arity - len(memory))
    return (*[memory[0]] * missing, *memory[len(memory) - (arity - missing) :])


def _deep(
    elab: Evaluator,
    node: ast.Repeat,
    scope: Scope,
    inputs: tuple[Tensor, ...],
    where: Place,
    count: Num | None = None,
) -> Tensor:
    """A number of repetitions that depends on decisions: each exists where the number reaches it."""
    if count is None:
        found = elab.evaluate(node.count, scope, attrs.evolve(where, role="depth"))
        count = numbers.integers(
            found, "a number of repetitions", node.count.span, elab.diagnostics, 0, 10**4
        )
    if isinstance(count.value, Dim):
        raise elab.wrong(
            "a number of repetitions must be known", node.count.span, "this is a width that is open"
        )
    reach = count.value
    table = reach.table if isinstance(reach, Cases) else (reach,)
    memory = list(inputs)
    result = memory[-1]
    for i in range(1, int(max(table)) + 1):
        there = lift(lambda n, i=i: n >= i, reach)
        single, at = _body(elab, node, scope, where.under(there), i)
        memory.append(elab.apply(single, _recent(memory, single.arity), at, node.body.span))
        result = either(elab, there, memory[-1], result, where, node.span)
    return result
