"""How to measure a network in the middle of a run: whatever is done inside leaves no trace.

Takes networks and tensors, returns contexts. Invariant: what a context names is afterwards what it was
before, to the last bit, also where an error ends it. Other state is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from nasdsl.runtime.standalone.draws import Draws
from nasdsl.runtime.supernet import SupernetBase


@contextmanager
def kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Restores the values of tensors in place, to the last bit."""
    values = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """Restores all buffers and modes of a network, and torch's generators of the CPU and of its devices."""
    modules = list(net.modules())
    buffers = [(m, name, b) for m in modules for name, b in m.named_buffers(recurse=False)]
    modes = [m.training for m in modules]
    try:
        with kept(b for _, _, b in buffers), same_draws(net):
            yield
    finally:
        for module, name, buffer in buffers:
            setattr(module, name, buffer)  # it may have been replaced rather than written to
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@contextmanager
def batch_statistics(net: SupernetBase) -> Iterator[None]:
    """Batch norm takes its statistics from the batch, and nothing is dropped or drawn; undisturbed."""
    drawn = net.random
    with undisturbed(net):
        net.train()
        net.random = False
        for module in net.modules():
            if isinstance(module, _DropoutNd):
                module.eval()
        try:
            yield
        finally:
            net.random = drawn


@contextmanager
def same_draws(net: nn.Module) -> Iterator[None]:
    """Gives torch's generators back as they were, on the CPU and the devices of a network.

    With them those of several processes that a supernet draws alike (`nasdsl.runtime.standalone.draws`).
    """
    devices = {p.device.index for p in net.parameters() if p.device.type == "cuda"}
    draws = net.draws if isinstance(net, SupernetBase) else Draws()
    with torch.random.fork_rng(devices=sorted(devices)), draws.kept():
        yield


@contextmanager
def constant(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Parameters that want no gradient meanwhile, so that none is computed."""
    wanted = [p for p in parameters if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


__all__ = ["batch_statistics", "constant", "kept", "same_draws", "undisturbed"]
