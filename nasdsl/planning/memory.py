"""Memory of a search, predicted from the supernet's graph alone.

Takes a compilation and a batch size, returns bytes. Invariant: no torch; what autograd keeps is
one rule for each operation, in one table, and the predicted peak is that of a simulated step:
forward, with what is saved and what names hold; backward in reverse, with gradients; then the
optimiser. `benchmarks/plan_memory.py` measures how far that is from the truth.

A bilevel search takes two steps, and each computes gradients of its own kind only (see
`nasdsl.runtime.search.bilevel`): the weights' step keeps the inputs of convolutions, the variables' step
keeps every candidate's output, because the gradient of its weight needs it.
"""

from __future__ import annotations

from collections import Counter

import attrs

from nasdsl.compiler import Compilation
from nasdsl.ir.cost import module_count
from nasdsl.ir.nodes import Var
from nasdsl.planning.drawn import drawn
from nasdsl.planning.footprint import FLOAT, VIEWS, Footprint, Situation, footprint, trains
from nasdsl.planning.trace import Step, Trace, trace

KINDS = ("weights", "variables")


@attrs.frozen
class MemoryEstimate:
    """Bytes on the device at the peak of a search step, fp32.

    Attributes:
        weights: the supernet's weights, buffers and variables.
        optimizers: momentum of the weights, two moments of each variable.
        gradients: of the weights, all at once before the optimiser's step.
        saved: activations that autograd keeps until the backward pass, in the larger of both steps.
        peak: the most that is alive at one moment, everything counted, in the larger of both steps.
        step: which step that is, `weights` or `variables`.
        weights_step: the peak of a step of the weights.
        variables_step: the peak of a step of the variables.
    """

    weights: int
    optimizers: int
    gradients: int
    saved: int
    peak: int
    step: str
    weights_step: int
    variables_step: int


