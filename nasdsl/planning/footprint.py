"""What one operation keeps for its backward pass, and what it needs for a moment.

Takes a step of a trace, returns bytes and values. Invariant: no torch; one rule for each kind of
operation, read off `nasdsl.runtime` for the operations that are ours and off what autograd saves
for torch's own. Small matrices that grow with no image are counted roughly.
"""

from __future__ import annotations

import attrs

from nasdsl.planning.trace import Geometry, Step, Trace

FLOAT = 4
INDEX = 8

SAVES_INPUT = frozenset(
    {"bn", "max_pool", "avg_pool", "swish", "hswish", "gelu", "leaky_relu", "layer_norm", "se", "attention"}
)
"""Operations whose backward pass reads their input whatever gradients are wanted."""

SAVES_OUTPUT = frozenset({"relu", "sigmoid", "tanh"})
"""Operations whose backward pass reads their output."""

VIEWS = frozenset({"crop", "tokens", "take_token", "flatten", "as_image", "truncate", "channels", "part"})
"""Operations whose output is their input's storage."""

DEPTHWISE = frozenset({"dwconv", "dwconv_fan", "dwconv_lanes"})
"""What `nasdsl.runtime.operators.depthwise` computes."""

SMALL = 2**17
"""Numbers in an image up to which depthwise convolutions are joined (`nasdsl.runtime.operators.depthwise.SMALL`)."""

WIDEST = 3
"""Columns of a filter whose gradient needs no padded copies (`nasdsl.runtime.operators.depthwise.WIDEST`)."""


@attrs.frozen
class Footprint:
    """Memory of one step beside what it reads and makes.

    Attributes:
        kept: values that autograd holds until the backward pass.
        extra: bytes that autograd alone holds: indices, centred inputs, copies. They are there for a
            moment where nothing is kept.
        forward: bytes more for a moment while it runs.
        backward: bytes more, beside the gradients that it makes, at the worst moment of its backward pass.
    """

    kept: tuple[int, ...] = ()
    extra: int = 0
    forward: int = 0
    backward: int = 0


@attrs.frozen
class Situation:
    """How a step runs.

    Attributes:
        batch: examples that are in one forward pass.
        weights: whether the weights get gradients; otherwise the variables do.
        parts: micro-batches of a step.
    """

    batch: int
    weights: bool
    parts: int = 1

    @property
    def variables(self) -> bool:
        return not self.weights


def trains(step: Step, situation: Situation) -> bool:
    """Whether a step makes a value that needs a gradient out of values that need none."""
    if situation.weights:
        return step.weights > 0
    return step.op in ("mix", "accumulate") or step.blended > 0


