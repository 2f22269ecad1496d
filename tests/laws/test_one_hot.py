"""A supernet at a one-hot point is that architecture's own path, to the last bits."""

from __future__ import annotations

import pytest
import torch

from nasdsl import Space, UserError
from nasdsl.codegen.lowered import module_paths
from tests.laws.common import batch, expressible, float64, small, weight_gradients

BOUND = 1e-10


@pytest.mark.parametrize("passes", ["-simplify", "-simplify,-fold", "+simplify", "+tie,+simplify"])
@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_supernet_at_one_hot_equals_its_own_path(name: str, method: str, passes: str) -> None:
    space = small(name)
    with float64():
        program = space.compile(method, passes=passes)
        net = program.supernet(seed=1)
        x = batch(space)
        checked = 0
        for arch in space.sample(8, seed=3):
            if not expressible(program, arch) or checked == 3:
                continue
            net.set_architecture(arch.choices)
            child = program.network(arch, inherit=net.train(), form="search")
            assert child.training
            for training in (True, False):  # the statistics of both move by the same step
                own, path = net.train(training)(x), child.train(training)(x)
                assert (own - path).abs().max() < BOUND
            checked += 1
        assert checked == 3


@pytest.mark.parametrize("method", ["darts", "toponas"])
def test_gradients_of_shared_weights_agree(method: str) -> None:
    space = small("darts")
    with float64():
        # Where filters are normalised, a network's own are another parametrisation: see tests/passes.
        program = space.compile(method, passes="-simplify")
        net = program.supernet(seed=0)
        arch = space.sample(1, seed=5)[0]
        net.set_architecture(arch.choices)
        child = program.network(arch, inherit=net, form="search")
        x = batch(space)
        net(x).square().sum().backward()
        child(x).square().sum().backward()
        from nasdsl.compiler import search_source

        mine = weight_gradients(child, search_source(program.compilation, arch)[1])
        ours = weight_gradients(net, module_paths(program.compilation.lowered))
        for key, gradient in mine.items():
            assert torch.allclose(gradient, ours[key], atol=1e-10, rtol=1e-10), key
        assert len(mine) > 10


def test_a_child_inherits_the_mode_and_the_statistics() -> None:
    space = small("nasbench201")
    with float64():
        program = space.compile("darts")
        net, x = program.supernet(seed=1), batch(space)
        arch = space.sample(1, seed=3)[0]
        net.set_architecture(arch.choices)
        net(x)
        child = program.network(arch, inherit=net.eval(), form="search")
        assert not child.training
        assert (net(x) - child(x)).abs().max() < BOUND


def test_a_fresh_child_is_not_the_supernet() -> None:
    """The law would hold for nothing if weights were not carried over."""
    space = small("darts")
    with float64():
        program = space.compile("darts")
        net = program.supernet(seed=0)
        arch = space.sample(1, seed=0)[0]
        net.set_architecture(arch.choices)
        x = batch(space)
        assert (net(x) - program.network(arch, form="search", seed=9)(x)).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_what_is_set_is_derived(name: str, method: str) -> None:
    space = small(name)
    program = space.compile(method)
    net = program.supernet()
    for arch in space.sample(30, seed=7):
        if expressible(program, arch):
            net.set_architecture(arch.choices)
            assert program.architecture(net.derive()) == arch
        else:
            with pytest.raises(ValueError, match="without any input"):
                net.set_architecture(arch.choices)


@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_any_variables_derive_a_valid_architecture(name: str, method: str) -> None:
    space = small(name)
    program = space.compile(method)
    net = program.supernet()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        with torch.no_grad():
            for parameter in net.architecture_parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        arch = program.architecture(net.derive())  # raises NAS401 when it is not one
        assert space.parse(arch.to_json()) == arch


def test_weight_and_architecture_parameters_are_disjoint_and_all() -> None:
    net = small("darts").compile("toponas").supernet()
    weights = {id(p) for p in net.weight_parameters()}
    variables = {id(p) for p in net.architecture_parameters()}
    assert not weights & variables
    assert weights | variables == {id(p) for p in net.parameters()}


def test_an_edge_that_cannot_be_switched_off_is_refused() -> None:
    space = small("darts")
    net = space.compile("darts", settings={"none": False}).supernet()
    with pytest.raises(ValueError, match="none=true"):
        net.set_architecture(space.sample(1)[0].choices)


def test_a_node_without_inputs_is_outside_toponas() -> None:
    space = small("nasbench201")
    program = space.compile("toponas")
    nothing = space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    with pytest.raises(UserError, match="NAS504"):
        program.network(nothing, form="search")


SPACES = {
    "an option is a cell whose shape only its value shows": """
      cell inner(x) { n[1..2] = sum of all from (x, earlier) via choose { none, id, conv(3, 4) }  return n[2] }
      cell outer(x) { m[1..2] = sum of choose 1.. from (x, earlier) via choose { inner, c: conv(3, 4) }  return m[2] }
      network { stem: conv(3, 4)  b: repeat 2 { outer }  head: global_pool >> linear(10) } }""",
    "a decision that nothing reads": """
      cell c(x) { n = x >> choose { id, conv(3) }  m = x >> choose { id, conv(3) }  return m }
      network { stem: conv(3, 4)  b: c  head: global_pool >> linear(10) } }""",
    "independent cells in a cell": """
      cell inner(x) { n = x >> choose { id, conv(3, 4) }  return n }
      cell outer(x) { a = x >> independent inner  b = a >> independent inner  return sum(a, b) }
      network { stem: conv(3, 4)  b: repeat 2 { outer }  head: global_pool >> linear(10) } }""",
    "sources that are a family, and a node without any input": """
      cell c(x) { n[1..3] = sum of choose 0.. from (x, earlier) via choose { id, conv(3) }
                  y = sum of choose 1..2 from (n) via choose { id, conv(1) }  return y }
      network { stem: conv(3, 4)  b: c  head: global_pool >> linear(10) } }""",
    "cells whose class names collide": """
      cell my_cell(x) { n = x >> choose { id, conv(3) }  return n }
      cell MyCell(x) { n = x >> choose { id, conv(5) }  return n }
      network { stem: conv(3, 4)  a: my_cell  b: MyCell  head: global_pool >> linear(10) } }""",
    "a number of features, not an image": """
      network { a: linear(8)  b: repeat 2 { choose { p: linear(8), q: linear(8) >> relu, r: id } }
                c: linear(10) } }""",
}


@pytest.mark.parametrize("title", SPACES)
def test_one_hot_law_on_spaces_that_broke_it(title: str) -> None:
    from nasdsl.diagnostics import Source, render
    from nasdsl.space.checked import check_source

    declared = "vector(5)" if "features" in title else "image(3, 8, 8)"
    checked, found = check_source(Source("odd.nas", f"space odd {{ input {declared} {SPACES[title]}"))
    assert checked is not None, render(found.items)
    space = Space(checked)
    with float64():
        program = space.compile("toponas")
        net, x = program.supernet(), batch(space)
        for arch in filter(lambda a: expressible(program, a), space.sample(6, seed=0)):
            net.set_architecture(arch)
            assert program.architecture(net.derive()) == arch
            for training in (True, False):
                net.train(training)
                child = program.network(arch, inherit=net, form="search")
                assert (net(x) - child(x)).abs().max() < BOUND
