"""What is given to --param and --set: data in, data out, nothing evaluated."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.cli.arguments import CommandLineError, Value, assignments, value_of

SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
WORDS = st.from_regex(r"[a-z][a-z0-9_.:/-]*", fullmatch=True).filter(lambda w: w not in {"true", "false"})


def text_of(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(text_of(v) for v in value)}]"
    return repr(value) if isinstance(value, float) else str(value)


def depth(value: Value) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES.filter(lambda v: depth(v) <= 8))
def test_values_read_back(value: Value) -> None:
    again = value_of(text_of(value))
    assert again == value
    assert type(again) is type(value)


@given(WORDS)
def test_a_setting_may_be_a_word_and_a_parameter_may_not(word: str) -> None:
    assert value_of(word, words=True) == word
    with pytest.raises(ValueError, match="is not a number"):
        value_of(word)


@given(st.text(max_size=40), st.booleans())
def test_any_text_is_a_finite_value_or_refused(text: str, words: bool) -> None:
    try:
        value = value_of(text, words=words)
    except ValueError:
        return
    assert isinstance(value, bool | int | float | str | list)
    assert not isinstance(value, float) or math.isfinite(value)
    assert words or not isinstance(value, str)


@pytest.mark.parametrize(
    "text",
    ["", "[", "]", "[1", "1]", "[1,", "[1,,2]", "[]]", "nan", "inf", "1e999", "0x10", "1_0", "[" * 5000],
)
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        value_of(text)


def test_huge_numbers_are_refused_quickly() -> None:
    with pytest.raises(ValueError, match="too large") as caught:
        value_of("9" * 1_000_000)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("pair", ["C", "=1", "C 1", "1C=2", "a-b=1", "C=", "C=x"])
def test_bad_pairs_are_refused(pair: str) -> None:
    with pytest.raises(CommandLineError, match="--param"):
        assignments("--param", [pair])


def test_a_name_is_set_once() -> None:
    assert assignments("--param", ["C=1", "L=2"]) == {"C": 1, "L": 2}
    with pytest.raises(CommandLineError, match="C is given twice"):
        assignments("--param", ["C=1", "C=1"])
