from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from nasdsl.syntax import ast
from nasdsl.syntax.print import WIDTH, to_text
from tests import strategies_ast
from tests.syntax.files import FILES, good


def expression(text: str) -> Any:
    item = good(f"space s {{ a = {text} }}").spaces[0].items[0]
    assert isinstance(item, ast.Bind)
    return item.value


@given(strategies_ast.files)
def test_what_is_printed_parses_to_the_same_tree(file: ast.File) -> None:
    text = to_text(file)
    assert good(text) == file
    assert to_text(good(text)) == text


@given(strategies_ast.expressions)
def test_an_expression_alone_is_one_line_that_parses_to_it(node: Any) -> None:
    text = to_text(node)
    assert "\n" not in text
    assert expression(text) == node


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_real_file_survives_printing(path: Path) -> None:
    file = good(path.read_text("utf-8"))
    text = to_text(file)
    assert good(text) == file
    assert to_text(good(text)) == text
    too_wide = [
        line for line in text.splitlines() if len(line) > WIDTH and not line.strip().startswith("doc ")
    ]
    assert too_wide == []


@pytest.mark.parametrize(
    "text",
    [
        "a + b - c",
        "a - (b - c)",
        "2*C//3 + 1",
        "(a + b)*c",
        "-(a + b)",
        "-a.b[1](c)",
        "(-a) with s=1",
        "a with s=1 with t=(b + c)",
        "(a >> b) with s=1 >> c",
        "a < b and (c or d)",
        "(a < b) < c",
        "a >> (if x then y else z)",
        "a >> (b >> c)",
        "sum of all from (x, earlier via f) via choose s >> relu",
        "a >> (sum of choose 1..2 from (x))",
        "concat of choose 0.. from (v) into split(C)",
        "repeat choose { 2..4 step 2, 7 } as i { f(k=i) }",
        "choose { a: conv(3), choose { 1, 2 } }",
        "independent normal(C=2*C)",
        r'f("a \"b\" \\ \n")',
        "sum()",
        "1.5M.x",
    ],
)
def test_text_with_no_parentheses_but_the_needed_ones_is_kept(text: str) -> None:
    assert to_text(expression(text)) == text


def test_needless_parentheses_go() -> None:
    assert to_text(expression("((a) + ((b*c)) >> (f)(((1))))")) == "a + b*c >> f(1)"


def test_long_items_are_wrapped_and_indented() -> None:
    stages = " >> ".join(f"stage_number_{i}" for i in range(12))
    text = to_text(good(f"space s {{ op long = {stages} network {{ a: {stages} }} }}"))
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert "\n      >> stage_number_" in text


def test_a_file_reads_like_this() -> None:
    text = """\
space s from "base.nas" {
  doc "what it is"

  param C = 16
  input image(3, 32, 32)
  width[1..5] = choose { 8..64 step 8 }

  op f(k; C, stride=1) = conv(k, C) >> g
    where g = relu
  set candidates(; C) = { none, f(3) }
  candidates += { f(5) }

  cell c(x) {
    a = x >> f(3)
    return a
  }

  cell d = c(s=2)

  network {
    stem: conv(3, C)
    body: repeat 3 { c }
  }
}
"""
    assert to_text(good(text)) == text


SAMPLES = [
    "a",
    "1",
    '"s"',
    "[a]",
    "(a, b)",
    "-a",
    "a or b",
    "a and b",
    "a < b",
    "a + b",
    "a - b",
    "a*b",
    "a//b",
    "if a then b else c",
    "a >> b",
    "a with b=c",
    "a(b)",
    "a[b]",
    "a.b",
    "choose { a }",
    "choose a",
    "repeat a { b }",
    "independent a",
    "sum(a)",
    "sum of all from (a)",
    "sum of choose 1 from (a) via b into c",
]
PLACES = [
    "[{}, x]",
    "({}, x)",
    "-{}",
    "{} or x",
    "x or {}",
    "{} and x",
    "x and {}",
    "{} < x",
    "x < {}",
    "{} - x",
    "x - {}",
    "{}/x",
    "x/{}",
    "if {} then x else y",
    "if x then {} else y",
    "if x then y else {}",
    "{} >> x",
    "x >> {}",
    "x >> {} >> y",
    "{} with x=y",
    "x with y={}",
    "{}(x)",
    "x({})",
    "x(y={})",
    "{}[x]",
    "x[{}]",
    "{}.x",
    "choose {{ {} }}",
    "choose {{ x: {}..{} step {} }}",
    "repeat {} {{ x }}",
    "repeat {} as i {{ x }}",
    "repeat x {{ {} }}",
    "sum({}, x={})",
    "sum of choose {} from (x)",
    "sum of choose {}.. from (x)",
    "sum of choose {}..{} from (x)",
    "sum of all from (x[{}] with y={} via {}, earlier via {}) via {} into {}",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("sample", SAMPLES)
def test_every_kind_of_expression_can_stand_everywhere(place: str, sample: str) -> None:
    tree = expression(place.replace("{}", f"({sample})").replace("{{", "{").replace("}}", "}"))
    assert expression(to_text(tree)) == tree
