"""Random valid spaces, as text, and random architectures of them.

Every space drawn here checks without an error: small images, few channels, and
every construct that a cell or a network can hold today.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import strategies as st

from nasdsl.diagnostics import Source, render
from nasdsl.space.checked import CheckedSpace, check_source
from nasdsl.space.decisions import Choice, DecisionTable, Event

PLAIN = (
    "id",
    "relu >> conv(3, C) >> bn",
    "relu >> conv(1, C) >> bn",
    "avg_pool(3)",
    "max_pool(3)",
    "sep(3)",
    "twice",
)
"""Options that keep channels and resolution."""

STRIDED = (
    "largest",
    "mean >> bn",
    "sep(3)",
    "rcb(1)",
    "skip",
)
"""Options that follow the stride of their edge."""

HEADER = """  param classes = 10
  param C = {channels}
  param N = {repeats}
  input image({inputs}, 8)
  op sep(k; stride=1) = relu >> dwconv(k, stride=stride) >> conv(1, cin) >> bn
  op twice = f >> f where f = relu >> conv(1, cin)
  op largest(; stride=1) = max_pool(3, stride=stride)
  op mean(; stride=1) = avg_pool(3, stride=stride)
  op rcb(k; C, stride=1) = relu >> conv(k, C, stride=stride) >> bn
  op pre(; C) = relu >> conv(1, C) >> bn
  op shrink(; C) = relu >> conv(1, C, stride=2) >> bn
  op skip(; C, stride=1) = if stride == 1 then id else shrink
