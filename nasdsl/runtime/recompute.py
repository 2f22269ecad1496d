"""Activation checkpointing: a cell keeps its inputs, and is computed again in the backward pass.

Takes a module and what it reads, returns what it returns. Invariant: outputs and gradients are
those of the plain call, and what the module keeps (running statistics and their counters) moves
once a step.

Chen et al.: Training Deep Nets with Sublinear Memory Cost. 2016, arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, *arguments: Any) -> Any:
    """`module(*arguments)`, of which autograd keeps the arguments only."""
    if not torch.is_grad_enabled():
        return module(*arguments)

    def twice() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), on_copies(module)

    # No cell draws random numbers (the pass leaves alone those that may), so no state of a generator is kept.
    return checkpoint(module, *arguments, use_reentrant=False, preserve_rng_state=False, context_fn=twice)


@contextmanager
def on_copies(module: nn.Module) -> Iterator[None]:
    """Runs a module on copies of its buffers, so that what it writes into them is lost.

    In training batch norm writes its running statistics and never reads them. It must still have them:
    the second computation has to keep for the backward pass exactly what the first one kept.
    """
    inside = list(module.modules())
    kept = [dict(each._buffers) for each in inside]
    for each, buffers in zip(inside, kept, strict=True):
        each._buffers.update({n: b if b is None else b.clone() for n, b in buffers.items()})
    try:
        yield
    finally:
        for each, buffers in zip(inside, kept, strict=True):
            each._buffers.update(buffers)


__all__ = ["recomputed"]
