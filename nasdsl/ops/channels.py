"""Operations on the channels of an image: gates, parts of them, their order; and its resolution."""

from __future__ import annotations

from nasdsl.ops.base import (
    Misfit,
    Parameter,
    Primitive,
    Sizes,
    Sizing,
    Values,
    WeightSpec,
    integer,
    need,
    size,
)
from nasdsl.types import Dim, TensorType


def _infer_se(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "se")
    return source


def _se_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    width, one = size(values, "width"), Dim.of(1)
    return (
        WeightSpec("reduce.weight", (width, source.channels, one, one)),
        WeightSpec("reduce.bias", (width,)),
        WeightSpec("expand.weight", (source.channels, width, one, one)),
        WeightSpec("expand.bias", (source.channels,)),
    )


def _se_macs(source: TensorType, result: TensorType, values: Values) -> Dim:
    return source.channels * size(values, "width") * 2


def _se_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"SqueezeExcite({source.channels}, {size(values, 'width')})"


def _se_elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    width = size(values, "width")
    sizes = f"{sizing.largest(source.channels)}, {sizing.largest(width)}"
    return f"ElasticSqueezeExcite({sizes}{sizing.argument('width', width)})"


SE = Primitive(
    name="se",
    summary="squeeze and excitation: channels scaled by a gate with a hidden layer of `width`",
    parameters=(Parameter("width", "size", required=True),),
    infer=_infer_se,
    weights=_se_weights,
    macs=_se_macs,
    module=_se_module,
    elastic=_se_elastic,
    helper="SqueezeExcite",
)


def _infer_truncate(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "truncate")
    out = size(values, "out")
    if sizes(out) > sizes(source.channels):
        raise Misfit(
            f"`truncate({sizes(out)})` needs as many channels; its input has {sizes(source.channels)}"
        )
    return TensorType("image", (out, *source.dims[1:]))


def _truncate_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"Channels(0, {result.channels})"


TRUNCATE = Primitive(
    name="truncate",
    summary="the first `out` channels",
    parameters=(Parameter("out", "size", required=True),),
    infer=_infer_truncate,
    module=_truncate_module,
    helper="Channels",
)


def _infer_channels(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "channels")
    start, count = size(values, "start"), size(values, "count")
    if sizes(start) + sizes(count) > sizes(source.channels):
        raise Misfit(
            f"`channels({sizes(start)}, {sizes(count)})` reaches beyond the {sizes(source.channels)} of its input"
        )
    return TensorType("image", (count, *source.dims[1:]))


def _channels_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"Channels({size(values, 'start')}, {size(values, 'count')})"


CHANNELS = Primitive(
    name="channels",
    summary="`count` channels from the one after `start` on: `channels(0, C//2)` is the first half",
    parameters=(
        Parameter("start", "size", required=True, minimum=0),
        Parameter("count", "size", required=True),
    ),
    infer=_infer_channels,
    module=_channels_module,
    helper="Channels",
)


def _infer_shuffle(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "shuffle")
    groups, channels = integer(values, "groups"), sizes(source.channels)
    if channels % groups:
        raise Misfit(f"`shuffle({groups})` needs a multiple of {groups} channels; its input has {channels}")
    return source


def _shuffle_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"nn.ChannelShuffle({integer(values, 'groups')})"


SHUFFLE = Primitive(
    name="shuffle",
    summary="channels of `groups` groups interleaved (ShuffleNet)",
    parameters=(Parameter("groups", "integer", required=True),),
    infer=_infer_shuffle,
    module=_shuffle_module,
)


def _infer_upsample(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "upsample")
    scale = integer(values, "scale")
    return TensorType("image", (source.channels, source.dims[1] * scale, source.dims[2] * scale))


def _upsample_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"nn.Upsample(scale_factor={integer(values, 'scale')})"


UPSAMPLE = Primitive(
    name="upsample",
    summary="every pixel `scale` x `scale` times (nearest neighbour)",
    parameters=(Parameter("scale", "integer", 2),),
    infer=_infer_upsample,
    module=_upsample_module,
)


def _infer_zeros(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return TensorType(source.layout, (size(values, "out"), *source.dims[1:]))


def _zeros_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"Zeros({result.channels})"


ZEROS = Primitive(
    name="zeros",
    summary="zeros of another width: what a concatenation of nothing is",
    parameters=(Parameter("out", "size", required=True),),
    infer=_infer_zeros,
    module=_zeros_module,
    zero=True,
    internal=True,
    helper="Zeros",
)
