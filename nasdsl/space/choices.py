"""Everything that merges, chooses or repeats.

Takes `sum`, `concat`, `... of ... from`, `choose` and `repeat` expressions;
returns values or operations. Invariant: all options of a choice and all sources
of a sum have been built and have one shape.
"""

from __future__ import annotations

import attrs

from nasdsl.cases import Cases, decided, lift
from nasdsl.cases import Value as Value_
from nasdsl.cases import where as where_
from nasdsl.diagnostics import Label, Span
from nasdsl.ir.nodes import Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.space import numbers, proof
from nasdsl.space.builder import Place
from nasdsl.space.decisions import Decision, Guard
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Abort, FamilyValue, Num, Operation, Scope, Tensor, Value
from nasdsl.syntax import ast
from nasdsl.syntax.print import to_text
from nasdsl.types import Dim, TensorType

Part = tuple[Tensor, Span]

MAX_OPTIONS = 10_000


# --- sums and concatenations -------------------------------------------------


def merge(elab: Evaluator, node: ast.Merge, scope: Scope, place: Place | None) -> Value:
    """`sum(...)` or `concat(...)` of values, or of operations that read the same input."""
    parts: list[Part] = []
    operations: list[Operation] = []
    for argument in node.arguments:
        found = elab.evaluate(argument.value, scope, place)
        if isinstance(found, Tensor):
            parts.append((found, argument.span))
        elif isinstance(found, FamilyValue):
            parts.extend((m, argument.span) for m in found.members)
        elif isinstance(found, Operation):
            operations.append(found)
        else:
            raise elab.wrong(
                f"`{node.kind}` joins values or operations", argument.span, f"this is {found.kind}"
            )
        if parts and operations:
            raise elab.wrong(
                f"`{node.kind}` joins either values or operations, not both",
                argument.span,
                f"this is {found.kind}",
            )
    if operations:

        def run(inputs: tuple[Tensor, ...], where: Place) -> Tensor:
            made = [(elab.apply(o, inputs, where, o.span), o.span) for o in operations]
            return join(elab, node.kind, made, where, node.span)

        return Operation(run, 1, node.span)
    if not parts or place is None:
        raise elab.wrong(f"`{node.kind}` of nothing", node.span, "no values")
    return join(elab, node.kind, parts, place, node.span)


def join(elab: Evaluator, kind: str, parts: list[Part], place: Place, span: Span) -> Tensor:
    """Adds the merge of `parts`. Raises Abort after NAS202 or NAS203."""
    type_ = merged_type(elab, kind, parts, place)
    if len(parts) == 1:
        return parts[0][0]
    return place.builder.merge(kind, tuple(p for p, _ in parts), type_, place, span)


def merged_type(elab: Evaluator, kind: str, parts: list[Part], place: Place) -> TensorType:
    """The type of the merge; all parts must agree, in a concat but for the channels."""
    first, first_span = parts[0]
    builder = place.builder
    skip = 1 if kind == "concat" else 0
    for part, span in parts[1:]:
        witness: proof.Witness | None = {}
        if part.type.layout == first.type.layout:
            shapes = builder.shape(part.type)[skip:], builder.shape(first.type)[skip:]
            witness = proof.differ(*shapes, place.given)
        if witness is not None:
            what = "widths or resolutions" if kind == "sum" else "resolutions"
            elab.diagnostics.error(
                "NAS202" if kind == "sum" else "NAS203",
                f"the sides of this {kind} have different {what}",
                span,
                proof.shown(builder.shape(part.type), part.type.layout, witness),
                secondary=(
                    Label(first_span, proof.shown(builder.shape(first.type), first.type.layout, witness)),
                ),
                notes=(*elab.report_uses(place), *proof.witness_notes(witness, elab.known)),
                help="change the width with `conv(1, ...)`, the resolution with a stride, or leave one out",
            )
            raise Abort
    if kind == "sum":
        return first.type
    channels = Dim.of(0)
    for part, _ in parts:
        channels = channels + part.type.channels
    return TensorType(first.type.layout, (channels, *first.type.dims[1:]))


# --- choices of inputs -------------------------------------------------------


@attrs.frozen
class _Edge:
    name: str
    source: Tensor
    via: ast.Expr | None
    scope: Scope
    span: Span


