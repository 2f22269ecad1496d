"""Everything that is known about a search before it starts.

Takes a checked space and perhaps a method, returns plain data. Invariant: params and
multiply-accumulates are exact; what is a model or a sample says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nasdsl.cases import TooManyCasesError
from nasdsl.compiler import Compilation, compile_space
from nasdsl.errors import UserError
from nasdsl.identity.costs import PathCosts, cost_tree
from nasdsl.identity.distinct import Tally
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.parts import Part
from nasdsl.identity.patterns import Cell, duplicates
from nasdsl.identity.population import Population
from nasdsl.identity.within import quantiles
from nasdsl.ir.cost import module_count
from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import Gather, Select
from nasdsl.planning.footprint import VIEWS
from nasdsl.planning.memory import MemoryEstimate, predict_memory
from nasdsl.planning.paths import notes as path_notes
from nasdsl.planning.paths import predict_path_step, supernet_params
from nasdsl.planning.time import Rates, TimeEstimate, predict_time
from nasdsl.planning.trace import trace
from nasdsl.space.checked import CheckedSpace, Limit
from nasdsl.space.presence import NotAdditiveError
from nasdsl.subspace.value import Subspace

MEMORY_ERROR = "within 2 % on twenty measured supernets, on a CPU (benchmarks/plan_memory.py)"
TIME_ERROR = "25 % median error on ten supernets, 39 % on the worst, on a busy CPU (benchmarks/plan_time.py)"
PATH_MEMORY_ERROR = "within 6 % on eight measured supernets, on a CPU (benchmarks/plan_paths.py)"
PATH_TIME_ERROR = "0.5 to 3.3 times what eight supernets took, on a busy CPU (benchmarks/plan_paths.py)"
SAMPLES = 200
MOST_MEASURED = 50_000
"""Members of a part that are measured one by one."""


@attrs.frozen
class Spread:
    """Least, median and greatest of a cost over all encodings; `error` is how far off the median may be."""

    low: int
    median: int
    high: int
    error: int
    sampled: bool = False


@attrs.frozen
class LimitReport:
    """One limit by itself: how many encodings keep it, of how many."""

    text: str
    kept: Tally
    total: int

    @property
    def word(self) -> str:
        """Whether it binds."""
        if self.kept.high == 0:
            return "nobody meets it"
        if self.kept.low == self.total:
            return "everybody meets it"
        share = self.kept.high / self.total
        return f"{'about ' if not self.kept.exact else ''}{100 * share:.3g} % meet it"


@attrs.frozen
class PassReport:
    """An optimising pass: operations that a step executes and predicted peak memory, without it and with it.

    `exact` is false where it changes what is learned.
    """

    name: str
    exact: bool
    operations: tuple[int, int]
    peak: tuple[int, int]


@attrs.frozen
class Plan:
    """See `plan`."""

    encodings: Tally
    distinct: Tally
    params: Spread
    macs: Spread
    limits: tuple[LimitReport, ...]
    dead: tuple[str, ...]
    duplicates: tuple[str, ...]
    method: str | None = None
    misfit: UserError | None = None
    supernet_params: int = 0
    batch: int = 0
    paths: int = 0
    """Paths of a step; 0 for methods that learn variables."""
    memory: MemoryEstimate | None = None
    time: TimeEstimate | None = None
    passes: tuple[PassReport, ...] = ()
    notes: tuple[str, ...] = ()
    """What the figures of a step leave out."""


def plan(
    space: CheckedSpace,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    batch: int | None = None,
    device: str | None = None,
    passes: str = "",
    part: Subspace | None = None,
) -> Plan:
    """Plans a search.

    Args:
        passes: changes to the method's pipeline, as `compile_space` takes them.
        batch: examples a step; the method's setting by default.
        part: the part of the space whose architectures are counted and measured, and whose supernet it is.
        device: predicts times there, after measuring it for a few seconds (imports torch).

    Raises:
        UserError: NAS501 to NAS503 for a method, settings or passes that there are not.
    """
    population = Population(space, part)
    # A mistake in the command is told before anything is counted.
    compilation, misfit = (None, None) if method is None else _compiled(space, method, settings, passes, part)
    found = Plan(
        encodings=population.tally,
        distinct=population.distinct(),
        params=_spread(space, "params", population),
        macs=_spread(space, "macs", population),
        limits=tuple(_limit(space, limit, part) for limit in space.limits),
        dead=_dead(space),
        duplicates=_duplicates(space),
        method=method,
        misfit=misfit,
    )
    if compilation is None:
        return found
    size = batch if batch is not None else _batch(compilation)
    if compilation.switched:
        return _of_paths(found, compilation, size, device)
    return attrs.evolve(
        found,
        supernet_params=module_count(compilation.optimised).params,
        batch=size,
        memory=predict_memory(compilation, size),
        time=_time(compilation, size, device) if device is not None else None,
        passes=_passes(compilation, settings, size, passes),
        notes=tuple(_notes(compilation)),
    )


def _of_paths(found: Plan, compilation: Compilation, batch: int, device: str | None) -> Plan:
    """The plan of a method that trains single paths."""
    step = predict_path_step(compilation, batch, None if device is None else _rates(device))
    return attrs.evolve(
        found,
        supernet_params=supernet_params(compilation),
        batch=batch,
        paths=step.count,
        memory=step.memory,
        time=step.time,
        notes=tuple(path_notes(compilation, step.count)),
    )


def _notes(compilation: Compilation) -> Iterator[str]:
    settings = compilation.settings
    if compilation.within:
        yield compilation.within
    if settings.get("activation") == "gumbel":
        yield "at most: one candidate an edge is drawn, and the figures are of the largest"
    if settings.get("activation") == "clipped" and settings.get("prune"):
        yield "at the start: what is pruned later is no longer computed"
    order = settings.get("hypergradient", "first")
    if order != "first":
        passes = "four passes" if order == "finite" else "three passes, one of them differentiated twice,"
        yield f"of first-order steps: hypergradient={order} takes {passes} for a step of the variables, and keeps more"


def _compiled(
    space: CheckedSpace,
    method: str,
    settings: Mapping[str, Any] | None,
    passes: str,
    part: Subspace | None,
) -> tuple[Compilation | None, UserError | None]:
    """The compilation, or why the method does not fit the space."""
    try:
        return compile_space(space, method, settings, passes, part), None
    except UserError as refused:
        if refused.diagnostics[0].code not in ("NAS504", "NAS901"):
            raise
        return None, refused


def _time(compilation: Compilation, batch: int, device: str) -> TimeEstimate:
    return predict_time(compilation, batch, _rates(device))


def _rates(device: str) -> Rates:
    from nasdsl.planning.calibrate import calibrate  # which imports torch

    return calibrate(device)


def _batch(compilation: Compilation) -> int:
    value = compilation.settings.get("batch_size", 64)
    return value if isinstance(value, int) else 64


def _spread(space: CheckedSpace, measure: str, population: Population) -> Spread:
    """Exact where costs have structure or a part is small, else from a sample."""
    if population.part is not None:
        return _spread_inside(population, population.part, measure)
    try:
        return Spread(*quantiles(cost_tree(space.module, space.table, measure)))
    except (NotAdditiveError, TooManyCasesError):
        import random

        rng = random.Random(0)
        draw = population.tally.draw
        costs = sorted(population.measure(measure, draw(rng)) for _ in range(SAMPLES)) if draw else [0]
        return Spread(costs[0], costs[len(costs) // 2], costs[-1], 0, sampled=True)


def _spread_inside(population: Population, part: Part, measure: str) -> Spread:
    """Of every member within the limits where there are few, else of drawn ones."""
    import random

    looked_up = PathCosts(population.space.module, population.table, measure)
    number = part.listed
    if number is not None and number <= MOST_MEASURED:
        members = map(part.member, range(number))
        costs = sorted(looked_up.at(c) for c in members if not population.space.limits or population.meets(c))
        sampled = False
    else:
        rng, draw = random.Random(0), population.tally.draw
        costs = sorted(looked_up.at(draw(rng)) for _ in range(SAMPLES)) if draw else []
        sampled = True
    costs = costs or [0]
    return Spread(costs[0], costs[len(costs) // 2], costs[-1], 0, sampled=sampled)


def _limit(space: CheckedSpace, limit: Limit, part: Part | None) -> LimitReport:
    alone = Population(attrs.evolve(space, limits=(limit,)), part)
    total = Encodings(space.table).count() if part is None else part.tally().high
    return LimitReport(str(limit), alone.tally, total)


def _dead(space: CheckedSpace) -> tuple[str, ...]:
    """Decisions that no network shows, whatever is chosen."""
    read: set[str] = set()
    every: set[str] = set()
    for use in space.module.uses():
        alive = _reached(use.graph)
        for node in use.graph.nodes:
            if isinstance(node, (Select, Gather)):
                every.add(use.decision(node.decision))
                if node.id in alive:
                    read.add(use.decision(node.decision))
    return tuple(sorted(every - read))


def _reached(graph: Graph) -> set[str]:
    alive, stack = set(), [graph.result]
    while stack:
        name = stack.pop()
        if name not in alive:
            alive.add(name)
            stack.extend(graph.by_id[name].operands)
    return alive


def _duplicates(space: CheckedSpace) -> tuple[str, ...]:
    """Options of one choice that compute the same."""
    found: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    for use in space.module.uses():
        if (use.graph.name, use.owner) in seen:
            continue
        seen.add((use.graph.name, use.owner))
        if any(isinstance(n, Gather) and n.widths for n in use.graph.nodes):
            continue  # its widths are open until the members are chosen
        for local, options in duplicates(Cell(space.module, use.graph, use.owner, use.sizes)).items():
            for option in options:
                found[f"{use.decision(local)}: {option}"] = None
    return tuple(found)


def _passes(
    compilation: Compilation, settings: Mapping[str, Any] | None, batch: int, passes: str
) -> tuple[PassReport, ...]:
    """What each optimising pass saves: the supernet without it beside the one that is lowered."""
    name, space = compilation.method.name, compilation.space
    now = _size(compilation, batch)
    found = []
    for step in compilation.passes:
        if step.optimises:
            without = compile_space(space, name, settings, f"{passes},-{step.name}", compilation.subspace)
            was = _size(without, batch)
            found.append(PassReport(step.name, step.exact, (was[0], now[0]), (was[1], now[1])))
    return tuple(found)


def _size(compilation: Compilation, batch: int) -> tuple[int, int]:
    """Operations that a forward pass executes, and the predicted peak."""
    steps = trace(compilation.optimised).steps
    return sum(s.op not in VIEWS for s in steps), predict_memory(compilation, batch).peak
