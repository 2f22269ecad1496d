"""What a step on single paths takes: the supernet's parameters, memory of the largest path, time.

Takes a compilation whose decisions are switches, returns plain data. Invariant: no torch. One path after
the other is computed, so a step holds the activations of one; what is predicted is that of the path with
the most multiply-adds, or of one of a few random paths if one keeps more. Sizes that depend on decisions
count as the largest that they take: this is what the shared weights are allocated for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

import attrs

from nasdsl.cases import Choice
from nasdsl.codegen.sizes import largest
from nasdsl.compiler import Compilation
from nasdsl.identity.costs import PathCosts
from nasdsl.identity.population import Population
from nasdsl.ir.nodes import State, Weight, WeightType
from nasdsl.passes.specialise import Specialise
from nasdsl.planning.footprint import FLOAT, Situation
from nasdsl.planning.memory import MemoryEstimate, simulate
from nasdsl.planning.time import Rates, TimeEstimate, seconds
from nasdsl.planning.trace import Trace, trace
from nasdsl.runtime.members import looked_at
from nasdsl.runtime.paths.choices import Choices
from nasdsl.runtime.paths.choices import extreme as furthest
from nasdsl.space.decisions import DecisionTable

LOOKED_AT = 12
"""Random paths that times are a mean of, and that may keep more than the path of most multiply-adds."""


@attrs.frozen
class PathStep:
    """One step of the training of a supernet of single paths.

    Attributes:
        count: paths that are trained, one after the other.
        memory: at the peak; there are no variables.
        time: mean over random paths; None where no device was measured.
    """

    count: int
    memory: MemoryEstimate
    time: TimeEstimate | None


def supernet_params(compilation: Compilation) -> int:
    """Learnable numbers of the supernet, every shared tensor at its largest size."""
    return _numbers(compilation, Weight)


def predict_path_step(compilation: Compilation, batch: int, rates: Rates | None = None) -> PathStep:
    """The step of a method of single paths with `batch` examples, fp32."""
    settings, table = compilation.settings, compilation.basis.table
    ends = [_trace(compilation, choices) for choices in _ends(compilation)]
    drawn = [_trace(compilation, choices) for choices in _drawn(compilation)]
    narrow = bool(compilation.space.limits) or compilation.inside is not None
    limited = narrow and settings["sampler"] in ("uniform", "bins")
    looked = drawn if limited and drawn else [ends[0], *drawn]
    count = paths_of_a_step(table, settings)
    together = count > 1 and settings["distillation"] != "board"
    memory = max(
        (_memory(compilation, traced, batch, together) for traced in looked), key=lambda found: found.peak
    )
    time = None
    if rates is not None:
        mean = fmean(seconds(traced, batch, rates) for traced in drawn or ends)
        whole = count * mean
        if settings["sampler"] == "sandwich":
            whole = sum(seconds(end, batch, rates) for end in ends) + (count - 2) * mean
        time = TimeEstimate(whole, 0.0)
    return PathStep(count, memory, time)


def paths_of_a_step(table: DecisionTable, settings: Mapping[str, Any]) -> int:
    """As many as the setting says; `fair` takes the least common multiple of the numbers of values."""
    if settings["sampler"] == "fair":
        return math.lcm(*(len(d.values) for d in table.decisions))
    return int(settings["paths"])


def notes(compilation: Compilation, count: int) -> Iterator[str]:
    """What the figures of a step leave out."""
    settings = compilation.settings
    if compilation.within:
        yield compilation.within
    paths = "one path a step" if count == 1 else f"{count} paths a step, one after the other"
    yield f"{paths}; memory is that of the largest path, time the mean of {LOOKED_AT} random ones"
    if settings["sampler"] == "bins":
        yield "paths are drawn from bins of costs; the mean is over uniform ones"
    within = compilation.inside is not None and settings["sampler"] == "sandwich"
    if compilation.space.limits and settings["sampler"] in ("fair", "sandwich") and not within:
        yield f"the limits hold for the paths that are judged; sampler={settings['sampler']} trains others too"
    if settings["distillation"] == "board":
        images = int(settings["board_size"]) * int(settings["board_images"])
        yield f"once the board teaches, a step takes one more forward pass, and one of {images} images"
    yield (
        f"after training, {settings['evaluations']} paths are judged"
        if settings["search"] != "board"
        else (f"after training, the {settings['board_size']} paths of the board are judged")
    )


def _ends(compilation: Compilation) -> tuple[Mapping[str, Choice], Mapping[str, Choice]]:
    """The paths of most and of least multiply-adds; inside a sub-space those of its members, as a sandwich has them."""
    basis, inside = compilation.basis, compilation.inside
    costs = PathCosts(basis.module, basis.table, "macs")
    if inside is None:
        return extreme(basis.table, costs, 1), extreme(basis.table, costs, -1)
    looked = [(costs.at(choices), i, choices) for i, choices in enumerate(looked_at(inside, 0))]
    return max(looked, key=lambda t: t[:2])[2], min(looked, key=lambda t: t[:2])[2]


def extreme(table: DecisionTable, costs: PathCosts, sign: int) -> Choices:
    """The path of the largest (1) or smallest (-1) cost that changing one decision cannot pass."""
    values = {d.path: d.values for d in table.decisions}
    return furthest(values, lambda genes: _made(table, genes), costs.at, sign)


def _made(table: DecisionTable, genes: Mapping[str, Choice]) -> Choices:
    """The decisions that exist under a value for every one."""
    return {d.path: genes[d.path] for d in table.active(genes)}


def _drawn(compilation: Compilation) -> Iterator[Mapping[str, Choice]]:
    """A few random paths within the limits and the sub-space; none where none can be drawn."""
    tally, rng = Population(compilation.space, compilation.subspace).tally, random.Random(0)
    for _ in range(LOOKED_AT if tally.draw is not None and tally.high else 0):
        yield tally.draw(rng)  # type: ignore[misc]


def _trace(compilation: Compilation, choices: Mapping[str, Choice]) -> Trace:
    return trace(Specialise(choices)(compilation.optimised))


def _memory(compilation: Compilation, traced: Trace, batch: int, together: bool) -> MemoryEstimate:
    """The peak while one path is trained; `together`: gradients of other paths wait beside it."""
    weights = _numbers(compilation, Weight)
    base = FLOAT * (weights + _numbers(compilation, State))
    optimizer = FLOAT * weights if compilation.settings["weight_momentum"] else 0
    own = sum(s.weights for s in traced.steps)
    peak, saved = simulate(traced, Situation(batch, weights=True, parts=2 if together else 1))
    waiting = FLOAT * (weights - own) if together else 0
    gradients = FLOAT * (weights if together else own)
    board = 0
    if compilation.settings["distillation"] == "board":
        images = int(compilation.settings["board_size"]) * int(compilation.settings["board_images"])
        board = FLOAT * images * traced.numbers[0]
    whole = base + optimizer + board + waiting + peak
    return MemoryEstimate(base, optimizer, gradients, saved, whole, "weights", whole, 0)


def _numbers(compilation: Compilation, kind: type[Weight | State]) -> int:
    """Numbers in all tensors of a kind; a running statistic also counts its batches, in 8 bytes."""
    total = 0
    counters = set()
    for number, use in enumerate(compilation.optimised.uses()):
        for node in use.graph.nodes:
            if isinstance(node, kind) and isinstance(node.type, WeightType):
                total += math.prod(
                    d.evaluate(use.sizes) if not d.cases else largest(d) for d in node.type.shape
                )
                counters.add((number, node.id.rpartition(".")[0]))
    return total + (2 * len(counters) if kind is State else 0)


__all__ = ["PathStep", "extreme", "notes", "paths_of_a_step", "predict_path_step", "supernet_params"]
