"""Clouds and axes hold what they are given, whatever the numbers, and read in the light and in the dark."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from nasdsl.drawing.axes import HUGE, counted, drawable, linear, powers, short
from nasdsl.drawing.cloud import MOST_FAINT, Layer, Point, draw_cloud, floor_of, points_of, thinned
from nasdsl.drawing.colours import DARK, LIGHT, NAMES, style_sheet
from nasdsl.drawing.points import draw_points

ODD = st.one_of(
    st.floats(),
    st.integers(-(10**400), 10**400),
    st.sampled_from([None, "x", True, 0.0, 5e-324, -1e290, 1e290, 93.25, 93.25000001]),
)
USUAL = st.floats(-HUGE, HUGE)


def dots(svg: str, colour: str) -> list[tuple[float, float]]:
    """Where the points of a layer lie; its legend's own dot is left out."""
    paths = [e for e in ElementTree.fromstring(svg).iter() if e.get("class") == f"stroke-{colour}"]
    found = [re.findall(r"M(\S+) (\S+)h0", e.get("d", "")) for e in paths]
    return [(float(x), float(y)) for places in found for x, y in places if float(y) != 40]


def dashes(svg: str) -> int:
    return svg.count("stroke-dasharray")


@given(st.lists(st.tuples(ODD, ODD), max_size=30), st.lists(st.tuples(ODD, ODD), max_size=10), st.lists(ODD))
def test_any_numbers_make_a_picture_that_holds_them(
    back: list[tuple[object, object]], front: list[tuple[object, object]], edges: list[object]
) -> None:
    layers = [Layer("<&>", points_of([c for c, _ in p], [f for _, f in p])) for p in (back, front)]
    svg = draw_cloud(*layers, edges, "MACs", "score")  # type: ignore[arg-type]
    assert not re.search(r"\b(nan|inf|None)\b", svg)
    for colour, layer in zip(("faint", "accent"), layers, strict=True):
        assert all(drawable(v) for point in layer.points for v in point)
        places = dots(svg, colour)
        assert bool(places) == bool(layer.points)
        assert len(places) == len(set(places)) <= len(layer.points)
        assert all(0 < x <= 610 and 60 <= y <= 360 for x, y in places)
    assert dashes(svg) == len({float(e) for e in edges if drawable(e)})  # type: ignore[arg-type]


@given(st.lists(USUAL))
def test_a_linear_scale_holds_its_values_between_round_ticks_that_read_differently(
    values: list[float],
) -> None:
    for axis in (linear(values), linear(values, short)):
        assert all(a < b for a, b in pairwise(axis.ticks))
        assert len(set(axis.labels)) == len(axis.ticks)
        assert 2 <= len(axis.ticks) <= 7
        assert all(-1e-6 <= axis.share(v) <= 1 + 1e-6 for v in values)


@given(st.lists(st.integers(0, 10**400), min_size=1))
def test_a_scale_of_powers_holds_what_no_float_can(sizes: list[int]) -> None:
    axis = powers(sizes)
    assert axis.ticks == tuple(sorted(set(axis.ticks)))
    assert len(set(axis.labels)) == len(axis.labels) <= 8
    assert 10**axis.low <= max(1, min(sizes))
    assert max(sizes) <= 10**axis.high


@given(st.lists(st.integers(-1000, 1000), min_size=1))
def test_a_scale_of_whole_numbers_has_whole_ticks(numbers: list[int]) -> None:
    axis = counted(numbers)
    assert axis.ticks
    assert len(axis.ticks) <= 8
    assert all(t == int(t) and min(numbers) <= t <= max(numbers) for t in axis.ticks)
    assert all(0 < axis.share(n) < 1 for n in numbers)


def test_higher_is_higher_and_dearer_is_further_right() -> None:
    layer = Layer("", tuple((float(i), float(i)) for i in range(20)))
    places = sorted(dots(draw_cloud(Layer("", ()), layer, [], "", ""), "accent"))
    assert len(places) == 20
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)


def test_many_faint_points_are_thinned_to_the_same_ones_and_the_part_is_not() -> None:
    many = tuple((float(i), float(i * i % 7919)) for i in range(20_000))
    chosen = thinned(many)
    assert len(chosen) == len(set(chosen)) == MOST_FAINT
    assert set(chosen) <= set(many)
    assert thinned(many) == chosen
    assert thinned(many[:MOST_FAINT]) == many[:MOST_FAINT]
    svg = draw_cloud(Layer("all", many), Layer("part", many), [], "MACs", "score")
    assert svg == draw_cloud(Layer("all", many), Layer("part", many), [], "MACs", "score")
    assert len(dots(svg, "faint")) <= MOST_FAINT < len(dots(svg, "accent"))
    assert len(svg) < 1_000_000


def test_a_few_failures_lie_on_the_lower_edge_and_half_a_space_does_not() -> None:
    good: list[Point] = [(float(i), 90 + i / 25) for i in range(100)]
    few, half = Layer("", (*good, (3.0, 10.0))), Layer("", tuple((c, f if c % 2 else 10.0) for c, f in good))
    nothing = Layer("", ())
    assert floor_of(few, nothing) == 90
    assert floor_of(half, nothing) == 10
    svg = draw_cloud(few, nothing, [], "", "")
    ys = [y for _, y in dots(svg, "faint")]
    assert max(ys) == 360
    assert sorted(ys)[50] < 240, "the others have the room"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_both_grounds_have_every_colour_and_what_is_read_stands_out() -> None:
    assert set(LIGHT) == set(DARK)
    assert len(NAMES) == len(LIGHT)
    for palette in (LIGHT, DARK):
        # What WCAG 2.2 asks of text (1.4.3) and of graphics (1.4.11); the faint layer is meant to be faint.
        assert all(contrast(palette[n], palette["ground"]) >= 4.5 for n in ("ink", "grey"))
        assert all(contrast(palette[n], palette["ground"]) >= 3 for n in ("accent", "second"))
        assert contrast(palette["faint"], palette["ground"]) >= 2


def test_every_colour_of_a_chart_has_a_rule_and_other_pictures_name_none() -> None:
    svg = draw_cloud(Layer("a", ((1.0, 2.0),)), Layer("b", ((2.0, 3.0),)), [1.5], "MACs", "score")
    classes = {c for e in ElementTree.fromstring(svg).iter() for c in (e.get("class") or "").split()}
    assert {"fill-ground", "fill-ink", "fill-grey", "stroke-grid", "stroke-faint", "stroke-accent"} <= classes
    assert all(f".{c} {{" in style_sheet() for c in classes)
    painted = {v for e in ElementTree.fromstring(svg).iter() for a in ("fill", "stroke") if (v := e.get(a))}
    assert painted - {"none"} <= set(NAMES)
    assert "class=" not in draw_points([(1.0, 0.9, True), (2.0, 0.8, False)], "MACs")
