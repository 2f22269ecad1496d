"""Transformers: from an image to tokens and back, attention, layer normalisation."""

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


def _attention_elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    heads, width = size(values, "heads"), size(values, "head_width")
    sizes = ", ".join(str(sizing.largest(d)) for d in (source.channels, heads, width))
    tail = sizing.argument("heads", heads) + sizing.argument("head_width", width)
    return f"ElasticAttention({sizes}{tail})"


def _class_token_elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    return f"ElasticClassToken({sizing.largest(source.channels)})"


def _position_elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    return f"ElasticPosition({sizing.largest(source.dims[1])}, {sizing.largest(source.channels)})"


def _infer_tokens(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "tokens")
    return TensorType("tokens", (source.channels, source.dims[1] * source.dims[2]))


def _tokens_function(source: TensorType, result: TensorType, values: Values) -> str:
    return "{x}.flatten(2).transpose(1, 2)"


TOKENS = Primitive(
    name="tokens",
    summary="an image as tokens: one a pixel, its channels the features",
    parameters=(),
    infer=_infer_tokens,
    function=_tokens_function,
)


def _infer_class_token(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("tokens", source, "class_token")
    return TensorType("tokens", (source.channels, source.dims[1] + 1))


def _class_token_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return (WeightSpec("token", (source.channels,), "zeros"),)


def _class_token_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"ClassToken({source.channels})"


CLASS_TOKEN = Primitive(
    name="class_token",
    summary="a learned token put before the others",
    parameters=(),
    infer=_infer_class_token,
    weights=_class_token_weights,
    module=_class_token_module,
    elastic=_class_token_elastic,
    helper="ClassToken",
)


def _infer_same_tokens(name: str, source: TensorType) -> TensorType:
    need("tokens", source, name)
    return source


def _infer_position(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return _infer_same_tokens("position", source)


def _position_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return (WeightSpec("embedding", (source.dims[1], source.channels)),)


def _position_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"Position({source.dims[1]}, {source.channels})"


POSITION = Primitive(
    name="position",
    summary="a learned vector added to each token",
    parameters=(),
    infer=_infer_position,
    weights=_position_weights,
    module=_position_module,
    elastic=_position_elastic,
    helper="Position",
)


def _infer_take(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("tokens", source, "take_token")
    if integer(values, "n") > sizes(source.dims[1]):
        raise Misfit(f"there is no token {integer(values, 'n')}: the input has {sizes(source.dims[1])}")
    return TensorType("vector", (source.channels,))


def _take_function(source: TensorType, result: TensorType, values: Values) -> str:
    return f"{{x}}[:, {integer(values, 'n') - 1}]"


TAKE_TOKEN = Primitive(
    name="take_token",
    summary="the n-th token as a vector",
    parameters=(Parameter("n", "integer", required=True),),
    infer=_infer_take,
    function=_take_function,
)


def _infer_attention(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return _infer_same_tokens("attention", source)


def _inner(values: Values) -> Dim:
    return size(values, "heads") * size(values, "head_width")


def _attention_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    inner = _inner(values)
    return (
        WeightSpec("qkv.weight", (inner * 3, source.channels)),
        WeightSpec("qkv.bias", (inner * 3,)),
        WeightSpec("out.weight", (source.channels, inner)),
        WeightSpec("out.bias", (source.channels,)),
    )


def _attention_macs(source: TensorType, result: TensorType, values: Values) -> Dim:
    inner, length = _inner(values), source.dims[1]
    return length * source.channels * inner * 4 + length * length * inner * 2


def _attention_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"Attention({source.channels}, {integer(values, 'heads')}, {integer(values, 'head_width')})"


ATTENTION = Primitive(
    name="attention",
    summary="multi-head self-attention: `heads` of `head_width` features each, biased projections",
    parameters=(
        Parameter("heads", "integer", required=True),
        Parameter("head_width", "integer", required=True),
    ),
    infer=_infer_attention,
    weights=_attention_weights,
    macs=_attention_macs,
    module=_attention_module,
    elastic=_attention_elastic,
    helper="Attention",
)


def _infer_norm(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    if source.layout == "image":
        raise Misfit("`layer_norm` needs tokens or a vector, this is an image", "use `bn`")
    return source


def _norm_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return (WeightSpec("weight", (source.channels,), "ones"), WeightSpec("bias", (source.channels,), "zeros"))


def _norm_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"nn.LayerNorm({source.channels})"


def _norm_elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    return f"ElasticLayerNorm({sizing.largest(source.channels)})"


LAYER_NORM = Primitive(
    name="layer_norm",
    summary="normalisation of each token, or vector, by itself (eps 1e-5)",
    parameters=(),
    infer=_infer_norm,
    weights=_norm_weights,
    module=_norm_module,
    elastic=_norm_elastic,
)
