"""What an operation is to the compiler: facts, kept in one place each.

Takes the types of the operands and the values of the parameters; returns the
result's type, the weights, the cost and the PyTorch text. Invariant: no module
under `ops/` imports torch, and a fact about an operation is written nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, Union

import attrs

from nasdsl.types import Dim, TensorType

Value = Union[int, float, bool, str, Dim]
Values = Mapping[str, Value]
Sizes = Callable[[Dim], int]
"""Turns a symbolic size into its integer at the use being checked."""

CHANNELS_IN = "cin"
"""The default of a size that is the number of channels of the operand."""


class Misfit(Exception):
    """An operation does not accept its input or a parameter. Carries the words for the user."""

    def __init__(self, message: str, help: str | None = None, code: str = "NAS205") -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code


@attrs.frozen
class Parameter:
    """A parameter of a primitive: `size` may stay symbolic, the other kinds are settled when checked."""

    name: str
    kind: Literal["size", "integer", "number", "pad", "flag"]
    default: Value | None = None
    minimum: int = 1
    required: bool = False


@attrs.frozen
class WeightSpec:
    """A learnable tensor of an operation: its role in the PyTorch module, shape and initialisation."""

    role: str
    shape: tuple[Dim, ...]
    init: str = "default"


Infer = Callable[[TensorType, Values, Sizes], TensorType]
Weights = Callable[[TensorType, Values], tuple[WeightSpec, ...]]
Count = Callable[[TensorType, TensorType, Values], Dim]
Text = Callable[[TensorType, TensorType, Values], str]


class Sizing(Protocol):
    """How a size that depends on decisions is written in a supernet that slices shared weights."""

    def largest(self, dim: Dim) -> int:
        """The largest integer that it takes: what the shared weight has."""
        ...

    def argument(self, name: str, dim: Dim) -> str:
        """`, name='KEY'`, by which a module finds its size under the path; nothing where it is fixed."""
        ...


ElasticText = Callable[[TensorType, TensorType, Values, Sizing], str]


def _no_weights(source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
    return ()


def _nothing(source: TensorType, result: TensorType, values: Values) -> Dim:
    return Dim.of(0)


@attrs.frozen
class Primitive:
    """One operation of the language with one activation operand.

    Attributes:
        name: as written in `.nas`.
        summary: one line for the reference.
        parameters: in positional order.
        infer: the result's type, or `Misfit`.
        weights: learnable tensors, in operand order.
        state: whether it keeps running statistics.
        macs: multiply-accumulates for one example.
        module: text of a `torch.nn` constructor, or None where there is none.
        function: text of an expression over `{x}`, used where a module would only be noise.
        identity: returns its operand.
        zero: returns zeros whatever its operand.
        pooling: a parameter-free local reduction (what DARTS puts a batch norm behind).
        internal: made by passes; not part of the language.
        opaque: the Python module that it comes from, or "": such an operation needs sizes as integers.
        helper: the class of `nasdsl.runtime.standalone.blocks` that `module` names, if any.
        runtime: `module:class` of the class that supernets use, if `runtime_module` names it.
        runtime_module: text of its constructor; that of `module` if left out.
        elastic: text of the constructor of the class of `nasdsl.runtime.operators.elastic` that slices
            its weights to the sizes of a path, or None where no size of it can depend on a decision.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    infer: Infer
    module: Text | None = None
    function: Text | None = None
    weights: Weights = _no_weights
    state: Weights = _no_weights
    macs: Count = _nothing
    identity: bool = False
    zero: bool = False
    pooling: bool = False
    internal: bool = False
    helper: str = ""
    opaque: str = ""
    runtime: str = ""
    runtime_module: Text | None = None
    elastic: ElasticText | None = None

    @property
    def layer(self) -> bool:
        """Whether it does multiply-accumulates on the whole of its input: what the depth of a network counts."""
        return self.macs is not _nothing and self.name != "se"

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in self.parameters if p.name == name), None)


def integer(values: Values, name: str) -> int:
    """A parameter that has been settled to an integer."""
    value = values[name]
    if isinstance(value, Dim):
        settled = value.constant
        if settled is None:
            raise TypeError(f"parameter {name} is still symbolic: {value}")
        return settled
    return int(value)


def size(values: Values, name: str) -> Dim:
    """A parameter that may be symbolic."""
    value = values[name]
    if isinstance(value, (Dim, int)):
        return Dim.of(value)
    raise TypeError(f"parameter {name} is not a size: {value!r}")


def need(layout: str, source: TensorType, name: str) -> None:
    """Raises Misfit unless the operand has the layout."""
    if source.layout != layout:
        article = "an" if layout[0] in "aeiou" else "a"
        other = "an" if source.layout[0] in "aeiou" else "a"
        cure = None
        if layout == "vector" and source.layout == "image":
            cure = "put `global_pool` before it"
        raise Misfit(f"`{name}` needs {article} {layout}, this is {other} {source.layout}", cure)


def same_pad(kernel: int, dilation: int) -> int:
    """The padding that keeps the resolution at stride 1. Raises Misfit for an even kernel."""
    if kernel % 2 == 0:
        raise Misfit(
            f"`pad=same` is not defined for an even kernel ({kernel})",
            "give the padding, for example `pad=0`",
            code="NAS209",
        )
    return dilation * (kernel - 1) // 2


def window(
    source: TensorType, values: Values, sizes: Sizes, name: str, channels: Dim, dilation: int = 1
) -> TensorType:
    """The type after a sliding window. Raises Misfit when the window is larger than the padded input."""
    kernel, stride = integer(values, "k"), integer(values, "stride")
    pad = pad_of(values)
    reach = dilation * (kernel - 1) + 1
    dims = []
    for dim, axis in zip(source.dims[1:], ("high", "wide"), strict=True):
        # A window that its padding makes up for fits any input: not asking leaves nothing to prove.
        extent = sizes(dim) if reach - 2 * pad > 1 else 1
        if extent + 2 * pad < reach:
            raise Misfit(
                f"the window of `{name}` is {reach} {axis}, its input {extent}"
                + (f" (padded {extent + 2 * pad})" if pad else ""),
                "use a larger input resolution, a smaller kernel or more padding",
            )
        kept = stride == 1 and 2 * pad + 1 == reach  # most windows keep the resolution
        dims.append(dim if kept else (dim + (2 * pad - reach)) // stride + 1)
    return TensorType("image", (channels, *dims))


def pad_of(values: Values) -> int:
    """The padding in pixels, `same` resolved. Raises Misfit for `same` with an even kernel."""
    if values["pad"] == "same":
        return same_pad(integer(values, "k"), integer(values, "dilation") if "dilation" in values else 1)
    return integer(values, "pad")
