"""The cost of every architecture at once: how many have which.

Takes a module at stage SPACE and its decisions, returns a tree whose leaves are
single decisions. Invariant: the tree's encodings are those of the table, and the cost
of each is that of the network as it is written (`nasdsl.ir.cost`, dead operations
counted).

The cost of a network is a sum of terms, each a table over the few decisions that
settle whether an operation is there and how large it is. Decisions that share no term
are independent, so their costs add and their numbers multiply; those that do are told
apart by trying the values of the one with most links, which leaves smaller independent
groups (the AND/OR search of Dechter and Mateescu, 2007).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Union

import attrs

from nasdsl.cases import Axis, Cases, Choice, TooManyCasesError, Value, axes_of, lift, tabulate
from nasdsl.ir.cost import module_count, node_costs
from nasdsl.ir.graph import Module, Use
from nasdsl.ir.nodes import AnyNode, Op, Weight
from nasdsl.passes.specialise import Specialise
from nasdsl.space.decisions import Decision, DecisionTable
from nasdsl.space.latency import LatencyTable
from nasdsl.space.measures import layers, live_edges
from nasdsl.space.presence import NotAdditiveError, both, presence
from nasdsl.space.units import Price, latency_price

MAX_STEPS = 400_000

Lookup = tuple[tuple[tuple[str, dict[Choice, int]], ...], tuple[int, ...]]
"""For each decision how far each of its values leads into the numbers, and the numbers."""
Histogram = dict[int, int]
"""Cost to the number of encodings that have it."""


@attrs.frozen(slots=False)
class Leaf:
    """One decision whose cost depends on nothing else."""

    decision: str
    costs: tuple[tuple[Choice, int], ...]

    @cached_property
    def low(self) -> int:
        return min(c for _, c in self.costs)

    @cached_property
    def high(self) -> int:
        return max(c for _, c in self.costs)

    @cached_property
    def histogram(self) -> Histogram:
        found: Histogram = {}
        for _, cost in self.costs:
            found[cost] = found.get(cost, 0) + 1
        return found


@attrs.frozen(slots=False)
class All:
    """Independent parts together, and a cost that is always there."""

    parts: tuple[Tree, ...]
    offset: int

    @cached_property
    def low(self) -> int:
        return self.offset + sum(p.low for p in self.parts)

    @cached_property
    def high(self) -> int:
        return self.offset + sum(p.high for p in self.parts)

    @cached_property
    def histogram(self) -> Histogram:
        found: Histogram = {self.offset: 1}
        for part in self.parts:
            found = convolve(found, part.histogram)
        return found


@attrs.frozen(slots=False)
class Either:
    """One decision, and what is left for each of its values."""

    decision: str
    cases: tuple[tuple[Choice, Tree], ...]

    @cached_property
    def low(self) -> int:
        return min(t.low for _, t in self.cases)

    @cached_property
    def high(self) -> int:
        return max(t.high for _, t in self.cases)

    @cached_property
    def histogram(self) -> Histogram:
        found: Histogram = {}
        for _, tree in self.cases:
            for cost, number in tree.histogram.items():
                found[cost] = found.get(cost, 0) + number
        return found


Tree = Union[Leaf, All, Either]

MAX_SUMS = 2_000_000


def convolve(left: Histogram, right: Histogram) -> Histogram:
    """The histogram of sums. Raises NotAdditiveError when there are too many different ones."""
    if len(left) * len(right) > 4 * MAX_SUMS:
        raise NotAdditiveError("too many different costs")
    found: Histogram = {}
    for b, m in right.items():
        for a, n in left.items():
            found[a + b] = found.get(a + b, 0) + n * m
    return found


def counted(measure: str) -> Price:
    """The price of a node in `params` or `macs`: weights carry the parameters, operations the arithmetic."""

    def price(use: Use, node: AnyNode) -> Value:
        if not isinstance(node, (Op, Weight)):
            return 0
        found: Value = getattr(node_costs(use.graph, node, use.sizes), measure)
        return found

    return price


def cost_tree(
    module: Module, table: DecisionTable, measure: str | Price, made: Mapping[str, Choice] | None = None
) -> Tree:
    """The tree of a measure, `params` or `macs`, or of what a price makes of every node.

    Args:
        made: decisions that are made already; the tree is of the others.

    Raises:
        NotAdditiveError: when sizes depend on what cannot be told here, or the tree is too large.
        TooManyCasesError: when one term depends on too many decisions.
    """
    decisions, terms = table.decisions, _terms(module, table, measure)
    for decision in table.decisions:
        if made and decision.path in made:
            decisions, gone = _after(
                tuple(d for d in decisions if d.path != decision.path), decision, made[decision.path]
            )
            fixed = {decision.path: made[decision.path], **{d.path: d.values[0] for d in gone}}
            terms = tuple(_restrict(t, fixed) for t in terms)
            decisions = tuple(d for d in decisions if d.path not in fixed)
    return _Builder().solve(decisions, terms)


# --- one architecture after another ------------------------------------------


class PathCosts:
    """One measure of every architecture, made ready once: a look-up takes microseconds.

    Takes the choices of an architecture, returns an integer. Invariant: `at` equals `Space.stats`
    for `params` and `macs`; for `depth` and `edges` it is what a limit on them looks at. The limits
    of the space play no part here. With `latencies`, `latency` is what that table says, in microseconds.
    """

    def __init__(
        self, module: Module, table: DecisionTable, measure: str, latencies: LatencyTable | None = None
    ) -> None:
        self.measure = measure
        self._module = module
        self._table = table
        self._latencies = latencies
        try:
            self._terms = self._additive()
        except (NotAdditiveError, TooManyCasesError):
            self._terms = None
        self._lookups = [_lookup(t) for t in self._terms or () if isinstance(t, Cases)]
        self._offset = sum(int(t) for t in self._terms or () if not isinstance(t, Cases))

    def _additive(self) -> tuple[Value, ...] | None:
        """Tables whose sum is the measure; None where it is no sum of small tables."""
        if self.measure == "edges":
            return None
        if self.measure == "depth":
            return (layers(self._module, self._table),)
        return _absorbed(_terms(self._module, self._table, self.price))

    @cached_property
    def price(self) -> Price:
        """What each node adds."""
        return self._price(self._module, self._table)

    def _price(self, module: Module, table: DecisionTable) -> Price:
        if self._latencies is None:
            return counted(self.measure)
        return latency_price(module, table, self._latencies)

    @property
    def additive(self) -> bool:
        """Whether a look-up adds up a few tables; otherwise each cuts the architecture out, which is slow."""
        return self._terms is not None

    def at(self, choices: Mapping[str, Choice]) -> int:
        """The measure of one architecture: the value of every decision that it makes, by its path."""
        if self._terms is None:
            return self._walked(choices)
        total = self._offset
        for strides, numbers in self._lookups:
            index = 0
            for decision, places in strides:
                chosen = choices.get(decision)
                # A decision that is not made counts as its first option: nothing there is paid for.
                if chosen is not None:
                    index += places[chosen]
            total += numbers[index]
        return total

    @property
    def lookups(self) -> tuple[int, Sequence[Lookup]]:
        """What `at` adds up, for looking many architectures up at once: a constant, and tables.

        Of an architecture each table gives the number at the sum of what its decisions' values lead to; a
        decision that is not made leads nowhere. Only where `additive`.
        """
        return self._offset, self._lookups

    def _walked(self, choices: Mapping[str, Choice]) -> int:
        if self.measure == "edges":
            return live_edges(self._module, choices)
        if self.measure == "depth":
            depth = layers(Specialise(choices)(self._module), DecisionTable(()))
            return int(depth) if not isinstance(depth, Cases) else 0
        module = Specialise(choices, dead=True)(self._module)
        if self._latencies is None:
            return int(getattr(module_count(module), self.measure))
        price = self._price(module, DecisionTable(()))
        prices = (price(use, node) for use in module.uses() for node in use.graph.nodes)
        return sum(int(p) for p in prices if not isinstance(p, Cases))

    @property
    def low(self) -> int | None:
        """The least value that an architecture has; None where that is not known without looking at all."""
        return self._range[0]

    @property
    def high(self) -> int | None:
        """The greatest value that an architecture has; None as for `low`."""
        return self._range[1]

    @cached_property
    def _range(self) -> tuple[int | None, int | None]:
        if self._terms is None:
            return None, None
        if self.measure == "depth":
            (depth,) = self._terms
            table = depth.table if isinstance(depth, Cases) else (depth,)
            return int(min(table)), int(max(table))
        try:
            tree = _Builder().solve(self._table.decisions, self._terms)
        except (NotAdditiveError, TooManyCasesError):
            return None, None
        return tree.low, tree.high


def _lookup(term: Cases) -> Lookup:
    """A table as what `PathCosts.at` adds up: for each decision how far each value leads into the numbers."""
    strides = []
    step = len(term.table)
    for axis in term.axes:
        step //= len(axis.values)
        strides.append((axis.decision, {v: i * step for i, v in enumerate(axis.values)}))
    return tuple(strides), tuple(int(v) for v in term.table)


def _absorbed(terms: tuple[Value, ...]) -> tuple[Value, ...]:
    """The same sum in fewer tables: one over decisions that another table has already is added to that one."""
    kept: list[Value] = []
    for term in sorted(terms, key=lambda t: -len(t.axes) if isinstance(t, Cases) else 0):
        axes = set(term.decisions) if isinstance(term, Cases) else set()
        for index, other in enumerate(kept):
            if isinstance(other, Cases) and axes <= set(other.decisions):
                kept[index] = lift(lambda a, b: a + b, other, term)
                break
        else:
            kept.append(term)
    return tuple(kept)


# --- terms -------------------------------------------------------------------


def _terms(module: Module, table: DecisionTable, measure: str | Price) -> tuple[Value, ...]:
    """Cost tables whose sum is the cost."""
    price = counted(measure) if isinstance(measure, str) else measure
    there: dict[tuple[str, ...], Value] = {(): True}
    conditions: dict[tuple[str, str], dict[str, Value]] = {}
    weighted: dict[tuple[Value, tuple[Axis, ...]], Value] = {}
    for use in module.uses():
        key = (use.graph.name, use.owner)
        if key not in conditions:
            conditions[key] = presence(use.graph, use.owner, table)
        outer = there[use.path]
        for node in use.graph.nodes:
            own = both(outer, conditions[key][node.id])
            if node.kind == "call":
                there[(*use.path, node.id)] = own
            if own is not False:
                try:
                    cost = price(use, node)
                except KeyError as name:
                    raise NotAdditiveError(f"the size {name} is settled by the whole architecture") from None
                if cost != 0:
                    key_ = (own, cost.axes if isinstance(cost, Cases) else ())
                    weighted[key_] = lift(lambda a, b: a + b, weighted.get(key_, 0), cost)
    # One table for each set of decisions, the smallest first.
    tables: dict[tuple[Axis, ...], Value] = {}
    for (own, _), cost in weighted.items():
        term = lift(lambda c, w: w if c else 0, own, cost)
        axes = term.axes if isinstance(term, Cases) else ()
        tables[axes] = lift(lambda a, b: a + b, tables.get(axes, 0), term)
    return tuple(tables.values())


# --- the tree ----------------------------------------------------------------


class _Builder:
    def __init__(self) -> None:
        self.known: dict[object, Tree] = {}
        self.steps = 0

    def solve(self, decisions: tuple[Decision, ...], terms: tuple[Value, ...]) -> Tree:
        """The tree of some decisions and the terms that depend on them alone."""
        offset = sum(int(t) for t in terms if not isinstance(t, Cases))
        tables = tuple(t for t in terms if isinstance(t, Cases))
        parts = [self._group(ds, ts) for ds, ts in _groups(decisions, tables)]
        return parts[0] if len(parts) == 1 and not offset else All(tuple(parts), offset)

    def _group(self, decisions: tuple[Decision, ...], terms: tuple[Cases, ...]) -> Tree:
        """Decisions that hang together."""
        key = (tuple((d.path, d.when) for d in decisions), frozenset(Counter(terms).items()))
        if key not in self.known:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise NotAdditiveError("decisions hang together too much")
            self.known[key] = self._split(decisions, terms)
        return self.known[key]

    def _split(self, decisions: tuple[Decision, ...], terms: tuple[Cases, ...]) -> Tree:
        if len(decisions) == 1 and decisions[0].when is None:
            return self._leaf(decisions[0], terms)
        links = {d.path: 0 for d in decisions}
        for term in terms:
            for path in term.decisions:
                links[path] += len(term.axes) - 1
        for decision in decisions:
            for guard in decision.when or ():
                for event in guard:
                    links[event.decision] += 1
        certain = [d for d in decisions if d.when is None]
        chosen = max(certain, key=lambda d: (links[d.path], -len(d.values)))
        rest = tuple(d for d in decisions if d is not chosen)
        cases = []
        for value in chosen.values:
            left, gone = _after(rest, chosen, value)
            fixed = {chosen.path: value, **{d.path: d.values[0] for d in gone}}
            cases.append((value, self.solve(left, tuple(_restrict(t, fixed) for t in terms))))
        return Either(chosen.path, tuple(cases))

    @staticmethod
    def _leaf(decision: Decision, terms: tuple[Cases, ...]) -> Leaf:
        costs = tuple((v, sum(int(t.at({decision.path: v})) for t in terms)) for v in decision.values)
        return Leaf(decision.path, costs)


def _groups(
    decisions: tuple[Decision, ...], terms: tuple[Cases, ...]
) -> list[tuple[tuple[Decision, ...], tuple[Cases, ...]]]:
    """Decisions that share a term or wait for each other, with their terms."""
    head = {d.path: d.path for d in decisions}

    def find(path: str) -> str:
        while head[path] != path:
            head[path] = head[head[path]]
            path = head[path]
        return path

    links = [t.decisions for t in terms]
    links += [(d.path, *(e.decision for guard in d.when or () for e in guard)) for d in decisions]
    for first, *others in links:
        for other in others:
            head[find(other)] = find(first)
    groups: dict[str, tuple[list[Decision], list[Cases]]] = {}
    for decision in decisions:
        groups.setdefault(find(decision.path), ([], []))[0].append(decision)
    for term in terms:
        groups[find(term.decisions[0])][1].append(term)
    return [(tuple(ds), tuple(ts)) for ds, ts in groups.values()]


def _after(
    decisions: tuple[Decision, ...], made: Decision, value: Choice
) -> tuple[tuple[Decision, ...], list[Decision]]:
    """The decisions that are still open once one is made, and those that are not made then."""
    happened = {e.option for e in made.taken(value)}
    left: list[Decision] = []
    gone: list[Decision] = []
    absent: set[str] = set()
    for decision in decisions:
        if decision.when is None:
            left.append(decision)
            continue
        guards = []
        for guard in decision.when:
            if any(
                e.decision in absent or (e.decision == made.path and e.option not in happened) for e in guard
            ):
                continue
            guards.append(tuple(e for e in guard if e.decision != made.path))
        if not guards:
            gone.append(decision)
            absent.add(decision.path)
        else:
            left.append(attrs.evolve(decision, when=None if () in guards else tuple(guards)))
    return tuple(left), gone


def _restrict(term: Value, fixed: Mapping[str, Choice]) -> Value:
    """A term once some decisions are made."""
    if not isinstance(term, Cases) or fixed.keys().isdisjoint(term.decisions):
        return term
    free = tuple(a for a in axes_of(term) if a.decision not in fixed)
    return tabulate(free, lambda choices: term.at({**choices, **fixed})) if free else term.at(fixed)
