"""What is counted is what is drawn from: encodings and distinct networks, with limits and without."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Mapping

import pytest

import nasdsl
from nasdsl.cases import Choice
from nasdsl.diagnostics import Source, render
from nasdsl.identity.canonical import certificate, form_of
from nasdsl.identity.distinct import tally
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.population import Population
from nasdsl.ir.cost import module_count
from nasdsl.passes.specialise import Specialise
from nasdsl.space.checked import CheckedSpace, check_source


def space_of(text: str) -> CheckedSpace:
    space, found = check_source(Source("small.nas", text))
    assert space is not None, render(found.items)
    return space


def network_form(space: CheckedSpace, choices: Mapping[str, Choice]) -> Hashable:
    """The canonical form of the network that is really built: by the other way, through `specialise`."""
    return certificate(form_of(Specialise(choices)(space.module)))


def brute_force(space: CheckedSpace) -> set[Hashable]:
    return {network_form(space, c) for c in Encodings(space.table).all()}


def uniform(seen: Counter[Hashable], kinds: int, draws: int) -> bool:
    """Chi-square against the uniform distribution: within four deviations of its expectation."""
    expected = draws / kinds
    chi2 = sum((n - expected) ** 2 / expected for n in seen.values()) + (kinds - len(seen)) * expected
    return abs(chi2 - (kinds - 1)) < 4 * (2 * (kinds - 1)) ** 0.5


# --- published counts --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "encodings", "distinct"),
    [
        ("nasbench201", 15_625, 5_425),
        ("nats_size", 32_768, 32_768),
        ("cream", 6**20, 6**20),
        ("ofa", 2 * 25 * (9**2 + 9**3 + 9**4) ** 5, 2 * 25 * (9**2 + 9**3 + 9**4) ** 5),
        ("autoformer", 3 * (4**12 + 4**13 + 4**14), 3 * (4**12 + 4**13 + 4**14)),
        ("residual_mlp", 5 * (6 + 6**2 + 6**3 + 6**4), 5 * (6 + 6**2 + 6**3 + 6**4)),
    ],
)
def test_counts_of_the_shipped_spaces(name: str, encodings: int, distinct: int) -> None:
    space = nasdsl.load(name)
    assert space.count() == encodings
    assert space.count(distinct=True) == distinct


def test_counts_in_the_benchmarks_own_sense() -> None:
    assert nasdsl.load("nasbench201").count(distinct="published") == 6_466
    space = nasdsl.load("nasbench101")
    assert space.count(distinct="published") == 423_624
    assert space.count() == 77_820_021


def test_what_has_no_exact_number_has_bounds() -> None:
    space = nasdsl.load("hierarchical")
    assert space.count() == 42_385_064
    with pytest.raises(nasdsl.UserError, match="NAS310"):
        space.count(distinct=True)
    found = space.tally(distinct=True)
    assert 0 < found.low < found.high == 42_385_064
    with pytest.raises(nasdsl.UserError, match="NAS403"):
        space.count(distinct="published")


@pytest.mark.parametrize(
    ("space", "cell", "count"),
    [("nasbench201", "infer", 5_425), ("hierarchical", "motif", 60), ("darts", "reduce", 382_128_166)],
)
def test_distinct_forms_of_one_cell(space: str, cell: str, count: int) -> None:
    assert nasdsl.load(space).count(cell=cell, distinct=True) == count


@pytest.mark.parametrize(
    ("space", "cell", "distinct", "code"),
    [
        ("hierarchical", "top", True, "NAS310"),  # it calls `motif`, which has decisions
        ("nasbench101", "vertex", True, "NAS310"),  # its widths follow from its inputs
        ("nasbench101", None, True, "NAS310"),
        ("nasbench201", "infer", "published", "NAS403"),
        ("nasbench201", "inferr", True, "NAS101"),
    ],
)
def test_what_one_cell_cannot_be_asked(space: str, cell: str | None, distinct: bool | str, code: str) -> None:
    with pytest.raises(nasdsl.UserError, match=code):
        nasdsl.load(space).count(cell=cell, distinct=distinct)


def test_limits_count_where_a_cell_is_the_space() -> None:
    assert nasdsl.load("nasbench101").count(cell="vertex") == 77_820_021


# --- structure against enumeration -------------------------------------------

REDUCED = {
    "darts with two nodes": """space d from "darts.nas" { param layers = 3  param C = 4
      set candidates(; C, stride=1) = { max_pool(3, stride=stride), skip, sep(3), dil(3) }
      cell normal(p2, p1; C, s=1) {
        a = p2 >> (if p2.size > p1.size then shrink else pre)   b = p1 >> pre
        n[1..2] = sum of choose 2 from (a with stride=s, b with stride=s, earlier) via choose candidates
        return concat(n) }
      cell reduce(p2, p1; C) {
        a = p2 >> (if p2.size > p1.size then shrink else pre)   b = p1 >> pre
        return sum(a >> max_pool(3, stride=2), b >> max_pool(3, stride=2)) >> relu }
      }""",
    "a chain with skips": """space c { input image(3, 8)  network { stem: conv(3, 8)
      body: repeat 4 { choose { id, conv(1), conv(3) } }  more: choose { id, conv(3) >> conv(1) }
      head: global_pool >> linear(10) } }""",
    "depths of equal blocks": """space e { input image(3, 8)
      op block = sum(id, conv(choose { 1, 3 }))
      network { stem: conv(3, 8)  one: repeat choose { 0, 1, 2 } { block }  two: repeat choose { 1, 2 } { block }
      head: global_pool >> linear(10) } }""",
    "tied widths and a condition": """space t { input image(3, 8)  width[1..2] = choose { 4, 8 }
      op fit(out) = if cin == out then id else conv(1, out)
      network { stem: conv(3, width[1])  one: fit(width[2]) >> choose { relu, id }  two: fit(width[1])
      head: global_pool >> linear(10) } }""",
    "a shared cell": """space s { input image(3, 8)
      cell c(x) { n[1..2] = sum of all from (x, earlier) via choose { none, id, conv(3) }  return n[2] }
      network { stem: conv(3, 4)  body: repeat 2 { c }  down: conv(3, 8, stride=2)  again: repeat 2 { c }
      head: global_pool >> linear(10) } }""",
    "chosen inputs": """space g { input image(3, 8)
      cell c(x) { a = x >> conv(1)
        n[1..2] = sum of choose 1.. from (x, a, earlier) via choose { conv(3), relu }  return concat(n) }
      network { stem: conv(3, 4)  body: c  head: global_pool >> linear(10) } }""",
    "nested options": """space n { input image(3, 8)
      op deep = conv(3) >> choose { relu, swish, relu >> bn }
      network { stem: conv(3, 4)  body: repeat 2 { choose { id, deep, conv(3) } }
      head: global_pool >> linear(10) } }""",
}


SLOW = {"darts with two nodes", "chosen inputs"}
"""Half a minute and more; `make slow` has them."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in REDUCED]
)
def test_distinct_networks_equal_brute_force_and_are_drawn_uniformly(name: str) -> None:
    space = space_of(REDUCED[name])
    every = brute_force(space)
    found = tally(space.module, space.table)
    assert (found.low, found.high) == (len(every), len(every)), found.how
    assert found.draw is not None
    rng = random.Random(0)
    draws = max(2_000, 10 * len(every)) if len(every) < 700 else 0
    seen = Counter(network_form(space, found.draw(rng)) for _ in range(draws))
    assert set(seen) <= every
    assert not draws or uniform(seen, len(every), draws)


