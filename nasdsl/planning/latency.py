"""Measures how long operations and networks take on the machine at hand.

Takes units of a space (`nasdsl.space.units`) and architectures, returns microseconds. Invariant: an
operation and a network are timed alike: forward passes without gradients, one behind the other, the
device waited for before and after; the median of several such runs after a warm-up, and of several
such medians, some time apart, the least, because other programs only ever add to a time. On one thread
it is the time of the process that counts, which stands still while another program has the processor.
What is timed is the text that the compiler writes.

An operation by itself would find its weights in the cache, where a network has long put others: so
several copies of it run in turn.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.errors import UserError
from nasdsl.ops import PRIMITIVES
from nasdsl.space.latency import LatencyTable, Machine
from nasdsl.space.units import Unit

if TYPE_CHECKING:
    import torch

    from nasdsl.api import Space
    from nasdsl.space.architecture import Architecture

REPEATS = 9
"""Runs of which the median is taken."""
RUN_SECONDS = 0.003
"""How long a run of several passes shall take."""
MOST_PASSES = 200
ROUNDS = 3
"""How often an operation is measured, all the others in between."""
SETTLED_ROUNDS = 6
SETTLED = 0.02
"""Whole networks are measured in rounds until in so many no least time falls by more than this part."""
MOST_ROUNDS = 60
CACHE_BYTES = 32_000_000
MOST_COPIES = 64
"""The copies of an operation fill the cache with weights, as far as this many do."""
GAIN = 0.1
"""By how much a fit with more constants must lower the error to be taken."""


def this_machine(
    device: str, precision: str, batch: int, threads: int | None, units: Iterable[Unit]
) -> Machine:
    """The machine at hand. Raises UserError (NAS605) where there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError.plain("NAS605", "no CUDA device is here to be measured", help="give --device cpu")
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    if threads is not None:
        torch.set_num_threads(threads)
    count = torch.get_num_threads() if device == "cpu" else 0
    layout = "contiguous" if any(map(_narrow, units)) else "channels_last"
    return Machine(device, name, count, precision, batch, str(torch.__version__), layout)


def _narrow(unit: Unit) -> bool:
    """A convolution that must not be in channels last (`nasdsl.codegen.layout`)."""
    from nasdsl.codegen.layout import NARROW

    values = dict(unit.values)
    channels = unit.inputs[0].channels.constant or 0
    return unit.kind == "conv" and values["k"] == 1 and values["stride"] != 1 and channels < NARROW


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named[0] if named and named[0] else platform.processor()) or platform.machine() or "unknown"


class Bench:
    """Times modules and functions on one machine."""

    def __init__(self, machine: Machine) -> None:
        import torch

        self.machine = machine
        self.device = torch.device(machine.device)
        # On one thread the process's own time is the time that passes, less that of other programs.
        alone = machine.device == "cpu" and machine.threads == 1
        self.clock = time.process_time if alone else time.perf_counter
        self.dtype = torch.bfloat16 if machine.precision == "bf16" else torch.float32

    def unit(self, unit: Unit) -> int:
        """Microseconds of one operation, one at least."""
        import torch

        inputs = [self._input(t.layout, [d.constant or 0 for d in t.dims]) for t in unit.inputs]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            functions = [self._function(unit)]
            size = _bytes(functions[0])
            copies = min(MOST_COPIES, CACHE_BYTES // size) if size else 1
            functions += [self._function(unit) for _ in range(copies - 1)]
        waiting = cycle(functions)
        return self.microseconds(lambda: next(waiting)(*inputs))

    def networks(self, space: Space, archs: Sequence[Architecture]) -> list[int]:
        """Microseconds of whole networks, fresh weights; measured in turn, so that all meet the same weather."""
        type_ = space.checked.input
        built = []
        for arch in archs:
            x = self._input(type_.layout, [d.settle(arch.choices).evaluate({}) for d in type_.dims])
            built.append(partial(self._there(space.network(arch)), x))
        found = [self.microseconds(net) for net in built]
        quiet = 0
        for _ in range(MOST_ROUNDS):
            least = [min(old, self.microseconds(net)) for old, net in zip(found, built, strict=True)]
            fell = any(new < old * (1 - SETTLED) for old, new in zip(found, least, strict=True))
            found, quiet = least, 0 if fell else quiet + 1
            if quiet == SETTLED_ROUNDS:
                break
        return found

    def microseconds(self, action: Callable[[], object]) -> int:
        """The median time of a pass."""
        import torch

        with torch.inference_mode():
            for _ in range(3):
                action()
            once = self._seconds(action, 1)
            passes = max(1, min(MOST_PASSES, int(RUN_SECONDS / max(once, 1e-7))))
            found = [self._seconds(action, passes) for _ in range(REPEATS)]
        return max(1, round(1e6 * median(found)))

    def _seconds(self, action: Callable[[], object], passes: int) -> float:
        self._wait()
        begun = self.clock()
        for _ in range(passes):
            action()
        self._wait()
        return (self.clock() - begun) / passes

    def _wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _input(self, layout: str, sizes: Sequence[int]) -> torch.Tensor:
        import torch

        # Tokens are (features, length) in a type and (B, length, features) in PyTorch.
        shape = (sizes[1], sizes[0]) if layout == "tokens" else tuple(sizes)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.machine.batch, *shape, generator=generator).to(self.device, self.dtype)
        last = layout == "image" and self.machine.layout == "channels_last"
        return x.contiguous(memory_format=torch.channels_last) if last else x

    def _there(self, module: torch.nn.Module) -> torch.nn.Module:
        return module.eval().to(self.device, self.dtype)

    def _function(self, unit: Unit) -> Callable[..., object]:
        """The text that the compiler writes for a unit, as something to call."""
        import torch

        if unit.kind == "add":
            return lambda x: x + x
        if unit.kind == "concat":
            axis = -1 if unit.result.layout == "tokens" else 1
            return lambda *xs: torch.cat(xs, axis)
        primitive = PRIMITIVES[unit.kind]
        arguments = (unit.inputs[0], unit.result, dict(unit.values))
        if primitive.module is not None:
            return self._there(eval(primitive.module(*arguments), _names(unit)))  # noqa: S307  # our own text
        if primitive.function is None:
            raise TypeError(f"{unit.kind} has neither a module nor a function")
        text = primitive.function(*arguments).format(x="x")
        function: Callable[..., object] = eval(f"lambda x: {text}", _names(unit))  # noqa: S307  # our own text
        return function


