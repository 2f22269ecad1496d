"""Operations that passes make of others: normalised pointwise convolutions, filters side by side."""

from __future__ import annotations

import attrs

from nasdsl.ops.base import Parameter, Primitive, Sizes, Values, WeightSpec, integer, size
from nasdsl.ops.conv import conv_geometry, dwconv_macs, dwconv_weights, infer_dwconv
from nasdsl.types import Dim, TensorType


def _infer_pointwise(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return TensorType("image", (size(values, "out"), *source.dims[1:]))


def _pointwise_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    out, one = size(values, "out"), Dim.of(1)
    weight = WeightSpec("conv.weight", (out, source.channels // integer(values, "groups"), one, one))
    return (weight, WeightSpec("conv.bias", (out,))) if values["bias"] else (weight,)


def _pointwise_state(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return (WeightSpec("norm.running", (size(values, "out"),)),)


def _pointwise_macs(source: TensorType, result: TensorType, values: Values) -> Dim:
    return result.elements * (source.channels // integer(values, "groups"))


def _pointwise_module(source: TensorType, result: TensorType, values: Values) -> str:
    groups = integer(values, "groups")
    text = f"{source.channels // groups}, {result.channels // groups}"
    text += f", copies={groups}" if groups > 1 else ""
    text += ", bias=True" if values["bias"] else ""
    return f"PointwiseNorm({text}{', relu=True' if values['relu'] else ''})"


POINTWISE_NORM = Primitive(
    name="pointwise_norm",
    summary="pointwise convolution and batch norm without scale and shift in one, statistics from the input's",
    parameters=(
        Parameter("out", "size", required=True),
        Parameter("groups", "integer", 1),
        Parameter("bias", "flag", False),
        Parameter("relu", "flag", False),
    ),
    infer=_infer_pointwise,
    weights=_pointwise_weights,
    state=_pointwise_state,
    macs=_pointwise_macs,
    module=_pointwise_module,
    internal=True,
    runtime="nasdsl.runtime.operators.normalised:PointwiseNorm",
)


def _wide(source: TensorType, values: Values) -> TensorType:
    """The input of a fan, as often as it has copies."""
    return TensorType("image", (source.channels * integer(values, "copies"), *source.dims[1:]))


def _infer_fan(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return infer_dwconv(_wide(source, values), values, sizes)


def _lanes_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return tuple(attrs.evolve(w, role=f"conv.{w.role}") for w in dwconv_weights(source, values))


def _fan_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return _lanes_weights(_wide(source, values), values)


def _lanes_module(source: TensorType, result: TensorType, values: Values) -> str:
    return _fan_module(
        TensorType("image", (source.channels // integer(values, "copies"), *source.dims[1:])), result, values
    )


def _fan_module(source: TensorType, result: TensorType, values: Values) -> str:
    tail = conv_geometry(values) + (", bias=True" if values["bias"] else "")
    return (
        f"DepthwiseFan({source.channels}, {integer(values, 'k')}{tail}, copies={integer(values, 'copies')})"
    )


DWCONV_FAN = Primitive(
    name="dwconv_fan",
    summary="several depthwise convolutions of one input, read by `part`",
    parameters=(
        Parameter("k", "integer", required=True),
        Parameter("stride", "integer", 1),
        Parameter("pad", "pad", "same", minimum=0),
        Parameter("dilation", "integer", 1),
        Parameter("bias", "flag", False),
        Parameter("copies", "integer", required=True),
    ),
    infer=_infer_fan,
    weights=_fan_weights,
    macs=dwconv_macs,
    module=_fan_module,
    internal=True,
    runtime="nasdsl.runtime.operators.depthwise:DepthwiseFan",
)


def _infer_part(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return TensorType("image", (source.channels // integer(values, "count"), *source.dims[1:]))


DWCONV_LANES = Primitive(
    name="dwconv_lanes",
    summary="depthwise convolutions of as many inputs, read by `part`",
    parameters=DWCONV_FAN.parameters,
    infer=infer_dwconv,
    weights=_lanes_weights,
    macs=dwconv_macs,
    module=_lanes_module,
    internal=True,
    runtime="nasdsl.runtime.operators.depthwise:DepthwiseFan",
)

BUNDLES = frozenset({"dwconv_fan", "dwconv_lanes"})
"""Operations with several results; so is a `pointwise_norm` with groups."""


def _part_function(source: TensorType, result: TensorType, values: Values) -> str:
    return f"{{x}}[{integer(values, 'index')}]"


PART = Primitive(
    name="part",
    summary="one of the `count` results of a fan",
    parameters=(
        Parameter("index", "integer", required=True, minimum=0),
        Parameter("count", "integer", required=True),
    ),
    infer=_infer_part,
    function=_part_function,
    internal=True,
)
