"""One run tells of every mistake, and one mistake is told once."""

from __future__ import annotations

from nasdsl.space.checked import check_text

TEXT = """space s {
  param C = 8
  input image(3, 16)
  op cbr(k; C, stride=1) = conv(k, C, stride=stride) >> bn >> relu
  set ops(; C) = { three: cbr(3, 4, 5), one: cbr(1), same: idd }
  cell block(x; C) {
    n[1..3] = sum of choose 1..2 from (x, earlir) via choose ops
    return concat(n)
  }
  BROKEN
  network {
    stem: conv(3, C)
    b: block(D=3)
    head: global_pool >> linear(10)
  }
}
"""


def found(text: str) -> list[tuple[str, int]]:
    return [(d.code, d.primary.span.line) for d in check_text(text).errors if d.primary is not None]


def test_names_and_arguments_together() -> None:
    wrong = found(TEXT.replace("  BROKEN\n", ""))
    assert wrong == [("NAS102", 5), ("NAS101", 5), ("NAS101", 7), ("NAS102", 12)]


def test_a_syntax_error_hides_nothing_that_it_cannot_have_caused() -> None:
    wrong = found(TEXT.replace("BROKEN", "op wide = conv(3,, 8)"))
    assert wrong == [("NAS102", 5), ("NAS101", 5), ("NAS101", 7), ("NAS001", 10), ("NAS102", 13)]


def test_what_a_broken_item_may_define_is_not_missed() -> None:
    text = (
        TEXT.replace("idd", "wide")
        .replace("earlir", "earlier")
        .replace("cbr(3, 4, 5)", "cbr(3)")
        .replace("D=3", "C=3")
    )
    assert found(text.replace("BROKEN", "op wide = conv(3,, 8)")) == [("NAS001", 10)]
    assert found(text.replace("BROKEN", "opp wide = conv(3)"))[0] == ("NAS001", 10)
    assert len(found(text.replace("BROKEN", "opp wide = conv(3)"))) == 1