"""

LINES = {
    1: ("x = a >> pre",),
    # The second input decides the resolution: the first may come from before a reduction.
    2: ("x = a >> (if a.size > b.size then shrink else pre)", "y = b >> pre"),
}


@attrs.frozen
class Form:
    """A cell: its text, and whether its parameter `s` halves the resolution."""

    text: str
    strided: bool


def options(draw: st.DrawFn, pool: Sequence[str], *, none: bool, prefix: str) -> str:
    """`{ label: op, ... }` of one to five options, some without a label."""
    chosen = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4, unique=True))
    labelled = [f"{prefix}{i}: {op}" if draw(st.booleans()) else op for i, op in enumerate(chosen)]
    if none and draw(st.booleans()):
        labelled.append("none")
    return "{ " + ", ".join(labelled) + " }"


def how_many(draw: st.DrawFn, sources: int) -> str:
    """`sources` is what the first member of a family sees: no choice may ask for more."""
    low = draw(st.integers(1, sources))
    return draw(
        st.sampled_from(["all", f"choose {low}", f"choose {low}..", f"choose {low}..{low + 1}", "choose 1.."])
    )


def gather(draw: st.DrawFn, sources: int, *, strided: bool, named: str) -> str:
    """How a node takes its inputs: one choice for all edges, or one for each source."""
    how = how_many(draw, sources)
    names = ["x", "y"][:sources]
    pool = STRIDED if strided else PLAIN
    listed = [f"{n} with stride=s" if strided else n for n in names] + ["earlier"]

    def via(source: str) -> str:
        # `none` has the shape of its input, so it cannot stand beside options that halve it.
        own = options(draw, pool, none=not strided or source == "earlier", prefix="o")
        return draw(st.sampled_from([own, named])) if named else own

    if draw(st.booleans()):
        return f"sum of {how} from ({', '.join(listed)}) via choose {via('')}"
    return f"sum of {how} from ({', '.join(f'{n} via choose {via(n)}' for n in listed)})"


@st.composite
def cells(draw: st.DrawFn, name: str) -> Form:
    """A cell of one or two inputs and a family of one to four nodes."""
    sources, strided = draw(st.integers(1, 2)), draw(st.booleans())
    count = draw(st.sampled_from([1, 2, 2, 3, 4]))
    before, named = "", ""
    if strided and draw(st.booleans()):
        before = f"  set options_of_{name}(; C, stride=1) = "
        before += options(draw, STRIDED, none=False, prefix="p") + "\n"
        named = f"options_of_{name}"
    expression = gather(draw, sources, strided=strided, named=named)
    after = draw(st.sampled_from(["", "", " >> relu", " >> choose { relu, id }"]))
    body = [*LINES[sources], f"n[1..{count}] = {expression}{after}"]
    last = f"n[{count}]"
    if draw(st.booleans()):
        body.append(f"z = {last} >> choose {options(draw, PLAIN, none=False, prefix='z')}")
        last = "z"
    # The last line is always read: a decision that no output needs has no gradient to test.
    every = "concat(n)" if last != "z" else "concat(n, z)"
    results = [f"{every} >> conv(1, C)", every, last, f"sum(n[1], {last})", f"concat(n[1], {last})"]
    if not strided:
        results.append(f"sum(x, {last})")
    lines = "\n".join(f"    {line}" for line in [*body, f"return {draw(st.sampled_from(results))}"])
    formals = ", ".join(["a", "b"][:sources]) + "; C" + (", s=1" if strided else "")
    return Form(f"{before}  cell {name}({formals}) {{\n{lines}\n  }}\n", strided)


@st.composite
def reductions(draw: st.DrawFn) -> str:
    """A cell of one input that always halves the resolution."""
    chosen = options(draw, STRIDED, none=False, prefix="r")
    how = draw(st.sampled_from(["all", "choose 1", "choose 1.."]))
    return (
        "  cell narrower(a; C, s=2) {\n    x = a >> conv(1, C)\n    z = x >> max_pool(1)\n"
        f"    n[1..1] = sum of {how} from (x with stride=s, z with stride=s) via choose {chosen}\n"
        "    return n[1]\n  }\n"
    )


def aliases(draw: st.DrawFn, form: Form) -> tuple[list[str], list[str]]:
    """More uses of the first cell: of the same form, halving, or with decisions of their own."""
    items: list[str] = []
    steps: list[str] = []
    if draw(st.booleans()):
        items.append("  cell two = one()\n")
        steps.append("again: two(C=C)")
    if form.strided and draw(st.booleans()):
        items.append("  cell half = one(s=2)\n")
        steps += ["down: half(C=2*C)", "after: one(C=2*C)"]
    if draw(st.booleans()):
        steps.append("own: repeat 2 { independent one(C=C) }")
    return items, steps


@st.composite
def nas_spaces(draw: st.DrawFn) -> str:
    """The text of a space."""
    channels, inputs = draw(st.integers(2, 6)), draw(st.sampled_from([1, 3]))
    form = draw(cells("one"))
    items = [HEADER.format(channels=channels, inputs=inputs, repeats=draw(st.integers(1, 2))), form.text]
    steps = ["stem: conv(3, C) >> bn", "body: repeat N { one(C=C) }"]
    more, uses = aliases(draw, form)
    items += more
    steps += uses
    if draw(st.booleans()):
        items.append(draw(reductions()))
        steps += ["narrower: narrower(C=2*C)", "late: one(C=2*C)"]
    if draw(st.booleans()):
        chosen = options(draw, PLAIN[:6], none=False, prefix="b")
        steps += ["three: conv(1, 3)", f"block: repeat N as i {{ choose {chosen} with C=3 }}"]
    if draw(st.booleans()):
        items.append("  op either = choose { p: relu >> conv(3), q: choose { id, conv(1) } }\n")
        steps.append("nested: either")
    steps.append("head: bn >> relu >> global_pool >> linear(classes)")
    network = "\n".join(f"    {s}" for s in steps)
    return "space random {\n" + "".join(items) + f"  network {{\n{network}\n  }}\n}}\n"


def checked(text: str) -> CheckedSpace:
    """A drawn text, checked; it has no errors."""
    space, diagnostics = check_source(Source("random.nas", text))
    assert space is not None, f"{render(diagnostics.items)}\n{text}"
    return space


@st.composite
def encodings(draw: st.DrawFn, table: DecisionTable) -> dict[str, Choice]:
    """A legal value of every active decision. Not uniform: simple ones first, so that failures shrink."""
    choices: dict[str, Choice] = {}
    happened: set[Event] = set()
    for decision in table.decisions:
        if not decision.active(happened):
            continue
        if decision.kind != "inputs":
            choices[decision.path] = draw(st.sampled_from(decision.options))
        else:
            size = draw(st.integers(decision.low, decision.high))
            taken = draw(st.permutations(decision.options))[:size]
            choices[decision.path] = tuple(o for o in decision.options if o in taken)
        happened.update(decision.taken(choices[decision.path]))
    return choices


@st.composite
def with_architecture(draw: st.DrawFn) -> tuple[CheckedSpace, dict[str, Choice]]:
    """A space and a random legal encoding of it."""
    space = checked(draw(nas_spaces()))
    return space, draw(encodings(space.table))
