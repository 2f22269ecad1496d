"""Pooling: local (`max_pool`, `avg_pool`) and global (`global_pool`)."""

from __future__ import annotations

from nasdsl.ops.base import Misfit, Parameter, Primitive, Sizes, Values, integer, need, pad_of, window
from nasdsl.types import TensorType

_PARAMETERS = (
    Parameter("k", "integer", required=True),
    Parameter("stride", "integer", 1),
    Parameter("pad", "pad", "same", minimum=0),
)


def _infer(name: str, source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, name)
    kernel, pad = integer(values, "k"), pad_of(values)
    if 2 * pad > kernel:
        raise Misfit(
            f"`{name}` pads {pad} pixels, more than half of its window of {kernel}", "use a smaller `pad`"
        )
    return window(source, values, sizes, name, source.channels)


def _geometry(values: Values) -> str:
    kernel, stride, pad = integer(values, "k"), integer(values, "stride"), pad_of(values)
    return f"{kernel}, stride={stride}" + (f", padding={pad}" if pad else "")


def _infer_max(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return _infer("max_pool", source, values, sizes)


def _max_module(source: TensorType, result: TensorType, values: Values) -> str:
    return f"nn.MaxPool2d({_geometry(values)})"


MAX_POOL = Primitive(
    name="max_pool",
    summary="maximum over a window",
    parameters=_PARAMETERS,
    infer=_infer_max,
    module=_max_module,
    pooling=True,
)


def _infer_avg(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return _infer("avg_pool", source, values, sizes)


def _avg_module(source: TensorType, result: TensorType, values: Values) -> str:
    # Padding is not part of the mean: DARTS and NAS-Bench-201 both say count_include_pad=False.
    tail = ", count_include_pad=False" if pad_of(values) else ""
    return f"nn.AvgPool2d({_geometry(values)}{tail})"


AVG_POOL = Primitive(
    name="avg_pool",
    summary="mean over a window; padding is not counted",
    parameters=_PARAMETERS,
    infer=_infer_avg,
    module=_avg_module,
    pooling=True,
)


def _infer_global(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    if source.layout == "vector":
        need("image", source, "global_pool")
    return TensorType("vector", (source.channels,))


def _global_function(source: TensorType, result: TensorType, values: Values) -> str:
    return "{x}.mean(1)" if source.layout == "tokens" else "{x}.mean((2, 3))"


GLOBAL_POOL = Primitive(
    name="global_pool",
    summary="mean over all pixels, or all tokens: the result is a vector",
    parameters=(),
    infer=_infer_global,
    function=_global_function,
)
