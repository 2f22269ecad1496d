"""Everything that chooses: operations, numbers, and `if` on decisions.

Takes `choose` and `if` expressions; returns operations, values or numbers. Invariant: all options of a
choice have been built and have one shape, in every case.
"""

from __future__ import annotations

import attrs

from nasdsl.cases import Cases, decided, lift
from nasdsl.cases import Value as Value_
from nasdsl.cases import where as where_
from nasdsl.diagnostics import Label, Span
from nasdsl.space import proof
from nasdsl.space.builder import Place
from nasdsl.space.decisions import Decision
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Abort, Num, Operation, Scope, Tensor, Value
from nasdsl.syntax import ast
from nasdsl.syntax.print import to_text
from nasdsl.types import Dim

Part = tuple[Tensor, Span]

MAX_OPTIONS = 10_000


def choose(elab: Evaluator, node: ast.Choose, scope: Scope, place: Place | None) -> Value:
    """`choose { ... }` or `choose SET`: an operation, or a number, that is one of the options."""
    options, inner = _options(elab, node, scope)
    found = [
        (name, value, option.span)
        for option in options
        for name, value in _values(elab, option, inner, place)
    ]
    if not found:
        raise elab.wrong("there is nothing to choose from", node.span, "no options", code="NAS301")
    seen: dict[str, Span] = {}
    for name, value, span in found:
        if isinstance(value, Num) != isinstance(found[0][1], Num):
            raise elab.wrong("options are operations, or all are numbers", span, f"this is {value.kind}")
        if name in seen:
            elab.diagnostics.error(
                "NAS302",
                f"option `{name}` is named twice",
                span,
                "again here",
                secondary=(Label(seen[name], "first here"),),
                help="give one of them a label: `label: op`",
            )
            raise Abort
        seen[name] = span
    names = tuple(seen)
    numbers_ = [v for _, v, _ in found if isinstance(v, Num)]
    if numbers_:
        return _number(elab, node, names, numbers_, place)
    operations = [v for _, v, _ in found if isinstance(v, Operation)]
    arities = {o.arity for o in operations}
    if len(arities) != 1:
        raise elab.wrong(
            "the options read different numbers of values", node.span, "must be the same", code="NAS102"
        )
    # A choice with a name belongs to the place where the name was given.
    anchor = place if place is not None and place.role else None

    def run(inputs: tuple[Tensor, ...], where: Place) -> Tensor:
        target = where if anchor is None else anchor
        return _select(elab, names, operations, list(seen.values()), inputs, target, where, node.span)

    return Operation(run, arities.pop(), node.span)


def _values(
    elab: Evaluator, option: ast.Option, scope: Scope, place: Place | None
) -> list[tuple[str, Num | Operation]]:
    """What one option stands for, with names: a range stands for each of its numbers."""
    label = option.label.text if option.label is not None else None
    if option.to is not None:
        return [(str(n), Num.of(n)) for n in _range(elab, option, scope)]
    found = elab.evaluate(option.value, scope, None)
    if isinstance(found, Num) and not found.truth:
        plain = isinstance(found.value, (int, float))
        return [(label or (repr(found.value) if plain else to_text(option.value)), found)]
    if isinstance(found, Operation):
        return [(label or to_text(option.value), found)]
    raise elab.wrong("an option is an operation or a number", option.span, f"this is {found.kind}")


def _range(elab: Evaluator, option: ast.Option, scope: Scope) -> range:
    """`8..64 step 8`, both ends included."""
    assert option.to is not None  # the caller has looked
    low = elab.integer(option.value, scope, "the start of a range", -(10**9), 10**9)
    high = elab.integer(option.to, scope, "the end of a range", -(10**9), 10**9)
    step = 1 if option.step is None else elab.integer(option.step, scope, "a step", 1, 10**9)
    if high < low:
        raise elab.wrong(
            f"`{low}..{high}` holds no number", option.span, "the end is below the start", code="NAS301"
        )
    if (high - low) // step >= MAX_OPTIONS:
        raise elab.wrong(
            "a range of too many numbers", option.span, f"more than {MAX_OPTIONS}", code="NAS206"
        )
    if (high - low) % step:
        last = high - (high - low) % step
        elab.diagnostics.warning(
            "NAS309",
            f"{high} is not reached from {low} in steps of {step}",
            option.span,
            f"the last option is {last}",
            help=f"write `{low}..{last} step {step}`",
        )
    return range(low, high + 1, step)


def _number(
    elab: Evaluator, node: ast.Choose, names: tuple[str, ...], values: list[Num], place: Place | None
) -> Num:
    """A number that an architecture chooses: a table over the decision."""
    if place is None:
        raise elab.wrong(
            "a number cannot be chosen here",
            node.span,
            "nothing is being built",
            help="give it a name at the level of the space: `NAME = choose ...`",
        )
    path = place.decision_path("value")
    plain = tuple(v.value for v in values if isinstance(v.value, (int, float)))
    decision = Decision(
        path, "number", names, 1, 1, place.when, plain if len(plain) == len(values) else (), span=node.span
    )
    place.builder.decide(decision, node.span, place.uses)
    index = decided(attrs.evolve(decision, path=place.builder.absolute(path)).axis, tuple(range(len(names))))
    if any(isinstance(v.value, Dim) for v in values):
        raise elab.wrong("an option is a width that is open", node.span, "must be known")
    return Num.of(lift(lambda i, *vs: vs[int(i)], index, *(v.value for v in values)))  # type: ignore[arg-type]


