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
from nasdsl.planning.footprint import DEPTHWISE, FLOAT, VIEWS, joined
from nasdsl.planning.trace import Step, Trace, trace

LAYERS = frozenset({"bn", "max_pool", "avg_pool"})
"""Operations without weights that cost about as much to start as those with."""

FUSED = frozenset({"pointwise_norm", "accumulate"})
"""Operations that find statistics by a product of their own, and need none of the result."""

PRODUCTS = 5
"""Products that they take, forward and backward: covariance, result; filters, input, covariance again."""


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
        factor: how much longer a small network of such operations takes than their sum: names,
            modules, the optimiser.
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
    traced = trace(compilation.optimised)
    # Forward, gradient of the input, and for the weights' step gradient of the weight.
    passes: Mapping[str, int] = {"weights": 3, "variables": 2}
    found = {kind: rates.factor * _sum(traced, batch, rates, n) for kind, n in passes.items()}
    return TimeEstimate(found["weights"], found["variables"])


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
    if step.op in FUSED:
        return rates.fused + len(step.reads) * rates.overhead
    if step.op in DEPTHWISE:
        return rates.fused + (0 if joined(step, traced, batch) else (step.lanes - 1) * rates.layer)
    if step.weights or step.op in LAYERS:
        return rates.layer
    return (2 * len(step.reads) if step.op == "mix" else 1) * rates.overhead


def calibrate(device: str = "cpu") -> Rates:
    """Measures a device with a handful of operations, in a few seconds."""
    import torch
    import torch.nn.functional as F

    from nasdsl.runtime.depthwise import Depthwise
    from nasdsl.runtime.normalised import PointwiseNorm

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

    def weights_too(module: Any, x: Any) -> Callable[[], object]:
        x.requires_grad_(True)

        def run() -> object:
            out = module(x)
            return torch.autograd.grad(out, (x, *module.parameters()), torch.ones_like(out))

        return run

    tiny = tensor(1, 8, 4, 4)
    overhead = timed(both_ways(F.relu, tiny), 50)
    small_kernel = tensor(8, 8, 3, 3)
    layer = timed(
        both_ways(lambda v: F.batch_norm(F.conv2d(v, small_kernel), None, None, training=True), tiny), 50
    )
    small_modules = (_on(place, Depthwise(8, 3, padding=1)), _on(place, PointwiseNorm(8, 8)))
    fused = sum(timed(both_ways(m, tiny), 50) for m in small_modules) / 2
    large = tensor(16, 32, 32, 32)
    byte = timed(both_ways(F.relu, large), 5) / (5 * large.numel() * FLOAT)
    x, kernel = tensor(16, 32, 16, 16), tensor(32, 32, 1, 1)
    macs = 16 * 32 * 32 * 16 * 16
    dense = max(1e-13, timed(both_ways(lambda v: F.conv2d(v, kernel), x), 5) - overhead) / (2 * macs)
    deep_macs = 16 * 32 * (9 + 25) * 16 * 16
    deep = (_on(place, Depthwise(32, 3, padding=1)), _on(place, Depthwise(32, 5, padding=2)))
    depthwise = sum(timed(weights_too(m, x), 5) for m in deep) - 2 * fused
    rates = Rates(device, overhead, layer / 2, fused, dense, max(1e-13, depthwise) / (3 * deep_macs), byte)
    measured, predicted = _reference(place, timed, rates)
    return attrs.evolve(rates, factor=measured / predicted)


def _on(place: Any, module: Any) -> Any:
    import torch

    return module.to(place, memory_format=torch.channels_last)


def _reference(
    place: Any, timed: Callable[[Callable[[], object], int], float], rates: Rates
) -> tuple[float, float]:
    """Seconds of a weight step of a few supernet nodes in a row: measured, and as the sum says."""
    import torch
    from torch import nn

    from nasdsl.runtime.depthwise import DepthwiseFan
    from nasdsl.runtime.normalised import NormalisedMix, PointwiseNorm

    channels, size, batch, blocks = 16, 16, 16, 4

    class Node(nn.Module):
        """Two separable convolutions, two pooled terms and the input, accumulated."""

        def __init__(self) -> None:
            super().__init__()
            self.first = DepthwiseFan(channels, 3, padding=1, copies=2)
            self.norm = PointwiseNorm(channels, channels, copies=2, relu=True)
            self.second = DepthwiseFan(channels, 3, padding=1, copies=2)
            self.dense = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.dense_norm = nn.BatchNorm2d(channels, affine=False)
            self.node = NormalisedMix(channels, channels, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(x)
            ends = self.second(self.norm(self.first(y)))
            terms = (x, self.dense_norm(self.dense(y)))
            made: torch.Tensor = self.node(torch.full((4,), 0.25, device=x.device), terms, ends)
            return made

    traced = Trace()
    shape, wide = (channels, size, size), (2 * channels, size, size)
    value, area = traced.value(shape), size * size

    def step_of(
        op: str, reads: tuple[int, ...], shape: tuple[int, ...], weights: int = 0, **more: Any
    ) -> int:
        made = traced.value(shape)
        traced.steps.append(Step(op, reads, made, weights, macs=weights * area, **more))
        return made

    for _ in range(blocks):
        relu = step_of("relu", (value,), shape)
        end = step_of("dwconv_fan", (relu,), wide, 18 * channels, lanes=2)
        end = step_of("pointwise_norm", (end,), wide, 2 * channels**2, lanes=2)
        end = step_of("dwconv_lanes", (end,), wide, 18 * channels, lanes=2)
        dense = step_of("conv", (relu,), shape, 9 * channels**2)
        dense = step_of("bn", (dense,), shape)
        value = step_of("accumulate", (value, dense, end), shape, 2 * channels**2, plain=2)
    net = _on(place, nn.Sequential(*(Node() for _ in range(blocks))))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x = torch.randn(batch, *shape, device=place).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()

    return timed(step, 3), _sum(traced, batch, rates, 3)
