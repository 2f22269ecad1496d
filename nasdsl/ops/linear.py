"""The fully connected layer, on vectors and on each token."""

from __future__ import annotations

from nasdsl.ops.base import Parameter, Primitive, Sizes, Sizing, Values, WeightSpec, need, size
from nasdsl.types import Dim, TensorType


def _infer(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    if source.layout == "image":
        need("vector", source, "linear")
    return TensorType(source.layout, (size(values, "out"), *source.dims[1:]))


def _weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    out = size(values, "out")
    weight = WeightSpec("weight", (out, source.channels))
    return (weight, WeightSpec("bias", (out,))) if values["bias"] else (weight,)


def _macs(source: TensorType, result: TensorType, values: Values) -> Dim:
    return source.channels * result.elements


def _module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"nn.Linear({source.channels}, {result.channels}{'' if values['bias'] else ', bias=False'})"


def _elastic(source: TensorType, result: TensorType, values: Values, sizing: Sizing) -> str:
    out = size(values, "out")
    tail = ("" if values["bias"] else ", bias=False") + sizing.argument("out", out)
    return f"ElasticLinear({sizing.largest(source.channels)}, {sizing.largest(out)}{tail})"


LINEAR = Primitive(
    name="linear",
    summary="fully connected layer with bias, on a vector or on each token",
    parameters=(Parameter("out", "size", required=True), Parameter("bias", "flag", True)),
    infer=_infer,
    weights=_weights,
    macs=_macs,
    module=_module,
    elastic=_elastic,
)