def gather(elab: Evaluator, node: ast.Gather, scope: Scope, place: Place | None) -> Value:
    """`sum of how from (...) via ...`: all inputs, or a choice of them."""
    if place is None:
        raise elab.wrong("a sum of inputs makes a value", node.span, "nothing can be built here")
    edges = _edges(elab, node, scope, place)
    if isinstance(node.how, ast.All):
        if not edges:
            raise elab.wrong("there is nothing to take all of", node.span, "no sources", code="NAS301")
        parts = [_edge(elab, e, place, place.when) for e in edges]
        type_ = merged_type(elab, node.kind, parts, place)
        names = tuple(e.name for e in edges)
        return place.builder.merge(node.kind, tuple(p for p, _ in parts), type_, place, node.span, names)
    low, high = _bounds(elab, node, node.how, scope, len(edges))
    path = f"{place.path}.inputs" if place.path else "inputs"
    decision = Decision(
        path, "inputs", tuple(e.name for e in edges), low, high, place.when, span=node.how.span
    )
    place.builder.decide(decision, node.span, place.uses)
    parts = [_edge(elab, e, place, place.inside(path, e.name)) for e in edges]
    if node.into is not None:
        return _split(elab, node, node.into, decision, parts, scope, place)
    type_ = merged_type(elab, node.kind, parts, place)
    if node.kind == "concat":
        type_ = _concat_type(elab, decision, parts, type_, place)
    for part, edge in zip(parts, edges, strict=True):
        _warn_none(elab, part[0], edge, place)
    return place.builder.gather(node.kind, decision, tuple(p for p, _ in parts), type_, place, node.span)


def _concat_type(
    elab: Evaluator, decision: Decision, parts: list[Part], type_: TensorType, place: Place
) -> TensorType:
    """A concatenation of chosen members is as wide as those that are chosen."""
    builder = place.builder
    if decision.low == decision.high == len(decision.options):
        return type_
    axis = attrs.evolve(decision, path=builder.absolute(decision.path)).axis
    total: int | Cases = 0
    for name, (part, span) in zip(decision.options, parts, strict=True):
        width = builder.size(part.type.channels)
        if isinstance(width, Dim):
            raise elab.wrong("the width of this member is open", span, "a concatenation needs it")
        chosen = decided(axis, tuple(name in value for value in axis.values))
        total = lift(lambda sum_, taken, w: sum_ + w * taken, total, chosen, width)  # type: ignore[assignment]
    return TensorType(type_.layout, (Dim.of(total), *type_.dims[1:]))


def _split(
    elab: Evaluator,
    node: ast.Gather,
    into: ast.Expr,
    decision: Decision,
    parts: list[Part],
    scope: Scope,
    place: Place,
) -> Tensor:
    """`concat of ... into split(C)`: the chosen members share C channels (NAS-Bench-101, appendix S.1)."""
    is_split = (
        isinstance(into, ast.Call) and isinstance(into.function, ast.Name) and into.function.text == "split"
    )
    if not is_split or len(into.arguments) != 1 or node.kind != "concat":  # type: ignore[union-attr]
        raise elab.wrong(
            "`into` takes `split(C)`, after a concatenation",
            into.span,
            "not understood",
            help="write `into split(C)`",
        )
    total = elab.evaluate(into.arguments[0].value, scope, None)  # type: ignore[union-attr]
    width = numbers.integers(total, "the width to share", into.span, elab.diagnostics, 1, 10**6)
    names = [str(part.type.channels) for part, _ in parts]
    if not parts or width.dim is None or any(n not in place.builder.open for n in names):
        raise elab.wrong(
            "`into split` shares a width among the members of one family",
            into.span,
            "its sources are something else",
            help="write `concat of ... from (v) into split(C)`, where the members of `v` use `C`",
        )
    first, span = parts[0]
    for part, at in parts[1:]:
        same_size = builder_equal(place, part.type.dims[1:], first.type.dims[1:])
        if not same_size:
            elab.diagnostics.error(
                "NAS203",
                "the sides of this concat have different resolutions",
                at,
                elab.shown(part.type, place.builder),
                secondary=(Label(span, elab.shown(first.type, place.builder)),),
            )
            raise Abort
    type_ = TensorType(first.type.layout, (width.dim, *first.type.dims[1:]))
    ids = tuple(p for p, _ in parts)
    return place.builder.gather("concat", decision, ids, type_, place, node.span, tuple(names))


