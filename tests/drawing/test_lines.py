"""Lines break where a number is missing, and show spread, levels and what was not kept."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from nasdsl.drawing.axes import drawable
from nasdsl.drawing.colours import LIGHT
from nasdsl.drawing.lines import Series, Step, draw_lines, draw_rounds

ODD = st.one_of(st.none(), st.floats(), st.floats(-2, 2))
BLUE, ORANGE = LIGHT["accent"], LIGHT["second"]


def elements(svg: str, tag: str, **wanted: str) -> list[ElementTree.Element]:
    found = [e for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}" + tag)]
    return [e for e in found if all(e.get(k) == v for k, v in wanted.items())]


def lines(svg: str, colour: str) -> list[str]:
    """The broken lines of a series."""
    return [d for e in elements(svg, "path", stroke=colour) if " L" in (d := e.get("d", ""))]


def bars(svg: str, colour: str) -> int:
    return sum("h8" in e.get("d", "") for e in elements(svg, "path", stroke=colour))


@given(st.lists(st.tuples(ODD, ODD), max_size=40), st.booleans())
def test_any_series_makes_a_picture(values: list[tuple[float | None, float | None]], band: bool) -> None:
    points = tuple((float(i), y) for i, (y, _) in enumerate(values, 1))
    series = Series("walks", BLUE, points, tuple(s for _, s in values), band)
    svg = draw_lines([series], "edits", "correlation", [(0.5, "0.5")])
    assert not re.search(r"\b(nan|inf|None)\b", svg)
    known = [drawable(y) for y, _ in values]
    circles = elements(svg, "circle")
    assert len(circles) == sum(known)
    assert all(60 <= float(c.get("cy", "")) <= 320 and 0 < float(c.get("cx", "")) <= 610 for c in circles)
    runs = re.findall("11+", "".join("01"[k] for k in known))
    assert len(lines(svg, BLUE)) == len(runs)
    assert bars(svg, BLUE) == (0 if band else sum(drawable(y) and drawable(s) and s != 0 for y, s in values))


def test_levels_and_names_are_written() -> None:
    one = Series("walks", BLUE, ((1.0, 0.6), (2.0, 0.3)), (0.1, 0.1), band=True)
    two = Series("pairs", ORANGE, ((1.0, 0.5),))
    svg = draw_lines([one, two], "edits", "correlation", [(0.5, "half"), (0.37, "1/e")])
    texts = {e.text for e in elements(svg, "text")}
    assert {"walks", "pairs", "edits", "correlation", "half", "1/e"} <= texts
    assert svg.count("stroke-dasharray") == 2
    assert svg.count("fill-opacity") == 1


@given(
    st.lists(
        st.tuples(ODD, st.one_of(st.none(), st.floats(0)), st.integers(0, 10**400), st.booleans()),
        max_size=20,
    )
)
def test_any_rounds_make_a_picture(values: list[tuple[float | None, float | None, int, bool]]) -> None:
    svg = draw_rounds([Step(i, *v) for i, v in enumerate(values)], "mean", "size")
    assert not re.search(r"\b(nan|inf|None)\b", svg)
    dropped = [v for v in values if not v[3]]
    hollow = elements(svg, "circle", fill=LIGHT["ground"])
    assert len(hollow) == len(dropped) + sum(drawable(m) for m, *_ in dropped)
    assert len(elements(svg, "circle", stroke=ORANGE)) == len(values)
    assert len(elements(svg, "circle", stroke=BLUE)) == sum(drawable(m) for m, *_ in values)


def test_sizes_are_on_a_logarithmic_scale() -> None:
    svg = draw_rounds([Step(i, 1.0, 0.1, 10 ** (6 - 2 * i), True) for i in range(3)], "mean", "size")
    ys = [float(e.get("cy", "")) for e in elements(svg, "circle", stroke=ORANGE)]
    assert ys[0] < ys[1] < ys[2]
    assert abs((ys[1] - ys[0]) - (ys[2] - ys[1])) < 0.2
