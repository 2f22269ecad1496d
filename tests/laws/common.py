"""What the laws share: small versions of the shipped spaces, float64, executed costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs
import torch
from torch import nn

import nasdsl
from nasdsl import Architecture, Program, Space, UserError
from nasdsl.codegen.load import part_of
from nasdsl.codegen.lowered import Home

SMALL: dict[str, dict[str, object]] = {
    "darts": {"layers": 4, "C": 4, "resolution": 16},
    "nasbench201": {"N": 1, "C": 4, "resolution": 8},
    "hierarchical": {"N": 1, "C": 4, "resolution": 8},
    "cream": {"resolution": 32, "depths": [1, 2, 1, 1, 1], "classes": 10},
}


def small(name: str) -> Space:
    return nasdsl.load(name, **SMALL[name])


@contextmanager
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def batch(space: Space, size: int = 4, seed: int = 0) -> torch.Tensor:
    shape = space.checked.input.evaluate({})
    return torch.randn(
        size, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.get_default_dtype()
    )


def expressible(program: Program, arch: Architecture) -> bool:
    try:
        program.compilation.lift(arch.choices)
    except UserError:
        return False
    return True


def weight_gradients(net: nn.Module, homes: Mapping[tuple[str, ...], Home]) -> dict[object, torch.Tensor]:
    """The gradient of every weight by the operation it belongs to, wherever passes have put it."""
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return _by_operation(gradients, homes)


def running_statistics(net: nn.Module, homes: Mapping[tuple[str, ...], Home]) -> dict[object, torch.Tensor]:
    """What every operation keeps beside its weights, by operation; those of one that was shared once for each."""
    return _by_operation(dict(net.named_buffers()), homes)


def _by_operation(
    tensors: Mapping[str, torch.Tensor], homes: Mapping[tuple[str, ...], Home]
) -> dict[object, torch.Tensor]:
    inside: dict[str, list[str]] = {}
    for name in tensors:
        for end in (i for i, letter in enumerate(name) if letter == "."):
            inside.setdefault(name[:end], []).append(name)
    return {
        (*key, name.removeprefix(f"{home.path}.")): part_of(tensors[name], attrs.evolve(home, normalise=""))
        for key, home in homes.items()
        for name in inside.get(home.path, ())
    }


def executed_macs(net: nn.Module, x: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Multiply-accumulates of the convolutions and linear layers that run, for one example, and the output."""
    macs = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            macs += output[0].numel() * (module.in_channels // module.groups) * kernel
        elif isinstance(module, nn.Linear):
            macs += module.in_features * module.out_features

    hooks = [m.register_forward_hook(count) for m in net.modules()]
    with torch.no_grad():
        output = net(x)
    for hook in hooks:
        hook.remove()
    return macs, output


def executed_costs(net: nn.Module, x: torch.Tensor) -> tuple[int, int, torch.Size]:
    """Parameters, multiply-accumulates and the shape of the output, by running the network."""
    macs, output = executed_macs(net.eval(), x[:1])
    return sum(p.numel() for p in net.parameters()), macs, output.shape
