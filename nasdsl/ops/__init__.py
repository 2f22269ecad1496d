"""The primitives: one table line an operation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nasdsl.ops.activation import GELU, HSWISH, LEAKY_RELU, RELU, SIGMOID, SWISH, TANH
from nasdsl.ops.base import Misfit, Parameter, Primitive, Value, Values, WeightSpec
from nasdsl.ops.channels import CHANNELS, SE, SHUFFLE, TRUNCATE, UPSAMPLE, ZEROS
from nasdsl.ops.conv import CONV, DWCONV
from nasdsl.ops.fused import DWCONV_FAN, DWCONV_LANES, PART, POINTWISE_NORM
from nasdsl.ops.linear import LINEAR
from nasdsl.ops.norm import BN
from nasdsl.ops.pool import AVG_POOL, GLOBAL_POOL, MAX_POOL
from nasdsl.ops.shape import AS_IMAGE, CROP, DROP_PATH, FLATTEN, ID, NONE, SCALE
from nasdsl.ops.tokens import ATTENTION, CLASS_TOKEN, LAYER_NORM, POSITION, TAKE_TOKEN, TOKENS

_ALL = (
    ID,
    NONE,
    RELU,
    GELU,
    SWISH,
    HSWISH,
    SIGMOID,
    TANH,
    LEAKY_RELU,
    CONV,
    DWCONV,
    BN,
    MAX_POOL,
    AVG_POOL,
    GLOBAL_POOL,
    CROP,
    FLATTEN,
    AS_IMAGE,
    LINEAR,
    SE,
    TRUNCATE,
    CHANNELS,
    SHUFFLE,
    UPSAMPLE,
    LAYER_NORM,
    TOKENS,
    CLASS_TOKEN,
    POSITION,
    ATTENTION,
    TAKE_TOKEN,
    DROP_PATH,
    SCALE,
    ZEROS,
    POINTWISE_NORM,
    DWCONV_FAN,
    DWCONV_LANES,
    PART,
)

_KNOWN = {p.name: p for p in _ALL}

PRIMITIVES: Mapping[str, Primitive] = MappingProxyType(_KNOWN)
"""Every primitive by name, internal ones and those from Python (`module:name`) included."""


def register(primitive: Primitive) -> None:
    """Makes an operation from Python known to every stage, under its full name."""
    if ":" not in primitive.name:
        raise ValueError(f"an operation from Python is named module:name, not {primitive.name}")
    _KNOWN[primitive.name] = primitive


__all__ = [
    "PRIMITIVES",
    "Misfit",
    "Parameter",
    "Primitive",
    "Value",
    "Values",
    "WeightSpec",
    "register",
]
