"""What counters that others publish figures by make of each operation.

Takes the types of an operation and the values of its parameters, returns a size. Invariant: a rule
is the counter's own, also where it differs from the multiply-accumulates of `Primitive.macs`; an
operation without a rule counts nothing, as in the counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from nasdsl.ops.base import Count, Values, size
from nasdsl.ops.channels import SE
from nasdsl.ops.conv import CONV, DWCONV
from nasdsl.ops.linear import LINEAR
from nasdsl.types import Dim, TensorType


@attrs.frozen
class Convention:
    """A published way of counting.

    Attributes:
        name: as `nasdsl stats --convention` takes it.
        figure: what it calls its number.
        rules: operation to what one use of it counts, for one example.
    """

    name: str
    figure: str
    rules: Mapping[str, Count]


# --- thop (github.com/Lyken17/pytorch-OpCounter), release 0.0.31 of 2020, eval mode ------------------
#
# The hooks are those of torch.nn modules; what is a function there (activations but LeakyReLU, sums,
# the products of attention) counts nothing. Releases from 0.1.1 (2022) on count otherwise: 4 for an
# element of an affine batch norm, nothing for the bias of a convolution.


def _biased(macs: Count) -> Count:
    def count(source: TensorType, result: TensorType, values: Values) -> Dim:
        products = macs(source, result, values)
        return products + result.elements if values["bias"] else products

    return count


def _norm(source: TensorType, result: TensorType, values: Values) -> Dim:
    return source.elements * 2


def _read(source: TensorType, result: TensorType, values: Values) -> Dim:
    return source.elements


def _written(source: TensorType, result: TensorType, values: Values) -> Dim:
    return result.elements


def _adaptive_pool(source: TensorType, result: TensorType, values: Values) -> Dim:
    # The sum and one division for each channel; the mean over tokens is no module of torch.nn.
    return Dim.of(0) if source.layout == "tokens" else source.elements + source.channels


def _squeeze(source: TensorType, result: TensorType, values: Values) -> Dim:
    biases = size(values, "width") + source.channels
    return _adaptive_pool(source, result, values) + SE.macs(source, result, values) + biases


def _projections(source: TensorType, result: TensorType, values: Values) -> Dim:
    inner = size(values, "heads") * size(values, "head_width")
    return source.elements * inner * 4


THOP = Convention(
    "thop",
    "flops",
    MappingProxyType(
        {
            "conv": _biased(CONV.macs),
            "dwconv": _biased(DWCONV.macs),
            "linear": LINEAR.macs,  # its bias counts nothing
            "bn": _norm,
            "leaky_relu": _read,
            "avg_pool": _written,
            "global_pool": _adaptive_pool,
            "se": _squeeze,
            "attention": _projections,
        }
    ),
)

CONVENTIONS: Mapping[str, Convention] = MappingProxyType({c.name: c for c in (THOP,)})
"""Every convention by name."""
