"""Memory of a search, predicted from the supernet's graph alone.

Takes a compilation and a batch size, returns bytes. Invariant: no torch; what autograd keeps is
one rule for each operation, in one table, and the predicted peak is that of a simulated step:
forward, with what is saved and what names hold; backward in reverse, with gradients; then the
optimiser. `benchmarks/plan_memory.py` measures how far that is from the truth.

A bilevel search takes two steps, and each computes gradients of its own kind only (see
`nasdsl.runtime.bilevel`): the weights' step keeps the inputs of convolutions, the variables' step
keeps every candidate's output, because the gradient of its weight needs it.
"""

from __future__ import annotations

from collections import Counter

import attrs

from nasdsl.compiler import Compilation
from nasdsl.ir.nodes import Var
from nasdsl.planning.trace import Step, Trace, trace

FLOAT = 4
INDEX = 8

SAVES_INPUT = frozenset(
    {"bn", "max_pool", "avg_pool", "swish", "hswish", "gelu", "leaky_relu", "layer_norm", "se", "attention"}
)
"""Operations whose backward pass reads their input whatever gradients are wanted."""

SAVES_OUTPUT = frozenset({"relu", "sigmoid", "tanh"})
"""Operations whose backward pass reads their output."""

WEIGHTED = frozenset({"conv", "dwconv", "linear"})
"""Operations whose input is read for the gradient of their weight, and for nothing else."""

VIEWS = frozenset({"crop", "tokens", "take_token", "flatten", "truncate", "channels"})
"""Operations whose output is their input's storage."""


@attrs.frozen
class MemoryEstimate:
    """Bytes on the device at the peak of a search step, fp32.

    Attributes:
        weights: the supernet's weights, buffers and variables.
        optimizers: momentum of the weights, two moments of each variable.
        gradients: of the weights, all at once before the optimiser's step.
        saved: activations that autograd keeps until the backward pass, in the larger of both steps.
        peak: the most that is alive at one moment, everything counted.
        step: which step has the peak, `weights` or `variables`.
    """

    weights: int
    optimizers: int
    gradients: int
    saved: int
    peak: int
    step: str


def predict_memory(compilation: Compilation, batch: int) -> MemoryEstimate:
    """The memory of a search with batches of `batch` examples, fp32."""
    traced = trace(compilation.relaxed)
    weights = sum(s.weights for s in traced.steps)
    buffers = sum(2 * traced.channels[s.writes] + 2 for s in traced.steps if s.op == "bn")
    variables = _variables(compilation)
    base = FLOAT * (weights + buffers + variables)
    optimizers = FLOAT * (weights + 2 * variables)
    steps = {kind: _simulate(traced, batch, kind) for kind in ("weights", "variables")}
    # After the backward pass all gradients of the weights are there; the optimiser works in place,
    # but clipping makes one more copy of the largest squares, which is small.
    held = base + optimizers
    peaks = {kind: held + peak for kind, (peak, _) in steps.items()}
    step = max(peaks, key=lambda k: peaks[k])
    return MemoryEstimate(base, optimizers, FLOAT * weights, steps[step][1], peaks[step], step)


def _variables(compilation: Compilation) -> int:
    """Numbers in the architecture variables; cells that are shared have theirs once."""
    seen: set[tuple[str, str]] = set()
    total = 0
    for use in compilation.relaxed.uses():
        for node in use.graph.nodes:
            key = (use.owner, node.id)
            if isinstance(node, Var) and key not in seen:
                seen.add(key)
                total += len(node.entries)
    return total


class _Heap:
    """Storages with what holds them: names, autograd, gradients."""

    def __init__(self) -> None:
        self.sizes: dict[object, int] = {}
        self.holders: Counter[object] = Counter()
        self.now = self.peak = 0

    def take(self, storage: object, size: int) -> None:
        if storage not in self.sizes:
            self.sizes[storage] = size
            self.now += size
            self.peak = max(self.peak, self.now)
        self.holders[storage] += 1

    def hold(self, storage: object) -> None:
        self.holders[storage] += 1

    def drop(self, storage: object) -> None:
        self.holders[storage] -= 1
        if self.holders[storage] <= 0 and storage in self.sizes:
            self.now -= self.sizes.pop(storage)
            del self.holders[storage]


