"""Small spaces with decisions that come and go, and what tests of sub-spaces share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache

from hypothesis import strategies as st

import nasdsl
from nasdsl.cases import Choice
from nasdsl.diagnostics import Source, render
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.population import Population
from nasdsl.space.checked import CheckedSpace, check_source
from nasdsl.subspace.codes import Codes
from nasdsl.subspace.files import balls, members, restriction
from nasdsl.subspace.value import Subspace

TEXTS = {
    "nested options": """space n { input image(3, 8)
      op deep = conv(3) >> choose { relu, swish, relu >> bn }
      network { stem: conv(3, 4)  body: repeat 2 { choose { id, deep, conv(3) } }
      head: global_pool >> linear(10) } }""",
    "chosen inputs": """space g { input image(3, 8)
      cell c(x) { a = x >> conv(1)
        n[1..2] = sum of choose 1.. from (x, a, earlier) via choose { conv(3), relu }  return concat(n) }
      network { stem: conv(3, 4)  body: c  head: global_pool >> linear(10) } }""",
    "depths": """space e { input image(3, 8)
      op block = sum(id, conv(choose { 1, 3 }))
      network { stem: conv(3, 8)  one: repeat choose { 0, 1, 2 } { block }  two: repeat choose { 1, 2 } { block }
      head: global_pool >> linear(10) } }""",
    "three in one": """space t { input image(3, 8)
      op deep = conv(choose { 1, 3 }) >> choose { relu, swish } >> conv(last) where last = choose { 3, 5 }
      network { stem: conv(3, 4)  body: repeat 2 { choose { id, deep, conv(3) } }
      head: global_pool >> linear(10) } }""",
    "plain": """space p { input image(3, 8)
      network { stem: conv(3, 4)  body: repeat 4 { choose { id, conv(3), conv(1) } }
      head: global_pool >> linear(10) } }""",
}

Key = frozenset[tuple[str, Choice]]


@lru_cache
def checked(name: str) -> CheckedSpace:
    return check(TEXTS[name])


def check(text: str) -> CheckedSpace:
    space, found = check_source(Source("small.nas", text))
    assert space is not None, render(found.items)
    return space


@lru_cache
def every(name: str) -> tuple[dict[str, Choice], ...]:
    return tuple(Encodings(checked(name).table).all())


def key(choices: Mapping[str, Choice]) -> Key:
    return frozenset(choices.items())


def inside(name: str, sub: Subspace) -> set[Key]:
    """The members by the slow way: each encoding is asked."""
    return {key(c) for c in every(name) if sub.contains(c)}


def listed(sub: Subspace) -> set[Key]:
    return {key(sub.codes.choices(row)) for row in sub.rows()}


def edits(name: str, left: Mapping[str, Choice], right: Mapping[str, Choice]) -> int:
    return Population(checked(name)).edits(left, right)


def uniform(seen: Counter[Key], kinds: Iterable[Hashable], draws: int) -> bool:
    """Chi-square against the uniform distribution: within four deviations of its expectation."""
    number = len(set(kinds))
    assert set(seen) <= set(kinds)
    expected = draws / number
    chi2 = sum((n - expected) ** 2 / expected for n in seen.values()) + (number - len(seen)) * expected
    return abs(chi2 - (number - 1)) < 4 * (2 * max(1, number - 1)) ** 0.5


@st.composite
def basic(draw: st.DrawFn, name: str) -> Subspace:
    """A set, balls or a restriction, none of them empty."""
    space = checked(name)
    some = st.lists(st.sampled_from(every(name)), min_size=1, max_size=4)
    kind = draw(st.sampled_from(["members", "balls", "restriction"]))
    if kind == "members":
        return members(space, draw(st.lists(st.sampled_from(every(name)), min_size=1, max_size=30)))
    if kind == "balls":
        return balls(space, draw(some), draw(st.integers(0, 3)))
    witness = draw(st.sampled_from(every(name)))
    codes = Codes(space.table)
    allowed = {}
    for decision, values in zip(space.table.decisions, codes.values, strict=True):
        if draw(st.booleans()):
            kept = set(draw(st.lists(st.sampled_from(values), min_size=1)))
            # The witness stays, so that something does.
            allowed[decision.path] = sorted(kept | {witness.get(decision.path, values[0])}, key=str)
    return restriction(space, allowed)


@st.composite
def subspaces(draw: st.DrawFn, name: str) -> Subspace:
    """Up to three of them intersected: this may be empty."""
    first, *rest = draw(st.lists(basic(name), min_size=1, max_size=3))
    for other in rest:
        first = first & other
    return first


def nasbench201() -> nasdsl.Space:
    return nasdsl.load("nasbench201")
