from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from nasdsl.diagnostics import Diagnostic, Label, Note, Severity, Source, Span, render, to_json


def at(source: Source, part: str, skip: int = 0) -> Span:
    start = -1
    for _ in range(skip + 1):
        start = source.text.index(part, start + 1)
    return Span(source, start, start + len(part))


def shown(primary: Label, *secondary: Label) -> str:
    return render([Diagnostic("NAS000", "message", primary, secondary)])


def test_the_style_of_the_design() -> None:
    source = Source("my.nas", "\n" * 5 + "param width\n" + "\n" * 7 + "  node n[2] = sum(a, b)\n")
    diagnostic = Diagnostic(
        "NAS203",
        "the two sides of this sum have different widths",
        Label(Span(source, at(source, "a, b").start, at(source, ", b").start), "16 channels"),
        (Label(at(source, "b"), "32 channels, when stage.width = 32"),),
        (Note("width is chosen here", at(source, "width")),),
        "put `project(width)` before b, or tie both to one choice",
    )
    assert (
        render([diagnostic])
        == """\
error[NAS203]: the two sides of this sum have different widths
  --> my.nas:14:19
   |
14 |   node n[2] = sum(a, b)
   |                   ^  ^ 32 channels, when stage.width = 32
   |                   |
   |                   16 channels
   |
  note: width is chosen here
  --> my.nas:6:7
  help: put `project(width)` before b, or tie both to one choice"""
    )


def test_three_labels_on_one_line_hang_below_each_other() -> None:
    source = Source("a.nas", "aa bb cc")
    labels = [Label(at(source, word), f"is {word}") for word in ("bb", "aa", "cc")]
    assert (
        shown(*labels)
        == """\
error[NAS000]: message
  --> a.nas:1:4
   |
 1 | aa bb cc
   | ^^ ^^ ^^ is cc
   | |  |
   | |  is bb
   | is aa"""
    )


def test_labels_on_distant_lines_have_a_gap_between_them() -> None:
    source = Source("a.nas", "one\ntwo\nthree\nfour\n")
    text = shown(Label(at(source, "four"), "here"), Label(at(source, "one"), "because"))
    assert (
        text
        == """\
error[NAS000]: message
  --> a.nas:4:1
   |
 1 | one
   | ^^^ because
...
 4 | four
   | ^^^^ here"""
    )


def test_a_span_over_lines_is_marked_at_both_ends() -> None:
    source = Source("a.nas", "x = sum(\n  a,\n  b\n)")
    assert (
        shown(Label(at(source, "sum(\n  a,\n  b\n)"), "all of it"))
        == """\
error[NAS000]: message
  --> a.nas:1:5
   |
 1 | x = sum(
   |     ^^^^
...
 4 | )
   | ^ all of it"""
    )


def test_a_label_in_another_file_has_its_own_arrow() -> None:
    here, there = Source("a.nas", "here"), Source("b.nas", "there")
    assert (
        shown(Label(at(here, "here"), ""), Label(at(there, "there"), "base"))
        == """\
error[NAS000]: message
  --> a.nas:1:1
   |
 1 | here
   | ^^^^
  ::: b.nas:1:1
   |
 1 | there
   | ^^^^^ base"""
    )


def test_tabs_are_spread_and_wide_characters_take_two_columns() -> None:
    source = Source("a.nas", "\ta = \u65e5\u672c + e\u0301 + b")
    text = shown(
        Label(at(source, "b"), "b"), Label(at(source, "\u65e5\u672c"), ""), Label(at(source, "a"), "")
    )
    assert text.split("\n")[3:5] == [
        " 1 |     a = \u65e5\u672c + e\u0301 + b",
        "   |     ^   ^^^^       ^ b",
    ]


def test_a_mistake_without_a_place_has_no_arrow() -> None:
    diagnostic = Diagnostic("NAS005", "gone", None, help="look\nagain", severity=Severity.WARNING)
    assert render([diagnostic]) == "warning[NAS005]: gone\n  help: look\n        again"


def test_a_very_long_line_is_cut_around_the_mark() -> None:
    source = Source("a.nas", "x" * 5000 + "MARK" + "y" * 5000)
    text = shown(Label(at(source, "MARK"), "here"))
    _, _, _, line, carets = text.split("\n")
    assert len(line) < 200
    assert line[carets.index("^") : carets.rindex("^") + 1] == "MARK"


def test_nothing_of_the_input_steers_the_terminal() -> None:
    source = Source("a\x1b[2J.nas", "a\x1b[31m\x07\u202e b")
    text = render([Diagnostic("NAS000", "\x1b[0m", Label(at(source, "b"), "\x9b"), help="\r")])
    assert all(c.isprintable() or c == "\n" for c in text)


@given(st.text("ab \n\t", max_size=40), st.data())
def test_carets_stand_below_the_span(text: str, data: st.DataObject) -> None:
    source = Source("a.nas", text)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    if "\n" in text[start:end]:
        end = text.index("\n", start)
    lines = shown(Label(Span(source, start, end), "")).split("\n")
    line, carets = lines[3].ljust(200), lines[4]
    assert line[:5] == f"{source.line_column(start)[0]:>2} | "
    under = line[carets.index("^") : carets.rindex("^") + 1]
    assert under.rstrip() == text[start:end].replace("\t", "    ").rstrip() or not text[start:end].strip()


@given(st.text(max_size=60), st.data())
def test_any_labels_on_any_text_can_be_shown(text: str, data: st.DataObject) -> None:
    source = Source("a.nas", text)
    offsets = st.integers(0, len(text))
    spans = st.tuples(offsets, offsets).map(lambda p: Span(source, min(p), max(p)))
    labels = data.draw(st.lists(st.builds(Label, spans, st.text(max_size=5)), min_size=1, max_size=4))
    diagnostic = Diagnostic("NAS000", "m", labels[0], tuple(labels[1:]), (Note("n", labels[-1].span),), "h")
    plain = render([diagnostic])
    assert re.sub(r"\x1b\[[0-9;]*m", "", render([diagnostic], color=True)) == plain
    assert all(c.isprintable() or c == "\n" for c in plain)
    (data_form,) = json.loads(json.dumps(to_json([diagnostic])))
    assert data_form["primary"]["message"] == labels[0].message
    assert [s["message"] for s in data_form["secondary"]] == [label.message for label in labels[1:]]
    assert data_form["primary"]["place"]["line"] == labels[0].span.line
    assert (data_form["code"], data_form["severity"], data_form["help"]) == ("NAS000", "error", "h")


def test_a_label_of_blanks_leaves_none_at_the_end_of_a_row() -> None:
    source = Source("a.nas", "a b")
    for message in (" ", "\t", "x "):
        diagnostic = Diagnostic(
            "NAS000", "m", Label(at(source, "a"), message), (Label(at(source, "b"), message),)
        )
        colored = render([diagnostic], color=True)
        assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == render([diagnostic])


def test_a_blank_line_stands_between_two() -> None:
    one = Diagnostic("NAS005", "a", None)
    assert render([one, one]) == "error[NAS005]: a\n\nerror[NAS005]: a"
    assert render([]) == ""
