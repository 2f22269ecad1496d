"""Costs of spaces whose choices hold choices: what is not chosen costs nothing."""

from __future__ import annotations

import pytest

from nasdsl.identity.costs import cost_tree
from nasdsl.identity.within import cost_of
from nasdsl.space.bounds import cost_bounds
from tests.laws.test_random_spaces import load

NESTED = {
    "a choice that reads a choice, both inside an option": """space s { input image(3, 8)
      op ab = a >> b  where a = choose { conv(1), conv(3) }  where b = choose { conv(1), conv(3) }
      network { stem: conv(3, 16)  net: choose { stop: id, deeper: ab }  head: global_pool >> linear(10) } }""",
    "rounds that may be absent, with a choice in each": """space s { input image(3, 8)
      network { stem: conv(3, 16)  net: repeat choose { 1..3 } { choose { conv(1), conv(3) } }
      head: global_pool >> linear(10) } }""",
    "levels inside levels": """space s { input image(3, 8)
      op level(inner) = choose { flat: id, deep: max_pool(2, stride=2, pad=0) >> inner >> upsample(2) }
      network { stem: conv(3, 8)  net: level(level(conv(choose { 1, 3 })))  head: global_pool >> linear(10) } }""",
    "a residual in a round that may be absent": """space s { input image(3, 8)
      op block = sum(id, a >> b)  where a = choose { conv(1), conv(3) }  where b = choose { relu, conv(1) }
      network { stem: conv(3, 8)  net: repeat choose { 0, 2 } { block }  head: global_pool >> linear(10) } }""",
}


@pytest.mark.parametrize("name", NESTED)
def test_every_architecture_costs_what_its_network_holds(name: str) -> None:
    space = load(NESTED[name])
    trees = {m: cost_tree(space.checked.module, space.checked.table, m) for m in ("params", "macs")}
    bounds = {m: cost_bounds(space.checked.module, m) for m in ("params", "macs")}
    found = set()
    for arch in space.sample(min(space.count(), 60), seed=1):
        stats = space.stats(arch)
        assert stats.params == stats.live_params == sum(p.numel() for p in space.network(arch).parameters())
        assert stats.macs == stats.live_macs
        for measure, tree in trees.items():
            cost = getattr(stats, measure)
            assert cost_of(tree, arch.choices) == cost
            assert bounds[measure][0] <= cost <= bounds[measure][1]
        found.add(stats.params)
    assert len(found) > 1


def test_a_limit_that_the_smallest_architecture_meets_is_no_error() -> None:
    """602 parameters without `ab`; the options of its choices weigh 256 at least."""
    text = NESTED["a choice that reads a choice, both inside an option"]
    space = load(text.replace("input", "limit params <= 700  input"))
    assert space.count() == 1
    assert [a.choices for a in space.sample(1)] == [{"net.op": "stop"}]
