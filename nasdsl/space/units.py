"""What a latency table has an entry for, and what a network takes by such a table.

Takes nodes of a graph at stage SPACE or CONCRETE, returns units and, with a table, prices.
Invariant: the price of a network is the sum over its operations, sums and concatenations, those
that nothing reads included, as for `params` and `macs`.

A unit is one operation at concrete parameters and input shape. A sum of n values is n - 1 additions,
for that is what the generated text says; a `none` that a sum leaves out, and `id`, cost nothing. So
does a `none` that is all there is: it is a multiplication by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

import attrs

from nasdsl.cases import Assignment, Axis, TooManyCasesError, Value, at, axes_of, lift, possible, tabulate
from nasdsl.cases import assignments as all_of
from nasdsl.ir.graph import Graph, Module, Use
from nasdsl.ir.nodes import AnyNode, Branch, Gather, Merge, Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.ops.base import Value as Setting
from nasdsl.space.bounds import Bounds, NodeBounds
from nasdsl.space.decisions import DecisionTable
from nasdsl.space.latency import LatencyTable
from nasdsl.space.presence import both, presence, taken
from nasdsl.types import Dim, Integer, TensorType

Price = Callable[[Use, AnyNode], Value]
"""What one node of a use adds to the cost, as a table over decisions. Raises KeyError for an open size."""


@attrs.frozen(slots=False)
class Unit:
    """One thing that is timed; every size in it is an integer.

    Attributes:
        kind: the name of an operation, `add` or `concat`.
        values: the parameters of the operation.
        inputs: the types of what it reads.
        result: the type of what it makes.
    """

    kind: str
    values: tuple[tuple[str, Setting], ...]
    inputs: tuple[TensorType, ...]
    result: TensorType

    @cached_property
    def key(self) -> str:
        """What an entry is found by: `conv(k=3, out=32, ...) image[16, 8, 8]`."""
        given = ", ".join(f"{name}={_plain(value)}" for name, value in self.values)
        kind = f"{self.kind}({given})" if self.values else self.kind
        return " ".join([kind, *map(str, self.inputs)])


def _plain(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Parts = tuple[tuple[Unit, int], ...]
"""Units, and how often each."""


class Units:
    """The units of the nodes of a space.

    Takes a module with its decisions. Raises KeyError for a size that only the whole architecture
    settles, TooManyCasesError for one that depends on too many decisions.
    """

    def __init__(self, module: Module, table: DecisionTable) -> None:
        self.module = module
        self.table = table
        self._zeros: dict[tuple[str, str], dict[str, Value]] = {}

    def parts(self, use: Use, node: AnyNode) -> tuple[tuple[Axis, ...], Callable[[Assignment], Parts]]:
        """What a node depends on, and its units for values of that."""
        if isinstance(node, Op):
            return self._operation(use, node)
        if isinstance(node, (Merge, Gather)):
            return self._merge(use, node)
        return (), lambda _: ()

    def _operation(self, use: Use, node: Op) -> tuple[tuple[Axis, ...], Callable[[Assignment], Parts]]:
        primitive = PRIMITIVES[node.op]
        source = use.graph.by_id[node.operands[0]].type
        if primitive.identity or primitive.zero or not isinstance(source, TensorType):
            return (), lambda _: ()
        read, made = self._sizes(source, use), self._sizes(node.type, use)
        values = [(n, v.value(use.sizes) if isinstance(v, Dim) else v) for n, v in node.values]
        sized = {n for n, v in node.values if isinstance(v, Dim)}
        whole = {p.name for p in primitive.parameters if p.kind == "integer"}

        def settle(name: str, value: object, choices: Assignment) -> Setting:
            found: Setting = at(value, choices)
            return Dim.of(found) if name in sized and name not in whole and isinstance(found, int) else found

        def units(choices: Assignment) -> Parts:
            settings = tuple((n, settle(n, v, choices)) for n, v in values)
            unit = Unit(node.op, settings, (_type(source, read, choices),), _type(node.type, made, choices))
            return ((unit, 1),)

        return axes_of(*read, *made, *(v for _, v in values)), units

    def _merge(
        self, use: Use, node: Merge | Gather
    ) -> tuple[tuple[Axis, ...], Callable[[Assignment], Parts]]:
        graph = use.graph
        there = [taken(graph, use.owner, self.table, node.id, o) for o in node.operands]
        made = self._sizes(node.type, use)
        if node.merge == "sum":
            zeros = self._zero(use)
            real = [
                both(t, lift(lambda z: not z, zeros[o])) for t, o in zip(there, node.operands, strict=True)
            ]
            try:
                axes = axes_of(*made, *real)
            except TooManyCasesError:
                real, axes = there, axes_of(*made, *there)

            def additions(choices: Assignment) -> Parts:
                number = sum(bool(at(r, choices)) for r in real) - 1
                type_ = _type(node.type, made, choices)
                return ((Unit("add", (), (type_,), type_), number),) if number > 0 else ()

            return axes, additions
        types = [graph.by_id[o].type for o in node.operands]
        read = [self._sizes(t, use) for t in types]

        def concatenation(choices: Assignment) -> Parts:
            pairs = zip(types, read, there, strict=True)
            inputs = tuple(_type(t, r, choices) for t, r, held in pairs if at(held, choices))
            unit = Unit("concat", (), inputs, _type(node.type, made, choices))
            return ((unit, 1),) if len(inputs) > 1 else ()

        return axes_of(*made, *there, *(size for sizes in read for size in sizes)), concatenation

    @staticmethod
    def _sizes(type_: object, use: Use) -> tuple[Value, ...]:
        return type_.value(use.sizes) if isinstance(type_, TensorType) else ()

    def _zero(self, use: Use) -> dict[str, Value]:
        """For every value of a graph, when it is what a sum leaves out (`Specialise`)."""
        key = (use.graph.name, use.owner)
        if key not in self._zeros:
            found: dict[str, Value] = {}
            self._zeros[key] = found
            for node in use.graph.nodes:
                try:
                    found[node.id] = self._is_zero(use, node, found)
                except TooManyCasesError:
                    found[node.id] = False
        return self._zeros[key]

    def _is_zero(self, use: Use, node: AnyNode, found: Mapping[str, Value]) -> Value:
        if isinstance(node, Op):
            return PRIMITIVES[node.op].zero
        summed = isinstance(node, (Merge, Gather)) and node.merge == "sum"
        if not summed and not isinstance(node, (Select, Branch)):
            return False
        every: Value = True
        for operand in node.operands:
            held = taken(use.graph, use.owner, self.table, node.id, operand)
            every = both(every, lift(lambda h, z: bool(z or not h), held, found[operand]))
        return every

    def all(self) -> dict[str, Unit]:
        """Every unit that an architecture of the space can have, by its key."""
        there: dict[tuple[str, ...], Value] = {(): True}
        conditions: dict[tuple[str, str], dict[str, Value]] = {}
        found: dict[str, Unit] = {}
        for use in self.module.uses():
            key = (use.graph.name, use.owner)
            if key not in conditions:
                conditions[key] = presence(use.graph, use.owner, self.table)
            for node in use.graph.nodes:
                own = both(there[use.path], conditions[key][node.id])
                if node.kind == "call":
                    there[(*use.path, node.id)] = own
                if own is not False:
                    for unit in self._of(use, node, own):
                        found.setdefault(unit.key, unit)
        return found

    def _of(self, use: Use, node: AnyNode, own: Value) -> Iterator[Unit]:
        axes, units = self.parts(use, node)
        for choices in all_of(axes):
            made = [unit for unit, _ in units(choices)]
            if made and possible(own, choices):
                yield from made


def _type(type_: object, sizes: Iterable[Value], choices: Assignment) -> TensorType:
    layout = type_.layout if isinstance(type_, TensorType) else "vector"
    return TensorType(layout, tuple(Dim.of(int(at(size, choices))) for size in sizes))


def latency_price(module: Module, table: DecisionTable, latencies: LatencyTable) -> Price:
    """The price of a node in microseconds. What the table lacks costs nothing: `missing` tells of it."""
    units = Units(module, table)

    def price(use: Use, node: AnyNode) -> Value:
        axes, parts = units.parts(use, node)
        cost = tabulate(axes, lambda c: sum((latencies.price(u.key) or 0) * n for u, n in parts(c)))
        if not use.path and node.id == use.graph.result:
            return lift(lambda c: c + latencies.constant, cost)
        return cost

    return price


def unit_bounds(module: Module, table: DecisionTable, latencies: LatencyTable) -> NodeBounds:
    """The least and the most that one node takes; sums and concatenations may be left out altogether."""
    units = Units(module, table)

    def bounds(graph: Graph, node: AnyNode, sizes: Mapping[str, Integer]) -> Bounds:
        use = Use(graph, (), "", sizes)  # type: ignore[arg-type]
        if isinstance(node, Op):
            axes, parts = units.parts(use, node)
            keys = {u.key for choices in all_of(axes) for u, _ in parts(choices)}
            # What no architecture has, the table need not have.
            known = [p for p in map(latencies.price, keys) if p is not None]
            return (min(known), max(known)) if known else (0, 0)
        return 0, (_most(latencies) * len(node.operands) if isinstance(node, (Merge, Gather)) else 0)

    return bounds


def _most(latencies: LatencyTable) -> int:
    """The most that an addition or a concatenation takes."""
    found = (latencies.price(k) or 0 for k in latencies.entries if k.startswith(("add ", "concat ")))
    return max(found, default=0)


def missing(module: Module, table: DecisionTable, latencies: LatencyTable) -> tuple[str, ...]:
    """The keys that a space needs and a table lacks. Raises as `Units.all`."""
    return tuple(key for key in Units(module, table).all() if key not in latencies.entries)


__all__ = ["Price", "Unit", "Units", "latency_price", "missing", "unit_bounds"]
