"""Whether what runs may be differentiated more than once.

Takes nothing, returns a state of the process. Invariant: inside `twice` every operation of a
supernet is made of PyTorch's own that have second derivatives, so that these are exact; outside,
operations of ours have first derivatives only and refuse to be part of a graph of gradients.

The operations of ours are faster and keep less; second-order search and the eigenvalues of a
Hessian need the others for a few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

_F = TypeVar("_F", bound=Callable[..., Any])
_INSIDE: list[None] = []
"""One entry for each `twice` around. Of the process, not of a thread: a backward pass has its own."""


@contextmanager
def twice() -> Iterator[None]:
    """Forward passes inside can be differentiated as often as wanted."""
    _INSIDE.append(None)
    try:
        # Of attention only the plain formula has second derivatives.
        with _Replaced(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _INSIDE.pop()


class _Replaced(TorchFunctionMode):
    """PyTorch's hard sigmoid has no second derivative; the same from operations that have."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is F.hardsigmoid:
            return F.relu6((args[0] if args else given["input"]) + 3) / 6
        return func(*args, **given)


def traced() -> bool:
    """Whether a function must be made of plain operations: inside `twice`, and for `torch.compile`."""
    return torch.compiler.is_compiling() or bool(_INSIDE)


def once(backward: _F) -> _F:
    """A backward pass that refuses to be differentiated itself.

    PyTorch's `once_differentiable` hangs its refusal behind the result, where a gradient with respect to
    some of the inputs never meets it: it would be wrong without a word. This one refuses at once.
    """

    @wraps(backward)
    def run(ctx: Any, *incoming: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this operation has a first derivative only: compute inside nasdsl.runtime.operators.derivatives.twice"
            )
        return backward(ctx, *incoming)

    return cast(_F, run)


__all__ = ["once", "traced", "twice"]