def predict_memory(compilation: Compilation, batch: int) -> MemoryEstimate:
    """The memory of a search with batches of `batch` examples, fp32."""
    whole, traced = trace(compilation.optimised), trace(drawn(compilation.optimised))
    weights = module_count(compilation.optimised).params
    # Mean and variance, and how many batches there were.
    buffers = sum(2 * s.states + 2 for s in whole.steps if s.states)
    variables = _variables(compilation)
    base = FLOAT * (weights + buffers + variables)
    optimizers = FLOAT * (weights + 2 * variables)
    parts = micro_batches(compilation)
    situations = {kind: Situation(-(-batch // parts), kind == "weights", parts) for kind in KINDS}
    found = {kind: simulate(traced, situations[kind]) for kind in KINDS}
    if parts > 1:  # the examples of the other parts
        rest = FLOAT * traced.numbers[0] * (batch - situations["weights"].batch)
        found = {kind: (peak + rest, saved) for kind, (peak, saved) in found.items()}
    # After the backward pass all gradients of the weights are there; the optimiser works in place,
    # but clipping makes one more copy of the largest squares, which is small.
    held = base + optimizers
    peaks = {kind: held + peak for kind, (peak, _) in found.items()}
    step = max(peaks, key=lambda k: peaks[k])
    saved = found[step][1]
    return MemoryEstimate(
        base,
        optimizers,
        FLOAT * weights,
        saved,
        peaks[step],
        step,
        weights_step=peaks["weights"],
        variables_step=peaks["variables"],
    )


def simulate(traced: Trace, situation: Situation) -> tuple[int, int]:
    """The peak of one step beyond what is always there, and the bytes that autograd has saved."""
    return _Simulation(traced, situation).run()


def micro_batches(compilation: Compilation) -> int:
    """Parts that a method's setting splits a batch into."""
    parts = compilation.settings.get("accumulate", 1)
    return parts if isinstance(parts, int) else 1


def _variables(compilation: Compilation) -> int:
    """Numbers in the architecture variables; cells that are shared have theirs once."""
    seen: set[tuple[str, str]] = set()
    total = 0
    for use in compilation.optimised.uses():
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

    def bump(self, size: int) -> None:
        """Memory that is there for a moment."""
        self.peak = max(self.peak, self.now + size)

    def hold(self, storage: object) -> None:
        self.holders[storage] += 1

    def drop(self, storage: object) -> None:
        self.holders[storage] -= 1
        if self.holders[storage] <= 0 and storage in self.sizes:
            self.now -= self.sizes.pop(storage)
            del self.holders[storage]


class _Simulation:
    """One step of a search: forward, then backward in reverse."""

    def __init__(self, traced: Trace, situation: Situation) -> None:
        self.traced = traced
        self.situation = situation
        self.heap = _Heap()
        self.size = [FLOAT * n * situation.batch for n in traced.numbers]
        self.storage: dict[int, object] = {0: 0}
        self.wants = {0: False}  # whether a value needs a gradient
        self.prints = [Footprint()] * len(traced.steps)
        self.saved: list[list[object]] = [[] for _ in traced.steps]
        self.gradient: dict[int, list[object]] = {}
        self.calls: dict[int, list[int]] = {}  # steps of each call that is computed again
        for index, step in enumerate(traced.steps):
            if step.again:
                self.calls.setdefault(step.again, []).append(index)

    def run(self) -> tuple[int, int]:
        """The peak beyond what is always there, and the bytes that autograd has saved."""
        heap, steps = self.heap, self.traced.steps
        heap.take("batch", self.size[0])
        heap.take(0, self.size[0])  # the same in the network's memory layout
        if self.situation.parts > 1 and self.situation.weights:
            heap.take("gradients of the parts before", FLOAT * sum(s.weights for s in steps))
        held: dict[int, list[object]] = {}
        for index, step in enumerate(steps):
            if step.again and step.again not in held:
                held[step.again] = self._inputs(step.again)
            self._forward(index, keep=not step.again)
            for value in step.done:
                heap.drop(self.storage[value])
        kept = {s for group in (*self.saved, *held.values()) for s in group}
        saved = sum(heap.sizes[s] for s in kept if s in heap.sizes)
        last = steps[-1].writes
        self._arrive(last, ("gradient", last), self.size[last])
        again: set[int] = set()
        for index in range(len(steps) - 1, -1, -1):
            call = steps[index].again
            if call and call not in again:
                again.add(call)
                self._again(call)
            self._backward(index)
            if call and self.calls[call][0] == index:
                for storage in held[call]:
                    heap.drop(storage)
        return heap.peak, saved

    def _inputs(self, call: int) -> list[object]:
        """What a call reads, held until its backward pass."""
        steps = [self.traced.steps[i] for i in self.calls[call]]
        inside = {s.writes for s in steps}
        found = [self.storage[r] for r in {r for s in steps for r in s.reads} - inside]
        for storage in found:
            self.heap.hold(storage)
        return found

    def _again(self, call: int) -> None:
        """A call's forward pass once more, now keeping what its backward pass needs."""
        inside = {self.traced.steps[i].writes for i in self.calls[call]}
        for index in self.calls[call]:
            self._forward(index, keep=True)
            for value in self.traced.steps[index].done:
                if value in inside:
                    self.heap.drop(self.storage[value])
        # The result is not read a second time.
        named = {v for i in self.calls[call] for v in self.traced.steps[i].done}
        for value in inside - named:
            self.heap.drop(self.storage[value])

    def _forward(self, index: int, keep: bool) -> None:
        """Runs a step; what autograd keeps of it is held until its backward pass if `keep`."""
        step, heap = self.traced.steps[index], self.heap
        made = step.writes
        self.wants[made] = trains(step, self.situation) or any(self.wants[r] for r in step.reads)
        if step.op in VIEWS:
            self.storage[made] = self.storage[step.reads[0]]
            heap.hold(self.storage[made])
        else:
            self.storage[made] = (made, keep)
            heap.take((made, keep), self.size[made])
        found = footprint(step, self.traced, self.situation)
        if self.wants[made]:
            self.prints[index] = found
        if not self.wants[made] or not keep:
            heap.bump(found.forward + found.extra)
            return
        keeps = [self.storage[v] for v in found.kept]
        for kept in keeps:
            heap.hold(kept)
        if found.extra:
            keeps.append(("extra", made))
            heap.take(("extra", made), found.extra)
        heap.bump(found.forward)
        self.saved[index] = keeps

    def _backward(self, index: int) -> None:
        """Gradients of values come and go, gradients of weights stay."""
        step, heap = self.traced.steps[index], self.heap
        mine = self.gradient.pop(step.writes, [])
        if self.wants[step.writes] and mine:
            if self.situation.weights and step.weights:
                if self.situation.parts == 1:
                    heap.take(("weight", index), FLOAT * step.weights)
                else:
                    heap.bump(FLOAT * step.weights)  # added to the one that is there
            if step.op in ("sum", "concat") or step.op in VIEWS:
                self._pass_on(step, mine)
            else:
                self._make(step, index)
        for storage in (*mine, *self.saved[index]):
            heap.drop(storage)

    def _pass_on(self, step: Step, mine: list[object]) -> None:
        """Operations whose gradient is the incoming one, or a part of it."""
        for position, read in enumerate(step.reads):
            if not self.wants[read]:
                continue
            if step.op == "part":
                # The results of a fan have one gradient each, and wait for each other.
                for storage in mine:
                    self.heap.hold(storage)
                self.gradient.setdefault(read, []).extend(mine)
            elif read not in self.gradient:
                for storage in mine:
                    self.heap.hold(storage)
                self.gradient[read] = list(mine)
            else:
                self._add(read, ("gradient", step.writes, position))

    def _make(self, step: Step, index: int) -> None:
        """New gradients, all there at once beside what the backward pass needs itself."""
        heap = self.heap
        fresh: list[tuple[int, object]] = []
        together = ("gradient", index)
        for position, read in enumerate(step.reads):
            if not self.wants[read]:
                continue
            name: object = (*together, position)
            if step.op == "accumulate" and position >= step.plain:
                # Those of what is accumulated are one block.
                name = together
                if name not in heap.sizes:
                    heap.take(name, sum(self.size[r] for r in step.reads[step.plain :]))
                else:
                    heap.hold(name)
            else:
                heap.take(name, self.size[read])
            fresh.append((read, name))
        heap.bump(self.prints[index].backward)
        for read, name in fresh:
            self._arrive(read, name, self.size[read], taken=True)

    def _arrive(self, read: int, name: object, size: int, taken: bool = False) -> None:
        """A gradient of a value: the first, or added to those that are there."""
        if not taken:
            self.heap.take(name, size)
        if read not in self.gradient:
            self.gradient[read] = [name]
            return
        self.heap.drop(name) if self._exclusive(read) else self._replace(read, name)

    def _exclusive(self, read: int) -> bool:
        """Whether the gradient that is there may be added to in place: nobody else holds its storage."""
        return all(self.heap.holders[s] == 1 for s in self.gradient[read])

    def _replace(self, read: int, name: object) -> None:
        """A sum in new memory, because the gradient that was there belongs to others too."""
        total = ("total", name)
        self.heap.take(total, self.size[read])
        self.heap.drop(name)
        for storage in self.gradient[read]:
            self.heap.drop(storage)
        self.gradient[read] = [total]

    def _add(self, read: int, name: object) -> None:
        """A gradient that is passed on, added to what is there."""
        if self._exclusive(read):
            return
        self.heap.take(name, 0)
        self._replace(read, name)
