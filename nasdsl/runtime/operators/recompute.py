"""Activation checkpointing: a cell keeps its inputs, and is computed again in the backward pass.

Takes a module and what it reads, returns what it returns. Invariant: outputs and gradients are
those of the plain call, and what the module keeps (running statistics and their counters) moves
once a step.

Chen et al.: Training Deep Nets with Sublinear Memory Cost. 2016, arXiv 1604.06174.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, *arguments: Any) -> Any:
    """`module(*arguments)`, of which autograd keeps the arguments only."""
    if not torch.is_grad_enabled():
        return module(*arguments)

    def twice() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), OnCopies(module)

    # No cell draws random numbers (the pass leaves alone those that may), so no state of a generator is kept.
    return checkpoint(module, *arguments, use_reentrant=False, preserve_rng_state=False, context_fn=twice)


class OnCopies(AbstractContextManager[None]):
    """Runs a module on copies of its buffers, so that what it writes into them is lost.

    In training batch norm writes its running statistics and never reads them. It must still have them:
    the second computation has to keep for the backward pass exactly what the first one kept.

    It can be entered again: a second derivative computes a cell once more for each backward pass.
    """

    def __init__(self, module: nn.Module) -> None:
        self.inside = list(module.modules())
        self.kept: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self.kept = [dict(each._buffers) for each in self.inside]
        for each, buffers in zip(self.inside, self.kept, strict=True):
            each._buffers.update({n: b if b is None else b.clone() for n, b in buffers.items()})

    def __exit__(self, *error: object) -> None:
        for each, buffers in zip(self.inside, self.kept, strict=True):
            each._buffers.update(buffers)


__all__ = ["recomputed"]