def builder_equal(place: Place, left: tuple[Dim, ...], right: tuple[Dim, ...]) -> bool:
    """Whether sizes agree at a place, in every case."""
    builder = place.builder
    shapes = tuple(builder.size(d) for d in left), tuple(builder.size(d) for d in right)
    return proof.differ(*shapes, place.given) is None


def _edges(elab: Evaluator, node: ast.Gather, scope: Scope, place: Place) -> list[_Edge]:
    """The sources in order, families expanded; NAS302 for one named twice."""
    edges: list[_Edge] = []
    for source in node.sources:
        inner = scope
        for name, value in source.bindings:
            inner = inner.inner({name.text: elab.evaluate(value, scope, None)})
        via = source.via or node.via
        if isinstance(source.place, ast.Earlier):
            family = scope.find("earlier")
            if not isinstance(family, FamilyValue):
                raise elab.wrong(
                    "`earlier` stands for the members of a family before this one",
                    source.span,
                    "not in a family",
                )
            members = family.members
        else:
            found = elab.evaluate(source.place, scope, place)
            if isinstance(found, Tensor):
                members = (attrs.evolve(found, name=to_text(source.place)),)
            elif isinstance(found, FamilyValue):
                members = found.members
            else:
                raise elab.wrong("a source is a value", source.span, f"this is {found.kind}")
        edges.extend(_Edge(m.name, m, via, inner, source.span) for m in members)
    seen: dict[str, Span] = {}
    for edge in edges:
        if edge.name in seen:
            elab.diagnostics.error(
                "NAS302",
                f"`{edge.name}` is a source twice",
                edge.span,
                "again here",
                secondary=(Label(seen[edge.name], "first here"),),
            )
            raise Abort
        seen[edge.name] = edge.span
    return edges


def _edge(elab: Evaluator, edge: _Edge, place: Place, when: tuple[Guard, ...] | None) -> Part:
    """One source with its operation applied."""
    if edge.via is None:
        return edge.source, edge.span
    where = attrs.evolve(
        place,
        role=f"op[{edge.name}]",
        label=f"{place.label}.{edge.name}" if place.label else edge.name,
        when=when,
    )
    operation = elab.operation(edge.via, edge.scope, attrs.evolve(where, role=""))
    return elab.apply(operation, (edge.source,), where, edge.span), edge.span


def _bounds(elab: Evaluator, node: ast.Gather, how: ast.Pick, scope: Scope, count: int) -> tuple[int, int]:
    low = elab.integer(how.low, scope, "the number of inputs", 0)
    if not how.ranged:
        high = low
    elif how.high is None:
        high = count
    else:
        high = elab.integer(how.high, scope, "the number of inputs", 0)
        if high < low:
            raise elab.wrong(
                f"`choose {low}..{high}` chooses nothing",
                how.span,
                "the upper end is below the lower",
                code="NAS301",
            )
        high = min(high, count)
    if low > count:
        raise elab.wrong(
            f"cannot choose {low} from {count}",
            node.how.span,
            f"there {'is' if count == 1 else 'are'} {count} source{'s' if count != 1 else ''} here",
            code="NAS301",
            help=f"choose at most {count}" if count else "add a source",
        )
    return low, high


def _warn_none(elab: Evaluator, part: Tensor, edge: _Edge, place: Place) -> None:
    nodes = {n.id: n for n in place.builder.nodes}
    chosen = nodes.get(part.id)
    if not isinstance(chosen, Select):
        return
    for name, operand in zip(chosen.options, chosen.operands, strict=True):
        found = nodes[operand]
        if isinstance(found, Op) and PRIMITIVES[found.op].zero:
            elab.diagnostics.warning(
                "NAS304",
                f"option `{name}` is no connection, and the choice of inputs can already leave an edge out",
                edge.via.span if edge.via is not None else edge.span,
                "chosen here",
                help="remove `none` from the options, or take `all` inputs",
            )


# --- choices of operations and of numbers -------------------------------------


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


# --- repetition --------------------------------------------------------------


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
