"""Both steps of a bilevel search as CUDA graphs: recorded once, then replayed.

Takes a supernet, its optimisers and settings; returns losses. Invariant: a replayed step is the
step of `nasdsl.runtime.search.bilevel`, and everything that a schedule changes (learning rate,
temperature, strength of the penalty) is a tensor that the graph reads, never a number in it.

A step launches thousands of small kernels; a replay launches one graph. What a graph cannot
hold is a decision that the host takes from numbers on the device, so what needs one is refused
(`refuse`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.search.bilevel import Batch, Manner, step
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.supernet import SupernetBase
from nasdsl.runtime.topology import NodeTopology, Regulariser

WARM_UP = 3
"""Steps before one is recorded: libraries choose their kernels, optimisers make their states."""


_HOST: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("regulariser_form", ("pa",), "the host decides on every step from the penalty"),
    ("hypergradient", ("finite", "exact"), "an unrolled step sets weights forth and back"),
    ("level", ("single",), "both optimisers step at once"),
    ("schedule", ("informed",), "the host decides from the gradient whether variables step"),
    ("proximity", ("plain", "adjusted"), "the projection is taken anew for every step"),
    ("admm", (True,), "dual variables move between steps"),
)
"""Settings that a graph cannot hold, and why."""
_PENALTIES = ("beta_decay", "dirichlet_kl", "resource_weight")
"""Penalties that no graph was tried with, by their settings."""


def refuse(
    device: torch.device,
    settings: Mapping[str, Any],
    compiled: bool,
    sparse: bool = False,
    processes: int = 1,
) -> None:
    """Raises Mistake where a whole step cannot be one graph.

    Args:
        sparse: whether the supernet leaves candidates out that do not run.
        processes: how many train together.
    """
    if processes > 1:
        raise Mistake(
            f"--cuda-graph cannot serve {processes} processes: between a backward pass and its step they average "
            "gradients, which no graph here holds; leave it out"
        )
    if device.type != "cuda":
        raise Mistake(f"--cuda-graph needs a CUDA device, and this run is on {device.type}: leave it out")
    if compiled:
        raise Mistake("--cuda-graph and --compile are two ways to the same end: leave one out")
    for name, words, reason in _HOST:
        idle = name == "regulariser_form" and settings["regulariser"] == "off"
        if settings[name] in words and not idle:
            said = str(settings[name]).lower() if isinstance(settings[name], bool) else settings[name]
            raise Mistake(f"--cuda-graph cannot serve {name}={said}: {reason}; leave one of them out")
    for name in _PENALTIES:
        if settings[name]:
            raise Mistake(f"--cuda-graph cannot serve {name} yet: set it to 0, or leave --cuda-graph out")
    if sparse:
        raise Mistake(
            "--cuda-graph cannot serve this supernet: which candidates run is decided anew, and a graph holds one "
            "choice; leave it out"
        )


class TensorSGD:
    """The update of an SGD optimiser, its learning rate a tensor; the state is that optimiser's own.

    `torch.optim.SGD` reads a learning rate that is a tensor back to the host, which no graph can hold.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        (self.group,) = optimizer.param_groups
        self.state = optimizer.state
        first = self.group["params"][0]
        self.rate = torch.tensor(float(self.group["lr"]), dtype=first.dtype, device=first.device)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.group["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """`torch.optim.SGD.step`: weight decay, momentum from zero, Nesterov, update."""
        params = [p for p in self.group["params"] if p.grad is not None]
        updates: list[Tensor] = [p.grad for p in params]
        momentum = self.group["momentum"]
        if self.group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=self.group["weight_decay"])
        if momentum:
            buffers = [self._buffer(p) for p in params]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, updates)
            if self.group["nesterov"]:
                torch._foreach_add_(updates, buffers, alpha=momentum)
            else:
                updates = buffers
        torch._foreach_sub_(params, torch._foreach_mul(updates, self.rate))

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


class TensorSteps:
    """Both steps with everything that schedules change in tensors; they run on any device.

    Make it after a run was resumed: it takes over the states that the optimisers have.
    """

    def __init__(
        self,
        net: SupernetBase,
        weights: torch.optim.Optimizer,
        variables: torch.optim.Optimizer,
        settings: Mapping[str, Any],
        cast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.net, self.cast = net, cast
        self.clip, self.accumulate = settings["clip"], settings["accumulate"]
        self.sgd, self.adam = TensorSGD(weights), variables
        one = net.weight_parameters()[0].new_ones(())
        self.temperature, self.strength = one.clone(), one.clone()
        self.nodes: list[NodeTopology] = net.topology()
        self.regulariser = None
        if self.nodes:
            strength: Any = self.strength
            self.regulariser = attrs.evolve(Regulariser.from_settings(settings), strength=strength)
        if one.device.type == "cuda":
            _capturable(variables)

    def set(self, rate: float, temperature: float = 1.0, strength: float = 1.0) -> None:
        """What holds for the steps that follow."""
        self.sgd.rate.fill_(rate)
        self.temperature.fill_(temperature)
        self.strength.fill_(strength)
        self.net.temperature = self.temperature  # type: ignore[assignment]

    def weight_step(self, batch: Batch) -> Tensor:
        """See `nasdsl.runtime.search.bilevel.weight_step`."""
        manner = Manner(self.clip, self.cast(), self.accumulate)
        return step(self.net, self.net.weight_parameters(), batch, self.sgd, F.cross_entropy, None, manner)

    def architecture_step(self, batch: Batch) -> Tensor:
        """See `nasdsl.runtime.search.bilevel.architecture_step`."""
        # The tensor stands where a number stood: it divides and multiplies as one.
        temperature: Any = self.temperature
        extra = None if self.regulariser is None else self.regulariser.loss(self.nodes, temperature)
        manner = Manner(0.0, self.cast(), self.accumulate)
        variables = self.net.architecture_parameters()
        return step(self.net, variables, batch, self.adam, F.cross_entropy, extra, manner)


def _capturable(adam: torch.optim.Optimizer) -> None:
    """Adam with its counters on the device; states of a run that was resumed move there."""
    for group in adam.param_groups:
        group["capturable"] = True
        for parameter in group["params"]:
            state = adam.state.get(parameter, {})
            if "step" in state:
                state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).to(parameter.device)
    # It would warn of the warm-up, which is not captured on purpose.
    adam._warned_capturable_if_run_uncaptured = True


class Captured:
    """`TensorSteps` as two CUDA graphs, which share one pool of memory: they never run at once."""

    def __init__(self, steps: TensorSteps) -> None:
        self.set = steps.set
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        pool = torch.cuda.graph_pool_handle()
        self.weight_step = Recorded(steps.weight_step, stream, pool)
        self.architecture_step = Recorded(steps.architecture_step, stream, pool)


class Recorded:
    """One step: run for `WARM_UP` batches, then recorded, then replayed. Every call is one step."""

    def __init__(self, function: Callable[[Batch], Tensor], stream: torch.cuda.Stream, pool: Any) -> None:
        self._function, self._stream, self._pool = function, stream, pool
        self._inputs: Batch | None = None
        self._loss: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._runs = 0

    def __call__(self, batch: Batch) -> Tensor:
        """The loss of a step, shape (): a copy, because the next replay overwrites the graph's own."""
        inputs = self._fill(batch)
        if self._runs < WARM_UP:
            self._runs += 1
            return self._warm(inputs)
        if self._graph is None:
            self._record(inputs)
        if self._graph is None or self._loss is None:
            raise RuntimeError("a step was not recorded")
        self._graph.replay()
        return self._loss.clone()

    def _fill(self, batch: Batch) -> Batch:
        if self._inputs is None:
            self._inputs = torch.empty_like(batch[0]), torch.empty_like(batch[1])
        for mine, given in zip(self._inputs, batch, strict=True):
            if mine.shape != given.shape:
                raise Mistake(
                    f"--cuda-graph needs batches of one shape, got {tuple(given.shape)} after {tuple(mine.shape)}"
                )
            mine.copy_(given)
        return self._inputs

    def _warm(self, inputs: Batch) -> Tensor:
        """A step as it is, on the stream of the recording."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            loss = self._function(inputs)
        here.wait_stream(self._stream)
        return loss.clone()

    def _record(self, inputs: Batch) -> None:
        """Records a step without taking it. Raises Mistake where something in it waits for the device."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                self._loss = self._function(inputs)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise Mistake(f"this supernet cannot be recorded ({reason}): leave --cuda-graph out") from error
        self._graph = graph


__all__ = ["Captured", "Recorded", "TensorSGD", "TensorSteps", "refuse"]
