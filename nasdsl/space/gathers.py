"""Everything that merges: sums, concatenations, and those of chosen inputs.

Takes `sum`, `concat` and `... of ... from` expressions; returns values or operations.
Invariant: all sources have been built, and a sum's have one shape, in every case.
"""

from __future__ import annotations

import attrs

from nasdsl.cases import Cases, decided, lift
from nasdsl.diagnostics import Label, Span
from nasdsl.ir.nodes import Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.space import numbers, proof
from nasdsl.space.builder import Place
from nasdsl.space.decisions import Decision, Guard
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Abort, FamilyValue, Operation, Scope, Tensor, Value
from nasdsl.syntax import ast
from nasdsl.syntax.print import to_text
from nasdsl.types import Dim, TensorType

Part = tuple[Tensor, Span]


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
                f"`{node.kind}` joins values or operations",
                argument.span,
                f"this is {found.kind}",
                help="`with` binds one name: write `with a=1 with b=2` for two" if argument.name else None,
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
