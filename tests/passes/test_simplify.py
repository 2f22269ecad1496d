"""Topological simplification: what its rules promise, rule by rule."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor, nn

from nasdsl import Program, Space, UserError
from nasdsl.codegen.load import inherit_weights
from nasdsl.codegen.lowered import module_paths
from nasdsl.compiler import search_source
from nasdsl.ir.cost import module_count
from nasdsl.ir.graph import Module
from nasdsl.ir.nodes import Arith, Mix, Op, Var, Weight
from nasdsl.runtime.supernet import SupernetBase
from tests.laws.common import batch, expressible, float64
from tests.passes.short import around, cell, named
from tests.passes.twins import PLAIN, Twin, first, only, second
from tests.strategies import checked, nas_spaces

NB201 = "rcb_1: rcb(1), rcb_3: rcb(3), pool: avg_pool(3), skip: id, none"
DARTS = "sep_3: sep(3), sep_5: sep(5), dil_3: dil(3), dil_5: dil(5), skip: id"
EDGES = {"NAS-Bench-201": NB201, "DARTS": DARTS}
BASES = ["+simplify", "+tie,+simplify"]


def edge(options: str) -> Space:
    return cell(options, 1)


def counts(module: Module) -> dict[str, int]:
    """Modules of the cell by operation."""
    found: dict[str, int] = {}
    for node in module.by_name["c"].nodes:
        if isinstance(node, Op):
            found[node.op] = found.get(node.op, 0) + 1
    return found


def last(space: Space, passes: str, chosen: Mapping[str, object] | None = None) -> Module:
    return space.compile("darts", passes=passes, settings=chosen).compilation.optimised


# --- module counts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (NB201, {"relu": (2, 1), "conv": (2, 1), "bn": (2, 1), "avg_pool": (1, 1)}),
        (DARTS, {"relu": (6, 2), "dwconv": (6, 3), "conv": (6, 2), "bn": (6, 2)}),
    ],
    ids=EDGES,
)
def test_module_counts_of_the_two_worked_edges(options: str, wanted: dict[str, tuple[int, int]]) -> None:
    chosen = {"pool_norm": False}
    before = counts(last(edge(options), only(), chosen))
    after = counts(last(edge(options), only("share", base="+simplify"), chosen))
    assert {op: (before[op], after[op]) for op in wanted} == wanted


@pytest.mark.parametrize("name", ["cells", "nasbench201"])
def test_less_is_kept_for_the_backward_pass(name: str) -> None:
    space, kept = named(name), []
    for passes in (PLAIN, "+simplify"):
        net, sizes = space.compile("darts", passes=passes).supernet(), dict[int, int]()

        def keep(t: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            held = net(batch(space, 16))
        kept.append(sum(sizes.values()))
        del held
    assert kept[1] < kept[0]


# --- at a vertex --------------------------------------------------------------------


def at_vertices(program: Program, space: Space, bound: float = 1e-10, count: int = 6) -> None:
    """The supernet at one-hot points is the chosen path with the shared weights; gradients stay finite there."""
    net, x = program.supernet(seed=1), batch(space)
    reached = 0
    for arch in space.sample(count, seed=3):
        if not expressible(program, arch):
            continue
        net.set_architecture(arch)
        assert program.architecture(net.derive()) == arch
        for training in (True, False):
            net.train(training)
            child = program.network(arch, inherit=net, form="search")
            out = net(x)
            assert (out - child(x)).abs().max() < bound
        net.zero_grad(set_to_none=True)
        out.square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
        reached += 1
    assert reached


@pytest.mark.parametrize("passes", [*BASES, only(base="+tie,+simplify")])
@pytest.mark.parametrize("options", EDGES)
def test_at_a_vertex_an_edge_is_the_chosen_path(options: str, passes: str) -> None:
    with float64():
        space = edge(EDGES[options])
        at_vertices(space.compile("darts", passes=passes), space)


@pytest.mark.parametrize("options", EDGES)
def test_normalising_a_kernel_leaves_its_own_path_alone(options: str) -> None:
    """Batch norm takes the norms out again, up to its eps: of each channel, or of the kernel ahead of a 1x1."""
    with float64():
        space = edge(EDGES[options])
        program = space.compile("darts", passes="+simplify")
        net, x = program.supernet(seed=1), batch(space)
        homes = module_paths(program.compilation.lowered)
        raw = {key: attrs.evolve(home, normalise="") for key, home in homes.items()}
        assert raw != homes
        for arch in space.sample(5, seed=0, distinct=False):
            net.set_architecture(arch)
            child = program.network(arch, inherit=net, form="search")
            inherit_weights(child, search_source(program.compilation, arch)[1], net, raw)
            assert (net(x) - child(x)).abs().max() < 1e-2 * child(x).abs().max()


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@pytest.mark.parametrize("passes", BASES)
@given(text=nas_spaces())
def test_at_vertices_of_random_spaces(passes: str, text: str) -> None:
    space = Space(checked(text))
    with float64():
        try:
            program = space.compile("toponas", passes=passes)
        except UserError:
            assume(False)
        assume(any(expressible(program, a) for a in space.sample(2, seed=3)))
        at_vertices(program, space, count=2)


# --- R1 and R3 alone ----------------------------------------------------------------


LINEAR = {
    "dense": "a: conv(1), b: conv(3), c: conv(5), id",
    "depthwise": "a: dwconv(3), b: dwconv(5), c: dwconv(7), id",
    "dilated": "a: dwconv(3, dilation=2), b: dwconv(5, dilation=2)",
    "behind a ReLU": "a: relu >> conv(3), b: relu >> conv(5), c: relu >> dwconv(3), d: relu >> dwconv(5)",
    "with biases": "a: conv(3, bias=true), b: conv(5, bias=true), none",
    "a prefix with weights": "a: conv(3) >> bn >> relu >> max_pool(3), b: conv(3) >> bn >> relu >> avg_pool(3)",
    "a prefix, then kernels": "a: conv(3) >> relu >> conv(1), b: conv(3) >> relu >> dwconv(3), id",
}


@pytest.mark.parametrize("title", LINEAR)
def test_kernels_and_prefixes_alone_are_the_sum_they_stand_for(title: str) -> None:
    """For any weights of the sum, with the same normalised (or tied) kernels on both sides."""
    space = cell(LINEAR[title], 2)
    mine = first(space.compile("darts", passes="+simplify"))
    plain = second(space.compile("darts", passes=only()), mine, as_used=True)
    assert counts(mine.program.compilation.optimised) != counts(plain.program.compilation.optimised)
    x = batch(space, 2).double()
    y = torch.tensor([1, 2])
    found = []
    for twin in (mine, plain):
        value = x.clone().requires_grad_()
        out = twin.net(value)
        wanted = [value, *twin.net.architecture_parameters()]
        found.append((out.detach(), *torch.autograd.grad(F.cross_entropy(out, y), wanted)))
    for a, b in zip(*found, strict=True):
        assert float((a - b).abs().max()) < 1e-10 * max(1.0, float(b.abs().max()))


# --- kernel normalisation -------------------------------------------------------------


def merged_filters(net: SupernetBase) -> dict[str, nn.Parameter]:
    return {n: p for n, p in net.named_parameters() if re.search(r"\.convs\.\d+\.weight$", n)}


def answers(twin: Twin, space: Space) -> tuple[Tensor, list[Tensor]]:
    out = twin.net(batch(space).double())
    return out.detach(), list(torch.autograd.grad(out.pow(3).sum(), twin.net.architecture_parameters()))


@pytest.mark.parametrize("options", EDGES)
def test_rescaling_a_kernel_changes_nothing_where_kernels_are_normalised(options: str) -> None:
    space = edge(EDGES[options])
    moved = {}
    for normalised in (True, False):
        program = space.compile("darts", passes="+simplify", settings={"simplify_kernel_norm": normalised})
        twin = first(program)
        filters = merged_filters(twin.net)
        assert len(filters) >= 2
        out, gradients = answers(twin, space)
        moved[normalised] = []
        for parameter in filters.values():
            with torch.no_grad():
                parameter.mul_(3)
            again, other = answers(twin, space)
            gaps = [float((again - out).abs().max() / out.abs().max())]
            gaps += [
                float((a - b).abs().max() / b.abs().max()) for a, b in zip(other, gradients, strict=True)
            ]
            moved[normalised].append(max(gaps))
            with torch.no_grad():
                parameter.div_(3)
    assert max(moved[True]) < 1e-3  # eps of the norm and of batch norm
    assert max(moved[False]) > 1e-2
    assert max(moved[False]) > 50 * max(moved[True])


# --- the mass of a group ----------------------------------------------------------------


def along_the_group(net: SupernetBase, space: Space, group: list[int]) -> float:
    """sum over the group of p_k dL/dp_k: how the loss moves with the group's mass, shares kept."""
    caught: list[Tensor] = []
    out = net(batch(space, 8).double())
    loss = F.cross_entropy(out, torch.arange(8))
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "SoftmaxBackward0":
            node.register_prehook(lambda gradients: caught.append(gradients[0].detach().clone()))
        stack.extend(n for n, _ in node.next_functions)
    loss.backward()
    (gradient,) = caught
    (alpha,) = net.architecture_parameters()
    p = torch.softmax(alpha.detach(), -1)
    return float((p * gradient)[0, group].sum())


