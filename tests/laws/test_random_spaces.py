"""The laws on random spaces."""

from __future__ import annotations

import random
from pathlib import Path

import networkx as nx
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl import Space, UserError
from nasdsl.diagnostics import Diagnostics, Source, render
from nasdsl.identity.encodings import Encodings
from nasdsl.ir.analysis import digraph
from nasdsl.ir.cost import outputs_zero
from nasdsl.ir.text import parse_module, print_module
from nasdsl.ir.verify import verify
from nasdsl.passes.specialise import Specialise
from nasdsl.space.checked import check_source
from nasdsl.syntax.parse import parse
from nasdsl.syntax.print import to_text
from tests.laws.common import batch, executed_costs, expressible, float64
from tests.laws.test_counts import brute_force
from tests.strategies import nas_spaces

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
many = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def load(text: str) -> Space:
    checked, diagnostics = check_source(Source("random.nas", text))
    assert checked is not None, f"{render(diagnostics.items)}\n{text}"
    return Space(checked)


@many
@given(nas_spaces())
def test_text_round_trip(text: str) -> None:
    trees = []
    for source in (text, None):
        shown = to_text(trees[0]) if source is None else source
        trees.append(parse(Source("random.nas", shown), Diagnostics()))
    assert trees[0] == trees[1] is not None


@few
@given(nas_spaces())
def test_ir_round_trip_and_verification_after_every_pass(text: str) -> None:
    space = load(text)
    for method in ("darts", "toponas"):
        if method == "darts" and any(d.kind == "inputs" and d.low != d.high for d in space.decisions):
            with pytest.raises(UserError, match="NAS504"):
                space.compile(method)
            continue
        stages = space.compile(method).compilation.stages
        for name, module in stages:
            verify(module, name)
            shown = print_module(module)
            assert parse_module(shown) == module
            assert print_module(parse_module(shown)) == shown


@many
@given(nas_spaces())
def test_count_equals_enumeration(text: str) -> None:
    space = load(text)
    total = 1
    for decision in space.decisions:
        total *= len(decision.options) if decision.kind == "op" else 2 ** len(decision.options)
    assume(total <= 20_000)
    assert space.count() == len(brute_force(space.checked.table))


@many
@given(nas_spaces(), st.integers(0, 10**6))
def test_every_architecture_is_a_valid_topology(text: str, seed: int) -> None:
    """Acyclic, connected from input to output, arities as declared, unless it outputs zero and says so."""
    space = load(text)
    choices = Encodings(space.checked.table).sample(random.Random(seed))
    arch = space.architecture(choices)
    for path, value in arch.choices.items():
        decision = space.checked.table.by_path[path]
        if decision.kind == "inputs":
            assert decision.low <= len(value) <= decision.high
    module = Specialise(arch.choices)(space.checked.module)
    verify(module)
    for graph in module.graphs:
        assert nx.is_directed_acyclic_graph(digraph(graph))
    network = module.network
    assert nx.has_path(digraph(network), network.inputs[0].id, network.result)
    assert space.stats(arch).zero_output is outputs_zero(module)
    assert space.parse(arch.to_json()) == arch


@few
@given(nas_spaces(), st.integers(0, 10**6))
def test_predicted_costs_are_those_of_the_executed_network(text: str, seed: int) -> None:
    space = load(text)
    arch = space.sample(1, seed=seed)[0]
    program = space.compile("toponas")
    net = program.network(arch)
    params, macs, shape = executed_costs(net, batch(space))
    stats = space.stats(arch)
    assert (stats.live_params, stats.live_macs) == (params, macs)
    assert shape == torch.Size([1, 10])
    net.train()(batch(space)).square().sum().backward()


@few
@pytest.mark.parametrize("method", ["darts", "toponas"])
@given(text=nas_spaces(), seed=st.integers(0, 10**6), passes=st.sampled_from(["", "-fold"]))
def test_one_hot_law(method: str, text: str, seed: int, passes: str) -> None:
    space = load(text)
    with float64():
        try:
            program = space.compile(method, passes=passes)
        except UserError:
            assume(False)
        arch = space.sample(1, seed=seed)[0]
        assume(expressible(program, arch))
        net, x = program.supernet(seed=seed), batch(space)
        net(x).square().sum().backward()  # a decision that nothing reads gets no gradient
        net.set_architecture(arch)
        assert program.architecture(net.derive()) == arch
        for training in (True, False):
            net.train(training)
            child = program.network(arch, inherit=net, form="search")
            assert (net(x) - child(x)).abs().max() < 1e-10


@few
@given(nas_spaces())
def test_compiling_twice_gives_the_same_bytes(text: str) -> None:
    first, second = (load(text).compile("toponas").files() for _ in range(2))
    assert first == second
    for name, content in first.items():
        if Path(name).suffix == ".py":
            compile(content, name, "exec")
    assert nasdsl.__version__ in first["nasdsl.lock"]
