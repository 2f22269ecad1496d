"""The formatter: same tree, same comments, and nothing left to do the second time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasdsl.cli import main
from nasdsl.diagnostics import Diagnostics, Source
from nasdsl.errors import UserError
from nasdsl.resources import library_path, shipped_spaces
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.format import format_text
from nasdsl.syntax.parse import parse
from nasdsl.syntax.print import to_text
from nasdsl.syntax.tokens import lex
from tests.strategies_ast import files

SHIPPED = [*shipped_spaces().values(), library_path()]


def tree(text: str) -> ast.File | None:
    return parse(Source("x.nas", text), Diagnostics())


def comments(text: str) -> list[str]:
    """Comments in order; what stands in strings is none."""
    bare = re.sub(r'"(?:\\.|[^"\\\n])*"', lambda m: "_" * len(m.group()), text)
    return [c.rstrip() for c in re.findall(r"#[^\n]*", bare)]


def law(text: str) -> str:
    made = format_text(text)
    assert tree(made) == tree(text)
    assert comments(made) == comments(text)
    assert format_text(made) == made
    assert not any(line != line.rstrip() or "\t" in line for line in made.split("\n"))
    assert made.endswith("\n")
    assert "\n\n\n" not in made
    return made


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_spaces_are_formatted(path: Path) -> None:
    text = path.read_text("utf-8")
    assert law(text) == text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files, st.data())
def test_any_file_with_comments_anywhere(file: ast.File, data: st.DataObject) -> None:
    text = to_text(file)
    tokens = lex(Source("x.nas", text), grammar.words()).tokens
    places = data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=8, unique=True))
    for number, place in enumerate(sorted(places, reverse=True)):
        at = tokens[place].span.start
        word = data.draw(st.sampled_from(["# note", "#", "\n  # own line", "\n\n# after a blank"]))
        text = f"{text[:at]}{word} {number}\n{text[at:]}"
    law(text)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files, st.randoms(use_true_random=False))
def test_any_blanks_between_tokens(file: ast.File, random: object) -> None:
    text = to_text(file)
    tokens = lex(Source("x.nas", text), grammar.words()).tokens
    choose = random.choice  # type: ignore[attr-defined]
    law("".join(choose([" ", "\n", "\n\n\n", "   "]) + t.text for t in tokens))


def test_a_layout() -> None:
    text = """space s {input image(3,8)   # trailing
  set a={relu,  # first
     lbl : swish,
  # own line
  bn}
  cell c(x;C){y=x>>conv(3,C) return sum(y , x)} # after
param C=-3+2*4
  network{stem:conv(3,8)  body:repeat 2{c(C=8)} # hm
   # before head


   head:global_pool>>linear(10)}
}\r\n# end"""
    assert (
        law(text)
        == """space s {
  input image(3, 8)  # trailing
  set a = {
    relu,  # first
    lbl: swish,
    # own line
    bn
  }
  cell c(x; C) {
    y = x >> conv(3, C)
    return sum(y, x)
  }  # after
  param C = -3 + 2*4
  network {
    stem: conv(3, 8)
    body: repeat 2 { c(C=8) }  # hm
    # before head

    head: global_pool >> linear(10)
  }
}
# end
"""
    )


def test_columns_that_the_author_aligned_stay_aligned() -> None:
    aligned = "space s {\n  param a   = 1\n  param bcd = 2\n}\n"
    assert format_text(aligned) == aligned
    assert format_text(aligned.replace("a   =", "a =")) == aligned.replace("a   =", "a =")
    assert format_text(aligned.replace("a   =", "a  =")) == aligned


def test_what_does_not_parse_is_refused() -> None:
    with pytest.raises(UserError, match="NAS001"):
        format_text("space s { param }")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.nas", tmp_path / "bad.nas"
    good.write_text("space s {param C=1}\n")
    bad.write_text("space s { param }\n")
    assert main(["fmt", "--check", str(good)]) == 1
    assert good.read_text() == "space s {param C=1}\n"
    assert main(["fmt", "--diff", str(good)]) == 1
    assert "+  param C = 1" in capsys.readouterr().out
    assert main(["fmt", str(good), str(bad)]) == 1
    out, err = capsys.readouterr()
    assert (out, "NAS001" in err) == (f"{good}\n", True)
    assert good.read_text() == "space s {\n  param C = 1\n}\n"
    assert bad.read_text() == "space s { param }\n"
    assert main(["fmt", "--check", str(good)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.nas", "good.nas"]
