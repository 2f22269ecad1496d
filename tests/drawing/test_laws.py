"""Laws of pictures, on random spaces: all that was chosen is shown, and nothing lies over a label."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings

import nasdsl
from nasdsl.drawing import draw_architecture, draw_space
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice
from tests.drawing.test_drawing import texts
from tests.strategies import checked, nas_spaces, with_architecture

some = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
Box = tuple[float, float, float, float]


def labels(svg: str) -> list[Box]:
    """The frames of labels: the rectangles with round ends."""
    return [
        tuple(float(e.get(k, "0")) for k in ("x", "y", "width", "height"))  # type: ignore[misc]
        for e in ElementTree.fromstring(svg).iter()
        if e.tag.endswith("}rect") and e.get("rx") == "9"
    ]


def points(path: str) -> list[tuple[float, float]]:
    """Places along an edge: `M x y`, then `C` with six numbers or `H` with one."""
    found: list[tuple[float, float]] = []
    for command, rest in re.findall(r"([MCH])([^MCH]*)", path):
        numbers = [float(n) for n in rest.split()]
        if command == "M":
            found.append((numbers[0], numbers[1]))
        elif command == "H":
            found.append((numbers[0], found[-1][1]))
        else:
            a, b, c, d = found[-1], *zip(numbers[::2], numbers[1::2], strict=True)
            for i in range(1, 21):
                t = i / 20
                weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                x, y = (sum(w * p[k] for w, p in zip(weights, (a, b, c, d), strict=True)) for k in (0, 1))
                found.append((x, y))
    return found


def crossings(svg: str) -> list[tuple[Box, str]]:
    """Labels with an edge through them that is not their own."""
    found = []
    paths = [e.get("d", "") for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}path")]
    for x, y, width, height in labels(svg):
        for path in (p for p in paths if " C" in p):
            ways = points(path)
            inside = [(a, b) for a, b in ways if x + 1 < a < x + width - 1 and y < b < y + height]
            # Its own edge runs along its middle from one side to the other.
            inside = [(a, b) for a, b in inside if abs(b - (y + height / 2)) > 0.3]
            level = [
                p
                for p, q in pairwise(ways)
                if p[1] == q[1] and q[0] - p[0] > width / 2 and p[0] <= x + 1 and q[0] >= x + width - 1
                if y < p[1] < y + height and abs(p[1] - (y + height / 2)) > 0.3
            ]
            if inside or level:
                found.append(((x, y, width, height), path))
    return found


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def tidy(svg: str) -> None:
    frames = labels(svg)
    assert not [(a, b) for i, a in enumerate(frames) for b in frames[i + 1 :] if overlap(a, b)]
    assert not crossings(svg)
    width, height = (float(ElementTree.fromstring(svg).get(k, "0")) for k in ("width", "height"))
    assert all(min(x, y) >= 0 and x + w <= width and y + h <= height for x, y, w, h in frames)


@some
@given(nas_spaces())
def test_a_space_lists_every_option_and_its_labels_are_free(text: str) -> None:
    space = checked(text)
    svg = draw_space(space)
    tidy(svg)
    shown = set(texts(svg))
    assert {o for d in space.table.decisions if d.kind == "op" for o in d.options} <= shown


@some
@given(with_architecture())
def test_an_architecture_shows_every_decision(drawn: tuple[CheckedSpace, dict[str, Choice]]) -> None:
    space, choices = drawn
    svg = draw_architecture(space, choices)
    tidy(svg)
    shown = texts(svg)
    taken = Counter(v for v in choices.values() if isinstance(v, str) and v != "none")
    for option, count in taken.items():
        assert f"{option} ({count})" in shown
        assert any(t == option or t.endswith(f": {option}") for t in shown)
    assert svg == draw_architecture(space, dict(reversed(choices.items())))


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_labels_of_published_spaces_are_free(name: str) -> None:
    space = nasdsl.load(name)
    tidy(space.draw())
    for arch in space.sample(30, seed=3):
        tidy(space.draw(arch))


def test_the_checks_notice_a_crossed_label() -> None:
    frame = '<rect x="10" y="10" width="40" height="18" rx="9"/>'
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100">'
    for path in ("M0 0 C0 0 0 14 5 14 H60", "M0 0 C20 10 30 25 60 60"):
        assert crossings(f'{head}{frame}<path d="{path}"/></svg>')
    assert not crossings(f'{head}{frame}<path d="M0 0 C0 0 0 19 5 19 H60"/></svg>')
    assert overlap((0, 0, 10, 10), (9, 9, 10, 10))


def test_an_option_that_is_not_active_is_not_drawn() -> None:
    text = """space s { input image(3, 8, 8)
      cell c(x) { n[1..2] = sum of all from (x, earlier) via choose { id, relu }  return n[2] }
      cell d = c()
      network { stem: conv(3, 4)  body: choose { p: c, q: d }  head: global_pool >> linear(10) } }"""
    space = checked(text)
    assert {"c", "d"} <= set(texts(draw_space(space)))
    choices: dict[str, Choice] = {"body.op": "p"}
    choices.update({d.path: "id" for d in space.table.active(choices) if d.path != "body.op"})
    shown = texts(draw_architecture(space, choices))
    assert "c" in shown
    assert "d" not in shown
