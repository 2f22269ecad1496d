"""The architectures of a space: counted, drawn, compared, limits respected.

Takes a checked space, and a part of it where only that counts; returns integers and choices. Invariant:
what is counted is what is drawn from; a count is exact, or a `Tally` whose bounds differ, or refused with NAS310.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cached_property
from math import inf

import attrs

from nasdsl.cases import Cases, Choice, TooManyCasesError, assignments
from nasdsl.errors import UserError
from nasdsl.identity.canonical import certificate, fingerprint, form_of, has_splits
from nasdsl.identity.costs import PathCosts, Tree, cost_tree
from nasdsl.identity.distinct import MAX_ENUMERATED, SAMPLES, Tally, settled_table, tally
from nasdsl.identity.edges import LiveEdges
from nasdsl.identity.encodings import Encodings, restrict
from nasdsl.identity.parts import Part, kept
from nasdsl.identity.patterns import Cell, NotByPatternsError, Patterns
from nasdsl.identity.published import published_tally
from nasdsl.identity.segments import decisions_of
from nasdsl.identity.within import Sampler, bounds, cost_of, count
from nasdsl.ir.cost import module_count
from nasdsl.passes.specialise import Specialise
from nasdsl.space.checked import CheckedSpace, Limit
from nasdsl.space.decisions import Decision, DecisionTable
from nasdsl.space.measures import layers, live_edges
from nasdsl.space.presence import NotAdditiveError

MAX_CHECKED = 20_000
"""Encodings that are looked at one by one where limits have no structure."""
FEW = 1_000
"""Members of a part that are told apart before it is asked how many networks the whole space has."""
MAX_DEPTHS = 500
MAX_TREES = 8

Choices = dict[str, Choice]


@attrs.frozen
class _Case:
    """Encodings with some decisions made: all the others free, or within costs."""

    made: Choices
    table: DecisionTable
    tree: Tree | None


class Population:
    """All architectures of a space that its limits allow, or those of them that a part of it has."""

    def __init__(self, space: CheckedSpace, part: Part | None = None) -> None:
        self.space = space
        self.table = space.table
        self.part = part

    # --- encodings -----------------------------------------------------------

    @cached_property
    def tally(self) -> Tally:
        """The number of encodings within the limits and the part, and a way to draw one."""
        if self.part is not None:
            if not self.space.limits:
                return self.part.tally()
            return kept(self.part, Population(self.space).tally, self._meets_limits, MAX_CHECKED)
        encodings = Encodings(self.table)
        if not self.space.limits:
            total = encodings.count()
            return Tally(total, total, "by structure", encodings.sample)
        try:
            return self._limited()
        except (NotAdditiveError, TooManyCasesError) as reason:
            why = str(reason)
        if encodings.count() > MAX_CHECKED:
            return Tally(0, encodings.count(), f"bounds only: {why}", self._rejecting(encodings.sample))
        found = [c for c in encodings.all() if self.meets(c)]
        draw = (lambda rng: dict(rng.choice(found))) if found else None
        return Tally(len(found), len(found), "by enumeration", draw)

    def meets(self, choices: Mapping[str, Choice]) -> bool:
        """Whether an architecture is within the limits, and in the part."""
        return self._meets_limits(choices) and (self.part is None or self.part.contains(choices))

    def _meets_limits(self, choices: Mapping[str, Choice]) -> bool:
        return all(limit.holds(self.value(limit, choices)) for limit in self.space.limits)

    def value(self, limit: Limit, choices: Mapping[str, Choice]) -> int:
        """What a limit looks at, of one architecture."""
        if limit.table is not None:
            return self._times[limit.subject].at(choices)
        return self.measure(limit.measure, choices)

    @cached_property
    def _times(self) -> dict[str, PathCosts]:
        """Latencies by the limit that they are for."""
        return {
            limit.subject: PathCosts(self.space.module, self.table, limit.measure, limit.table)
            for limit in self.space.limits
            if limit.table is not None
        }

    def measure(self, measure: str, choices: Mapping[str, Choice]) -> int:
        """One measure of one architecture (`nasdsl.space.measures`)."""
        module = self.space.module
        if measure == "edges":
            return live_edges(module, choices)
        if measure == "depth":
            depth = layers(Specialise(choices)(module), DecisionTable(()))
            return int(depth) if not isinstance(depth, Cases) else 0
        if measure in self._trees:
            return cost_of(self._trees[measure], choices)
        return int(getattr(module_count(Specialise(choices, dead=True)(module)), measure))

    @cached_property
    def _trees(self) -> dict[str, Tree]:
        found = {}
        for measure in {limit.measure for limit in self.space.limits} & {"params", "macs"}:
            try:
                found[measure] = cost_tree(self.space.module, self.table, measure)
            except (NotAdditiveError, TooManyCasesError):
                continue
        return found

    def _range(self, measure: str) -> tuple[float, float]:
        """The least and the greatest value that the limits allow a measure, integers."""
        low, high = -inf, inf
        for limit in self.space.limits:
            if limit.subject == measure:
                low, high = _narrowed(limit, low, high)
        return low, high

    def _limited(self) -> Tally:
        measures = {limit.subject for limit in self.space.limits}
        costs = sorted(measures & {"params", "macs", *self._times})
        if "edges" in measures:
            if len(measures) > 1:
                raise NotAdditiveError("a limit on edges stands beside others")
            return self._by_edges()
        depths = self._depths()
        both = bool(costs) and len(depths) > MAX_TREES
        cases = [self._case(made, costs[0] if costs else None) for made in ([{}] if both else depths)]
        low, high = self._range(costs[0]) if costs else (-inf, inf)
        exact = True
        least = most = 0
        weights: list[int] = []
        for case in cases:
            below, above = self._within(case, low, high)
            exact = exact and below == above
            least, most = least + below, most + above
            weights.append(above)
        how = "by structure" if exact else "bounds only: too many different costs"
        draw = self._drawing(cases, weights, low, high)
        if len(costs) > 1 or both:
            return Tally(0, most, "bounds only: limits on several measures", self._rejecting(draw))
        return Tally(least, most, how, draw if most else None)

    def _depths(self) -> list[Choices]:
        """The values of the decisions that settle the depth, where the depth is allowed."""
        low, high = self._range("depth")
        if (low, high) == (-inf, inf):
            return [{}]
        depth = layers(self.space.module, self.table)
        if not isinstance(depth, Cases):
            return [{}] if low <= depth <= high else []
        found = []
        for choices in assignments(depth.axes):
            if low <= depth.at(choices) <= high:
                made = self._active_only(choices)
                if made is not None:
                    found.append(made)
        if len(found) > MAX_DEPTHS:
            raise NotAdditiveError("the depth depends on too many combinations")
        return found

    def _active_only(self, choices: Choices) -> Choices | None:
        """The assignment without decisions that it makes absent; None unless those stand at their first value."""
        made: Choices = {}
        for decision in self.table.decisions:
            if decision.path not in choices:
                continue
            waits = {e.decision for guard in decision.when or () for e in guard}
            if not waits <= set(choices):
                raise NotAdditiveError(
                    f"whether `{decision.path}` is made depends on more than the depth does"
                )
            happened = {e for p, v in made.items() for e in self.table.by_path[p].taken(v)}
            if decision.active(happened):
                made[decision.path] = choices[decision.path]
            elif choices[decision.path] != decision.values[0]:
                return None
        return made

    def _case(self, made: Choices, measure: str | None) -> _Case:
        table = settled_table(self.table, made)
        price = measure if measure not in self._times else self._times[measure].price
        tree = None if price is None else cost_tree(self.space.module, self.table, price, made)
        return _Case(made, table, tree)

    def _within(self, case: _Case, low: float, high: float) -> tuple[int, int]:
        if case.tree is None:
            number = Encodings(case.table).count()
            return number, number
        try:
            number = count(case.tree, low, high)
            return number, number
        except NotAdditiveError:
            return bounds(case.tree, low, high)

    def _drawing(
        self, cases: list[_Case], weights: list[int], low: float, high: float
    ) -> Callable[[random.Random], Choices]:
        """Draws a case by its number, then an encoding in it. With bounds, proposals are thinned to match."""
        samplers = [Sampler(c.tree, low, high) if c.tree is not None else None for c in cases]

        def draw(rng: random.Random) -> Choices:
            ticket = rng.randrange(sum(weights))
            for case, weight, sampler in zip(cases, weights, samplers, strict=True):
                if ticket < weight:
                    inner = Encodings(case.table).sample(rng) if sampler is None else sampler.draw(rng)
                    return {**case.made, **inner}
                ticket -= weight
            raise AssertionError("the weights add up to the bound of the ticket")

        return draw

    def _rejecting(self, draw: Callable[[random.Random], Choices]) -> Callable[[random.Random], Choices]:
        def tried(rng: random.Random) -> Choices:
            for _ in range(MAX_CHECKED):
                choices = draw(rng)
                if self.meets(choices):
                    return choices
            raise UserError.plain(
                "NAS310",
                f"no architecture within the limits was found in {MAX_CHECKED:,} tries",
                help="loosen a limit; `nasdsl plan` tells which binds",
            )

        return tried

    def _by_edges(self) -> Tally:
        least, most = self._range("edges")
        edges = LiveEdges(
            self.space.module, self.table, int(max(least, 0)), 10**9 if most == inf else int(most)
        )
        rest = DecisionTable(tuple(d for d in self.table.decisions if d.path not in edges.paths))
        others = Encodings(rest)
        total = edges.count() * others.count()
        draw = (lambda rng: {**edges.draw(rng), **others.sample(rng)}) if total else None
        return Tally(total, total, "by structure", draw)

    # --- distinct ------------------------------------------------------------

    def distinct(self, published: bool = False) -> Tally:
        """The number of distinct architectures within the limits, ours or the benchmark's own sense.

        Raises:
            UserError: NAS403 when the space declares no published notion, or not its form.
        """
        if published:
            return self._published()
        if self.part is not None:
            return self._distinct_inside(self.part)
        if not self.space.limits:
            return tally(self.space.module, self.table)
        encodings = self.tally
        if (
            encodings.exact
            and encodings.high <= MAX_ENUMERATED // 3
            and Encodings(self.table).count() <= MAX_ENUMERATED
        ):
            found: dict[Hashable, Choices] = {}
            for choices in Encodings(self.table).all():
                if self.meets(choices):
                    found.setdefault(certificate(form_of(self.space.module, choices)), choices)
            kept = list(found.values())
            return Tally(len(kept), len(kept), "by enumeration", lambda rng: dict(rng.choice(kept)))
        whole = tally(self.space.module, self.table)
        if whole.exact and whole.high == Encodings(self.table).count():
            # Every encoding is a network of its own, so limits cut both alike.
            return encodings
        rng, draw = random.Random(0), encodings.draw
        seen = len({self.fingerprint(draw(rng)) for _ in range(SAMPLES)}) if draw is not None else 0
        return Tally(seen, min(whole.high, encodings.high), "bounds only: limits beside symmetries")

    def _distinct_inside(self, part: Part) -> Tally:
        """Distinct architectures of a part: one by one where it is small, else by those of the whole space."""
        if part.listed is not None and part.listed <= FEW:
            return self._told_apart(part, part.listed)
        encodings = self.tally
        whole = tally(self.space.module, self.table)
        if whole.exact and whole.high == Encodings(self.table).count():
            return encodings
        if part.listed is not None and part.listed <= MAX_ENUMERATED // 3:
            return self._told_apart(part, part.listed)
        rng, drawn = random.Random(0), encodings.draw
        seen = len({self.fingerprint(drawn(rng)) for _ in range(SAMPLES)}) if drawn is not None else 0
        return Tally(seen, min(whole.high, encodings.high), "bounds only: a part beside symmetries")

    def _told_apart(self, part: Part, number: int) -> Tally:
        found: dict[Hashable, Choices] = {}
        for choices in map(part.member, range(number)):
            if self._meets_limits(choices):
                found.setdefault(certificate(form_of(self.space.module, choices)), choices)
        every = list(found.values())
        draw = (lambda rng: dict(rng.choice(every))) if every else None
        return Tally(len(every), len(every), "by enumeration", draw)

    def _published(self) -> Tally:
        notion = self.space.distinct_by
        if self.part is not None and notion is not None:
            raise UserError.plain(
                "NAS403",
                f"`distinct by {notion}` counts whole spaces, not a sub-space",
                help="`--distinct` counts the different networks of a sub-space",
            )
        if notion is None:
            raise UserError.plain(
                "NAS403",
                f"space `{self.space.name}` declares no published notion of sameness",
                help="declare one with `distinct by nasbench201`, or leave `=published` out",
            )
        others = [limit for limit in self.space.limits if limit.measure != "edges"]
        if others:
            raise UserError.plain("NAS403", f"`distinct by {notion}` knows no limit on {others[0].subject}")
        most = self._range("edges")[1]
        return published_tally(notion, self.table, None if most == inf else int(most))

    def distinct_cells(self, owner: str) -> Tally:
        """The number of distinct forms of one cell by itself, its inputs told apart.

        Raises:
            UserError: NAS310 for a cell that calls others with decisions of their own.
        """
        use = next(u for u in self.space.module.uses() if u.owner == owner and u.path)
        mine = restrict(self.table, owner)
        inside = {d for n in use.graph.nodes for d in decisions_of(self.space.module, use.graph, n, owner)}
        if inside - set(mine.by_path):
            raise UserError.plain("NAS310", f"cell `{owner}` calls others that have decisions of their own")
        if has_splits(self.space.module):
            raise UserError.plain(
                "NAS310", f"the widths in cell `{owner}` follow from its inputs, so it has no form by itself"
            )
        cell = Cell(self.space.module, use.graph, owner, use.sizes)
        total = Encodings(mine).count()
        if total <= MAX_ENUMERATED:
            found = len({certificate(cell.form(c)) for c in Encodings(mine).all()})
            return Tally(found, found, "by enumeration")
        try:
            found = Patterns(cell, mine).count
        except NotByPatternsError as reason:
            return Tally(1, total, f"bounds only: {reason}")
        return Tally(found, found, "by structure")

    def fingerprint(self, choices: Mapping[str, Choice]) -> str:
        """A hash of an architecture's canonical form: equal exactly for architectures that are the same."""
        return fingerprint(self.space.module, choices)

    # --- neighbours and distance ---------------------------------------------

    def neighbours(self, choices: Mapping[str, Choice]) -> Iterator[Choices]:
        """Every architecture that differs by one decision, within the limits and the part.

        Where the new value makes further decisions, each of them takes its first value; where it
        makes some absent, they are left out. For a choice of inputs one input is exchanged, added or
        removed.
        """
        for decision in self.table.decisions:
            if decision.path not in choices:
                continue
            for value in _near(decision, choices[decision.path]):
                found = self._completed({**choices, decision.path: value})
                if self.meets(found):
                    yield found

    def _completed(self, choices: Mapping[str, Choice]) -> Choices:
        """The active decisions, those that are new at their first value."""
        happened: set[object] = set()
        found: Choices = {}
        for decision in self.table.decisions:
            if decision.active(happened):  # type: ignore[arg-type]
                found[decision.path] = choices.get(decision.path, decision.values[0])
                happened.update(decision.taken(found[decision.path]))
        return found

    def distance(self, left: Mapping[str, Choice], right: Mapping[str, Choice]) -> int:
        """Decisions that differ, one that only one of the two makes included; inputs count one by one.

        For a choice of k inputs it is the number of exchanges that lead from one to the other.
        """
        total = 0
        for decision in self.table.decisions:
            a, b = left.get(decision.path), right.get(decision.path)
            if a == b:
                continue
            if decision.kind == "inputs" and a is not None and b is not None:
                total += _exchanges(tuple(a), tuple(b))
            else:
                total += 1
        return total

    def edits(self, left: Mapping[str, Choice], right: Mapping[str, Choice]) -> int:
        """Decisions that both make and in which they differ; inputs by exchanges, as in `distance`.

        What only one of the two makes costs nothing: it came with a decision that differs. So it is 0 exactly
        for equal choices, and equals `distance` where no decision is conditional; where decisions come and go
        it is no metric, as a third architecture that makes few of them can be near to both.
        """
        total = 0
        for decision in self.table.decisions:
            a, b = left.get(decision.path), right.get(decision.path)
            if a is None or b is None or a == b:
                continue
            total += _exchanges(tuple(a), tuple(b)) if decision.kind == "inputs" else 1
        return total


def _narrowed(limit: Limit, low: float, high: float) -> tuple[float, float]:
    bound = limit.bound
    whole = bound == int(bound)
    if limit.relation in ("<", "<="):
        most = bound - 1 if limit.relation == "<" and whole else float(int(bound // 1))
        return low, min(high, most)
    least = bound + 1 if limit.relation == ">" and whole else float(-int(-bound // 1))
    return max(low, least), high


def _exchanges(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """How many inputs are exchanged, added or removed between two choices of inputs."""
    return max(len(set(left) - set(right)), len(set(right) - set(left)))


def _near(decision: Decision, value: Choice) -> Iterator[Choice]:
    """The other values of a decision that are one step away."""
    for other in decision.values:
        if other == value:
            continue
        if (
            isinstance(other, str)
            or isinstance(value, str)
            or max(len(set(other) - set(value)), len(set(value) - set(other))) == 1
        ):
            yield other
