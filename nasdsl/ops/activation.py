"""Activations: elementwise, without parameters."""

from __future__ import annotations

from nasdsl.ops.base import Primitive, Sizes, Text, Values
from nasdsl.types import TensorType


def _infer(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return source


def _constant(text: str) -> Text:
    def emit(source: TensorType, result: TensorType, values: Values) -> str:
        return text

    return emit


def _activation(name: str, summary: str, module: str, function: str) -> Primitive:
    return Primitive(
        name=name,
        summary=summary,
        parameters=(),
        infer=_infer,
        module=_constant(f"nn.{module}()"),
        function=_constant(f"F.{function}({{x}})"),
    )


RELU = _activation("relu", "max(x, 0)", "ReLU", "relu")
GELU = _activation("gelu", "Gaussian error linear unit", "GELU", "gelu")
SWISH = _activation("swish", "x * sigmoid(x)", "SiLU", "silu")
HSWISH = _activation("hswish", "x * relu6(x + 3) / 6", "Hardswish", "hardswish")
SIGMOID = _activation("sigmoid", "1 / (1 + exp(-x))", "Sigmoid", "sigmoid")
TANH = _activation("tanh", "hyperbolic tangent", "Tanh", "tanh")
LEAKY_RELU = _activation("leaky_relu", "max(x, 0.01 * x)", "LeakyReLU", "leaky_relu")
