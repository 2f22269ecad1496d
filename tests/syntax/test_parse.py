from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.diagnostics import Diagnostics, Span, render
from nasdsl.syntax import ast
from nasdsl.syntax.brackets import MAX_NESTING
from nasdsl.syntax.parse import MAX_BYTES, MAX_ERRORS, read
from nasdsl.syntax.print import to_text
from tests.syntax.files import FILES, good, parsed


def codes(text: str) -> list[str]:
    return [d.code for d in parsed(text)[1]]


def nodes(node: Any) -> list[Any]:
    if isinstance(node, tuple):
        return [inner for part in node for inner in nodes(part)]
    if not attrs.has(type(node)) or isinstance(node, Span):
        return []
    return [node, *(i for f in attrs.fields(type(node)) if f.eq for i in nodes(getattr(node, f.name)))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_real_files_have_no_mistakes(path: Path) -> None:
    assert len(good(path.read_text("utf-8")).spaces) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_span_holds_the_text_of_its_node(path: Path) -> None:
    """An expression's own characters parse to it: carets and hovers point at the right thing."""
    file = good(path.read_text("utf-8"))
    expressions = [n for n in nodes(file) if isinstance(n, ast.Expr.__args__)]  # type: ignore[attr-defined]
    assert len(expressions) > 20
    for node in expressions:
        item = good(f"space s {{ a = {node.span.text} }}").spaces[0].items[0]
        assert isinstance(item, ast.Bind)
        assert item.value == node


def test_parentheses_belong_to_the_span_of_what_they_hold() -> None:
    item = good("space s { a = (b + c)*d }").spaces[0].items[0]
    assert isinstance(item, ast.Bind)
    assert item.value.span.text == "(b + c)*d"


def test_three_mistakes_are_three_errors_and_the_rest_is_kept() -> None:
    file, found = parsed(
        """space s {
  param C = 16
  op f(k) conv(k)
  op g(k) = relu >> conv(k
  op h(k) = relu
  set s = { f(3) f(5) }
  network { a: conv(3) }
}"""
    )
    assert [(d.code, d.primary.span.line) for d in found if d.primary] == [
        ("NAS001", 3),
        ("NAS003", 5),
        ("NAS001", 6),
    ]
    assert file is not None
    assert [type(i) for i in file.spaces[0].items] == [ast.Param, ast.OpDef, ast.Network]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
@given(data=st.data())
def test_one_mistake_is_one_error(path: Path, data: st.DataObject) -> None:
    """A character with no meaning, put between any two tokens of a good file, is reported alone."""
    text = path.read_text("utf-8")
    blanks = [i for i, c in enumerate(text) if c in " \n" and text.count('"', 0, i) % 2 == 0]
    blanks = [i for i in blanks if "#" not in text[text.rfind("\n", 0, i) + 1 : i]]
    at = data.draw(st.sampled_from(blanks))
    assert codes(f"{text[:at]} @ {text[at:]}") == ["NAS002"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_deleted_bracket_is_never_a_cascade(path: Path) -> None:
    text = path.read_text("utf-8")
    brackets = [i for i, c in enumerate(text) if c in "()[]{}" and text.count('"', 0, i) % 2 == 0]
    brackets = [i for i in brackets if "#" not in text[text.rfind("\n", 0, i) + 1 : i]]
    for at in brackets:
        found = codes(text[:at] + text[at + 1 :])
        assert 1 <= len(found) <= 4, (at, text[at - 20 : at + 20], found)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("celll c(x) { return x }", "cell"),
        ("parm C = 3", "param"),
        ("pram C = 3", "param"),
        ("a = choos { b, c }", "choose"),
        ("a = repeet 3 { b }", "repeat"),
        ("op f = g\n  whre g = relu", "where"),
        ("cell c(x) { retrun x }", "return"),
        ("cell c(x) {\n a = x\n retun a }", "return"),
        ("a = sum of al from (b)", "all"),
        ("a = sum of all form (b)", "from"),
        ("a = sum of all from (b) vai c", "via"),
        ("a = if b thn c else d", "then"),
        ("netwrk { a: b }", "network"),
        ("limt params < 3", "limit"),
        ('use pyton "x"', "python"),
        ('docs "x"', "doc"),
        ("a = indpendent b", "independent"),
        ("a = b wiht c=d", "with"),
        ("Param C = 3", "param"),
    ],
)
def test_a_misspelt_keyword_is_one_error_that_names_the_right_one(wrong: str, meant: str) -> None:
    _, found = parsed(f"space s {{\n {wrong}\n param x = 1\n}}")
    assert len(found) == 1
    assert f"did you mean `{meant}`?" in found[0].message


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("param step = 3", "`step` is a word of the language and cannot be a name"),
        ("a = if b = 3 then c else d", "to compare, write `==`"),
        ("param C == 3", "a value is given with one `=`"),
        ("a = f(b c)", "a `,` is missing in front of `c`"),
        ("a = b // a comment", "comments begin with `#`"),
        ("a = f(.5)", "`0.5`"),
        ("a = b ** c", "there are no powers"),
        ("a = f(b; c)", "arguments are separated by `,`"),
        ("cell c { return 1 }", "a cell names its inputs"),
        ("cell c(x) { a = x }", "end it with `return VALUE`"),
        ("cell c(x) { return x\n a = x }", "`return` is the last line of a cell"),
        ("network { }", "the network has no steps"),
        ("stem: conv(3)", "move it into `network { ... }`"),
        ("limit params =< 3", "write `<=`"),
        ("a = 'b'", "double quotes"),
        ("a = b | c", "`or`"),
        ("a = 3x", "neither a number nor a name"),
        ("a = caf\u00e9", "cannot be a name"),
        ('doc "open', "not closed on its line"),
        (r'doc "\q"', r"is not a known escape"),
        ("foo bar", "an item begins with"),
        ("a =", "expected an expression, found the end of the item"),
        ("op f(k = 3", "is never closed"),
        ("a = b)", "closes nothing"),
    ],
)
def test_a_common_mistake_is_one_error_in_plain_words(wrong: str, words: str) -> None:
    _, found = parsed(f"space s {{\n {wrong}\n param x = 1\n}}")
    assert len(found) == 1
    assert words in render(found)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "NAS006"),
        ("# only this", "NAS006"),
        ("param C = 3", "NAS006"),
        ("space a { } space b { }", "NAS006"),
        ("space a {", "NAS003"),
        ("space a { } }", "NAS003"),
        ("space a", "NAS001"),
        ("space { }", "NAS001"),
        ("spaec a { }", "NAS001"),
        ("x space a { }", "NAS001"),
        ("@ space a { }", "NAS002"),
        ("space a { } @", "NAS002"),
        ("@", "NAS002"),
        (f"space a {{ b = {'9' * 41} }}", "NAS207"),
        (f"space a {{ b = {'(' * MAX_NESTING}1{')' * MAX_NESTING} }}", "NAS004"),
        (f"space a {{ b = {'-' * (MAX_NESTING + 1)}1 }}", "NAS004"),
        (f"space a {{ b = {' + '.join('c' * (MAX_NESTING + 2))} }}", "NAS004"),
        (f"space a {{ b = c{'(d)' * (MAX_NESTING + 1)} }}", "NAS004"),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_one_error(text: str, code: str) -> None:
    assert codes(text) == [code]


