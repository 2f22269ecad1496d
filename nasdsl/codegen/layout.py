"""The memory layout that a network computes in.

Takes a module of one network, returns the line at the top of its `forward`. Invariant: numbers do
not depend on it.

Channels last is the fastest layout for almost everything in these spaces. One thing must not be in
it: the backward pass of a pointwise convolution with a stride, over fewer than eight channels. On a
processor without AVX-512 PyTorch (seen in 2.13) then writes outside its memory, and the process
dies sooner or later. A network that holds such a convolution stays in the ordinary layout; so do its
weights (`nasdsl.runtime.standalone.basics.channels_last`). Supernets take every other pixel
themselves (`nasdsl.runtime.operators.pointwise`).
"""

from __future__ import annotations

from nasdsl.ir.graph import Module
from nasdsl.ir.nodes import Op
from nasdsl.types import TensorType

NARROW = 8
"""Channels from which on the convolution is safe."""

CHANNELS_LAST = "{x} = {x}.contiguous(memory_format=torch.channels_last)"
ORDINARY = "{x} = {x}.contiguous()  # not channels last: a narrow pointwise convolution has a stride"


def layout_line(module: Module) -> str:
    """The line that brings the input, `{x}`, into the layout of a network."""
    for use in module.uses():
        for node in use.graph.nodes:
            if not isinstance(node, Op) or node.op != "conv":
                continue
            values, source = dict(node.values), use.graph.by_id[node.operands[0]].type
            if not isinstance(source, TensorType) or values["k"] != 1 or values["stride"] == 1:
                continue
            if source.channels.evaluate(use.sizes) < NARROW:
                return ORDINARY
    return CHANNELS_LAST