def _bytes(function: Callable[..., object]) -> int:
    """The size of the weights of a module; 0 for a plain function."""
    parameters = getattr(function, "parameters", None)
    return sum(p.numel() * p.element_size() for p in parameters()) if parameters is not None else 0


def _names(unit: Unit) -> dict[str, Any]:
    """What the text of an operation may name."""
    from importlib import import_module

    import torch
    import torch.nn.functional as F
    from torch import nn

    from nasdsl.runtime.standalone import blocks

    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, **vars(blocks)}
    opaque = PRIMITIVES[unit.kind].opaque
    if opaque:
        import_module(opaque)
        names[opaque.partition(".")[0]] = import_module(opaque.partition(".")[0])
    return names


@attrs.frozen
class Fit:
    """How times of whole networks follow from sums of entries.

    Attributes:
        constant: microseconds beside the operations.
        scale: how much longer an operation takes within a network.
        median: relative error of a network that the fit did not see, half of them being better.
        largest: the largest of these errors.
    """

    constant: int
    scale: float
    median: float
    largest: float


def fitted(predicted: Sequence[float], measured: Sequence[float]) -> Fit:
    """The simplest of: as they are, scaled, shifted, that errs little.

    Each network is predicted by a fit to the others, so the errors are of networks not seen; a
    later one is taken only where it lowers the median error by a tenth or more. Both at once fit the
    noise of networks that are much alike, and mislead about others.
    """
    best: Fit | None = None
    for kind in ("none", "scale", "constant"):
        errors = []
        for left in range(len(predicted)):
            rest = [i for i in range(len(predicted)) if i != left] or [left]
            c, s = _fit(kind, [predicted[i] for i in rest], [measured[i] for i in rest])
            errors.append(abs(c + s * predicted[left] - measured[left]) / measured[left])
        c, s = _fit(kind, predicted, measured)
        found = Fit(round(c), round(s, 4), median(errors), max(errors))
        if best is None or found.median < best.median * (1 - GAIN):
            best = found
    if best is None:
        raise ValueError("nothing to fit")
    return best


def _fit(kind: str, predicted: Sequence[float], measured: Sequence[float]) -> tuple[float, float]:
    """Constant and scale of the least relative squares; the constant is never negative."""
    # Divided by what was measured, the relative error is c * (1 / m) + s * (p / m) - 1.
    a, b = [1 / m for m in measured], [p / m for p, m in zip(predicted, measured, strict=True)]
    if kind == "constant":
        left = sum(x * (1 - y) for x, y in zip(a, b, strict=True)) / sum(x * x for x in a)
        return max(0.0, left), 1.0
    return 0.0, sum(b) / sum(x * x for x in b) if kind == "scale" else 1.0


def kendall(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Kendall's tau-b, None where one side is all the same."""
    pairs = [(i, j) for i in range(len(left)) for j in range(i)]
    signs = [(_sign(left[i] - left[j]), _sign(right[i] - right[j])) for i, j in pairs]
    known = [sum(s[side] != 0 for s in signs) for side in (0, 1)]
    return sum(a * b for a, b in signs) / (known[0] * known[1]) ** 0.5 if all(known) else None


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def compared(space: Space, table: LatencyTable, archs: Sequence[Architecture], bench: Bench) -> LatencyTable:
    """The table with its fit and its error, from the times of whole networks."""
    plain = attrs.evolve(table, constant=0, scale=1.0)
    costs = space.costs("latency", plain)
    sums = [costs.at(arch.choices) for arch in archs]
    measured = bench.networks(space, archs)
    fit = fitted(sums, measured)
    made = attrs.evolve(table, constant=fit.constant, scale=fit.scale)
    costs = space.costs("latency", made)
    predicted = [costs.at(arch.choices) for arch in archs]
    tau = kendall(predicted, measured)
    error = {
        "networks": len(archs),
        "median": round(fit.median, 4),
        "largest": round(fit.largest, 4),
        "kendall_tau": None if tau is None else round(tau, 4),
        "predicted": predicted,
        "measured": measured,
        "sums": sums,
    }
    return attrs.evolve(made, error=error)


__all__ = ["ROUNDS", "Bench", "Fit", "compared", "fitted", "kendall", "this_machine"]
