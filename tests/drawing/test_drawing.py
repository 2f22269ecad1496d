"""Pictures are well-formed, self-contained, deterministic, and show what was chosen."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

import nasdsl
from nasdsl.diagnostics import Source
from nasdsl.drawing import draw_architecture, draw_space
from nasdsl.space.checked import check_source


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_every_operation_that_is_connected_is_shown(name: str) -> None:
    space = nasdsl.load(name)
    for arch in space.sample(5, seed=1):
        shown = texts(space.draw(arch))
        wanted = [v for v in arch.choices.values() if isinstance(v, str) and v != "none"]
        for option in set(wanted):
            assert shown.count(option) == wanted.count(option)


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_same_bytes_and_nothing_from_outside(name: str) -> None:
    first, second = nasdsl.load(name), nasdsl.load(name)
    assert first.draw() == second.draw()
    svg = first.draw().replace("http://www.w3.org/2000/svg", "")
    assert "http" not in svg
    assert "<script" not in svg


def test_text_of_a_file_cannot_leave_its_element() -> None:
    text = """space s { doc "</text><script>alert(1)</script> & \\""
      input image(3, 8, 8)
      cell c(x) { n[1..2] = sum of all from (x, earlier) via choose { id, conv(3) }  return n[2] }
      network { stem: conv(3, 4)  body: c  head: global_pool >> linear(10) } }"""
    space, diagnostics = check_source(Source("s.nas", text))
    assert space is not None, diagnostics.items
    svg = draw_space(space)
    assert "<script" not in svg
    assert any("alert(1)" in t for t in texts(svg))


def test_decisions_of_the_network_itself_are_listed() -> None:
    text = """space s { input image(3, 8, 8)
      network { stem: conv(3, 4)  body: repeat 2 { choose { a: conv(3), b: conv(5) } }
                head: global_pool >> linear(10) } }"""
    space, _ = check_source(Source("s.nas", text))
    assert space is not None
    shown = texts(draw_architecture(space, {"body[1].op": "a", "body[2].op": "b"}))
    assert {"a", "b", "body[1]", "body[2]"} <= set(shown)
