"""Time of a search step, predicted from the supernet's graph and a few measured operations.

Takes a compilation, a batch size and the rates of a device, returns seconds. Invariant: no torch
(`nasdsl.planning.calibrate` measures the rates); the model is a sum over operations of an overhead,
arithmetic at a measured rate for its kind and traffic at a measured bandwidth, so it knows nothing
of caches and overlaps. What it is worth is measured by `benchmarks/plan_time.py` and printed beside
every prediction.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nasdsl.compiler import Compilation
from nasdsl.planning.drawn import drawn
from nasdsl.planning.footprint import DEPTHWISE, FLOAT, VIEWS, joined
from nasdsl.planning.memory import micro_batches
from nasdsl.planning.trace import Step, Trace, trace

LAYERS = frozenset({"bn", "max_pool", "avg_pool"})
"""Operations without weights that cost about as much to start as those with."""

FUSED = frozenset({"pointwise_norm", "accumulate"})
"""Operations that find statistics by a product of their own, and need none of the result."""

PRODUCTS = 5
"""Products that they take, forward and backward: covariance, result; filters, input, covariance again."""


BLENDING = 2
"""Small operations of `nasdsl.runtime` that blending filters takes as long as."""


@attrs.frozen
class Rates:
    """What one device does, measured.

    Attributes:
        overhead: seconds for one small elementwise operation, forward and backward.
        layer: seconds for one small convolution or normalisation, forward and backward.
        fused: seconds for one small operation of `nasdsl.runtime`, forward and backward.
        dense: seconds for one multiply-accumulate of a dense convolution.
        depthwise: the same of a depthwise one.
        byte: seconds to read or write one byte.
        factor: how much longer small supernets take than the sum of their operations: names, modules,
            the optimiser, the variables.
    """

    device: str
    overhead: float
    layer: float
    fused: float
    dense: float
    depthwise: float
    byte: float
    factor: float = 1.0


@attrs.frozen
class TimeEstimate:
    """Seconds of one step of the weights and of one of the variables."""

    weights: float
    variables: float

    @property
    def pair(self) -> float:
        return self.weights + self.variables


def predict_time(compilation: Compilation, batch: int, rates: Rates) -> TimeEstimate:
    """The time of a search step with `batch` examples, fp32, on the device that was measured."""
    traced = trace(drawn(compilation.optimised))
    parts = micro_batches(compilation)
    at_once = -(-batch // parts)
    # Forward, gradient of the input, and for the weights' step gradient of the weight.
    passes: Mapping[str, int] = {"weights": 3, "variables": 2}
    found = {kind: parts * rates.factor * _sum(traced, at_once, rates, n) for kind, n in passes.items()}
    return TimeEstimate(found["weights"], found["variables"])


def seconds(traced: Trace, batch: int, rates: Rates) -> float:
    """The time of one step of the weights on a network, forward and backward."""
    return rates.factor * _sum(traced, batch, rates, 3)


def _sum(traced: Trace, batch: int, rates: Rates, passes: int) -> float:
    return sum(_seconds(s, traced, batch, rates, passes + bool(s.again)) for s in traced.steps)


def _seconds(step: Step, traced: Trace, batch: int, rates: Rates, passes: int) -> float:
    if step.op in VIEWS:
        return 0.0
    moved = sum(traced.numbers[r] for r in step.reads) + traced.numbers[step.writes]
    if step.op in FUSED:  # what is centred is read and written once more
        moved += 2 * sum(traced.numbers[r] for r in step.reads[step.plain :])
        passes = PRODUCTS
    rate = rates.depthwise if step.op in DEPTHWISE else rates.dense
    arithmetic = passes * step.macs * batch * rate
    return _start(step, traced, batch, rates) + max(arithmetic, 2 * FLOAT * batch * moved * rates.byte)


def _start(step: Step, traced: Trace, batch: int, rates: Rates) -> float:
    """What a step costs however small it is."""
    blending = BLENDING * rates.fused if step.blended else 0.0
    if step.op in FUSED:
        return rates.fused + len(step.reads) * rates.overhead
    if step.op in DEPTHWISE:
        calls = 1 if joined(step, traced, batch) else step.lanes
        return rates.fused + (calls - 1) * rates.layer + blending
    if step.weights or step.op in LAYERS:
        return rates.layer + blending
    return (2 * len(step.reads) if step.op == "mix" else 1) * rates.overhead
