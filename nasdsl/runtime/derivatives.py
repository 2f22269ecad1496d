"""Whether what runs may be differentiated more than once.

Takes nothing, returns a state of the process. Invariant: inside `twice` every operation of a
supernet is made of PyTorch's own, so that second derivatives are exact; outside, operations of ours
have first derivatives only and refuse a second one.

The operations of ours are faster and keep less; second-order search and the eigenvalues of a
Hessian need the others for a few steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_TWICE: ContextVar[bool] = ContextVar("twice", default=False)


@contextmanager
def twice() -> Iterator[None]:
    """Forward passes inside can be differentiated as often as wanted."""
    token = _TWICE.set(True)
    try:
        yield
    finally:
        _TWICE.reset(token)


def traced() -> bool:
    """Whether a function must be made of plain operations: inside `twice`, and for `torch.compile`."""
    return torch.compiler.is_compiling() or _TWICE.get()


__all__ = ["traced", "twice"]
