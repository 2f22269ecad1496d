"""Scores of a network that was never trained: zero-cost proxies.

Takes a network with fresh weights and one minibatch, returns a number; higher is better. Invariant: the
network stays what it was (weights, statistics, gradients, mode), since a copy is what is worked on; the
same network and minibatch give the same number, whatever the caller's random state.

Definitions, each as in "Zero-Cost Proxies for Lightweight NAS" (Abdelfattah et al., ICLR 2021, section 3)
where that differs from the paper that a proxy comes from. A network through which nothing flows may have
no number; it is minus infinity then, the worst there is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasdsl.runtime.standalone.basics import stable_seed
from nasdsl.runtime.standalone.data import load_data, prepare

WORST = -math.inf
JITTER = 1e-5
"""k of the correlation of Jacobians, as in the released code."""

Norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
Weighted = (nn.modules.conv._ConvNd, nn.Linear)
"""The layers whose weights are counted, as in the code of Abdelfattah et al."""


def synflow(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Synaptic flow: sum of |w * dR/dw|, R the output of the network of |w| for an input of ones.

    Tanaka et al. (NeurIPS 2020), section 5, equation 3; as a score Abdelfattah et al., section 3.2: over
    the weights of convolutions and linear layers, without normalisation, in double precision. Of the
    minibatch only the shape counts. A product over layers, so it is large: take it as a rank.

    Raises:
        ValueError: it is too large for a number.
    """
    del y
    with _working(net) as own:
        own.eval().double()
        with torch.no_grad():
            for parameter in own.parameters():
                parameter.abs_()
        for module in own.modules():
            if isinstance(module, Norms):
                module.register_forward_hook(_bypassed)
        _backward(own(torch.ones_like(x[:1], dtype=torch.float64)).sum())
        flows = [(w.detach() * w.grad).abs().sum() for w in _weights(own) if w.grad is not None]
        score = float(sum(float(flow) for flow in flows))
    if not math.isfinite(score):
        raise ValueError("the flow is no number: attention without normalisation grows beyond all bounds")
    return score


def naswot(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """log|det K|, K the agreement of binary codes: how many units two examples have on the same side of zero.

    Mellor et al. (ICML 2021, "Neural Architecture Search without Training"), section 3.2: K_ij = N - d(c_i,
    c_j), d the Hamming distance of the codes over all N units. A departure: the paper has ReLUs only; here
    the input of every activation makes a code. Two examples with one code make K singular: the worst score.

    Raises:
        ValueError: the network has no activation.
    """
    del y
    with _working(net) as own, torch.no_grad(), _Codes(len(x)) as codes:
        own.train()(x)
    if codes.units == 0:
        raise ValueError("the network has no activation, so its examples have no binary codes")
    values = numpy.linalg.eigvalsh(codes.kernel.numpy())
    if values[0] <= len(x) * numpy.finfo(float).eps * values[-1]:
        return WORST
    return float(numpy.log(values).sum())


def jacov(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """-sum(log(v + k) + 1 / (v + k)), v the eigenvalues of the correlation of the examples' Jacobians.

    Mellor et al., first version (arXiv 2006.04647v1), section 3; Abdelfattah et al., section 3.3
    ("jacob_cov"). The Jacobian of an example is that of the sum of its logits. The correlation is
    symmetric and its eigenvalues are computed as such.
    """
    del y
    with _working(net) as own:
        given = x.detach().clone().requires_grad_(True)
        _backward(own.train()(given).sum())
    if given.grad is None:
        return WORST
    jacobian = given.grad.reshape(len(x), -1).double().cpu().numpy()
    if not numpy.isfinite(jacobian).all() or (jacobian.std(axis=1) == 0).any():
        return WORST  # the correlation of a constant row is no number
    values = numpy.linalg.eigvalsh(numpy.corrcoef(jacobian)).clip(min=0) + JITTER
    return float(-(numpy.log(values) + 1 / values).sum())


def grad_norm(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """The sum over layers of the 2-norm of the gradient of the loss by the layer's weights.

    Abdelfattah et al., section 3.1: convolutions and linear layers, cross-entropy of one minibatch,
    normalisation by its statistics.
    """
    with _working(net) as own:
        _backward(F.cross_entropy(own.train()(x), y))
        return float(sum(float(w.grad.double().norm()) for w in _weights(own) if w.grad is not None))


Proxy = Callable[[nn.Module, Tensor, Tensor], float]
PROXIES: Mapping[str, Proxy] = MappingProxyType(
    {"synflow": synflow, "naswot": naswot, "jacov": jacov, "grad_norm": grad_norm}
)
"""Each takes a network, examples (B, ...) and labels (B,)."""


def minibatch(
    name: str, declared: tuple[Any, ...], classes: int, root: str, size: int, seed: int
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """`size` training examples of a data set, normalised and not augmented, their labels, notes on the data.

    Of an image folder only these images are decoded, and those that mean and deviation are taken from.

    Raises:
        Mistake: for data that cannot be loaded.
    """
    loader = "stream" if name.startswith("imagefolder:") else "auto"
    data = load_data(name, declared, classes, root, loader=loader)
    drawn = torch.Generator().manual_seed(stable_seed(seed, "proxy"))
    part = data.train.take(torch.randperm(len(data.train), generator=drawn)[:size])
    return prepare(part.examples[:], data), part.labels, data.notes


def fitted(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Images (B, C, H, W) at the resolution (C, H, W) that a network reads; anything else as it is."""
    if x.dim() != 4 or tuple(x.shape[1:]) == shape:
        return x
    return F.interpolate(x, shape[1:], mode="bilinear", antialias=True)


class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the activations that run, as modules or as functions, and adds their codes up.

    Attributes:
        kernel: how many units two examples have on the same side, (B, B).
    """

    def __init__(self, examples: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.examples, self.units = examples, 0
        self.kernel = torch.zeros(examples, examples, dtype=torch.float64)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__.rstrip("_")
        if name in _ACTIVATIONS and args[0].shape[:1] == (self.examples,):
            code = (args[0].reshape(self.examples, -1) > 0).float()
            self.units += code.shape[1]
            # Sums of ones, exact in float32 below 2^24 units.
            self.kernel += (code @ code.T + (1 - code) @ (1 - code).T).double().cpu()
        return function(*args, **(kwargs or {}))


_ACTIVATIONS = frozenset({"relu", "hardtanh", "leaky_relu", "gelu", "silu", "hardswish", "sigmoid", "tanh"})
"""As PyTorch's operators are called; `hardtanh` is what relu6 runs."""


@contextmanager
def _working(net: nn.Module) -> Iterator[nn.Module]:
    """A copy without gradients, with random numbers of its own (a network may have dropout)."""
    own = copy.deepcopy(net)
    for parameter in own.parameters():
        parameter.grad = None
        parameter.requires_grad_(True)
    devices = sorted({p.device.index or 0 for p in own.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(0)
        yield own


def _backward(value: Tensor) -> None:
    value.backward()  # type: ignore[no-untyped-call]


def _weights(net: nn.Module) -> list[Tensor]:
    return [module.weight for module in net.modules() if isinstance(module, Weighted)]


def _bypassed(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
    del module, made
    return given[0]


__all__ = [
    "PROXIES",
    "WORST",
    "fitted",
    "grad_norm",
    "jacov",
    "minibatch",
    "naswot",
    "synflow",
]
