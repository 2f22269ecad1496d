"""Building graphs, one node at a time.

Takes types and operands, returns node ids. Invariant: nodes are added in
topological order under unique ids; every decision of an owner is recorded once,
and later uses must agree with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import attrs

from nasdsl.cases import Cases, TooManyCasesError, both
from nasdsl.cases import Value as Cased
from nasdsl.diagnostics import Diagnostics, Label, Span
from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import (
    AnyNode,
    Branch,
    Call,
    Gather,
    Input,
    Loc,
    Merge,
    Op,
    Select,
    State,
    Weight,
    WeightType,
)
from nasdsl.ops import PRIMITIVES, Value
from nasdsl.space.decisions import Decision, Event, Guard
from nasdsl.space.values import Abort, Size, Tensor
from nasdsl.types import Dim, Integer, TensorType

Uses = tuple[tuple[str, Span], ...]
"""The uses of operations that lead to a place, outermost first."""

MAX_GUARDS = 5_000

MAX_STEPS = 250_000
"""Evaluations of one elaboration; DARTS takes eight thousand, and a second does fifty thousand."""


def loc_of(span: Span) -> Loc:
    """A place as the IR keeps it: the file without its folders, so that a copy compiles to the same bytes."""
    return Loc(span.source.name.replace("\\", "/").rpartition("/")[2], span.line, span.column)


@lru_cache(maxsize=65536)
def plain(path: str) -> str:
    """A path as an identifier: `n[2].a.sep(3)` becomes `n2.a.sep_3`, `body1[2]` `body1_2`."""
    text = re.sub(r"(?<=\d)\[(\w+)\]", r"_\1", path)
    text = re.sub(r"\[(\w+)\]", r"\1", text)
    text = re.sub(r"[^\w.]+", "_", text)
    return re.sub(r"_+(?=\.|$)", "", text).strip(".") or "v"


@attrs.frozen
class Place:
    """Where something is being built.

    Attributes:
        builder: the graph.
        path: readable path inside the graph's owner, `n[2]`.
        role: what a decision written here is called; `op` unless it has a name of its own.
        label: names modules; follows `path` and the option taken.
        when: the guards of this place, inside its graph (see `Decision.when`).
        given: the condition over decisions that holds here, for proofs.
        uses: the places of use that lead here, for errors inside definitions.
    """

    builder: Builder
    path: str
    role: str = ""
    label: str = ""
    when: tuple[Guard, ...] | None = None
    given: Cased = True
    uses: tuple[tuple[str, Span], ...] = ()

    def decision_path(self, default: str = "op") -> str:
        role = self.role or default
        return f"{self.path}.{role}" if self.path else role

    def inside(self, decision: str, option: str) -> tuple[Guard, ...]:
        """The guards of what is there when a decision of this place takes an option."""
        return ((Event(self.builder.absolute(decision), option),),)

    def under(self, condition: Cased) -> Place:
        """This place where a condition over decisions holds. Raises TooManyCasesError."""
        if not isinstance(condition, Cases):
            return self
        guards = tuple(
            tuple(Event(d, o) for d, o in choices.items() if isinstance(o, str))
            for choices, holds in condition.items()
            if holds
        )
        known = self.builder.known
        implied = any(d in known and known[d].when == self.when for d in condition.decisions)
        if self.when is not None and not implied:
            guards = tuple((*outer, *inner) for outer in self.when for inner in guards)
        if len(guards) > MAX_GUARDS:
            raise TooManyCasesError(condition.decisions)
        return attrs.evolve(self, when=guards, given=both(self.given, condition))


@attrs.frozen
class CellUse:
    """A use of an owner's decisions: by whom, and under which of the caller's guards."""

    caller: str
    when: tuple[Guard, ...] | None


@attrs.define
class Owner:
    """The decisions of one scope: a cell (shared), an independent use, or the network (path "")."""

    path: str
    decisions: dict[str, Decision] = attrs.Factory(dict)
    complete: bool = False
    uses: list[CellUse] = attrs.Factory(list)


class Builder:
    """One graph under construction; `owner` collects its decisions."""

    def __init__(
        self,
        name: str,
        owner: Owner,
        sizes: Mapping[str, Integer],
        known: dict[str, Decision],
        diagnostics: Diagnostics,
    ) -> None:
        self.name = name
        self.owner = owner
        self.sizes = dict(sizes)
        self.known = known  # every decision of the space so far, by its full path
        self.diagnostics = diagnostics
        self.nodes: list[AnyNode] = []
        self._ids: set[str] = set()
        self._weights: set[str] = set()
        self._local: dict[str, tuple[Span, Uses]] = {}
        self.open: set[str] = set()  # widths that are settled when members are chosen

    def absolute(self, path: str) -> str:
        """The full path of a decision of this graph's owner."""
        return f"{self.owner.path}.{path}" if self.owner.path else path

    def size(self, dim: Dim) -> Size:
        if self.open and not self.open.isdisjoint(dim.names):
            return dim.substitute({n: Dim.of(v) for n, v in self.sizes.items()})
        return dim.value(self.sizes)

    def shape(self, type_: TensorType) -> tuple[Size, ...]:
        return tuple(self.size(d) for d in type_.dims)

    def fresh(self, hint: str, taken: set[str] | None = None) -> str:
        taken = self._ids if taken is None else taken
        name, count = hint, 1
        while name in taken:
            count += 1
            name = f"{hint}_{count}"
        taken.add(name)
        return name

    def input(self, name: str, type_: TensorType, span: Span) -> Tensor:
        identifier = self.fresh(plain(name))
        self.nodes.append(Input(id=identifier, type=type_, label=name, loc=loc_of(span)))
        return Tensor(identifier, type_, self.shape(type_), name)

    def op(
        self,
        name: str,
        source: Tensor,
        values: Mapping[str, Value],
        type_: TensorType,
        place: Place,
        span: Span,
    ) -> Tensor:
        """Adds a primitive with its weights and state."""
        primitive, loc = PRIMITIVES[name], loc_of(span)
        base = self.fresh(f"{plain(place.label)}.{name}", self._weights)
        operands = [source.id]
        for spec in primitive.weights(source.type, values):
            identifier = self.fresh(f"{base}.{spec.role}")
            type_w = WeightType(spec.shape)
            self.nodes.append(
                Weight(
                    id=identifier, type=type_w, name=identifier, init=spec.init, label=place.label, loc=loc
                )
            )
            operands.append(identifier)
        for spec in primitive.state(source.type, values):
            identifier = self.fresh(f"{base}.{spec.role}")
            type_w = WeightType(spec.shape, state=True)
            self.nodes.append(State(id=identifier, type=type_w, name=identifier, label=place.label, loc=loc))
            operands.append(identifier)
        node = Op(
            id=self.fresh(base),
            operands=tuple(operands),
            type=type_,
            op=name,
            values=tuple(sorted(values.items())),
            label=place.label,
            loc=loc,
        )
        self.nodes.append(node)
        return Tensor(node.id, type_, self.shape(type_))

    def merge(
        self,
        kind: str,
        parts: tuple[Tensor, ...],
        type_: TensorType,
        place: Place,
        span: Span,
        names: tuple[str, ...] = (),
    ) -> Tensor:
        """Adds the sum or concatenation of values."""
        node = Merge(
            id=self.fresh(plain(place.label)),
            operands=tuple(p.id for p in parts),
            type=type_,
            merge=kind,
            names=names,
            label=place.label,
            loc=loc_of(span),
        )
        self.nodes.append(node)
        return Tensor(node.id, type_, self.shape(type_))

    def call(
        self,
        graph: str,
        sizes: tuple[tuple[str, Dim], ...],
        owner: str,
        independent: bool,
        parts: tuple[Tensor, ...],
        type_: TensorType,
        place: Place,
        span: Span,
    ) -> Tensor:
        node = Call(
            id=self.fresh(plain(place.label)),
            operands=tuple(p.id for p in parts),
            type=type_,
            graph=graph,
            sizes=sizes,
            owner=owner,
            independent=independent,
            label=place.label,
            loc=loc_of(span),
        )
        self.nodes.append(node)
        return Tensor(node.id, type_, self.shape(type_))

    def select(
        self, decision: Decision, parts: tuple[Tensor, ...], type_: TensorType, place: Place, span: Span
    ) -> Tensor:
        node = Select(
            id=self.fresh(plain(place.label)),
            operands=tuple(p.id for p in parts),
            type=type_,
            decision=decision.path,
            options=decision.options,
            label=place.label,
            loc=loc_of(span),
        )
        self.nodes.append(node)
        return Tensor(node.id, type_, self.shape(type_))

    def branch(
        self, condition: Cases, yes: Tensor, no: Tensor, type_: TensorType, place: Place, span: Span
    ) -> Tensor:
        node = Branch(
            id=self.fresh(plain(place.label)),
            operands=(yes.id, no.id),
            type=type_,
            condition=condition,
            label=place.label,
            loc=loc_of(span),
        )
        self.nodes.append(node)
        return Tensor(node.id, type_, self.shape(type_))

    def gather(
        self,
        kind: str,
        decision: Decision,
        parts: tuple[Tensor, ...],
        type_: TensorType,
        place: Place,
        span: Span,
        widths: tuple[str, ...] = (),
    ) -> Tensor:
        node = Gather(
            id=self.fresh(plain(place.label)),
            operands=tuple(p.id for p in parts),
            type=type_,
            merge=kind,
            decision=decision.path,
            names=decision.options,
            low=decision.low,
            high=decision.high,
            widths=widths,
            label=place.label,
            loc=loc_of(span),
        )
        self.nodes.append(node)
        return Tensor(node.id, type_, self.shape(type_))

    def decide(self, decision: Decision, span: Span, uses: Uses) -> None:
        """Records a decision of this graph's owner.

        A decision that is written once and read several times, because it was given a
        name, is one decision: same words, same way of getting there. Raises Abort on NAS303.
        """
        earlier = self._local.get(decision.path)
        full = self.absolute(decision.path)
        known = self.owner.decisions.get(decision.path)
        if earlier == (span, uses) and known == decision:
            return
        if earlier is not None:
            self.diagnostics.error(
                "NAS303",
                f"two decisions here have the path `{full}`",
                span,
                "the second",
                secondary=(Label(earlier[0], "the first"),) if earlier[0] != span else (),
                help="give one of them a name of its own, with `where NAME = choose ...` or as a cell's value",
            )
            raise Abort
        self._local[decision.path] = (span, uses)
        if known is None and not self.owner.complete:
            self.owner.decisions[decision.path] = decision
            self.known[full] = attrs.evolve(decision, path=full)
        elif known != decision:
            self.diagnostics.error(
                "NAS303",
                f"two uses that share their decisions disagree about `{full}`",
                span,
                "other options here than in an earlier use",
                help="declare a second cell with `cell other = ...`, or make the uses `independent`",
            )
            raise Abort

    def agrees(self) -> bool:
        """Whether this use makes the same decisions as earlier uses of the same owner."""
        return not self.owner.complete or set(self._local) == set(self.owner.decisions)

    def finish(self, result: Tensor, cell: str) -> Graph:
        """The graph, with only the symbolic sizes that something in it uses."""
        used: set[str] = set()
        for node in self.nodes:
            dims = node.type.dims if isinstance(node.type, TensorType) else getattr(node.type, "shape", ())
            for dim in dims:
                used |= dim.names
            if isinstance(node, Call):
                for _, dim in node.sizes:
                    used |= dim.names
            elif isinstance(node, Op):
                for _, value in node.values:
                    used |= value.names if isinstance(value, Dim) else set()
        sizes = tuple(name for name in self.sizes if name in used)
        self.owner.complete = True
        return Graph(name=self.name, sizes=sizes, nodes=tuple(self.nodes), result=result.id, cell=cell)