@pytest.mark.parametrize(("options", "group"), [(NB201, [0, 1]), (DARTS, [0, 1, 2, 3])], ids=EDGES)
def test_the_mass_of_a_group_has_a_gradient(options: str, group: list[int]) -> None:
    space = edge(options)
    program = space.compile("darts", passes="+simplify")
    assert abs(along_the_group(first(program).net, space, group)) > 1e-4
    # Without the factor outside, batch norm cancels the mass: what it would be if it were left out.
    compilation = program.compilation
    dropped = compilation.optimised.map(
        lambda g: g.with_nodes(
            attrs.evolve(n, form="shares") if isinstance(n, Arith) and n.form == "groups" else n
            for n in g.nodes
        )
    )
    stages = (*compilation.stages[:-1], (compilation.stages[-1][0], dropped))
    without = Program(space, attrs.evolve(compilation, stages=stages))
    assert abs(along_the_group(first(without).net, space, group)) < 1e-12


# --- ends, costs, variables -----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    ["sep(3), id", "rcb(3), pool: avg_pool(3), id, none", "rcb(3), dw: dwconv(3)", "id, max_pool(3)"],
)
def test_where_paths_have_nothing_in_common_the_edge_is_left_as_it_is(options: str) -> None:
    before, after = around(edge(options), "darts", only(base="+simplify"), "simplify")
    assert after == before


