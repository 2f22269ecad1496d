"""Random valid spaces, as text.

Every space drawn here checks without an error: small images, few channels, and
every construct that a cell or a network can hold today.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

PLAIN = (
    "id",
    "relu >> conv(3, C) >> bn",
    "relu >> conv(1, C) >> bn",
    "avg_pool(3)",
    "max_pool(3)",
    "sep(3)",
    "twice",
)
"""Options that keep the resolution."""

STRIDED = (
    "max_pool(3, stride=s)",
    "avg_pool(3, stride=s)",
    "sep(3, st=s)",
    "relu >> conv(3, C, stride=s) >> bn",
)
"""Options that follow an edge's stride."""

HEADER = """  param classes = 10
  param C = {channels}
  input image({inputs}, 8)
  op sep(k; st=1) = relu >> dwconv(k, stride=st) >> conv(1, cin) >> bn
  op twice = f >> f where f = relu >> conv(1, cin)
"""


def options(draw: st.DrawFn, pool: tuple[str, ...], *, none: bool, prefix: str) -> str:
    """`{ label: op, ... }` of one to four options."""
    chosen = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4, unique=True))
    if none and draw(st.booleans()):
        chosen.append("none")
    return "{ " + ", ".join(f"{prefix}{i}: {op}" for i, op in enumerate(chosen)) + " }"


def gather(draw: st.DrawFn, sources: int, via: Callable[[], str]) -> str:
    """How a node takes its inputs; `sources` is what the first member of a family sees."""
    low = draw(st.integers(1, sources))
    how = draw(
        st.sampled_from(["all", f"choose {low}", f"choose {low}..", f"choose {low}..{low + 1}", "choose 1.."])
    )
    names = ["x", "y"][:sources]
    if draw(st.booleans()):
        listed = ", ".join([*names, "earlier"])
        return f"sum of {how} from ({listed}) via choose {via()}"
    each = ", ".join(f"{n} via choose {via()}" for n in [*names, "earlier"])
    return f"sum of {how} from ({each})"


@st.composite
def cells(draw: st.DrawFn, name: str) -> tuple[str, int]:
    """A cell of one or two inputs and a family of one to three nodes, and its number of inputs."""
    sources = draw(st.integers(1, 2))
    count = draw(st.integers(1, 3))
    formals = ", ".join(["a", "b"][:sources])
    body = [f"{new} = {old} >> relu >> conv(1, C) >> bn" for new, old in zip("xy", "ab", strict=False)][
        :sources
    ]
    expression = gather(draw, sources, lambda: options(draw, PLAIN, none=True, prefix="o"))
    if draw(st.booleans()):
        expression += " >> relu"
    body.append(f"n[1..{count}] = {expression}")
    result = draw(
        st.sampled_from(["concat(n) >> conv(1, C)", f"n[{count}]", f"sum(x, n[{count}])", "concat(n)"])
    )
    lines = "\n".join(f"    {line}" for line in [*body, f"return {result}"])
    return f"  cell {name}({formals}; C) {{\n{lines}\n  }}\n", sources


@st.composite
def reductions(draw: st.DrawFn) -> str:
    """A cell of stride two, written with ambient strides."""
    chosen = options(draw, STRIDED, none=False, prefix="r")
    how = draw(st.sampled_from(["all", "choose 1", "choose 1.."]))
    return (
        "  cell shrink(a; C, s=2) {\n    x = a >> conv(1, C)\n    z = x >> max_pool(1)\n"
        f"    n[1..1] = sum of {how} from (x, z) via choose {chosen}\n    return n[1]\n  }}\n"
    )


@st.composite
def nas_spaces(draw: st.DrawFn) -> str:
    """The text of a space."""
    channels, inputs = draw(st.integers(2, 4)), draw(st.sampled_from([1, 3]))
    first, sources = draw(cells("one"))
    items = [HEADER.format(channels=channels, inputs=inputs), first]
    steps = ["stem: conv(3, C) >> bn", f"body: repeat {draw(st.integers(1, 2))} {{ one(C=C) }}"]
    if draw(st.booleans()):
        items.append("  cell two = one()\n")
        steps.append("again: two(C=C)")
    if draw(st.booleans()):
        steps.append("own: repeat 2 { independent one(C=C) }")
    if draw(st.booleans()):
        items.append(draw(reductions()))
        steps.append("down: shrink(C=2*C)")
        if sources == 1:  # a second input would still have the old resolution
            steps.append("late: one(C=2*C)")
    if draw(st.booleans()):
        steps.append(
            f"block: repeat 2 as i {{ choose {options(draw, PLAIN[:6], none=False, prefix='b')} with C=3 }}"
        )
        steps.insert(-1, "narrow: conv(1, 3)")
    if draw(st.booleans()):
        items.append("  op either = choose { p: relu >> conv(3), q: choose { id, conv(1) } }\n")
        steps.append("nested: either")
    steps.append("head: bn >> relu >> global_pool >> linear(classes)")
    network = "\n".join(f"    {s}" for s in steps)
    return "space random {\n" + "".join(items) + f"  network {{\n{network}\n  }}\n}}\n"
