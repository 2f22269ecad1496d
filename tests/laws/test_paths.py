"""A path of a supernet is that architecture's own network, to the last bits, and nothing else runs."""

from __future__ import annotations

import copy
import tracemalloc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl import Space
from tests.laws.common import SMALL, float64
from tests.laws.paths import Recorded, batch_of, close, same_step
from tests.strategies import checked, nas_spaces
from tests.strategies_numeric import numeric_spaces

SHIPPED: dict[str, dict[str, object]] = {
    **SMALL,
    "darts": {"layers": 3, "C": 4, "resolution": 8},
    "residual_mlp": {},
    "nats_size": {"resolution": 8, "classes": 10},
    "autoformer": {"resolution": 32, "classes": 10},
    "ofa": {"classes": 10},
}
few = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def law(space: Space, count: int, seed: int = 0, method: str = "spos", size: int = 4) -> None:
    """The law for some architectures of a space."""
    with float64():
        program = space.compile(method)
        net = program.supernet(seed=seed)
        for arch in space.sample(count, seed=seed):
            x = batch_of(program, arch, size, seed)
            for training in (True, False):
                same_step(program, net, arch, x, training)


@pytest.mark.parametrize("name", [n for n in SHIPPED if n != "ofa"])
def test_every_path_of_a_shipped_space(name: str) -> None:
    law(nasdsl.load(name, **SHIPPED[name]), {"autoformer": 1, "darts": 1}.get(name, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_more_paths_of_a_shipped_space(name: str) -> None:
    law(nasdsl.load(name, **SHIPPED[name]), 3 if name in ("ofa", "autoformer") else 30, seed=1, size=2)


@few
@given(nas_spaces(), st.integers(0, 10**6))
def test_paths_of_random_spaces(text: str, seed: int) -> None:
    law(Space(checked(text)), 2, seed)


@few
@given(numeric_spaces(), st.integers(0, 10**6))
def test_paths_of_random_sizes(text: str, seed: int) -> None:
    law(Space(checked(text)), 2, seed)


HEAD = "head: global_pool >> linear(10) }"
ODD = {
    "rounds of a cell that nobody asks for": f"""
      cell c(x) {{ n[1..4] = sum of choose 1..2 from (x, earlier) via choose {{ conv(3) >> bn, id, conv(1) }}
                  return n[4] }}
      network {{ stem: conv(3, 4)  b: repeat 2 {{ c }}  {HEAD}""",
    "rounds of an option that nobody asks for": f"""
      cell c(x) {{ n[1..3] = sum of choose 1..2 from (x, earlier) via choose {{ conv(3) >> bn, id }}  return n[3] }}
      cell d(x) {{ y = x >> choose {{ c, id, c >> relu }}  z = sum of choose 1.. from (x, y)  return z }}
      network {{ stem: conv(3, 4)  b: repeat choose {{ 0..2 }} {{ d }}  {HEAD}""",
    "nothing but none": f"""
      cell c(x) {{ n[1..3] = sum of choose 1.. from (x, earlier) via choose {{ none, conv(3) >> bn }}  return n[3] }}
      network {{ stem: conv(3, 4)  a: repeat 2 {{ sum(id, c) }}  {HEAD}""",
    "one value under two names": f"""
      cell c(x) {{ y = x >> conv(3) >> bn  z = y  n = sum of choose 1..2 from (y, z)  return n }}
      network {{ stem: conv(3, 4)  b: c  {HEAD}""",
    "a concatenation of some": f"""
      cell c(x) {{ n[1..2] = x >> conv(3, 5) >> bn  m = concat of choose 1..3 from (x, n)  return m }}
      network {{ stem: conv(3, 4)  b: c >> bn >> conv(1, 6)  c: c  {HEAD}""",
    "a cell with kernels, shared and its own": f"""
      cell c(x; C) {{ n = x >> conv(choose {{ 1, 3 }}, C) >> bn(affine=false) >> choose {{ relu, conv(3), id }}
                     return n }}
      network {{ stem: conv(3, 4)  a: c(C=4)  b: repeat 2 {{ independent c(C=choose {{ 4, 6 }}) }}
                c: c(C=8)  {HEAD}""",
    "independent cells in independent cells": f"""
      cell i(x; C) {{ n = x >> conv(choose {{ 1, 3 }}, C) >> bn >> choose {{ relu, conv(3) }}  return n }}
      cell c(x; C) {{ a = x >> independent i(C=C)  b = a >> independent i(C=C)  d = a >> i(C=C)  return sum(b, d) }}
      network {{ stem: conv(3, choose {{ 2, 3 }})  b: repeat 2 {{ independent c(C=choose {{ 4, 6 }}) }}
                e: c(C=8)  {HEAD}""",
    "depth in a cell": f"""
      cell c(x) {{ n = x >> repeat choose {{ 1..3 }} {{ conv(3) >> bn }}  return n }}
      network {{ stem: conv(3, 4)  b: repeat 2 {{ c }}  d: independent c  {HEAD}""",
    "names that the generated class has": f"""
      cell path(x) {{ owner = x >> choose {{ id, conv(3) }}  at = owner >> choose {{ relu, conv(1) }}
                     total = sum of choose 1.. from (owner, at)  self = total >> conv(1)  return self }}
      cell elastic_conv2d(x) {{ p = x >> conv(choose {{ 1, 3 }})  return p }}
      cell path_supernet(x) {{ n = x >> choose {{ id, conv(3) }}  return n }}
      cell path_two = path()
      network {{ owner: conv(3, 4)  fit: path  derive: independent path  bind: elastic_conv2d  part: path_supernet
                resolution: choose {{ id, relu }}  sizes: conv(1)  _tables: conv(1)  total: conv(1)
                at: choose {{ relu, id }}  train: relu  need: conv(choose {{ 1, 3 }})  {HEAD}""",
    "one choice in two places": f"""
      op ab = a >> b >> a  where a = choose {{ conv(1), conv(3) }}  where b = choose {{ conv(1), conv(3), none }}
      network {{ stem: conv(3, 8)  net: choose {{ stop: id, deeper: ab }}  {HEAD}""",
    "levels inside levels": f"""
      op level(inner) = choose {{ flat: id, deep: max_pool(2, stride=2, pad=0) >> inner >> upsample(2) }}
      network {{ stem: conv(3, 8)  net: level(level(conv(choose {{ 1, 3 }})))  {HEAD}""",
    "rounds that are tied": f"""
      w = choose {{ 4, 8 }}
      network {{ stem: conv(3, w) >> bn  b: repeat choose {{ 0..2 }} {{ sum(id, conv(choose {{ 1, 3 }}, w) >> bn) }}
                c: conv(1, w)  d: if w == 4 then conv(3) else relu  {HEAD}""",
    "groups, strides, dilations, biases": f"""
      network {{ stem: conv(3, choose {{ 4, 8 }}, stride=2) >> bn  b: conv(3, choose {{ 4, 8 }}, groups=2, dilation=2)
                c: dwconv(choose {{ 1, 3, 5 }}, stride=2, bias=true) >> se(choose {{ 2, 3 }}) >> truncate(3)
                d: conv(choose {{ 2, 3 }}, 4, pad=1, bias=true)  {HEAD}""",
    "a vector from an image": """
      network { stem: conv(3, choose { 4, 6 })  b: choose { id, relu }  head: flatten >> linear(10) }""",
    "tokens": """
      network { stem: conv(4, choose { 6, 8 }, stride=4, pad=0) >> tokens >> class_token >> position
                a: sum(id, layer_norm >> attention(heads=choose { 1, 2, 3 }, head_width=choose { 2, 4 }))
                b: linear(choose { 5, 7 }) >> gelu >> linear(3, bias=false)  head: take_token(1) >> linear(10) }""",
}


@pytest.mark.parametrize("title", ODD)
def test_paths_of_spaces_that_may_break_it(title: str) -> None:
    law(Space(checked(f"space odd {{ input image(3, 8, 8) {ODD[title]} }}")), 4)


def test_a_path_whose_resolution_is_a_decision() -> None:
    """`fit` gives an image the side of the path; the path runs on it as its own network does."""
    text = f"""space odd {{ input image(3, s, s)  s = choose {{ 8, 12 }}
      network {{ stem: conv(3, 4, stride=2) >> bn  a: choose {{ id, max_pool(3) }}
                b: dwconv(choose {{ 3, 5 }}, stride=2)  {HEAD} }}"""
    space = Space(checked(text))
    law(space, 4)
    with float64():
        net = space.compile("spos").supernet()
        x = torch.rand(2, 3, 12, 12)
        for arch in space.sample(6, seed=0):
            net.set_architecture(arch)
            side = int(arch.choices["s"])  # type: ignore[arg-type]
            assert net.resolution == side
            assert net.fit(x).shape == (2, 3, side, side)
            assert (net.fit(x) is x) is (side == 12)
    fixed = nasdsl.load("nasbench201", **SMALL["nasbench201"]).compile("spos").supernet()
    assert fixed.resolution is None
    assert fixed.fit(x) is x


@pytest.mark.parametrize("name", ["nasbench201", "nats_size", "residual_mlp", "cream"])
def test_the_network_to_train_inherits(name: str) -> None:
    """Nothing but the auxiliary head and drop-path is new in it: in evaluation it is the path."""
    space = nasdsl.load(name, **SHIPPED[name])
    with float64():
        program = space.compile("spos")
        net = program.supernet(seed=0).train()
        for arch in space.sample(3, seed=2):
            net.set_architecture(arch)
            net(batch_of(program, arch, 4, 1))  # statistics that are not those of a new module
        last = net.path.at.copy()
        for arch in space.sample(3, seed=2):
            child = program.network(arch, inherit=net.eval())
            assert net.path.at == last, "inheriting moved the path"
            net.set_architecture(arch)
            x = batch_of(program, arch, 4, 2)
            close(net(x), child(x))
            net.set_architecture(last)


def test_a_network_that_does_not_inherit_is_another() -> None:
    """The laws would hold for nothing if weights were not carried over."""
    space = nasdsl.load("nats_size", **SHIPPED["nats_size"])
    with float64():
        program = space.compile("spos")
        arch = space.sample(1, seed=0)[0]
        net, x = program.supernet(), batch_of(program, arch)
        net.set_architecture(arch)
        assert (net(x) - program.network(arch, form="search", seed=9)(x)).abs().max() > 1e-3


# --- switching --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nats_size", "darts", "cream"])
def test_switching_makes_nothing(name: str) -> None:
    """No operator runs, no module or parameter is another, next to no memory is asked for."""
    space = nasdsl.load(name, **SHIPPED[name])
    net = space.compile("spos").supernet()
    paths = space.sample(20, seed=0)
    kept = {n: id(o) for n, o in (*net.named_modules(), *net.named_parameters(), *net.named_buffers())}
    forward = type(net).forward.__code__
    for path in paths:
        net.set_architecture(path)
    with Recorded() as operators:
        tracemalloc.start()
        for path in paths:
            net.set_architecture(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert not operators.seen
    assert peak < 100_000
    assert {
        n: id(o) for n, o in (*net.named_modules(), *net.named_parameters(), *net.named_buffers())
    } == kept
    assert type(net).forward.__code__ is forward


WRONG = {
    "an unknown decision": {"down": "4"},
    "an unknown option": {"width[2]": "9"},
    "a number": {"width[2]": 8},
    "nothing": {"width[2]": None},
    "several of one": {"width[2]": ("8", "16")},
    "a set": {"width[2]": {"8"}},
}


@pytest.mark.parametrize("title", WRONG)
def test_a_wrong_path_leaves_the_path_as_it_was(title: str) -> None:
    net = nasdsl.load("nats_size", **SHIPPED["nats_size"]).compile("spos").supernet()
    net.set_architecture({f"width[{i}]": str(8 * i) for i in range(1, 6)})
    before = dict(net.path.at), dict(net.path.sizes)
    with pytest.raises(ValueError, match="there is no"):
        net.set_architecture({**net.path.at, "width[1]": "64", **WRONG[title]})
    assert (dict(net.path.at), dict(net.path.sizes)) == before


def test_inputs_of_the_wrong_number_are_refused() -> None:
    net = nasdsl.load("darts", **SHIPPED["darts"]).compile("spos").supernet()
    before = dict(net.path.at)
    for inputs in (("a",), ("a", "a"), ("a", "b", "n[1]"), ()):
        with pytest.raises(ValueError, match=r"normal\.n\[2\]\.inputs: there is no"):
            net.set_architecture({**before, "normal.n[2].inputs": inputs})
    assert dict(net.path.at) == before
    net.set_architecture({**before, "normal.n[2].inputs": ["a", "n[1]"]})
    assert net.derive()["normal.n[2].inputs"] == ("a", "n[1]")


# --- copies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nats_size", "darts"])
def test_a_copy_has_a_path_of_its_own(name: str) -> None:
    space = nasdsl.load(name, **SHIPPED[name])
    with float64():
        program = space.compile("spos")
        net = program.supernet()
        one, two = space.sample(2, seed=1)
        net.set_architecture(one)
        net(batch_of(program, one))
        next(net.parameters()).requires_grad_(False)
        next(m for m in net.modules() if m is not net).eval()
        drawn = torch.get_rng_state()
        twin = copy.deepcopy(net)
        assert torch.equal(torch.get_rng_state(), drawn), "a copy draws nothing"
        assert twin.derive() == net.derive()
        assert [m.training for m in twin.modules()] == [m.training for m in net.modules()]
        assert not next(twin.parameters()).requires_grad
        twin.set_architecture(two)
        assert program.architecture(net.derive()) == one
        for made, arch in ((net, one), (twin, two)):
            child = program.network(arch, inherit=net.eval(), form="search")
            close(made.eval()(batch_of(program, arch)), child(batch_of(program, arch)))
        assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in twin.parameters()}


def test_state_is_carried_by_its_names() -> None:
    """What is saved is weights and statistics; the path is none of it."""
    space = nasdsl.load("ofa", classes=10)
    program = space.compile("spos")
    one, two = program.supernet(seed=0), program.supernet(seed=1)
    path, other = space.sample(2, seed=1)
    one.set_architecture(path)
    two.set_architecture(other)
    assert two.load_state_dict(one.state_dict()) == ([], [])
    assert program.architecture(two.derive()) == other
    for name, value in two.state_dict().items():
        assert torch.equal(value, one.state_dict()[name])
    own = {id(p) for p in one.parameters()}
    assert {id(p) for p in one.weight_parameters()} == own
    assert one.architecture_parameters() == []


def test_what_is_set_is_derived() -> None:
    for name in ("ofa", "hierarchical", "darts"):
        space = nasdsl.load(name, **SHIPPED[name])
        program = space.compile("spos")
        net = program.supernet()
        for arch in space.sample(20, seed=7):
            net.set_architecture(arch)
            assert program.architecture(net.derive()) == arch
