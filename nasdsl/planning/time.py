"""Time of a search step, predicted from the supernet's graph and a few measured operations.

Takes a compilation and a batch size, returns seconds. Invariant: torch is imported by `calibrate`
only; the model is a sum over operations of an overhead, arithmetic at a measured rate for its kind
and traffic at a measured bandwidth, so it knows nothing of caches and overlaps. What it is worth is
measured by `benchmarks/plan_time.py` and printed beside every prediction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import attrs

from nasdsl.compiler import Compilation
from nasdsl.planning.footprint import FLOAT, VIEWS
from nasdsl.planning.trace import Step, Trace, trace

LAYERS = frozenset({"bn", "max_pool", "avg_pool"})
"""Operations without weights that cost about as much to start as those with."""


@attrs.frozen
class Rates:
    """What one device does, measured.

    Attributes:
        overhead: seconds for one small elementwise operation, forward and backward.
        layer: seconds for one small convolution or normalisation, forward and backward.
        dense: seconds for one multiply-accumulate of a dense convolution.
        depthwise: the same of a depthwise one.
        byte: seconds to read or write one byte.
        factor: how much longer a small network of such operations takes than their sum: names,
            modules, the optimiser.
    """

    device: str
    overhead: float
    layer: float
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
    traced = trace(compilation.optimised)
    # Forward, gradient of the input, and for the weights' step gradient of the weight.
    passes: Mapping[str, int] = {"weights": 3, "variables": 2}
    found = {kind: rates.factor * _sum(traced, batch, rates, n) for kind, n in passes.items()}
    return TimeEstimate(found["weights"], found["variables"])


def _sum(traced: Trace, batch: int, rates: Rates, passes: int) -> float:
    return sum(_seconds(s, traced, batch, rates, passes) for s in traced.steps)


def _seconds(step: Step, traced: Trace, batch: int, rates: Rates, passes: int) -> float:
    if step.op in VIEWS:
        return 0.0
    rate = rates.depthwise if step.op == "dwconv" else rates.dense
    moved = FLOAT * batch * (sum(traced.numbers[r] for r in step.reads) + traced.numbers[step.writes])
    arithmetic = passes * step.macs * batch * rate
    small = 2 * len(step.reads) * rates.overhead if step.op == "mix" else rates.overhead
    if step.weights or step.op in LAYERS:
        small = rates.layer
    return small + max(arithmetic, 2 * moved * rates.byte)


def calibrate(device: str = "cpu") -> Rates:
    """Measures a device with a handful of operations, in a few seconds."""
    import torch
    import torch.nn.functional as F

    place = torch.device(device)

    def tensor(*shape: int) -> Any:
        made = torch.randn(*shape, device=place)
        return made.contiguous(memory_format=torch.channels_last) if made.dim() == 4 else made

    def timed(action: Callable[[], object], repeats: int) -> float:
        for _ in range(2):
            action()
        found = []
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(repeats):
                action()
            if place.type == "cuda":
                torch.cuda.synchronize()
            found.append((time.perf_counter() - begun) / repeats)
        return median(found)

    def both_ways(function: Callable[[Any], Any], x: Any) -> Callable[[], object]:
        x.requires_grad_(True)

        def run() -> object:
            out = function(x)
            return torch.autograd.grad(out, x, torch.ones_like(out))

        return run

    tiny = tensor(1, 8, 4, 4)
    overhead = timed(both_ways(F.relu, tiny), 50)
    small_kernel = tensor(8, 8, 3, 3)
    layer = timed(
        both_ways(lambda v: F.batch_norm(F.conv2d(v, small_kernel), None, None, training=True), tiny), 50
    )
    large = tensor(16, 32, 32, 32)
    byte = timed(both_ways(F.relu, large), 5) / (5 * large.numel() * FLOAT)
    x, kernel, deep = tensor(16, 32, 16, 16), tensor(32, 32, 1, 1), tensor(32, 1, 3, 3)
    macs = 16 * 32 * 32 * 16 * 16
    dense = max(1e-13, timed(both_ways(lambda v: F.conv2d(v, kernel), x), 5) - overhead) / (2 * macs)
    deep_macs = 16 * 32 * 9 * 16 * 16
    depthwise = timed(both_ways(lambda v: F.conv2d(v, deep, padding=1, groups=32), x), 5) - overhead
    rates = Rates(device, overhead, layer / 2, dense, max(1e-13, depthwise) / (2 * deep_macs), byte)
    measured, predicted = _reference(place, timed, rates)
    return attrs.evolve(rates, factor=measured / predicted)


def _reference(
    place: Any, timed: Callable[[Callable[[], object], int], float], rates: Rates
) -> tuple[float, float]:
    """Seconds of a weight step of twelve separable convolutions in a row: measured, and as the sum says."""
    import torch
    from torch import nn

    channels, size, batch, blocks = 16, 16, 16, 12
    layers: list[nn.Module] = []
    traced = Trace()
    value = traced.value((channels, size, size))
    area = size * size
    for _ in range(blocks):
        layers += [
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False),
        ]
        for op, weights in (("relu", 0), ("dwconv", 9 * channels), ("conv", channels**2), ("bn", 0)):
            made = traced.value((channels, size, size))
            traced.steps.append(Step(op, (value,), made, weights, weights * area))
            value = made
    net = nn.Sequential(*layers).to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x = torch.randn(batch, channels, size, size, device=place).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()

    return timed(step, 3), _sum(traced, batch, rates, 3)