def _simulate(traced: Trace, batch: int, kind: str) -> tuple[int, int]:
    """The peak of one step beyond what is always there, and the bytes that autograd has saved."""
    heap = _Heap()
    numbers = traced.numbers
    size = [FLOAT * n * batch for n in numbers]
    storage: dict[int, object] = {0: 0}
    wants = {0: False}  # whether a value needs a gradient
    heap.take(0, size[0])
    heap.hold(0)  # the batch itself outlives the step
    saved = [_forward(step, traced, heap, storage, wants, size, kind, batch) for step in traced.steps]
    kept = sum(heap.sizes[s] for s in {s for group in saved for s in group} if s in heap.sizes)
    _backward(traced, heap, storage, wants, size, saved, kind)
    return heap.peak, kept


def _forward(
    step: Step,
    traced: Trace,
    heap: _Heap,
    storage: dict[int, object],
    wants: dict[int, bool],
    size: list[int],
    kind: str,
    batch: int,
) -> tuple[object, ...]:
    """Runs one step forward; returns the storages that autograd keeps for it."""
    made = step.writes
    trained = kind == "weights" and step.weights > 0
    mixed = kind == "variables" and step.op == "mix"
    wants[made] = trained or mixed or any(wants[r] for r in step.reads)
    source = storage[step.reads[0]]
    if step.op in VIEWS:
        storage[made] = source
        heap.hold(source)
    else:
        storage[made] = made
        heap.take(made, size[made])
        if step.op in ("mix", "sum") and len(step.reads) > 1:
            # A product and the new total stand beside the old total for a moment.
            heap.peak = max(heap.peak, heap.now + (2 if step.op == "mix" else 1) * size[made])
    keeps: list[object] = []
    if wants[made]:
        keeps = _kept(step, traced, heap, storage, wants, size, kind, batch)
    for kept in keeps:
        heap.hold(kept)
    for value in step.done:
        heap.drop(storage[value])
    return tuple(keeps)


def _kept(
    step: Step,
    traced: Trace,
    heap: _Heap,
    storage: dict[int, object],
    wants: dict[int, bool],
    size: list[int],
    kind: str,
    batch: int,
) -> list[object]:
    made, source = step.writes, storage[step.reads[0]]
    keeps: list[object] = []
    if step.op in SAVES_INPUT or (step.op in WEIGHTED and kind == "weights"):
        keeps.append(source)
    if step.op in SAVES_OUTPUT:
        keeps.append(storage[made])
    if step.op == "max_pool":
        keeps.append(_extra(heap, ("indices", made), INDEX * traced.numbers[made] * batch))
    if step.op == "bn":
        keeps.append(_extra(heap, ("statistics", made), 2 * FLOAT * traced.channels[made]))
    if step.op == "mix" and kind == "variables":
        keeps.extend(storage[r] for r in step.reads)
    return keeps


def _extra(heap: _Heap, name: object, size: int) -> object:
    heap.take(name, size)
    heap.holders[name] = 0
    return name


def _backward(
    traced: Trace,
    heap: _Heap,
    storage: dict[int, object],
    wants: dict[int, bool],
    size: list[int],
    saved: list[tuple[object, ...]],
    kind: str,
) -> None:
    """Runs the steps in reverse: gradients of values come and go, gradients of weights stay."""
    last = traced.steps[-1].writes
    gradient: dict[int, object] = {last: ("gradient", last)}
    heap.take(gradient[last], size[last])
    for index in range(len(traced.steps) - 1, -1, -1):
        step = traced.steps[index]
        mine = gradient.pop(step.writes, None)
        if wants[step.writes] and mine is not None:
            if kind == "weights" and step.weights:
                heap.take(("weight", index), FLOAT * step.weights)
            passes = step.op in ("sum", "concat") or step.op in VIEWS
            for position, read in enumerate(step.reads):
                if not wants[read]:
                    continue
                if passes and read not in gradient:
                    gradient[read] = mine
                    heap.hold(mine)
                    continue
                fresh = ("gradient", index, position)
                heap.take(fresh, size[read])
                if read in gradient:
                    heap.drop(fresh)  # added to the one that is there
                else:
                    gradient[read] = fresh
            if step.op == "mix" and kind == "variables":
                heap.peak = max(heap.peak, heap.now + size[step.writes])
        if mine is not None:
            heap.drop(mine)
        for kept in saved[index]:
            heap.drop(kept)
