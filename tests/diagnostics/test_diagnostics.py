from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.diagnostics import CODES, Diagnostic, Diagnostics, Severity, Source, Span, did_you_mean, render
from nasdsl.errors import NasError, UserError

SOURCE = Source("a.nas", "one\ntwo\nthree")


@given(st.text("ab\r\n\u00e9", max_size=30))
def test_lines_and_columns_find_every_character(text: str) -> None:
    source = Source("a.nas", text)
    for offset, character in enumerate(text):
        line, column = source.line_column(offset)
        assert source.line_start(line) + column - 1 == offset
        if character not in "\r\n":
            assert source.line(line)[column - 1] == character
    end = source.line_column(len(text))
    assert end[0] == text.count("\n") + 1
    assert source.line_column(len(text) + 5) == end
    assert source.line(end[0] + 1) == ""


def test_a_source_is_equal_to_itself_alone() -> None:
    assert Source("a", "b") != Source("a", "b")
    assert Span(SOURCE, 1, 2) == Span(SOURCE, 1, 2)


@given(*[st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)] * 2)
def test_two_spans_are_covered_by_one(one: list[int], two: list[int]) -> None:
    a, b = Span(SOURCE, *one), Span(SOURCE, *two)
    both = a.to(b)
    assert both == b.to(a)
    assert (both.start, both.end) == (min(a.start, b.start), max(a.end, b.end))


def test_the_same_mistake_is_kept_once_and_errors_come_first() -> None:
    diagnostics = Diagnostics()
    diagnostics.warning("NAS106", "unused", Span(SOURCE, 0, 3))
    diagnostics.error("NAS101", "second", Span(SOURCE, 8, 9))
    diagnostics.error("NAS101", "first", Span(SOURCE, 4, 5))
    diagnostics.error("NAS101", "first again", Span(SOURCE, 4, 5))
    diagnostics.error("NAS102", "another code", Span(SOURCE, 4, 5))
    diagnostics.error("NAS101", "another file", Span(Source("b", "bbbbbb"), 4, 5))
    diagnostics.add(Diagnostic("NAS005", "no place", None))
    assert [d.message for d in diagnostics.items] == [
        "no place",
        "first",
        "another file",
        "another code",
        "second",
        "unused",
    ]
    assert diagnostics.errors == diagnostics.items[:-1]


def test_only_errors_are_raised_but_with_everything_that_was_found() -> None:
    diagnostics = Diagnostics()
    diagnostics.warning("NAS106", "unused", Span(SOURCE, 0, 3))
    diagnostics.raise_if_errors()
    diagnostics.error("NAS101", "unknown", Span(SOURCE, 4, 5))
    with pytest.raises(UserError) as raised:
        diagnostics.raise_if_errors()
    assert raised.value.diagnostics == diagnostics.items
    assert str(raised.value) == render(diagnostics.items)


def test_an_error_without_a_place() -> None:
    error = UserError.plain("NAS501", "no such method", help="look")
    assert isinstance(error, NasError)
    assert str(error) == "error[NAS501]: no such method\n  help: look"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("word", "candidates", "words"),
    [
        ("linaer", ["linear", "conv", "relu"], "; did you mean `linear`?"),
        ("Conv", ["conv", "dwconv"], "; did you mean `conv`?"),
        ("zzz", ["b", "a"], "; there is `a`, `b`"),
        ("zzz", [f"name{i}" for i in range(7)], ""),
        ("zzz", [], ""),
        ("a" * 10_000, ["b"] * 3, "; there is `b`"),
    ],
)
def test_did_you_mean(word: str, candidates: list[str], words: str) -> None:
    assert did_you_mean(word, candidates) == words


def test_codes_are_in_their_families_and_warnings_are_known() -> None:
    assert list(CODES) == sorted(CODES)
    assert all(code == entry.code and code[:3] == "NAS" and len(code) == 6 for code, entry in CODES.items())
    assert {c for c, e in CODES.items() if e.severity is Severity.WARNING} == {"NAS106", "NAS304", "NAS309"}
