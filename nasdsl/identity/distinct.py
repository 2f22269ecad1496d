"""Distinct architectures: counted exactly and drawn uniformly, by structure where it allows.

Takes a space, returns a `Tally`. Invariant: a number that is called exact is exact;
where structure does not allow that, lower and upper bounds are given, never a guess.

The network is a chain of segments (`segments`). What a segment computes is a word, its
letters the parts between cuts (`letters`), so a network is the word of its segments, and
two architectures are the same exactly when their words are. Segments with decisions of
their own form an automaton, whose words are counted after making it deterministic: a
skipped block here and one there are then counted once. A cell that is used many times
with the same decisions (NAS-Bench-201) counts once, by its own distinct forms, where
letters that it never makes stand between its uses and anything else. Cells with several
inputs whose results are one fresh vertex (DARTS) multiply. Large cells are counted by
patterns (`patterns`). What is left is enumerated, if it can be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from itertools import product
from math import prod

import attrs

from nasdsl.cases import Choice
from nasdsl.identity.canonical import certificate, form_of, has_splits
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.letters import ZERO, Word
from nasdsl.identity.patterns import Cell, NotByPatternsError, Patterns
from nasdsl.identity.segments import Segment, coalesced, decisions_of, revealed, segments
from nasdsl.ir.graph import Module, call_owner
from nasdsl.ir.nodes import Call, Gather, Merge, Op
from nasdsl.ops import PRIMITIVES
from nasdsl.space.decisions import Decision, DecisionTable, Guard

MAX_ENUMERATED = 60_000
"""Encodings of one part that are looked at one by one."""
MAX_REVEALED = 256
SAMPLES = 200

Choices = dict[str, Choice]
Draw = Callable[[random.Random], Choices]


class NoStructureError(Exception):
    """Exact counting is out of reach here; the message says why."""


@attrs.frozen
class Tally:
    """How many distinct architectures there are.

    Attributes:
        low, high: bounds, equal when the number is exact.
        how: by what means, in words.
        draw: gives an encoding whose network is uniform over the distinct ones, if there is a way.
    """

    low: int
    high: int
    how: str
    draw: Draw | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def exact(self) -> bool:
        return self.low == self.high


def tally(module: Module, table: DecisionTable) -> Tally:
    """The number of distinct architectures of a space without limits."""
    total = Encodings(table).count()
    try:
        if has_splits(module):
            raise NoStructureError("widths follow from which inputs are chosen")
        return _Counter(module, table).run()
    except (NoStructureError, NotByPatternsError) as reason:
        why = str(reason)
    if total <= MAX_ENUMERATED:
        return _enumerated(module, table)
    return Tally(seen_in_samples(module, table), total, f"bounds only: {why}")


def seen_in_samples(module: Module, table: DecisionTable) -> int:
    """Distinct networks among a few random ones: a lower bound."""
    encodings, rng = Encodings(table), random.Random(0)
    return len({certificate(form_of(module, encodings.sample(rng))) for _ in range(SAMPLES)})


def _enumerated(module: Module, table: DecisionTable) -> Tally:
    found: dict[Hashable, Choices] = {}
    for choices in Encodings(table).all():
        found.setdefault(certificate(form_of(module, choices)), choices)
    representatives = list(found.values())
    return Tally(len(found), len(found), "by enumeration", lambda rng: dict(rng.choice(representatives)))


@attrs.frozen
class _Part:
    """Networks of one piece: how many are not zero, whether some are zero, and a way to draw one that is not."""

    count: int
    zero: Choices | None
    draw: Draw


class _Counter:
    def __init__(self, module: Module, table: DecisionTable) -> None:
        self.module = module
        self.table = table
        self.parts = segments(module, table)

    def run(self) -> Tally:
        matter = frozenset().union(*(p.decisions for p in self.parts))
        shared = self._shared()
        apart = frozenset().union(*(p.decisions for p in shared))
        shown = revealed(self.module, self.parts, self.table)
        silent = [d.path for d in self.table.decisions if d.path not in matter and d.path not in shown]
        if silent:
            raise NoStructureError(f"`{silent[0]}` does not show in the network")
        if len(shown) == len(self.table.decisions):
            count = prod(len(v) for v in shown.values())
            return Tally(count, count, "every decision shows in the network", self._numbers(shown))
        self.parts, far = coalesced(self.parts, self.table, apart)
        hidden = far - set(shown)
        if hidden:
            raise NoStructureError(
                f"`{min(hidden)}` reaches over much of the network and cannot be read off it"
            )
        free = {d: v for d, v in shown.items() if d not in matter}
        fixed = {d: shown[d] for d in far}
        if prod(len(v) for v in fixed.values()) > MAX_REVEALED:
            raise NoStructureError("too many sizes to look at one by one")
        cases: list[tuple[Choices, _Part]] = []
        for values in product(*fixed.values()):
            given = dict(zip(fixed, values, strict=True))
            cases.append((given, self._under(given)))
        return _sum(cases, prod(len(v) for v in free.values()), self._numbers(free))

    def _shared(self) -> list[Segment]:
        """Segments that are uses of a cell whose decisions are those of other uses too."""
        owners: dict[str, list[Segment]] = {}
        for part in self.parts:
            if part.call is not None and part.decisions:
                owners.setdefault(call_owner("", part.call), []).append(part)
        return [p for group in owners.values() if len(group) > 1 for p in group]

    def _numbers(self, shown: Mapping[str, tuple[Choice, ...]]) -> Draw:
        return lambda rng: {d: rng.choice(v) for d, v in shown.items()}

    # --- with what shows settled ---------------------------------------------

    def _under(self, given: Choices) -> _Part:
        """The networks under values of the decisions that show."""
        table = settled_table(self.table, given)
        groups = self._groups(table)
        tied = [g for g in groups if len(g) > 1]
        if not tied:
            if len(groups) == 1 and sum(isinstance(n, Call) for n in groups[0][0].nodes) > 1:
                # One segment of several cells: they read more than the last output.
                return _Cells(self.module, table).part()
            return _Words(self.module, self.parts, table, given).part()
        free = [g for g in groups if len(g) == 1]
        if free:
            raise NoStructureError("shared cells stand beside choices of their own")
        if len(tied) > 1:
            raise NoStructureError("shared cells of several kinds stand in one chain")
        return self._tied(tied[0], table, given)

    def _groups(self, table: DecisionTable) -> list[list[Segment]]:
        """The segments that have decisions, those that share some joined."""
        open_ = {d.path for d in table.decisions}
        groups: list[tuple[set[str], list[Segment]]] = []
        for part in self.parts:
            mine = set(part.decisions & open_)
            if not mine:
                continue
            joined = [g for g in groups if g[0] & mine]
            kept = [g for g in groups if not g[0] & mine]
            every = [s for g in joined for s in g[1]]
            groups = [*kept, (mine.union(*(g[0] for g in joined)), [*every, part])]
        return [g[1] for g in groups]

    def _tied(self, group: list[Segment], table: DecisionTable, given: Choices) -> _Part:
        """A cell that is used again and again with the same decisions."""
        calls = [s.call for s in group]
        if any(c is None for c in calls) or len({call_owner("", c) for c in calls if c is not None}) != 1:
            raise NoStructureError("decisions are shared between parts of different kinds")
        if len({c.graph for c in calls if c is not None}) != 1:
            raise NoStructureError("a shared cell has another structure at another use")
        mine = _only(table, frozenset().union(*(s.decisions for s in group)))
        if Encodings(mine).count() > MAX_ENUMERATED:
            raise NoStructureError("the shared cell is too large to enumerate")
        words: dict[Word, Choices] = {}
        for choices in Encodings(mine).all():
            words.setdefault(group[0].word(self.module, {**given, **choices}), choices)
        zero = words.pop(ZERO, None)
        self._separated(group, words, given)
        found = list(words.values())
        return _Part(len(found), zero, lambda rng: dict(rng.choice(found)))

    def _separated(self, group: list[Segment], words: Mapping[Word, Choices], given: Choices) -> None:
        """Between uses that do not follow each other stands a letter that no use makes."""
        alphabet = {letter for w in words for letter in w}
        run = False
        between: set[Hashable] = set()
        for part in self.parts:
            if part in group:
                if not run and between and not between - alphabet:
                    raise NoStructureError("uses of the cell cannot be told from what stands between them")
                run, between = True, set()
            elif run or between:
                between |= set(part.word(self.module, given))
                run = False


class _Words:
    """Segments whose decisions are their own: the words of an automaton."""

    def __init__(
        self, module: Module, parts: tuple[Segment, ...], table: DecisionTable, given: Mapping[str, Choice]
    ) -> None:
        self.module = module
        self.given = given
        self.parts = parts
        self.table = table
        self.words = [self._of(p) for p in parts]
        self.zero = next((dict(w[ZERO]) for w in self.words if ZERO in w), None)
        self.words = [{k: v for k, v in w.items() if k != ZERO} for w in self.words]
        self._ways = lru_cache(maxsize=None)(self._completions)

    def _of(self, part: Segment) -> dict[Word, Choices]:
        mine = _only(self.table, part.decisions)
        if Encodings(mine).count() > MAX_ENUMERATED:
            return self._large(part, mine)
        found: dict[Word, Choices] = {}
        for choices in Encodings(mine).all():
            found.setdefault(part.word(self.module, {**self.given, **choices}), choices)
        return found

    def _large(self, part: Segment, mine: DecisionTable) -> dict[Word, Choices]:
        raise NoStructureError(f"the part up to `{part.nodes[-1].label}` is too large to enumerate")

    def part(self) -> _Part:
        """Counts and draws by the deterministic automaton."""
        start = self._closed({(0, word) for word in self.words[0]})
        return _Part(self._ways(start), self._whole_zero(), lambda rng: self._draw(start, rng))

    def _whole_zero(self) -> Choices | None:
        if self.zero is None:
            return None
        first = {k: v for w in self.words for k, v in next(iter(w.values()), {}).items()}
        return {**first, **self.zero}

    def _closed(self, state: set[tuple[int, Word]]) -> frozenset[tuple[int, Word]]:
        """With everything that is reached without reading a letter."""
        found: set[tuple[int, Word]] = set()
        stack = list(state)
        while stack:
            item = stack.pop()
            if item in found:
                continue
            found.add(item)
            index, rest = item
            if not rest and index + 1 < len(self.words):
                stack.extend((index + 1, word) for word in self.words[index + 1])
        return frozenset(found)

    def _steps(self, state: frozenset[tuple[int, Word]]) -> dict[Hashable, frozenset[tuple[int, Word]]]:
        moved: dict[Hashable, set[tuple[int, Word]]] = {}
        for index, rest in state:
            if rest:
                moved.setdefault(rest[0], set()).add((index, rest[1:]))
        return {letter: self._closed(items) for letter, items in moved.items()}

    def _accepts(self, state: frozenset[tuple[int, Word]]) -> bool:
        return (len(self.words) - 1, ()) in state

    def _completions(self, state: frozenset[tuple[int, Word]]) -> int:
        return self._accepts(state) + sum(self._ways(after) for after in self._steps(state).values())

    def _draw(self, state: frozenset[tuple[int, Word]], rng: random.Random) -> Choices:
        letters: list[Hashable] = []
        while True:
            ticket = rng.randrange(self._ways(state))
            if self._accepts(state):
                if ticket == 0:
                    return self._parse(tuple(letters))
                ticket -= 1
            for letter, after in sorted(self._steps(state).items(), key=lambda i: repr(i[0])):
                ways = self._ways(after)
                if ticket < ways:
                    letters.append(letter)
                    state = after
                    break
                ticket -= ways

    def _parse(self, letters: Word) -> Choices:
        """Some encoding whose word this is."""
        ends: list[dict[int, tuple[int, Word]]] = []
        reach = {0}
        for words in self.words:
            found: dict[int, tuple[int, Word]] = {}
            for at in reach:
                for word in words:
                    if letters[at : at + len(word)] == word:
                        found.setdefault(at + len(word), (at, word))
            ends.append(found)
            reach = set(found)
        choices: Choices = {}
        at = len(letters)
        for index in range(len(self.words) - 1, -1, -1):
            at, word = ends[index][at]
            choices.update(self.words[index][word])
        return choices


class _Cells:
    """A network whose cells read several outputs: distinct cells multiply."""

    def __init__(self, module: Module, table: DecisionTable) -> None:
        self.module = module
        self.table = table

    def part(self) -> _Part:
        """Raises NoStructureError where cells are not sealed (see the module)."""
        uses: dict[str, list[tuple[Call, bool]]] = {}
        network = self.module.network
        for node in network.nodes:
            if isinstance(node, Call):
                apart = len(set(node.operands)) == len(node.operands)
                uses.setdefault(call_owner("", node), []).append((node, apart))
            elif decisions_of(self.module, network, node, ""):
                raise NoStructureError("a choice stands beside cells that read several outputs")
        parts = []
        covered: frozenset[str] = frozenset()
        for owner, calls in uses.items():
            paths = frozenset(d.path for d in self.table.decisions if d.path.startswith(f"{owner}."))
            covered |= paths
            if paths:
                parts.append(self._cell(owner, calls, _only(self.table, paths)))
        if len(covered) != len(self.table.decisions):
            raise NoStructureError("a decision belongs to no cell")
        return _product(parts)

    def _cell(self, owner: str, calls: list[tuple[Call, bool]], mine: DecisionTable) -> _Part:
        apart = [c for c, different in calls if different]
        if not apart:
            raise NoStructureError(f"cell `{owner}` never reads different values")
        graphs = {c.graph for c in apart}
        graph = self.module.by_name[apart[0].graph]
        if not all(_sealed(self.module, g) for g in graphs):
            raise NoStructureError(f"the result of cell `{owner}` may be a sum, an input or zero")
        sizes = {n: d.evaluate({}) for n, d in apart[0].sizes}
        cell = Cell(self.module, graph, owner, sizes)
        if Encodings(mine).count() <= MAX_ENUMERATED:
            found: dict[Hashable, Choices] = {}
            for choices in Encodings(mine).all():
                found.setdefault(certificate(cell.form(choices)), choices)
            every = list(found.values())
            return _Part(len(every), None, lambda rng: dict(rng.choice(every)))
        patterns = Patterns(cell, mine)
        return _Part(patterns.count, None, patterns.sample)


def _sealed(module: Module, name: str) -> bool:
    """Whether a cell's result is one fresh vertex whatever is chosen, and nothing in the cell is zero."""
    graph = module.by_name[name]
    result = graph.by_id[graph.result]
    zero = any(isinstance(n, Op) and PRIMITIVES[n.op].zero for n in graph.nodes)
    empty = any(isinstance(n, Gather) and n.low == 0 for n in graph.nodes)
    calls = any(isinstance(n, (Call,)) for n in graph.nodes)
    joined = isinstance(result, Merge) and result.merge == "concat" and len(result.operands) > 1
    return (joined or isinstance(result, Op)) and not (zero or empty or calls)