def test_what_stays_below_the_bounds_is_fine() -> None:
    deep = MAX_NESTING // 2
    text = f"space a {{ b = {'(c + ' * deep}1{')' * deep} d = {'9' * 40} e = {' >> '.join('f' * 5000)} }}"
    file = good(text)
    assert good(to_text(file)) == file


def test_a_long_flat_list_is_no_nesting() -> None:
    good(f"space a {{ b = [{', '.join('12' for _ in range(20_000))}] }}")


def test_errors_stop_at_a_bound_and_say_so() -> None:
    _, found = parsed("space a {\n" + "op\n" * 5000 + "}")
    assert len(found) == MAX_ERRORS
    assert "not read further" in render(found)


def test_a_file_is_read_as_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.nas"
    path.write_bytes(b"\xef\xbb\xbfspace a { }")
    source = read(path, Diagnostics())
    assert source is not None
    assert source.text == "space a { }"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'space a {\n doc "caf\xe9" }', "line 2 is not UTF-8"),
        (b" " * (MAX_BYTES + 1), "larger than 1,000,000 bytes"),
        (None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "a.nas"
    if data is not None:
        path.write_bytes(data)
    diagnostics = Diagnostics()
    assert read(path, diagnostics) is None
    (found,) = diagnostics.items
    assert found.code == "NAS005"
    assert words in found.message


def test_a_folder_and_a_bad_path_are_no_files(tmp_path: Path) -> None:
    diagnostics = Diagnostics()
    assert read(tmp_path, diagnostics) is None
    assert read("a\0b", diagnostics) is None
    assert [d.code for d in diagnostics.items] == ["NAS005", "NAS005"]
