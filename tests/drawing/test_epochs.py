"""Charts over epochs show every number where it lies, and nothing that is no number."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.drawing.colours import LIGHT, NAMES, PALETTE
from nasdsl.drawing.epochs import Chart, Line, draw_epochs, draw_inputs, draw_shares

BLUE, ORANGE = LIGHT["accent"], LIGHT["second"]


def paths(chart: Chart, colour: str, how: str) -> list[str]:
    return [e.get("d") or "" for e in ET.fromstring(chart.svg).iter() if e.get(how) == colour and e.get("d")]


def lines_of(chart: Chart, colour: str) -> list[list[tuple[float, float]]]:
    """The lines of a colour, without their marks."""
    found = [d for d in paths(chart, colour, "stroke") if "h0" not in d]
    return [[tuple(map(float, p.split())) for p in d[1:].split(" L")] for d in found]  # type: ignore[misc]


def rectangles(chart: Chart, colour: str) -> list[tuple[float, float]]:
    """Left and right of the rectangles of a colour."""
    found = [
        re.fullmatch(r"M([\d.]+) [\d.]+H([\d.]+)V[\d.]+H[\d.]+Z", d) for d in paths(chart, colour, "fill")
    ]
    return [(float(m[1]), float(m[2])) for m in found if m]


def test_an_epoch_lies_where_the_chart_says() -> None:
    chart = draw_epochs([Line("", BLUE, ((1, 0.0), (2, 5.0), (3, 10.0)))], "t", [1, 2, 3])
    (line,) = lines_of(chart, BLUE)
    assert [x for x, _ in line] == pytest.approx([chart.first + chart.step * e for e in (1, 2, 3)], abs=0.06)
    assert line[0][1] == pytest.approx(chart.bottom, abs=0.06)
    assert line[2][1] == pytest.approx(chart.top, abs=0.06)


def test_a_gap_breaks_a_line_unless_it_is_sparse() -> None:
    points = ((1, 1.0), (2, 2.0), (3, None), (4, math.nan), (5, 1.5), (6, 1.0))
    epochs = list(range(1, 7))
    assert [len(p) for p in lines_of(draw_epochs([Line("", BLUE, points)], "t", epochs), BLUE)] == [2, 2]
    sparse = draw_epochs([Line("", BLUE, points, sparse=True)], "t", epochs)
    assert [len(p) for p in lines_of(sparse, BLUE)] == [4]


def test_a_point_between_gaps_is_a_mark() -> None:
    points = tuple((e, 1.0 if e == 40 else None) for e in range(1, 80))
    chart = draw_epochs([Line("", BLUE, points)], "t", list(range(1, 80)))
    (mark,) = paths(chart, BLUE, "stroke")
    assert float(re.fullmatch(r"M(\S+) \S+h0", mark)[1]) == pytest.approx(
        chart.first + 40 * chart.step, abs=0.1
    )  # type: ignore[index]


def test_lines_differ_beside_their_colours() -> None:
    two = [Line(n, c, ((1, 1.0), (2, 2.0))) for n, c in (("a", BLUE), ("b", ORANGE))]
    root = ET.fromstring(draw_epochs(two, "t", [1, 2]).svg)
    dashed = [e.get("stroke") for e in root.iter() if e.get("stroke-dasharray")]
    assert dashed == [ORANGE]


NUMBERS = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1e300, -1e300, math.inf, 1e-310]))


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.lists(NUMBERS, max_size=3))
def test_any_numbers_make_a_picture(values: list[float | None], other: list[float | None]) -> None:
    epochs = list(range(1, len(values) + 1))
    lines = [Line("a", BLUE, tuple(zip(epochs, values, strict=True)))]
    lines.append(Line("b", ORANGE, tuple(zip(epochs, other, strict=False))))
    chart = draw_epochs(lines, "t", epochs, include=(0.0,))
    assert not re.search(r"\b(nan|inf)\b", chart.svg)
    for line in (*lines_of(chart, BLUE), *lines_of(chart, ORANGE)):
        assert all(chart.top - 0.1 <= y <= chart.bottom + 0.1 for _, y in line)


SHARES = [(1, (0.25, 0.75)), (2, (0.5, 0.5)), (3, (1.0, 0.0))]
CHOSEN = [(1, PALETTE[1]), (2, PALETTE[0]), (3, PALETTE[0])]


def test_shares_are_stacked_and_what_is_derived_is_a_strip() -> None:
    chart = draw_shares(SHARES, PALETTE[:2], CHOSEN, "t", [1, 2, 3])
    upper = [d for d in paths(chart, PALETTE[1], "fill") if d.count("V") > 1]
    lower = [d for d in paths(chart, PALETTE[0], "fill") if d.count("V") > 1]
    heights = [[float(v) for v in re.findall(r"V([-\d.]+)", d)] for d in (*upper, *lower)]
    ground, top = heights[0][-1], min(heights[0])
    assert all(v == top for v in heights[0][:3]), "all of them together reach 1 at every epoch"
    shares = [(ground - v) / (ground - top) for v in heights[1][:3]]
    assert shares == pytest.approx([0.25, 0.5, 1.0], abs=0.01)
    edge = [chart.first + chart.step * e for e in (0.5, 1.5, 3.5)]
    assert rectangles(chart, PALETTE[1]) == [pytest.approx(edge[:2], abs=0.06)]
    assert rectangles(chart, PALETTE[0]) == [pytest.approx(edge[1:], abs=0.06)]


def test_without_shares_the_strip_is_the_picture() -> None:
    chart = draw_shares([], PALETTE[:2], CHOSEN, "t", [1, 2, 3])
    assert len(rectangles(chart, PALETTE[0])) == len(rectangles(chart, PALETTE[1])) == 1


def test_inputs_have_a_row_each_underlined_while_they_are_taken() -> None:
    taken = [(1, (True, False)), (2, (True, False)), (4, (True, True))]
    chart = draw_inputs(
        [(1, (1.0, 0.0)), (2, (1.0, 0.0))], PALETTE[:2], ["a", "n[1]"], taken, "t", [1, 2, 3, 4]
    )
    assert ">a<" in chart.svg
    assert ">n[1]<" in chart.svg
    edge = [chart.first + chart.step * e for e in (0.5, 2.5, 3.5, 4.5)]
    # The likelihood of the first two epochs, what was taken in them, and, an epoch that the log lacks later, again.
    first = [edge[:2], edge[:2], edge[2:]]
    assert rectangles(chart, PALETTE[0]) == [pytest.approx(e, abs=0.06) for e in first]
    assert rectangles(chart, PALETTE[1]) == [pytest.approx(edge[2:], abs=0.06)]


def test_every_colour_has_a_class() -> None:
    charts = (
        draw_epochs([Line("", BLUE, ((1, 1.0),))], "t", [1]),
        draw_shares(SHARES, PALETTE[:2], CHOSEN, "t", [1, 2, 3]),
        draw_inputs([], PALETTE[:1], ["a"], [(1, (True,))], "t", [1]),
    )
    for chart in charts:
        root = ET.fromstring(chart.svg)
        assert root.get("role") == "img"
        painted = {
            (a, e.get(a)) for e in root.iter() for a in ("fill", "stroke") if e.get(a) not in (None, "none")
        }
        classes = {c for e in root.iter() for c in (e.get("class") or "").split()}
        assert {f"{a}-{NAMES[c]}" for a, c in painted if c} <= classes