def branch(elab: Evaluator, node: ast.If, condition: Cases, scope: Scope, place: Place | None) -> Value:
    """`if` on decisions: both sides are in the space, each where its condition holds."""
    opposite = lift(lambda c: not c, condition)
    yes = elab.evaluate(node.yes, scope, place and place.under(condition))
    no = elab.evaluate(node.no, scope, place and place.under(opposite))
    if isinstance(yes, Num) and isinstance(no, Num) and yes.truth == no.truth:
        if isinstance(yes.value, Dim) or isinstance(no.value, Dim):
            raise elab.wrong("one side is a width that is open", node.span, "must be known")
        return Num.of(where_(condition, yes.value, no.value))
    if isinstance(yes, Tensor) and isinstance(no, Tensor) and place is not None:
        return either(elab, condition, yes, no, place, node.span)
    if isinstance(yes, Operation) and isinstance(no, Operation) and yes.arity == no.arity:
        first, second = yes, no

        def run(inputs: tuple[Tensor, ...], where: Place) -> Tensor:
            a = elab.apply(first, inputs, where.under(condition), node.yes.span)
            b = elab.apply(second, inputs, where.under(opposite), node.no.span)
            return either(elab, condition, a, b, where, node.span)

        return Operation(run, yes.arity, node.span)
    raise elab.wrong(
        "the two sides of an `if` on decisions must be alike", node.span, f"{yes.kind} and {no.kind}"
    )


def either(elab: Evaluator, condition: Value_, yes: Tensor, no: Tensor, place: Place, span: Span) -> Tensor:
    """`yes` where the condition holds, else `no`."""
    if yes.id == no.id or not isinstance(condition, Cases):
        return yes if condition else no
    type_ = proof.join(place.builder, condition, yes.type, no.type, place.given)
    if type_ is None:
        elab.diagnostics.error(
            "NAS204",
            "the two sides of this choice give different kinds of values",
            span,
            f"{elab.shown(yes.type, place.builder)}, or {elab.shown(no.type, place.builder)}",
            notes=elab.report_uses(place),
        )
        raise Abort
    return place.builder.branch(condition, yes, no, type_, place, span)


def _options(elab: Evaluator, node: ast.Choose, scope: Scope) -> tuple[tuple[ast.Option, ...], Scope]:
    """The options and the scope that they are evaluated in."""
    if not isinstance(node.options, ast.Ident):
        return node.options, scope
    item = elab.names.definitions.get(node.options.text)
    if item is None:
        raise Abort  # reported as NAS101
    if not isinstance(item, ast.SetDef):
        raise elab.wrong(
            "`choose` takes a set", node.options.span, "this is not a set", help="write `choose { ... }`"
        )
    bound = elab.bind_formals(item.formals, (), scope, f"set `{item.name}`", node.options.span)
    return item.options, Scope(bound, elab.space_scope)


def _select(
    elab: Evaluator,
    names: tuple[str, ...],
    operations: list[Operation],
    spans: list[Span],
    inputs: tuple[Tensor, ...],
    place: Place,
    where: Place,
    span: Span,
) -> Tensor:
    """Builds every option. `place` says whose decision it is, `where` where the result is wanted."""
    path = place.decision_path()
    decision = Decision(path, "op", names, 1, 1, place.when, span=span)
    place.builder.decide(decision, span, place.uses)
    made: list[Part] = []
    failed = False
    for name, operation, at in zip(names, operations, spans, strict=True):
        inside = attrs.evolve(
            where,
            path=f"{path}.{name}",
            role="",
            label=f"{where.label}.{name}",
            when=place.inside(path, name),
        )
        try:
            made.append((elab.apply(operation, inputs, inside, at), at))
        except Abort:
            failed = True
    if failed:
        raise Abort
    first, first_span = made[0]
    builder = where.builder
    for name, (part, at) in zip(names, made, strict=True):
        witness: proof.Witness | None = {}
        if part.type.layout == first.type.layout:
            witness = proof.differ(builder.shape(part.type), builder.shape(first.type), where.given)
        if witness is not None:
            elab.diagnostics.error(
                "NAS204",
                f"the options of this choice have different shapes: `{name}` does not fit `{names[0]}`",
                at,
                proof.shown(builder.shape(part.type), part.type.layout, witness),
                secondary=(
                    Label(first_span, proof.shown(builder.shape(first.type), first.type.layout, witness)),
                ),
                notes=(*elab.report_uses(where), *proof.witness_notes(witness, elab.known)),
                help="every option must give the same width and resolution; pass `stride` and the width on to each",
            )
            raise Abort
    if place.builder is not builder:
        decision = attrs.evolve(decision, path=f"/{place.builder.absolute(decision.path)}")
    return builder.select(decision, tuple(p for p, _ in made), first.type, where, span)