def test_the_large_cell_is_counted_by_patterns() -> None:
    """The method of DARTS's cells, against enumeration on two nodes (full size: `make slow`)."""
    from nasdsl.identity.encodings import restrict
    from nasdsl.identity.patterns import Cell, Patterns

    space = space_of(REDUCED["darts with two nodes"])
    call = [n for n in space.module.network.nodes if getattr(n, "owner", "") == "normal"][-1]
    sizes = {n: d.evaluate({}) for n, d in call.sizes}
    cell = Cell(space.module, space.module.by_name[call.graph], "normal", sizes)
    table = restrict(space.table, "normal")
    every = {certificate(cell.form(c)) for c in Encodings(table).all()}
    patterns = Patterns(cell, table)
    assert patterns.count == len(every) < Encodings(table).count()
    rng = random.Random(1)
    seen = Counter(certificate(cell.form(patterns.sample(rng))) for _ in range(8 * len(every)))
    assert set(seen) <= every
    assert uniform(seen, len(every), 8 * len(every))


# --- limits ------------------------------------------------------------------

LIMITED = """space l {{ input image(3, 8)  {limits}
  op block(k) = conv(k) >> choose {{ relu, swish }}
  cell c(x) {{ n[1..2] = sum of choose 1.. from (x, earlier) via choose {{ conv(3), conv(1), id }}  return n[2] }}
  network {{ stem: conv(3, 4)  body: repeat choose {{ 1, 2, 3 }} {{ block(choose {{ 1, 3 }}) }}  mid: c
  head: global_pool >> linear(10) }} }}"""


