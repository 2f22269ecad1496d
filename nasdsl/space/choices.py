"""Everything that merges, chooses or repeats.

Takes `sum`, `concat`, `... of ... from`, `choose` and `repeat` expressions;
returns values or operations. Invariant: all options of a choice and all sources
of a sum have been built and have one shape.
"""

from __future__ import annotations

import attrs

from nasdsl.diagnostics import Label, Span
from nasdsl.ir.nodes import Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.space.builder import Place
from nasdsl.space.decisions import Decision, Event
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Abort, FamilyValue, Num, Operation, Scope, Tensor, Value
from nasdsl.syntax import ast
from nasdsl.syntax.print import to_text
from nasdsl.types import Dim, TensorType

Part = tuple[Tensor, Span]


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
        same = part.type.layout == first.type.layout
        if not same or builder.shape(part.type)[skip:] != builder.shape(first.type)[skip:]:
            what = "widths or resolutions" if kind == "sum" else "resolutions"
            elab.diagnostics.error(
                "NAS202" if kind == "sum" else "NAS203",
                f"the sides of this {kind} have different {what}",
                span,
                elab.shown(part.type, builder),
                secondary=(Label(first_span, elab.shown(first.type, builder)),),
                notes=elab.report_uses(place),
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
    if node.into is not None:
        elab.not_yet("widths with `into`", node.into.span)
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
        path, "inputs", tuple(e.name for e in edges), low, high, _when(place), span=node.how.span
    )
    place.builder.decide(decision, node.span)
    parts = [_edge(elab, e, place, Event(path, e.name)) for e in edges]
    type_ = merged_type(elab, node.kind, parts, place)
    if node.kind == "concat":
        elab.not_yet("concatenations of chosen inputs", node.span)
    for part, edge in zip(parts, edges, strict=True):
        _warn_none(elab, part[0], edge, place)
    return place.builder.gather(node.kind, decision, tuple(p for p, _ in parts), type_, place, node.span)


def _when(place: Place) -> tuple[Event, ...] | None:
    return None if place.when is None else (place.when,)


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


def _edge(elab: Evaluator, edge: _Edge, place: Place, when: Event | None) -> Part:
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


# --- choices of operations ---------------------------------------------------


def choose(elab: Evaluator, node: ast.Choose, scope: Scope, place: Place | None) -> Value:
    """`choose { ... }` or `choose SET`: an operation that is one of the options."""
    options, inner = _options(elab, node, scope)
    role = place.role if place is not None else ""
    names: list[str] = []
    operations: list[Operation] = []
    seen: dict[str, Span] = {}
    for option in options:
        if option.to is not None:
            elab.not_yet("choices of numbers", option.span)
        found = elab.evaluate(option.value, inner, None)
        if isinstance(found, Num):
            elab.not_yet("choices of numbers", option.span)
        if not isinstance(found, Operation):
            raise elab.wrong("an option is an operation", option.span, f"this is {found.kind}")
        name = option.label.text if option.label is not None else to_text(option.value)
        if name in seen:
            elab.diagnostics.error(
                "NAS302",
                f"option `{name}` is named twice",
                option.span,
                "again here",
                secondary=(Label(seen[name], "first here"),),
                help="give one of them a label: `label: op`",
            )
            raise Abort
        seen[name] = option.span
        names.append(name)
        operations.append(found)
    if not operations:
        raise elab.wrong("there is nothing to choose from", node.span, "no options", code="NAS301")
    spans = list(seen.values())

    def run(inputs: tuple[Tensor, ...], where: Place) -> Tensor:
        target = attrs.evolve(where, role=role or where.role)
        return _select(elab, names, operations, spans, inputs, target, node.span)

    return Operation(run, 1, node.span)


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
    names: list[str],
    operations: list[Operation],
    spans: list[Span],
    inputs: tuple[Tensor, ...],
    place: Place,
    span: Span,
) -> Tensor:
    path = place.decision_path()
    decision = Decision(path, "op", tuple(names), 1, 1, _when(place), span=span)
    place.builder.decide(decision, span)
    made: list[Part] = []
    failed = False
    for name, operation, at in zip(names, operations, spans, strict=True):
        where = attrs.evolve(
            place, path=f"{path}.{name}", role="", label=f"{place.label}.{name}", when=Event(path, name)
        )
        try:
            made.append((elab.apply(operation, inputs, where, at), at))
        except Abort:
            failed = True
    if failed:
        raise Abort
    first, first_span = made[0]
    builder = place.builder
    for name, (part, at) in zip(names, made, strict=True):
        if part.type.layout != first.type.layout or builder.shape(part.type) != builder.shape(first.type):
            elab.diagnostics.error(
                "NAS204",
                f"the options of this choice have different shapes: `{name}` does not fit `{names[0]}`",
                at,
                elab.shown(part.type, builder),
                secondary=(Label(first_span, elab.shown(first.type, builder)),),
                notes=elab.report_uses(place),
                help="every option must give the same width and resolution; pass `stride` and the width on to each",
            )
            raise Abort
    return builder.select(decision, tuple(p for p, _ in made), first.type, place, span)


# --- repetition --------------------------------------------------------------


def repeat(elab: Evaluator, node: ast.Repeat, scope: Scope, place: Place | None) -> Value:
    """`repeat n as i { body }`: the body n times, one after another."""
    if isinstance(node.count, ast.Choose):
        elab.not_yet("chosen numbers of repetitions", node.count.span)
    count = elab.integer(node.count, scope, "a number of repetitions", 0)

    def steps(where: Place) -> list[tuple[Operation, Place]]:
        found = []
        for i in range(1, count + 1):
            inner = scope.inner({node.index.text: Num.of(i)}) if node.index is not None else scope
            path = f"{where.path}[{i}]"
            at = attrs.evolve(where, path=path, label=f"{where.label}[{i}]", role="")
            found.append((elab.operation(node.body, inner, at), at))
        return found

    def run(inputs: tuple[Tensor, ...], where: Place) -> Tensor:
        memory = list(inputs)
        for single, at in steps(where):
            missing = max(0, single.arity - len(memory))
            recent = (*[memory[0]] * missing, *memory[len(memory) - (single.arity - missing) :])
            memory.append(elab.apply(single, recent, at, node.body.span))
        return memory[-1]

    return Operation(run, 1, node.span, steps)
