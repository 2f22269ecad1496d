"""The one-hot law, the derivation and the projection, of every method and of points between them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import product

import attrs
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import nasdsl
from nasdsl import Architecture, Program, Space, UserError
from nasdsl.methods import METHODS
from nasdsl.runtime.activation import mean_weights
from nasdsl.runtime.projection import project
from nasdsl.runtime.rows import parameters_of
from nasdsl.runtime.supernet import SupernetBase
from tests.laws.common import batch, expressible, float64
from tests.strategies import checked, nas_spaces
from tests.thinned import thinned

BOUND = 1e-10
SIZES: dict[str, dict[str, object]] = {
    "darts": {"layers": 2, "C": 8, "resolution": 8},
    "nasbench201": {"N": 1, "C": 8, "resolution": 8},
}


@attrs.frozen
class Point:
    """A method, what is set beside its defaults, and changes to its passes."""

    method: str
    settings: Mapping[str, object] = attrs.field(factory=dict)
    passes: str = ""

    def of(self, name: str) -> Program:
        return nasdsl.load(name, **SIZES[name]).compile(
            self.method, settings=self.settings, passes=self.passes
        )


def at(method: str = "darts", passes: str = "", **settings: object) -> Point:
    return Point(method, settings, passes)


WEIGHED = [name for name in METHODS.names() if METHODS.load(name).template == "search.py.j2"]
"""Methods with variables; the law of single paths is that of tests/laws/test_paths.py."""
POINTS = {
    **{method: at(method) for method in WEIGHED if method != "drnas"},
    # DrNAS has no entry for an edge that is left out: see the refusals below.
    "drnas with none": at("drnas", none=True),
    "prime": at("cbo", preset="prime"),
    "pcdarts, subsets": at("pcdarts", topology="subsets"),
    "pcdarts, simplified": at("pcdarts", "+simplify"),
    "pcdarts without folding, affine": at("pcdarts", "-fold", affine=True),
    "clipped, subsets": at("cbo", topology="subsets"),
    "clipped, weighed edges": at("cbo", topology="softmax"),
    "clipped, part of the channels": at("cbo", topology="softmax", partial_channels=4),
    "clipped, never pruned, no node norm": at("cbo", prune=False, node_norm=False),
    "clipped, simplified": at("cbo", "+simplify", topology="subsets"),
    "gumbel, part of the channels": at("gdas", topology="subsets", partial_channels=2),
    "gumbel, weighed edges": at("gdas", topology="softmax", node_norm=True),
    "gumbel, bare weights": at("gdas", bare_weights=True),
    "gumbel, simplified": at("gdas", "+simplify,+tie"),
    "concrete, weighed edges": at("snas", topology="softmax"),
    "concrete, subsets, node norm": at("snas", topology="subsets", node_norm=True),
    "dirichlet, subsets": at("drnas", topology="subsets", partial_channels=2),
    "dirichlet, weighed edges": at("drnas", topology="softmax", none=True),
    "toponas, part of the channels": at("toponas", partial_channels=4),
}


def test_the_points_are_of_every_method_activation_and_topology() -> None:
    assert {p.method for p in POINTS.values()} == set(WEIGHED)
    found = [p.of("nasbench201").compilation.settings for p in POINTS.values()]
    assert {(s["activation"], s["topology"]) for s in found} == {
        (a, t)
        for a in ("softmax", "clipped", "gumbel", "concrete", "dirichlet")
        for t in ("sum", "softmax", "subsets")
    }


@pytest.mark.parametrize(("title", "name"), thinned(product(POINTS, SIZES), 3))
def test_supernet_at_one_hot_equals_its_own_path(title: str, name: str) -> None:
    with float64():
        program = POINTS[title].of(name)
        net, x = program.supernet(seed=1), batch(program.space, 2)
        count = 1 if name == "darts" else 2
        found = [a for a in program.space.sample(6, seed=3) if expressible(program, a)][:count]
        assert len(found) == count
        for arch in found:
            holds_at(program, net, arch, x)


def holds_at(program: Program, net: SupernetBase, arch: Architecture, x: torch.Tensor) -> None:
    """The law at one architecture, in training and in evaluation."""
    net.set_architecture(arch)
    assert program.architecture(net.derive()) == arch
    child = program.network(arch, inherit=net.train(), form="search")
    with torch.no_grad():
        for training in (True, False):  # the statistics of both move by the same step
            own, path = net.train(training)(x), child.train(training)(x)
            assert (own - path).abs().max() < BOUND
            assert own.abs().max() > 1e-3


def test_a_weighed_edge_is_scaled_and_not_only_kept() -> None:
    """The law would hold for nothing if edge weights at an architecture were one."""
    with float64():
        program = POINTS["pcdarts"].of("darts")
        arch = program.space.sample(1, seed=3)[0]
        assert " * 0.5" in search_text(program, arch)
        assert " * 0.5" not in search_text(POINTS["pcdarts, subsets"].of("darts"), arch)


def search_text(program: Program, arch: Architecture) -> str:
    from nasdsl.compiler import search_source

    return search_source(program.compilation, arch)[0].source


# --- points that are not there ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (at("drnas"), "none=true"),
        (at("cbo", partial_channels=4), "topology=softmax or topology=subsets"),
        (at("gdas", partial_channels=4), "topology=softmax or topology=subsets"),
        (at("darts", partial_channels=4, none=True), "topology=softmax or topology=subsets"),
    ],
)
def test_a_point_that_is_not_there_is_refused_and_nothing_is_set(point: Point, words: str) -> None:
    """With channels that go round its candidates an edge is there although no candidate weighs anything."""
    program = point.of("darts")
    net = program.supernet()
    before = [p.clone() for p in net.architecture_parameters()]
    with pytest.raises(ValueError, match=words):
        net.set_architecture(program.space.sample(1, seed=1)[0])
    assert all(torch.equal(a, b) for a, b in zip(before, net.architecture_parameters(), strict=True))
    program.architecture(net.derive())


def test_where_nothing_is_left_out_channels_that_go_round_hinder_nothing() -> None:
    program = at("darts", partial_channels=4).of("nasbench201")
    net = program.supernet()
    for arch in program.space.sample(5, seed=2):
        net.set_architecture(arch)
        assert program.architecture(net.derive()) == arch


def test_a_pruned_operation_cannot_be_set_and_nothing_is_set() -> None:
    program = at("cbo").of("nasbench201")
    net = program.supernet()
    arch = program.space.parse(
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|nor_conv_3x3~0|none~1|none~2|"
    )
    with torch.no_grad():
        row = next(d for d in net.DECISIONS if arch.choices[d["path"]] == "nor_conv_3x3")
        net.logits(row)[row["entries"].index("nor_conv_3x3")] = -1.0
    assert net.prune() == 1
    before = [p.clone() for p in net.architecture_parameters()]
    with pytest.raises(ValueError, match="nor_conv_3x3 was pruned"):
        net.set_architecture(arch)
    assert all(torch.equal(a, b) for a, b in zip(before, net.architecture_parameters(), strict=True))


# --- derivation and projection -------------------------------------------------------------------


def draw(net: SupernetBase, generator: torch.Generator) -> None:
    """Random variables; where operations are pruned, of every row some, but never all."""
    with torch.no_grad():
        for parameter in net.architecture_parameters():
            clipped = net.ACTIVATION == "clipped"
            noise = torch.rand if clipped and parameter.dim() == 2 else torch.randn
            parameter.copy_(noise(parameter.shape, generator=generator))
        for parameter, alive in net.pruned().items():
            alive.copy_(torch.rand(alive.shape, generator=generator) > 0.5)
            alive[
                torch.arange(len(alive)), torch.randint(alive.shape[1], (len(alive),), generator=generator)
            ] = True
            parameter.masked_fill_(~alive, 0.0)


def projected(net: SupernetBase) -> dict[str, str | None]:
    """What matrices of zeros and ones say of every choice of an operation: its option, None where all are zero."""
    groups, alive = net.groups(), net.pruned()
    weights = {p: mean_weights(net.ACTIVATION, p, alive.get(p)) for p in parameters_of(groups)}
    matrices = project(groups, weights, alive)
    ones: dict[str, str | None] = {}
    for row in (row for group in groups for row in group.rows):
        taken = matrices[row.parameter][row.index].nonzero().flatten().tolist()
        assert len(taken) <= 1
        ones[row.path] = row.entries[taken[0]] if taken else None
    return ones


def derived(net: SupernetBase) -> dict[str, str | None]:
    """The same of the architecture that is derived; None on edges that it leaves out or takes without operation."""
    found = net.derive()
    taken: dict[str, str | None] = {}
    for decision in net.DECISIONS:
        if decision["kind"] == "op" and decision["parameter"] is not None:
            chosen = found.get(decision["path"])
            taken[decision["path"]] = None if chosen == decision["absent"] else chosen  # type: ignore[assignment]
    return taken


def agrees(net: SupernetBase) -> int:
    """Compares what is derived with what is projected; returns how many choices were.

    Edges that topology variables leave out are their business: matrices of operations do not say it.
    """
    skipped = {op for item in net.LIFTED for _, op, _ in item["edges"]} - set(active(net))
    for node in (d for d in net.DECISIONS if d["kind"] == "inputs" and d.get("role") == "inputs"):
        skipped |= {
            e for s, e in node["edges"].items() if e and s not in net.derive().get(node["path"], (s,))
        }
    ones, found = projected(net), derived(net)
    wrong = {
        p: (ones[p], found[p]) for p in ones if p not in skipped and ones[p] != found[p] and p in reached(net)
    }
    assert not wrong
    return len(ones.keys() - skipped)


def reached(net: SupernetBase) -> set[str]:
    """The choices that exist under those before them, or that only an input which is not taken hides."""
    found = net.derive()
    inputs = {e for d in net.DECISIONS if d["kind"] == "inputs" for e in d["edges"].values()}
    return set(found) | inputs


def active(net: SupernetBase) -> list[str]:
    """The operations on edges that topology variables took, where `none` was lifted into them."""
    taken = {t.owner + "." * bool(t.owner) + t.name: t for t in net.topology()}
    found = []
    for item in net.LIFTED:
        node = taken[item["decision"].rpartition(".")[0]]
        best = node.incidence[int(node.logits.argmax())]
        found += [op for (_, op, _), kept in zip(item["edges"], best.tolist(), strict=True) if kept]
    return found


@pytest.mark.parametrize(("title", "name"), thinned(product(POINTS, SIZES), 3, 1))
def test_what_is_derived_is_valid_and_what_the_projection_says(title: str, name: str) -> None:
    program = POINTS[title].of(name)
    net = program.supernet()
    generator = torch.Generator().manual_seed(0)
    found = set()
    for _ in range(8):
        draw(net, generator)
        arch = program.architecture(net.derive())  # raises NAS401 when it is none
        assert program.space.parse(arch.to_json()) == arch
        assert agrees(net) >= 3
        found.add(arch.to_json())
    assert len(found) > 4


def test_edge_weights_decide_which_inputs_are_kept_in_both() -> None:
    program = at("pcdarts").of("darts")
    net = program.supernet()
    node = next(d for d in net.DECISIONS if d["kind"] == "inputs" and len(d["options"]) > 2)
    with torch.no_grad():
        for kept in (("a", "b"), ("b", node["options"][2])):
            for parameter in net.architecture_parameters():
                parameter.zero_()
            net.logits(node).copy_(torch.tensor([3.0 * (s in kept) for s in node["options"]]))
            assert net.derive()[node["path"]] == kept
            ones = projected(net)
            assert tuple(s for s, edge in node["edges"].items() if ones[edge] is not None) == kept


def test_an_edge_of_which_everything_was_pruned_is_the_last_to_be_kept() -> None:
    program = at("cbo", topology="softmax").of("darts")
    net = program.supernet()
    node = next(d for d in net.DECISIONS if d["kind"] == "inputs" and len(d["options"]) > 2)
    edges = {d["path"]: d for d in net.DECISIONS if d["kind"] == "op"}
    with torch.no_grad():
        net.logits(edges[node["edges"]["a"]]).fill_(-1.0)
        net.prune()
        net.logits(node).copy_(torch.tensor([9.0, 0.0, 0.0] + [0.0] * (len(node["options"]) - 3)))
    assert "a" not in net.derive()[node["path"]]
    assert projected(net)[node["edges"]["a"]] is None
    agrees(net)


@pytest.mark.parametrize("prune", [False, True])
def test_what_weighs_zero_is_no_edge_whether_it_was_pruned_or_not(prune: bool) -> None:
    program = at("cbo", prune=prune).of("nasbench201")
    net = program.supernet()
    edges = [d for d in net.DECISIONS if d["kind"] == "op"]
    with torch.no_grad():
        for edge in edges:
            net.logits(edge).fill_(0.0)
        net.logits(edges[0])[1] = 0.1  # the only edge of its node
    assert (net.prune() > 0) is prune
    assert [net.derive()[d["path"]] != d["absent"] for d in edges] == [True] + [False] * 5
    assert sum(option is not None for option in projected(net).values()) == 1
    agrees(net)


@pytest.mark.parametrize("topology", ["sum", "softmax", "subsets"])
@pytest.mark.parametrize("method", ["darts", "cbo", "gdas"])
def test_inputs_that_are_all_kept_need_no_operations_to_be_ranked_by(method: str, topology: str) -> None:
    """One of the two has a choice of an operation, the other is taken as it is."""
    text = """space two { input image(3, 8, 8)
      cell c(a) { x = a >> conv(1)  y = a >> conv(3)
        n = sum of choose 2 from (x via choose { conv(3), id, p: avg_pool(3) }, y)
        return n }
      network { stem: conv(3, 4)  body: c  head: global_pool >> linear(10) } }"""
    space = Space(checked(text))
    with float64():
        program = space.compile(method, settings={"topology": topology})
        net, x = program.supernet(), batch(space, 2)
        agrees(net)
        assert space.count() == 3
        for arch in space.sample(3, seed=0):
            holds_at(program, net, arch, x)


# --- random spaces ---------------------------------------------------------------------------------

few = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@st.composite
def relaxations(draw: st.DrawFn) -> dict[str, object]:
    return {
        "activation": draw(st.sampled_from(["softmax", "clipped", "gumbel", "concrete", "dirichlet"])),
        "topology": draw(st.sampled_from(["subsets", "softmax", "sum"])),
        "partial_channels": draw(st.sampled_from([1, 1, 2])),
        "node_norm": draw(st.sampled_from(["auto", "true"])),
        "bare_weights": draw(st.booleans()),
    }


@cache
def compiled(text: str, given: tuple[tuple[str, object], ...], passes: str) -> Program | None:
    try:
        return Space(checked(text)).compile("darts", settings=dict(given), passes=passes)
    except UserError as error:  # a choice that is not weighed, or channels that cannot be divided
        if {d.code for d in error.diagnostics} != {"NAS504"}:
            raise
        return None


@few
@given(nas_spaces(), relaxations(), st.integers(0, 10**6), st.sampled_from(["-simplify", "+simplify"]))
def test_the_laws_on_random_spaces(text: str, chosen: dict[str, object], seed: int, passes: str) -> None:
    with float64():
        program = compiled(text, tuple(chosen.items()), passes)
        assume(program is not None)
        assert program is not None
        net, x = program.supernet(seed=seed), batch(program.space, 2)
        net(x).square().sum().backward()
        draw(net, torch.Generator().manual_seed(seed))
        program.architecture(net.derive())
        agrees(net)
        for alive in net.pruned().values():
            alive.fill_(True)
        arch = program.space.sample(1, seed=seed)[0]
        assume(expressible(program, arch))
        try:
            net.set_architecture(arch)
        except ValueError:  # an edge that cannot be switched off
            if chosen["topology"] != "sum" or chosen["partial_channels"] == 1:
                raise
            assume(False)
        holds_at(program, net, arch, x)


def test_parameters_of_groups_are_all_operation_variables() -> None:
    for title in ("cbo", "pcdarts", "gdas", "pcdarts, subsets"):
        net = POINTS[title].of("darts").supernet()
        matrices = [p for p in net.architecture_parameters() if isinstance(p, nn.Parameter) and p.dim() == 2]
        assert {id(p) for p in parameters_of(net.groups())} == {id(p) for p in matrices}
