"""Cells: one graph for every structure, one owner for every set of decisions.

Takes a use of a cell, returns the operation that calls its graph. Invariant: two
uses whose graphs have the same structure share one graph; a cell's uses share
their decisions unless the use is `independent`.
"""

from __future__ import annotations

import attrs

from nasdsl.diagnostics import Span
from nasdsl.ir.graph import Graph
from nasdsl.space.builder import Builder, CellUse, Owner, Place
from nasdsl.space.evaluator import Evaluator
from nasdsl.space.values import Abort, FamilyValue, Num, Operation, Scope, Tensor, Thunk, Value
from nasdsl.syntax import ast
from nasdsl.types import Dim, Integer, TensorType

_AXES = {"image": ("c", "h", "w"), "tokens": ("d", "l"), "vector": ("d",)}


@attrs.frozen
class Poison:
    """A name whose value could not be made; its error has been reported."""

    kind = "nothing"


@attrs.frozen
class Instance:
    """A graph made for one use: its name, its sizes in the caller's terms, the type it returns."""

    graph: str
    sizes: tuple[str, ...]
    result: TensorType


class CellCache:
    """Instances by what they were made from."""

    def __init__(self) -> None:
        self.made: dict[object, Instance] = {}
        self.graphs: dict[str, list[tuple[Graph, Graph]]] = {}  # of a cell: without their names, and named


def use_cell(
    elab: Evaluator,
    cache: CellCache,
    name: str,
    span: Span,
    arguments: tuple[ast.Argument, ...],
    scope: Scope,
    independent: bool,
) -> Operation:
    """The operation `name(arguments)`. Raises Abort where names did not resolve."""
    found = elab.names.cell(name)
    if found is None:
        if name in elab.names.definitions:
            raise elab.wrong(f"`{name}` is not a cell", span, "a cell is needed here")
        raise Abort  # reported as NAS101 or NAS104
    item, defaults = found
    said = {a.name.text for a in arguments if a.name is not None}
    kept = {a.name.text: a for a in reversed(defaults) if a.name is not None and a.name.text not in said}
    # A cell's inputs come with the values it is applied to; only its parameters are bound here.
    parameters = ast.Formals((), item.formals.ambient)
    given_here = (*kept.values(), *arguments)
    late = any(elab.choosing(a.value) for a in given_here)
    early = None if late else elab.bind_formals(parameters, given_here, scope, f"cell `{name}`", span)

    def run(inputs: tuple[Tensor, ...], place: Place) -> Tensor:
        bound = early
        if bound is None:
            # A choice among the arguments belongs to the place where the cell is used.
            bound = elab.bind_formals(parameters, given_here, scope, f"cell `{name}`", span, place)
        owner, relative = _owner(elab, name, place, independent)
        inner, sizes, concrete = _sizes(item, inputs, bound, place)
        key = (name, owner.path, concrete)
        if key not in cache.made:
            cache.made[key] = _instantiate(elab, cache, item, name, owner, inner, sizes, inputs, place, span)
        made = cache.made[key]
        given = {n: d for n, (d, _) in sizes.items()}
        type_ = made.result.substitute(given)
        passed = tuple((n, given[n]) for n in made.sizes)
        return place.builder.call(made.graph, passed, relative, independent, inputs, type_, place, span)

    return Operation(run, len(item.formals.own), span)


def _owner(elab: Evaluator, name: str, place: Place, independent: bool) -> tuple[Owner, str]:
    """The owner of this use's decisions, its activation extended, and its path as the call says it."""
    caller = place.builder.owner
    relative = f"{place.path}.{name}" if independent and place.path else name
    path = f"{caller.path}.{relative}" if independent and caller.path else relative
    owner = elab.owners.setdefault(path, Owner(path))
    use = CellUse(caller.path, place.when)
    if use not in owner.uses:
        owner.uses.append(use)
    return owner, relative


Sizes = dict[str, tuple[Dim, Integer]]


def _sizes(
    item: ast.CellDef, inputs: tuple[Tensor, ...], bound: dict[str, Value | Thunk], place: Place
) -> tuple[dict[str, Value | Thunk], Sizes, object]:
    """Names every size of this use; returns the scope's numbers, the sizes and a key for the use."""
    sizes: Sizes = {}
    inner: dict[str, Value | Thunk] = {}
    for name, value in bound.items():
        if isinstance(value, Num) and value.dim is not None and not isinstance(value.value, Dim):
            sizes[name] = (value.dim, value.value)  # type: ignore[assignment]
            inner[name] = Num(value.value, Dim.of(name))
        else:
            inner[name] = value
    taken = set(sizes)
    for formal, tensor in zip(item.formals.own, inputs, strict=True):
        shape = place.builder.shape(tensor.type)
        for axis, dim, extent in zip(_AXES[tensor.type.layout], tensor.type.dims, shape, strict=True):
            symbol = f"{axis}_{formal.name}"
            while symbol in taken:
                symbol += "_"
            taken.add(symbol)
            if isinstance(extent, Dim):
                raise Abort  # reported: a cell needs sizes that are known
            sizes[symbol] = (dim, extent)
    layouts = tuple(t.type.layout for t in inputs)
    others = tuple((n, v) for n, v in bound.items() if n not in sizes)
    key = (layouts, tuple((n, v) for n, (_, v) in sizes.items()), others)
    return inner, sizes, key


