"""`nasdsl diff`: a level that is said to hold holds."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasdsl
from nasdsl.cli import main
from nasdsl.identity.compare import compare

BASE = """space b {
  input image(3, 16)
  cell c(x; C) {
    n[1..2] = sum of choose 1.. from (x, earlier) via choose { id, conv: conv(3, C) }
    return n[2]
  }
  network { stem: conv(3, 8)  body: repeat 2 { c(C=8) }  head: global_pool >> linear(10) }
}
"""
EDITS = {
    "a comment": (("space b {", "# why\nspace b {"), (True, True, True)),
    "an option more": (("id, conv", "id, relu, conv"), (True, True, True)),
    "an option with weights more": (("id, conv", "id, big: conv(5, C), conv"), (True, True, True)),
    "an option less": (("{ id, ", "{ "), (False, True, True)),
    "another width": (("stem: conv(3, 8)", "stem: conv(3, 8) >> bn"), (True, True, False)),
    "more classes": (("linear(10)", "linear(20)"), (True, False, False)),
    "a narrower choice": (("choose 1..", "choose 1"), (False, True, True)),
    "a wider choice": (("choose 1..", "choose 0.."), (True, True, True)),
    "a decision more": (("linear(10)", "choose { relu, gelu } >> linear(10)"), (False, True, False)),
    "a limit": (("  network", "  limit params <= 700\n  network"), (False, True, True)),
    "an option that does something else": (
        ("conv: conv(3, C)", "conv: conv(3, C) >> relu"),
        (True, True, False),
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_levels(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (change, expected) = EDITS[name]
    text = BASE.replace(*change)
    assert text != BASE
    old, new = tmp_path / "old.nas", tmp_path / "new.nas"
    old.write_text(BASE)
    new.write_text(text)
    before, after = nasdsl.load(old), nasdsl.load(new)
    found = compare(before.checked, after.checked)
    assert tuple(level.holds for level in found.levels) == expected, found
    if found.levels[0].holds:
        for arch in before.sample(30, seed=1):
            assert after.architecture(arch.choices).choices == arch.choices
    assert main(["diff", str(old), str(new)]) == (0 if all(expected) else 1)
    assert capsys.readouterr().out


def test_an_architecture_of_another_space_says_so(tmp_path: Path) -> None:
    arch = nasdsl.load("nasbench201").sample(1)[0]
    with pytest.raises(nasdsl.UserError, match="NAS402"):
        nasdsl.load("cream").parse(arch.to_json())


def test_the_same_space_is_identical() -> None:
    darts = nasdsl.load("darts").checked
    assert compare(darts, nasdsl.load("darts").checked).identical
