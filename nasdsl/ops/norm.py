"""Batch normalisation."""

from __future__ import annotations

from nasdsl.ops.base import Parameter, Primitive, Sizes, Sizing, Values, WeightSpec
from nasdsl.types import TensorType


def _infer(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return source


def _weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    if not values["affine"]:
        return ()
    return (WeightSpec("weight", (source.channels,), "ones"), WeightSpec("bias", (source.channels,), "zeros"))


def _state(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return (WeightSpec("running", (source.channels,)),)


def _module(source: TensorType, result: TensorType, values: Values) -> str:
    kind = "BatchNorm2d" if source.layout == "image" else "BatchNorm1d"
    return f"nn.{kind}({source.channels}{'' if values['affine'] else ', affine=False'})"


def _elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    return (
        f"ElasticBatchNorm({sizing.largest(source.channels)}{'' if values['affine'] else ', affine=False'})"
    )


BN = Primitive(
    name="bn",
    summary="batch normalisation (eps 1e-5, momentum 0.1); `affine=false` has no learnable scale and shift",
    parameters=(Parameter("affine", "flag", True),),
    infer=_infer,
    weights=_weights,
    state=_state,
    module=_module,
    elastic=_elastic,
)
