"""The primitives: one table line an operation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nasdsl.ops.activation import GELU, HSWISH, RELU, SIGMOID, SWISH
from nasdsl.ops.base import Misfit, Parameter, Primitive, Value, Values, WeightSpec
from nasdsl.ops.conv import CONV, DWCONV
from nasdsl.ops.linear import LINEAR
from nasdsl.ops.norm import BN
from nasdsl.ops.pool import AVG_POOL, GLOBAL_POOL, MAX_POOL
from nasdsl.ops.shape import CROP, DROP_PATH, FLATTEN, ID, NONE

_ALL = (
    ID,
    NONE,
    RELU,
    GELU,
    SWISH,
    HSWISH,
    SIGMOID,
    CONV,
    DWCONV,
    BN,
    MAX_POOL,
    AVG_POOL,
    GLOBAL_POOL,
    CROP,
    FLATTEN,
    LINEAR,
    DROP_PATH,
)

PRIMITIVES: Mapping[str, Primitive] = MappingProxyType({p.name: p for p in _ALL})
"""Every primitive by name, internal ones included."""

PLANNED = frozenset(
    {
        "se",
        "layer_norm",
        "attention",
        "tokens",
        "class_token",
        "position",
        "take_token",
        "truncate",
    }
)
"""Primitives of the language's design that this version does not have yet."""

__all__ = [
    "PLANNED",
    "PRIMITIVES",
    "Misfit",
    "Parameter",
    "Primitive",
    "Value",
    "Values",
    "WeightSpec",
]