def footprint(step: Step, traced: Trace, situation: Situation) -> Footprint:
    """What a step whose result needs a gradient takes."""
    if step.op in DEPTHWISE:
        return _depthwise(step, traced, situation)
    if step.op == "conv":
        return _conv(step, traced, situation)
    made = _bytes(step.writes, traced, situation)
    if step.op == "accumulate":
        return _accumulate(step, traced, situation)
    if step.op == "pointwise_norm":
        centred = _bytes(step.reads[0], traced, situation)
        copy = made if step.biased and step.relu else 0
        result = (step.writes,) if step.relu and not step.biased else ()
        return Footprint(
            result,
            centred + copy + _matrices(step),
            made if step.biased else 0,
            backward=made + _matrices(step),
        )
    if step.op == "mix":
        return Footprint(step.reads if situation.variables else ())
    if step.op == "sum":
        return Footprint(forward=made if len(step.reads) > 2 else 0)
    if step.op == "max_pool":
        return Footprint(step.reads, made // FLOAT * INDEX)
    if step.op == "bn":
        return Footprint(step.reads, FLOAT * step.states)
    if step.op in SAVES_INPUT or (step.op == "linear" and situation.weights):
        return Footprint(step.reads)
    return Footprint((step.writes,) if step.op in SAVES_OUTPUT else ())


def _bytes(value: int, traced: Trace, situation: Situation) -> int:
    return FLOAT * traced.numbers[value] * situation.batch


def _matrices(step: Step) -> int:
    """Rescaled filters, and their products with the covariance."""
    return FLOAT * (2 * step.weights + step.states)


def _conv(step: Step, traced: Trace, situation: Situation) -> Footprint:
    # The input is kept even where its weight gets no gradient: torch saves it in either case.
    kept, how, blend = step.reads, step.geometry, FLOAT * step.blended
    if how.kernel != 1 or how.stride == 1 or how.padding != 0:
        return Footprint(kept, blend, blend, 2 * blend)
    # Every `stride`-th pixel is taken first: a copy, and a gradient that is spread axis by axis.
    whole = _bytes(step.reads[0], traced, situation)
    few = whole // how.stride**2
    return Footprint(kept, 0, few, (2 if situation.weights else 1) * few + whole // how.stride)


def _accumulate(step: Step, traced: Trace, situation: Situation) -> Footprint:
    """Plain terms and centred inputs are kept, whatever gradients are wanted; no term is formed."""
    made = _bytes(step.writes, traced, situation)
    centred = sum(_bytes(r, traced, situation) for r in step.reads[step.plain :])
    return Footprint(
        step.reads[: step.plain],
        centred + _matrices(step),
        made if step.biased else 0,
        made + _matrices(step),
    )


def _depthwise(step: Step, traced: Trace, situation: Situation) -> Footprint:
    """See `nasdsl.runtime.operators.depthwise._Depthwise`; `x` and `y` are one lane's input and result."""
    lanes, how = step.lanes, step.geometry
    sources = lanes if step.op == "dwconv_lanes" else 1
    x = _bytes(step.reads[0], traced, situation) // sources
    y = _bytes(step.writes, traced, situation) // lanes
    forward, backward = (lanes * y if step.biased else 0), 0
    wanted = situation.weights or step.blended > 0
    thinned = _thinned(how)
    if thinned:  # only even rows and columns are read, copied together
        backward += sources * (x // 2)  # their gradient is spread axis by axis
        x, how = x // 4, Geometry(how.kernel, 1, how.padding // 2, 1)
    together = joined(step, traced, situation.batch)
    blend = FLOAT * step.blended
    kept, extra = step.reads, 0
    if together and sources == 1:
        forward += lanes * x
        backward += 2 * lanes * x + lanes * y
    elif together:
        kept, extra = (), lanes * x
        forward += lanes * x if thinned else 0
        backward += lanes * y
    elif sources == 1:
        backward += (lanes - 1) * x
    if thinned:
        kept, extra = (), lanes * x if together and sources > 1 else sources * x
        backward += x * sources
    if wanted:
        sizes = (lanes * x, lanes * y) if together else (x, y if sources > 1 else lanes * y)
        backward += _filters(how, *sizes)
    return Footprint(kept, extra + blend, forward + blend, backward + 2 * blend)


def joined(step: Step, traced: Trace, batch: int) -> bool:
    """Whether depthwise convolutions side by side are one call: where the images are small."""
    numbers = traced.numbers[step.reads[0]] * batch // (step.lanes if step.op == "dwconv_lanes" else 1)
    return step.lanes > 1 and numbers // (4 if _thinned(step.geometry) else 1) <= SMALL


def _thinned(how: Geometry) -> bool:
    """Whether only even rows and columns are read."""
    return how.dilation == 2 and how.stride == 2 and how.padding % 2 == 0


def _filters(how: Geometry, x: int, y: int) -> int:
    """Copies that the gradient of depthwise filters needs."""
    if how.dilation == 1 and (how.stride != 1 or how.kernel <= WIDEST):
        return 0
    phases = how.dilation == 2 and how.stride == 1 and how.padding == how.kernel - 1
    copies = x + y if phases else 0
    small = (
        how.kernel <= WIDEST or y <= FLOAT * SMALL or (how.dilation != 1 and not phases) or how.stride != 1
    )
    return copies if small else copies + 2 * x
