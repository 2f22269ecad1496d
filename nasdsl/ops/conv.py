"""Convolutions: dense (`conv`) and depthwise (`dwconv`)."""

from __future__ import annotations

from nasdsl.ops.base import (
    CHANNELS_IN,
    Misfit,
    Parameter,
    Primitive,
    Sizes,
    Sizing,
    Values,
    WeightSpec,
    integer,
    need,
    pad_of,
    size,
    window,
)
from nasdsl.types import Dim, TensorType

_COMMON = (
    Parameter("stride", "integer", 1),
    Parameter("pad", "pad", "same", minimum=0),
    Parameter("dilation", "integer", 1),
)


def _infer_conv(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "conv")
    out, groups = size(values, "out"), integer(values, "groups")
    for channels, what in ((source.channels, "input"), (out, "output")):
        if groups > 1 and sizes(channels) % groups:
            raise Misfit(f"`groups={groups}` does not divide the {sizes(channels)} {what} channels")
    return window(source, values, sizes, "conv", out, integer(values, "dilation"))


def _conv_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    kernel, out = size(values, "k"), size(values, "out")
    shape = (out, source.channels // size(values, "groups"), kernel, kernel)
    weight = WeightSpec("weight", shape)
    return (weight, WeightSpec("bias", (out,))) if values["bias"] else (weight,)


def _conv_macs(source: TensorType, result: TensorType, values: Values) -> Dim:
    kernel = size(values, "k")
    return result.elements * (source.channels // size(values, "groups")) * (kernel * kernel)


def conv_geometry(values: Values) -> str:
    """Stride, padding and dilation as arguments of a PyTorch convolution."""
    text = ""
    if (stride := integer(values, "stride")) != 1:
        text += f", stride={stride}"
    if pad := pad_of(values):
        text += f", padding={pad}"
    if (dilation := integer(values, "dilation")) != 1:
        text += f", dilation={dilation}"
    return text


def _bias(values: Values) -> str:
    return "" if values["bias"] else ", bias=False"


def _conv_module(source: TensorType, result: TensorType, values: Values) -> str:
    groups = integer(values, "groups")
    tail = (f", groups={groups}" if groups != 1 else "") + _bias(values)
    return f"nn.Conv2d({source.channels}, {result.channels}, {integer(values, 'k')}{conv_geometry(values)}{tail})"


def _conv_runtime(source: TensorType, result: TensorType, values: Values) -> str:
    if integer(values, "k") != 1 or integer(values, "stride") == 1 or pad_of(values) != 0:
        return _conv_module(source, result, values)
    groups = integer(values, "groups")
    tail = (f", groups={groups}" if groups != 1 else "") + _bias(values)
    return f"StridedPointwise({source.channels}, {result.channels}, {integer(values, 'stride')}{tail})"


def _elastic_geometry(values: Values, sizing: Sizing) -> str:
    """Kernel, stride, padding, dilation and bias; `same` padding follows the kernel of the path."""
    kernel, same = size(values, "k"), values["pad"] == "same"
    text = "".join(f", {n}={integer(values, n)}" for n in ("stride", "dilation") if integer(values, n) != 1)
    text += "" if same else f", padding={integer(values, 'pad')}"
    return text + ("" if values["bias"] else ", bias=False") + sizing.argument("k", kernel)


def _conv_elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    sizes = ", ".join(
        str(sizing.largest(d)) for d in (source.channels, size(values, "out"), size(values, "k"))
    )
    groups = integer(values, "groups")
    tail = (f", groups={groups}" if groups != 1 else "") + _elastic_geometry(values, sizing)
    return f"ElasticConv2d({sizes}{tail}{sizing.argument('out', size(values, 'out'))})"


CONV = Primitive(
    name="conv",
    summary="convolution without bias",
    parameters=(
        Parameter("k", "integer", required=True),
        Parameter("out", "size", CHANNELS_IN),
        *_COMMON,
        Parameter("groups", "integer", 1),
        Parameter("bias", "flag", False),
    ),
    infer=_infer_conv,
    weights=_conv_weights,
    macs=_conv_macs,
    module=_conv_module,
    runtime="nasdsl.runtime.operators.pointwise:StridedPointwise",
    runtime_module=_conv_runtime,
    elastic=_conv_elastic,
)


def infer_dwconv(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "dwconv")
    return window(source, values, sizes, "dwconv", source.channels, integer(values, "dilation"))


def dwconv_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    kernel = size(values, "k")
    weight = WeightSpec("weight", (source.channels, Dim.of(1), kernel, kernel))
    return (weight, WeightSpec("bias", (source.channels,))) if values["bias"] else (weight,)


def dwconv_macs(source: TensorType, result: TensorType, values: Values) -> Dim:
    kernel = size(values, "k")
    return result.elements * (kernel * kernel)


def _dwconv_module(source: TensorType, result: TensorType, values: Values) -> str:
    channels = source.channels
    tail = f", groups={channels}" + _bias(values)
    return f"nn.Conv2d({channels}, {channels}, {integer(values, 'k')}{conv_geometry(values)}{tail})"


def _dwconv_runtime(source: TensorType, result: TensorType, values: Values) -> str:
    tail = conv_geometry(values) + (", bias=True" if values["bias"] else "")
    return f"Depthwise({source.channels}, {integer(values, 'k')}{tail})"


def _dwconv_elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    sizes = f"{sizing.largest(source.channels)}, {sizing.largest(size(values, 'k'))}"
    return f"ElasticDepthwise({sizes}{_elastic_geometry(values, sizing)})"


DWCONV = Primitive(
    name="dwconv",
    summary="depthwise convolution: one filter a channel, without bias",
    parameters=(
        Parameter("k", "integer", required=True),
        *_COMMON,
        Parameter("bias", "flag", False),
    ),
    infer=infer_dwconv,
    weights=dwconv_weights,
    macs=dwconv_macs,
    module=_dwconv_module,
    runtime="nasdsl.runtime.operators.depthwise:Depthwise",
    runtime_module=_dwconv_runtime,
    elastic=_dwconv_elastic,
)
