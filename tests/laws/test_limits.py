"""A limit decides which architectures belong to a space."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasdsl

TEXT = """
space limited {
  input image(3, 16)
  limit params <= 5k
  network { stem: conv(3, 16)  body: choose { small: conv(3), large: conv(5) }  head: global_pool >> linear(10) }
}
"""


def test_what_breaks_a_limit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "limited.nas"
    file.write_text(TEXT)
    space = nasdsl.load(file)
    assert space.stats(space.architecture({"body.op": "small"})).params == 432 + 2304 + 170
    with pytest.raises(nasdsl.UserError, match=r"7,002 params.*<= 5,000"):
        space.architecture({"body.op": "large"})
    assert space.count() == 1
    assert {a.choices["body.op"] for a in space.sample(5)} == {"small"}
    with pytest.raises(nasdsl.UserError, match="NAS901"):
        space.compile("darts")
