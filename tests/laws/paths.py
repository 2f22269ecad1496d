"""A path of a supernet beside the network of that architecture: what the laws of paths compare.

Takes a program, its supernet and an architecture; returns nothing. Invariant: every number that a step
of training makes is compared, and so is what ran: nothing beside the path computes, learns or counts.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasdsl import Architecture, Program
from nasdsl.codegen.lowered import instances, module_paths
from nasdsl.compiler import search_source
from nasdsl.ir.graph import Graph, Module, call_owner
from nasdsl.ir.nodes import Branch, Call, Gather, Select, State, Weight
from nasdsl.runtime.operators.elastic import Elastic

BOUND = 1e-10
WORK = (
    "convolution",
    "addmm",
    "mm",
    "bmm",
    "batch_norm",
    "layer_norm",
    "relu",
    "gelu",
    "hardswish",
    "hardsigmoid",
    "silu",
    "pool",
    "scaled_dot_product",
)
"""Operators that compute: what one path runs and another does not shows in them."""


class Recorded(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def work(self) -> dict[str, int]:
        """How often each operator ran that computes something."""
        return {name: n for name, n in self.seen.items() if any(w in name for w in WORK)}


@contextmanager
def running(net: nn.Module) -> Iterator[Counter[str]]:
    """Counts the modules that run, by path."""
    ran: Counter[str] = Counter()
    hooks = [
        m.register_forward_hook(lambda *_, name=name: ran.update((name,))) for name, m in net.named_modules()
    ]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def batch_of(program: Program, arch: Architecture, size: int = 4, seed: int = 0) -> torch.Tensor:
    """Inputs of the shape that an architecture takes, with a gradient."""
    dims = program.space.checked.input.dims
    shape = [d.settle(arch.choices).evaluate({}) for d in dims]
    made = torch.Generator().manual_seed(seed)
    return torch.randn(size, *shape, generator=made, dtype=torch.float64).requires_grad_()


def step(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, int]]:
    """Logits, loss, gradient of the input, and the operators of the forward pass, of one step."""
    net.zero_grad(set_to_none=True)
    x = x.detach().requires_grad_()
    with Recorded() as operators:
        logits = net(x)
    loss = F.cross_entropy(logits, torch.arange(len(x)) % logits.shape[1])
    if loss.requires_grad:
        loss.backward()
    return logits, loss, torch.zeros_like(x) if x.grad is None else x.grad, operators.work


def close(mine: torch.Tensor, wanted: torch.Tensor, where: object = "") -> None:
    """Whether two tensors are equal to the last bits."""
    assert mine.shape == wanted.shape, where
    bound = BOUND * max(1.0, float(wanted.detach().abs().max()) if wanted.numel() else 1.0)
    assert (mine - wanted).abs().max().item() < bound if wanted.numel() else True, where


def part_of_gradients(module: nn.Module, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The part of a gradient that a module of its own would have; nothing may lie outside it."""
    gradients = {n: p.grad for n, p in module.named_parameters()}
    gradient = gradients[name]
    whole = torch.zeros_like(module.get_parameter(name)) if gradient is None else gradient
    if not isinstance(module, Elastic):
        return whole
    twin = copy.deepcopy(module)
    twin.sizes = module.sizes
    with torch.no_grad():
        twin.get_parameter(name).copy_(whole)
    part = twin.part(name, shape).detach()
    assert torch.isclose(part.abs().sum(), whole.abs().sum(), rtol=1e-9, atol=1e-12), (
        f"beside the cut: {name}"
    )
    return part


def same_step(program: Program, net: Any, arch: Architecture, x: torch.Tensor, training: bool) -> None:
    """One step of a path and one of its own network: all that they make is the same."""
    net.train(training)
    child = program.network(arch, inherit=net, form="search")
    assert child.training is training
    net.set_architecture(arch)
    assert program.architecture(net.derive()) == arch
    before = {n: b.clone() for n, b in net.named_buffers()}
    with running(net) as ran:
        logits, loss, gradient, work = step(net, x)
    own_logits, own_loss, own_gradient, own_work = step(child, x)
    close(logits, own_logits, "logits")
    close(loss, own_loss, "loss")
    close(gradient, own_gradient, "gradient of the input")
    child_homes = search_source(program.compilation, arch)[1]
    runs = needed(program.compilation.optimised, arch.choices)
    assert runs >= set(child_homes)
    if "none" not in arch.choices.values():  # `none` reads a value for its shape alone
        assert runs == set(child_homes)
        assert work == own_work
    _same_state(program, net, child, child_homes, before, (ran, runs))


def _same_state(
    program: Program, net: Any, child: nn.Module, child_homes: Any, before: dict[str, torch.Tensor], what: Any
) -> None:
    homes = module_paths(program.compilation.lowered)
    own_homes = {homes[key].path: home.path for key, home in child_homes.items()}
    modules, own_modules = dict(net.named_modules()), dict(child.named_modules())
    for path, own_path in own_homes.items():
        module, own = modules[path], own_modules[own_path]
        for name, parameter in own.named_parameters():
            found = part_of_gradients(module, name, tuple(parameter.shape))
            close(found, torch.zeros_like(parameter) if parameter.grad is None else parameter.grad, path)
        for name, buffer in own.named_buffers():
            mine, old = module.get_buffer(name), before[f"{path}.{name}"]
            shape = tuple(buffer.shape)
            close(
                (module.part(name, shape) if isinstance(module, Elastic) else mine).double(), buffer.double()
            )
            if buffer.dim():  # statistics of channels that the path leaves out
                rest = tuple(slice(n, None) for n in shape)
                assert torch.equal(mine[rest], old[rest])
    ran, runs = what
    on = {homes[key].path for key in runs}
    beside = {home.path for home in homes.values()} - on
    assert not {path for path in beside if ran[path]}, "what the path leaves out ran"
    assert all(ran[path] == 1 for path in on)
    for path in {home.path for home in homes.values()} - set(own_homes):
        for name, parameter in modules[path].named_parameters():
            assert parameter.grad is None, f"{path}.{name} has a gradient"
    for path in beside:
        for name, buffer in modules[path].named_buffers():
            assert torch.equal(buffer, before[f"{path}.{name}"])


def needed(module: Module, choices: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """The operations with weights or statistics that a path leads through, by their instances."""

    def walk(graph: Graph, owner: str) -> set[tuple[str, ...]]:
        found: set[tuple[str, ...]] = set()
        wanted = {graph.result}
        for node in reversed(graph.nodes):
            if node.id not in wanted:
                continue
            if isinstance(node, (Weight, State)):
                found.add((instances(node)[0],))
            elif isinstance(node, Branch):
                wanted.add(node.operands[0 if node.condition.at(choices) else 1])
            elif isinstance(node, (Select, Gather)):
                full = node.decision.removeprefix("/")
                path = f"{owner}.{full}" if owner and full == node.decision else full
                names = node.options if isinstance(node, Select) else node.names
                taken = (choices[path],) if isinstance(node, Select) else choices[path]
                wanted |= {o for n, o in zip(names, node.operands, strict=True) if n in taken}
            else:
                wanted |= set(node.operands)
            if isinstance(node, Call):
                inner = walk(module.by_name[node.graph], call_owner(owner, node))
                found |= {(node.id, *key) for key in inner}
        return found

    return walk(module.network, "")