def cost(module: Module) -> int:
    """The rules' own model, at the sizes of the network."""
    found = module_count(module)
    return found.macs + 8 * found.activations


def weighted(module: Module) -> int:
    """Modules with weights of their own."""
    return sum(isinstance(n, Op) and len(n.operands) > 1 for g in module.graphs for n in g.nodes)


def no_worse(space: Space, method: str, passes: str) -> bool:
    """No rewrite raises the cost; where anything changed there are fewer modules. Whether it did."""
    changed = False
    for name in re.findall(r"\+(\w+)", passes):
        before, after = around(space, method, only(base=passes), name)
        if after != before:
            changed = True
            assert weighted(after) < weighted(before)
            assert cost(after) <= cost(before)
            params = [module_count(m).params for m in (before, after)]
            assert params[1] <= params[0]
        variables = [[n for g in m.graphs for n in g.nodes if isinstance(n, Var)] for m in (before, after)]
        assert variables[0] == variables[1]
    return changed


@pytest.mark.parametrize("passes", BASES)
@pytest.mark.parametrize(
    "name", ["cells", "nasbench201", "hierarchical", pytest.param("darts", marks=pytest.mark.slow)]
)
def test_no_rewrite_costs_more(name: str, passes: str) -> None:
    assert no_worse(named(name), "toponas", passes)


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@pytest.mark.parametrize("passes", BASES)
@given(text=nas_spaces())
def test_no_rewrite_costs_more_on_random_spaces(passes: str, text: str) -> None:
    try:
        no_worse(Space(checked(text)), "toponas", passes)
    except UserError:
        assume(False)


@pytest.mark.parametrize("passes", BASES)
@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["cells", "nasbench201", pytest.param("darts", marks=pytest.mark.slow)])
def test_variables_and_derivation_are_those_of_the_method(name: str, method: str, passes: str) -> None:
    space = named(name)
    plain, simple = (space.compile(method, passes=p).supernet() for p in (PLAIN, passes))
    shapes = [{n: p.shape for n, p in net.variables.named_parameters()} for net in (plain, simple)]
    assert shapes[0] == shapes[1]
    assert plain.DECISIONS == simple.DECISIONS
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for one, other in zip(plain.variables.parameters(), simple.variables.parameters(), strict=True):
            with torch.no_grad():
                one.normal_(generator=generator)
                other.copy_(one)
        assert plain.derive() == simple.derive()


def test_the_sum_weighs_a_group_by_its_mass() -> None:
    """R2 keeps `s` outside: every shared end is weighed by `groups`, never by a share."""
    module = last(edge(DARTS), only(base="+simplify"))
    nodes = module.by_name["c"].by_id
    (mix,) = [n for n in nodes.values() if isinstance(n, Mix)]
    groups = [n for n in nodes.values() if isinstance(n, Arith) and n.form == "groups"]
    assert [g.groups for g in groups] == [((0, 1, 2, 3),)]
    assert groups[0].id in mix.operands[: mix.vectors]
    tied = [n for n in nodes.values() if isinstance(n, Weight) and len(n.aliases) == 3]
    assert tied  # the last pointwise convolution stands for those of all four
