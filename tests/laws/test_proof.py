"""Shapes are proved for every combination; a refutation comes with a witness that is one."""

from __future__ import annotations

import re
from itertools import product

import pytest

from nasdsl.space.checked import check_text

CASES = {
    "widths in a sum": ("sum(conv(3, {a}), conv(3, {b}))", {"a": (8, 16), "b": (8, 16, 24)}),
    "groups": ("conv(1, {a}) >> conv(3, groups={b})", {"a": (8, 12), "b": (2, 3)}),
    "a crop after strides": (
        "max_pool(2, stride=2, pad=0) >> conv(3, 4, stride={a}) >> crop({b})",
        {"a": (1, 2, 4), "b": (1, 3)},
    ),
    "a kernel of even size": ("conv({a}, 8)", {"a": (3, 4, 5)}),
    "half of a width": ("conv(1, {a}) >> conv(1, cut({a}))", {"a": (8, 12, 16)}),
    "a condition": ("conv(1, {a}) >> grow({b}) >> conv(3, groups=8)", {"a": (8, 12, 16), "b": (8, 16)}),
    "a depth": ("repeat {a} {{ max_pool(2, stride=2, pad=0) }} >> crop(3)", {"a": (1, 2, 3)}),
    "a resolution": ("conv(3, 4, stride=2) >> crop({a})", {"a": (2, 4, 8)}),
}
TEXT = """space s {{
  input image(3, 16)
  {names}
  op grow(out) = if cin < out then conv(1, out) else id
  network {{ stem: {step}  last: grow(4)  head: global_pool >> linear(3) }}
}}
"""


def text(step: str, values: dict[str, str]) -> str:
    step = re.sub(r"cut\((\w+)\)", r"(\1 / 8 * 8)", step.format(**{n: n for n in values}))
    names = "\n  ".join(f"{n} = {v}" for n, v in values.items())
    return TEXT.format(names=names, step=step)


@pytest.mark.parametrize("name", CASES)
def test_the_whole_space_holds_exactly_when_every_combination_does(name: str) -> None:
    step, options = CASES[name]
    failing = set()
    for values in product(*options.values()):
        single = dict(zip(options, map(str, values), strict=True))
        if check_text(text(step, single)).errors:
            failing.add(values)
    choices = {n: "choose { " + ", ".join(map(str, v)) + " }" for n, v in options.items()}
    whole = check_text(text(step, choices)).errors
    assert bool(whole) == bool(failing)
    assert failing, "the case is there to fail for some"
    notes = " ".join(n.message for d in whole for n in d.notes)
    witness = dict(re.findall(r"`(\w+)` is (\w+)", notes))
    if not witness:
        assert name in ("a kernel of even size", "half of a width")
        return
    # Whatever the witness leaves open, it fails.
    for values in product(*options.values()):
        made = dict(zip(options, map(str, values), strict=True))
        if all(made[n] == v for n, v in witness.items()):
            assert values in failing


@pytest.mark.parametrize("name", CASES)
def test_the_combinations_that_hold_are_accepted_together(name: str) -> None:
    """The first option of each that holds by itself makes a space that holds."""
    step, options = CASES[name]
    for values in product(*options.values()):
        single = dict(zip(options, map(str, values), strict=True))
        if not check_text(text(step, single)).errors:
            choices = {n: f"choose {{ {v} }}" for n, v in single.items()}
            assert not check_text(text(step, choices)).errors
            return
