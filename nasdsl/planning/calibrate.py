"""What a device does: a few operations and two small supernets, timed.

Takes the name of a device, returns `Rates`. Invariant: operations are those that supernets run, so
what is ours is measured as ours; torch is imported when something is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import geometric_mean, median
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.opening import load
from nasdsl.planning.footprint import FLOAT
from nasdsl.planning.time import Rates, predict_time

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

REFERENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("darts", {"C": 8, "layers": 3, "resolution": 16}),
    ("nasbench201", {"C": 8, "N": 1, "resolution": 16}),
)
"""Supernets whose steps say how much longer a whole takes than the sum of its parts."""

BATCH = 16


def calibrate(device: str = "cpu") -> Rates:
    """Measures a device, in a few seconds."""
    import torch
    import torch.nn.functional as F

    from nasdsl.runtime.operators.depthwise import Depthwise
    from nasdsl.runtime.operators.normalised import PointwiseNorm

    bench = _Bench(torch.device(device))
    tiny, x = bench.tensor(1, 8, 4, 4), bench.tensor(16, 32, 16, 16)
    overhead = bench.seconds(bench.both_ways(F.relu, tiny), 50)
    narrow, square = bench.tensor(8, 8, 3, 3), bench.tensor(32, 32, 1, 1)

    def layers(v: Tensor) -> Tensor:
        return F.batch_norm(F.conv2d(v, narrow), None, None, training=True)

    layer = bench.seconds(bench.both_ways(layers, tiny), 50) / 2
    ours = (bench.there(Depthwise(8, 3, padding=1)), bench.there(PointwiseNorm(8, 8)))
    fused = sum(bench.seconds(bench.both_ways(m, tiny), 50) for m in ours) / len(ours)
    large = bench.tensor(16, 32, 32, 32)
    byte = bench.seconds(bench.both_ways(F.relu, large), 5) / (5 * large.numel() * FLOAT)
    product = bench.seconds(bench.both_ways(lambda v: F.conv2d(v, square), x), 5) - overhead
    deep = (bench.there(Depthwise(32, 3, padding=1)), bench.there(Depthwise(32, 5, padding=2)))
    windows = sum(bench.seconds(bench.both_ways(m, x), 5) for m in deep) - 2 * fused
    rates = Rates(
        device=device,
        overhead=overhead,
        layer=layer,
        fused=fused,
        dense=max(1e-13, product / (2 * 32 * x.numel())),
        depthwise=max(1e-13, windows / (3 * (9 + 25) * x.numel())),
        byte=byte,
    )
    return attrs.evolve(rates, factor=geometric_mean(bench.ratio(*r, rates) for r in REFERENCES))


class _Bench:
    """Times things on one device."""

    def __init__(self, place: torch.device) -> None:
        self.place = place

    def tensor(self, *shape: int) -> Tensor:
        import torch

        return torch.randn(*shape, device=self.place).contiguous(memory_format=torch.channels_last)

    def there(self, module: nn.Module) -> nn.Module:
        import torch

        return module.to(self.place, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def seconds(self, action: Callable[[], object], repeats: int) -> float:
        import torch

        for _ in range(2):
            action()
        found = []
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(repeats):
                action()
            if self.place.type == "cuda":
                torch.cuda.synchronize()
            found.append((time.perf_counter() - begun) / repeats)
        return median(found)

    def both_ways(self, function: Callable[[Tensor], Any], x: Tensor) -> Callable[[], object]:
        """Forward, and the gradients of the input and of what weights there are."""
        import torch
        from torch import nn

        x.requires_grad_(True)
        wanted = (x, *(function.parameters() if isinstance(function, nn.Module) else ()))

        def run() -> object:
            out = function(x)
            return torch.autograd.grad(out, wanted, torch.ones_like(out))

        return run

    def ratio(self, name: str, parameters: dict[str, Any], rates: Rates) -> float:
        """How much longer the steps of a small supernet take than `rates` say."""
        import torch

        from nasdsl.runtime.search import bilevel

        space = load(name, **parameters)
        program = space.compile("darts")
        net = program.supernet().to(self.place)
        settings = program.compilation.settings
        weights = bilevel.weight_optimizer(net, settings)
        variables = bilevel.variable_optimizer(net, settings)
        x = torch.randn(BATCH, *space.checked.input.evaluate({}), device=self.place)
        y = torch.randint(0, space.checked.classes, (BATCH,), device=self.place)

        def pair() -> None:
            bilevel.weight_step(net, (x, y), weights)
            bilevel.architecture_step(net, (x, y), variables)

        return self.seconds(pair, 1) / predict_time(program.compilation, BATCH, rates).pair


__all__ = ["calibrate"]
