"""Random valid spaces whose sizes depend on decisions: widths, kernels, depths, ties, conditions.

Takes nothing, returns texts. Invariant: every text checks without errors, and has few encodings.
"""

from __future__ import annotations

from hypothesis import strategies as st

WIDTHS = (4, 6, 8)


@st.composite
def numeric_spaces(draw: st.DrawFn) -> str:
    """The text of a space of two to five steps."""
    tied = draw(st.booleans())
    lines = [
        "space drawn {",
        "  input image(3, size)",
        f"  size = {draw(st.sampled_from(('8', 'choose { 8, 12 }')))}",
    ]
    if tied:
        lines.append("  width[1..2] = choose { 4, 8 }")
    lines += [
        "  op block(k, e; out) = if cin == out then sum(id, f) else f",
        "    where f = conv(1, e*cin) >> relu >> dwconv(k) >> conv(1, out)",
        "  op keep(k) = block(k, 1, out=cin)",
        "  op fit(out) = if cin == out then id else conv(1, out)",
    ]
    steps = ["stem: conv(3, 4)"]
    steps += [f"s{number}: {draw(_step(tied))}" for number in range(draw(st.integers(1, 3)))]
    lines.append("  network { " + "  ".join(steps) + "  head: global_pool >> linear(3) }")
    return "\n".join([*lines, "}"]) + "\n"


@st.composite
def _step(draw: st.DrawFn, tied: bool) -> str:
    width = (
        draw(st.sampled_from(("width[1]", "width[2]")))
        if tied and draw(st.booleans())
        else draw(_number(WIDTHS))
    )
    kind = draw(st.sampled_from(("block", "fit", "conv", "repeat", "options", "concat")))
    if kind == "block":
        return f"block({draw(_number((1, 3)))}, {draw(_number((1, 2)))}, out={width})"
    if kind == "fit":
        return f"fit({width})"
    if kind == "conv":
        return f"conv({draw(_number((1, 3)))}, {width}, stride={draw(st.sampled_from((1, 2)))})"
    if kind == "repeat":
        low = draw(st.integers(0, 1))
        return f"repeat choose {{ {low}..2 }} {{ keep({draw(_number((1, 3)))}) }}"
    if kind == "options":
        return "choose { relu, id, conv(3) >> relu }"
    return f"concat(conv(1, {draw(st.sampled_from(WIDTHS))}), id) >> conv(1, {width})"


@st.composite
def _number(draw: st.DrawFn, values: tuple[int, ...]) -> str:
    if draw(st.booleans()):
        return str(draw(st.sampled_from(values)))
    return "choose { " + ", ".join(map(str, values)) + " }"