@pytest.mark.parametrize(
    "limits",
    [
        "limit params <= 400",
        pytest.param("limit macs > 20k", marks=pytest.mark.slow),
        pytest.param("limit params >= 250  limit params < 500", marks=pytest.mark.slow),
        "limit depth <= 4",
        pytest.param("limit depth >= 5  limit macs <= 40k", marks=pytest.mark.slow),
        "limit edges <= 2",
        pytest.param("limit params <= 420  limit macs <= 30k", marks=pytest.mark.slow),
    ],
)
def test_limits_keep_exactly_those_that_meet_them(limits: str) -> None:
    space = space_of(LIMITED.format(limits=limits))
    population = Population(space)
    kept = [
        c
        for c in Encodings(space.table).all()
        if all(limit.holds(true_measure(space, limit.measure, c)) for limit in space.limits)
    ]
    found = population.tally
    assert found.low <= len(kept) <= found.high
    if found.exact:
        assert found.low == len(kept)
    assert found.draw is not None
    assert kept
    rng = random.Random(0)
    draws = 8 * len(kept)
    every = {frozenset(c.items()) for c in kept}
    seen = Counter(frozenset(found.draw(rng).items()) for _ in range(draws))
    assert set(seen) <= every
    assert uniform(seen, len(every), draws)


def true_measure(space: CheckedSpace, measure: str, choices: Mapping[str, Choice]) -> int:
    if measure in ("params", "macs"):
        return int(getattr(module_count(Specialise(choices, dead=True)(space.module)), measure))
    return Population(space).measure(measure, choices)


def test_a_tight_limit_on_cream_is_met_by_every_draw() -> None:
    cream = space_of('space tight from "cream.nas" { limit macs <= 300M }')
    population = Population(cream)
    assert population.tally.low == population.tally.high == 28_953_727
    rng = random.Random(0)
    assert population.tally.draw is not None
    for _ in range(20):
        choices = population.tally.draw(rng)
        assert module_count(Specialise(choices)(cream.module)).macs <= 300_000_000


def test_bounds_enclose_the_exact_number() -> None:
    from nasdsl.identity.costs import cost_tree
    from nasdsl.identity.within import bounds, count, number

    space = nasdsl.load("cream").checked
    tree = cost_tree(space.module, space.table, "macs")
    assert number(tree) == 6**20
    for high in (290e6, 350e6, 500e6):
        low, most = bounds(tree, 0, high)
        assert low <= count(tree, 0, high) <= most


# --- neighbours and distance -------------------------------------------------


def test_neighbours_differ_by_one_decision_and_distance_is_a_metric() -> None:
    space = nasdsl.load("nasbench201")
    a, b, c = space.sample(3, seed=4)
    near = space.neighbours(a)
    assert len(near) == len(set(near)) == 6 * 4
    assert {space.distance(a, n) for n in near} == {1}
    assert space.distance(a, a) == 0
    assert space.distance(a, b) == space.distance(b, a)
    assert space.distance(a, c) <= space.distance(a, b) + space.distance(b, c)


def test_neighbours_complete_what_they_make_active() -> None:
    space = nasdsl.load("residual_mlp")
    arch = space.architecture(
        {"width": 64, "blocks.depth": 1, "blocks[1].e": 2, "blocks[1].activation": "relu"}
    )
    deeper = [n for n in space.neighbours(arch) if n.choices["blocks.depth"] == "2"]
    assert len(deeper) == 1
    assert deeper[0].choices["blocks[2].activation"] == "relu"
    assert all(space.architecture(n.choices) == n for n in space.neighbours(arch))


def test_identity_sees_through_names_and_order() -> None:
    space = nasdsl.load("nasbench201")
    one = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")
    other = space.parse("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|")
    third = space.parse("|none~0|+|nor_conv_1x1~0|none~1|+|none~0|none~1|skip_connect~2|")
    assert space.identity(one) == space.identity(other) != space.identity(third)