def _product(parts: list[_Part]) -> _Part:
    """Independent pieces of one network: it is zero when one of them is."""
    zero = next((p.zero for p in parts if p.zero is not None), None)

    def draw(rng: random.Random) -> Choices:
        return {k: v for p in parts for k, v in p.draw(rng).items()}

    return _Part(prod(p.count for p in parts), zero, draw)


def _sum(cases: list[tuple[Choices, _Part]], factor: int, numbers: Draw) -> Tally:
    """Networks that differ by what shows, together."""
    weights = [part.count + (part.zero is not None) for _, part in cases]
    total = sum(weights) * factor

    def draw(rng: random.Random) -> Choices:
        ticket = rng.randrange(sum(weights))
        for (given, part), weight in zip(cases, weights, strict=True):
            if ticket < weight:
                last = ticket == weight - 1 and part.zero is not None
                inner = dict(part.zero) if last and part.zero is not None else part.draw(rng)
                return {**numbers(rng), **given, **inner}
            ticket -= weight
        raise AssertionError("the weights add up to the bound of the ticket")

    return Tally(total, total, "by structure", draw)


def _only(table: DecisionTable, paths: frozenset[str]) -> DecisionTable:
    """Some of the decisions, as if what the others settle were settled their way."""
    kept = [d for d in table.decisions if d.path in paths]
    return DecisionTable(tuple(_within(d, paths) for d in kept))


def _within(decision: Decision, paths: frozenset[str]) -> Decision:
    if decision.when is None:
        return decision
    guards = tuple(tuple(e for e in guard if e.decision in paths) for guard in decision.when)
    return attrs.evolve(decision, when=None if () in guards else guards)


def settled_table(table: DecisionTable, given: Mapping[str, Choice]) -> DecisionTable:
    """The decisions that are left once some are made."""
    found = []
    for decision in table.decisions:
        if decision.path in given:
            continue
        guards: tuple[Guard, ...] | None = decision.when
        if guards is not None:
            left = [
                tuple(e for e in guard if e.decision not in given)
                for guard in guards
                if all(given.get(e.decision, e.option) == e.option for e in guard)
            ]
            if not left:
                continue
            guards = None if () in left else tuple(left)
        found.append(attrs.evolve(decision, when=guards))
    return DecisionTable(tuple(found))


__all__ = ["NoStructureError", "Tally", "settled_table", "tally"]