def _instantiate(
    elab: Evaluator,
    cache: CellCache,
    item: ast.CellDef,
    name: str,
    owner: Owner,
    inner: dict[str, Value | Thunk],
    sizes: Sizes,
    inputs: tuple[Tensor, ...],
    place: Place,
    span: Span,
) -> Instance:
    builder = Builder(name, owner, {n: v for n, (_, v) in sizes.items()}, elab.known, elab.diagnostics)
    split = _split_family(item)
    names: dict[str, Value | Thunk] = dict(inner)
    symbols = [n for n in sizes if n not in inner]
    for formal, tensor in zip(item.formals.own, inputs, strict=True):
        own = [symbols.pop(0) for _ in tensor.type.dims]
        type_ = TensorType(tensor.type.layout, tuple(Dim.of(s) for s in own))
        names[formal.name.text] = builder.input(formal.name.text, type_, formal.span)
    scope = Scope(names, elab.space_scope)
    uses = (*place.uses, (name, span))
    failed = False
    for bind in item.body:
        try:
            open_width = split[1] if split is not None and split[0] == bind.name.text else None
            names[bind.name.text] = _bound_value(elab, bind, scope, Place(builder, "", uses=uses), open_width)
        except Abort:
            names[bind.name.text] = Poison()  # type: ignore[assignment]
            failed = True
    at = Place(builder, "result", label="result", uses=uses)
    result = elab.value(item.result, scope, at)
    if failed:
        raise Abort
    if not builder.agrees():
        raise elab.wrong(
            f"two uses of cell `{name}` share their decisions and make different ones",
            span,
            "this use makes others than an earlier one",
            code="NAS303",
            help="declare a second cell with `cell other = ...`, or make the uses `independent`",
        )
    graph = _shared(elab, cache, builder.finish(result, item.name.text), name)
    return Instance(graph.name, graph.sizes, result.type)


def _split_family(item: ast.CellDef) -> tuple[str, str] | None:
    """The family whose members a `concat of ... into split(C)` cuts to width, and the name of that width."""
    for bind in item.body:
        into = bind.value.into if isinstance(bind.value, ast.Gather) else None
        if not (isinstance(into, ast.Call) and isinstance(into.function, ast.Name)):
            continue
        source = bind.value.sources[0].place if isinstance(bind.value, ast.Gather) else None
        total = into.arguments[0].value if into.arguments else None
        if isinstance(source, ast.Name) and isinstance(total, ast.Name):
            return source.text, total.text
    return None


def _bound_value(
    elab: Evaluator, bind: ast.Bind, scope: Scope, blank: Place, open_width: str | None = None
) -> Value:
    """The value of one line of a cell; a family is built member by member.

    Args:
        open_width: the name that stands, inside a member, for a width that is settled later.
    """
    name = bind.name.text
    if bind.family is None:
        place = attrs.evolve(blank, path=name, label=name)
        value = elab.evaluate(bind.value, scope, place)
        if isinstance(value, Operation):
            raise elab.wrong(
                "a line of a cell names a value or a number",
                bind.value.span,
                "this is an operation",
                help=f"apply it: `{name} = INPUT >> ...`",
            )
        return attrs.evolve(value, name=name) if isinstance(value, Tensor) else value
    low = elab.integer(bind.family.low, scope, "the first index of a family", 1)
    high = elab.integer(bind.family.high, scope, "the last index of a family", 0)
    if low != 1:
        raise elab.wrong("a family counts from 1", bind.family.span, f"this starts at {low}", code="NAS206")
    members: tuple[Tensor, ...] = ()
    for i in range(low, high + 1):
        path = f"{name}[{i}]"
        family = FamilyValue(name, members)
        inner = scope.inner({"earlier": family, name: family})
        if open_width is not None:
            width = Dim.of(f"w_{name}_{i}")
            blank.builder.open.add(f"w_{name}_{i}")
            inner = inner.inner({open_width: Num(width, width)})
        made = elab.value(bind.value, inner, attrs.evolve(blank, path=path, label=path))
        members = (*members, attrs.evolve(made, name=path))
    return FamilyValue(name, members)


def _shared(elab: Evaluator, cache: CellCache, graph: Graph, name: str) -> Graph:
    """An earlier graph of the same structure, or this one under a name of its own."""
    plain = attrs.evolve(graph, name="")
    alike = cache.graphs.setdefault(name, [])
    for known, named in alike:
        if known == plain:
            return named
    unique, count = name, 1
    while unique == "network" or unique in elab.graphs:
        count += 1
        unique = f"{name}__{count}"
    named = attrs.evolve(graph, name=unique)
    alike.append((plain, named))
    elab.graphs[unique] = named
    return named
