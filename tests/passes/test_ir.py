"""What every pass does to a graph, as text; that twice is once, and that the text reads back."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings

from nasdsl import Space, UserError
from nasdsl.ir.graph import Module
from nasdsl.ir.nodes import State, Weight
from nasdsl.ir.text import parse_module, print_module
from nasdsl.ir.verify import verify
from nasdsl.passes import PASSES
from tests.passes.short import around, cell, expected, lines, named
from tests.passes.short import space as space_of
from tests.passes.twins import EXACT, only
from tests.strategies import checked, nas_spaces


def same(found: str, wanted: str) -> None:
    assert found == expected(wanted)


def test_fold_multiplies_edge_weights_into_operation_weights() -> None:
    space = cell("rcb(3), id", gather="sum of choose 1..")
    before, after = around(space, "toponas", only("fold"), "fold")
    same(
        lines(before, "%n2.* = (mix|arith)"),
        """
        %n2.x = mix(%n2.opx.dist, %n2.x.rcb_3.bn, %x) {vectors=1, terms=[[0, 0], [0, 1]]}
        %n2.n1 = mix(%n2.opn1.dist, %n2.n1.rcb_3.bn, %n1) {vectors=1, terms=[[0, 0], [0, 1]]}
        %n2 = mix(%n2.inputs.marginal, %n2.x, %n2.n1) {vectors=1, terms=[[0, 0], [0, 1]]}
        """,
    )
    same(
        lines(after, "%n2.* = (mix|arith)"),
        """
        %n2.x.scaled = arith(%n2.opx.dist, %n2.inputs.marginal) {form="scale", index=0}
        %n2.n1.scaled = arith(%n2.opn1.dist, %n2.inputs.marginal) {form="scale", index=1}
        %n2 = mix(%n2.x.scaled, %n2.n1.scaled, %n2.x.rcb_3.bn, %x, %n2.n1.rcb_3.bn, %n1) """
        """{vectors=2, terms=[[0, 0], [0, 1], [1, 0], [1, 1]]}
        """,
    )


def test_fold_joins_a_plain_sum_of_weighted_sums() -> None:
    before, after = around(cell("rcb(3), id"), "darts", only("fold"), "fold")
    same(lines(before, "%n2 ="), '%n2 = merge("x": %n2.x, "n[1]": %n2.n1) {merge="sum"}')
    same(
        lines(after, "%n2 ="),
        "%n2 = mix(%n2.opx.dist, %n2.opn1.dist, %n2.x.rcb_3.bn, %x, %n2.n1.rcb_3.bn, %n1) "
        "{vectors=2, terms=[[0, 0], [0, 1], [1, 0], [1, 1]]}",
    )


def test_share_computes_once_what_has_no_weights() -> None:
    before, after = around(cell("dw(3), pool: avg_pool(3)"), "darts", only("share"), "share")
    same(
        lines(before, "relu|pool|mix"),
        """
        %n1.x.dw_3.relu = relu(%x)
        %n1.x.dw_3.dwconv = dwconv(%n1.x.dw_3.relu, %n1.x.dw_3.dwconv.weight) k=3
        %n1.x.pool.avg_pool = avg_pool(%x) k=3
        %n1.x.pool.avg_pool.bn = bn(%n1.x.pool.avg_pool, %n1.x.pool.avg_pool.bn.running) affine=False
        %n1.x = mix(%n1.opx.dist, %n1.x.dw_3.bn, %n1.x.pool.avg_pool.bn) {vectors=1, terms=[[0, 0], [0, 1]]}
        %n2.x.dw_3.relu = relu(%x)
        %n2.x.dw_3.dwconv = dwconv(%n2.x.dw_3.relu, %n2.x.dw_3.dwconv.weight) k=3
        %n2.x.pool.avg_pool = avg_pool(%x) k=3
        %n2.x.pool.avg_pool.bn = bn(%n2.x.pool.avg_pool, %n2.x.pool.avg_pool.bn.running) affine=False
        %n2.x = mix(%n2.opx.dist, %n2.x.dw_3.bn, %n2.x.pool.avg_pool.bn) {vectors=1, terms=[[0, 0], [0, 1]]}
        %n2.n1.dw_3.relu = relu(%n1)
        %n2.n1.dw_3.dwconv = dwconv(%n2.n1.dw_3.relu, %n2.n1.dw_3.dwconv.weight) k=3
        %n2.n1.pool.avg_pool = avg_pool(%n1) k=3
        %n2.n1.pool.avg_pool.bn = bn(%n2.n1.pool.avg_pool, %n2.n1.pool.avg_pool.bn.running) affine=False
        %n2.n1 = mix(%n2.opn1.dist, %n2.n1.dw_3.bn, %n2.n1.pool.avg_pool.bn) {vectors=1, terms=[[0, 0], [0, 1]]}
        """,
    )
    same(
        lines(after, r"%n[12]\.x.* = (relu|avg_pool|bn|dwconv|mix)"),
        """
        %n1.x.dw_3.relu = relu(%x)
        %n1.x.dw_3.dwconv = dwconv(%n1.x.dw_3.relu, %n1.x.dw_3.dwconv.weight) k=3
        %n1.x.dw_3.bn = bn(%n1.x.dw_3.conv, %n1.x.dw_3.bn.running) affine=False
        %n1.x.pool.avg_pool = avg_pool(%x) k=3
        %n1.x.pool.avg_pool.bn = bn(%n1.x.pool.avg_pool, %n1.x.pool.avg_pool.bn.running) affine=False
        %n1.x = mix(%n1.opx.dist, %n1.x.dw_3.bn, %n1.x.pool.avg_pool.bn) {vectors=1, terms=[[0, 0], [0, 1]]}
        %n2.x.dw_3.dwconv = dwconv(%n1.x.dw_3.relu, %n2.x.dw_3.dwconv.weight) k=3
        %n2.x.dw_3.bn = bn(%n2.x.dw_3.conv, %n2.x.dw_3.bn.running) affine=False
        %n2.x = mix(%n2.opx.dist, %n2.x.dw_3.bn, %n1.x.pool.avg_pool.bn) {vectors=1, terms=[[0, 0], [0, 1]]}
        """,
    )
    states = {n.id: n for n in after.by_name["c"].nodes if isinstance(n, State)}
    assert states["n1.x.pool.avg_pool.bn.running"].aliases == ("n2.x.pool.avg_pool.bn.running",)


def test_share_leaves_weights_alone() -> None:
    """Two convolutions of one input are two; so are two batch norms with a scale of their own."""
    space = cell("rcb(3), dw(3), pool: avg_pool(3) >> bn")
    stages = dict(space.compile("darts", passes=only("share"), settings={"affine": True}).compilation.stages)
    for kinds in (Weight, State):
        counts = [
            sum(isinstance(n, kinds) for n in stages[name].by_name["c"].nodes)
            for name in ("search_form", "share")
        ]
        assert counts[0] == counts[1]


def test_normalise_joins_convolution_norm_and_relu() -> None:
    before, after = around(cell("sep(3), rcb(1), rcb(3)", 1), "darts", only("normalise"), "normalise")
    same(
        lines(before, r"sep_3.* = |rcb_.*(conv|bn)\("),
        """
        %n1.x.sep_3.relu = relu(%x)
        %n1.x.sep_3.dwconv = dwconv(%n1.x.sep_3.relu, %n1.x.sep_3.dwconv.weight) k=3
        %n1.x.sep_3.conv = conv(%n1.x.sep_3.dwconv, %n1.x.sep_3.conv.weight) k=1 out=c_x
        %n1.x.sep_3.bn = bn(%n1.x.sep_3.conv, %n1.x.sep_3.bn.running) affine=False
        %n1.x.sep_3.relu_2 = relu(%n1.x.sep_3.bn)
        %n1.x.sep_3.dwconv_2 = dwconv(%n1.x.sep_3.relu_2, %n1.x.sep_3.dwconv_2.weight) k=3
        %n1.x.sep_3.conv_2 = conv(%n1.x.sep_3.dwconv_2, %n1.x.sep_3.conv_2.weight) k=1 out=c_x
        %n1.x.sep_3.bn_2 = bn(%n1.x.sep_3.conv_2, %n1.x.sep_3.bn_2.running) affine=False
        %n1.x.rcb_1.conv = conv(%n1.x.rcb_1.relu, %n1.x.rcb_1.conv.weight) k=1 out=c_x
        %n1.x.rcb_1.bn = bn(%n1.x.rcb_1.conv, %n1.x.rcb_1.bn.running) affine=False
        %n1.x.rcb_3.conv = conv(%n1.x.rcb_3.relu, %n1.x.rcb_3.conv.weight) k=3 out=c_x
        %n1.x.rcb_3.bn = bn(%n1.x.rcb_3.conv, %n1.x.rcb_3.bn.running) affine=False
        """,
    )
    same(
        lines(after, r"sep_3.* = |rcb_.*(conv|bn|norm)\("),
        """
        %n1.x.sep_3.relu = relu(%x)
        %n1.x.sep_3.dwconv = dwconv(%n1.x.sep_3.relu, %n1.x.sep_3.dwconv.weight) k=3
        %n1.x.sep_3.relu_2 = pointwise_norm(%n1.x.sep_3.dwconv, %n1.x.sep_3.conv.weight, """
        """%n1.x.sep_3.bn.running) out=c_x relu=True
        %n1.x.sep_3.dwconv_2 = dwconv(%n1.x.sep_3.relu_2, %n1.x.sep_3.dwconv_2.weight) k=3
        %n1.x.sep_3.bn_2 = pointwise_norm(%n1.x.sep_3.dwconv_2, %n1.x.sep_3.conv_2.weight, """
        """%n1.x.sep_3.bn_2.running) out=c_x
        %n1.x.rcb_1.bn = pointwise_norm(%n1.x.rcb_1.relu, %n1.x.rcb_1.conv.weight, %n1.x.rcb_1.bn.running) out=c_x
        %n1.x.rcb_3.conv = conv(%n1.x.rcb_3.relu, %n1.x.rcb_3.conv.weight) k=3 out=c_x
        %n1.x.rcb_3.bn = bn(%n1.x.rcb_3.conv, %n1.x.rcb_3.bn.running) affine=False
        """,
    )


def test_normalise_leaves_batch_norm_with_a_scale() -> None:
    space = cell("rcb(1), id", 1)
    stages = space.compile("darts", passes=only("normalise"), settings={"affine": True}).compilation.stages
    assert dict(stages)["normalise"] == dict(stages)["search_form"]


def test_accumulate_takes_the_terms_that_end_in_a_normalised_convolution() -> None:
    passes = only("normalise", "accumulate")
    before, after = around(cell("dw(3), id, rcb(1), rcb(3)", 1), "darts", passes, "accumulate")
    same(
        lines(before, "mix"),
        "%n1.x = mix(%n1.opx.dist, %n1.x.dw_3.bn, %x, %n1.x.rcb_1.bn, %n1.x.rcb_3.bn) "
        "{vectors=1, terms=[[0, 0], [0, 1], [0, 2], [0, 3]]}",
    )
    same(lines(after, "mix"), lines(before, "mix").replace("]]}", "]], inside=[0, 2]}"))


def test_fan_joins_what_reads_one_input_lane_by_lane() -> None:
    passes = only("share", "normalise", "fan")
    before, after = around(cell("sep(3), dil(5)"), "darts", passes, "fan")
    same(
        lines(before, r"n2\.x\.sep_3"),
        """
        %n2.x.sep_3.dwconv = dwconv(%n1.x.sep_3.relu, %n2.x.sep_3.dwconv.weight) k=3
        %n2.x.sep_3.relu_2 = pointwise_norm(%n2.x.sep_3.dwconv, %n2.x.sep_3.conv.weight, """
        """%n2.x.sep_3.bn.running) out=c_x relu=True
        %n2.x.sep_3.dwconv_2 = dwconv(%n2.x.sep_3.relu_2, %n2.x.sep_3.dwconv_2.weight) k=3
        %n2.x.sep_3.bn_2 = pointwise_norm(%n2.x.sep_3.dwconv_2, %n2.x.sep_3.conv_2.weight, """
        """%n2.x.sep_3.bn_2.running) out=c_x
        %n2.x = mix(%n2.opx.dist, %n2.x.sep_3.bn_2, %n2.x.dil_5.bn) {vectors=1, terms=[[0, 0], [0, 1]]}
        """,
    )
    same(
        lines(after, r"fan"),
        """
        %n1.x.sep_3.dwconv.fan.1 = stack(%n1.x.sep_3.dwconv.weight, %n2.x.sep_3.dwconv.weight)
        %n1.x.sep_3.dwconv.fan = dwconv_fan(%n1.x.sep_3.relu, %n1.x.sep_3.dwconv.fan.1) copies=2 k=3
        %n1.x.sep_3.relu_2.fan.1 = stack(%n1.x.sep_3.conv.weight, %n2.x.sep_3.conv.weight)
        %n1.x.sep_3.relu_2.fan.2 = stack(%n1.x.sep_3.bn.running, %n2.x.sep_3.bn.running)
        %n1.x.sep_3.relu_2.fan = pointwise_norm(%n1.x.sep_3.dwconv.fan, %n1.x.sep_3.relu_2.fan.1, """
        """%n1.x.sep_3.relu_2.fan.2) groups=2 out=2*c_x relu=True
        %n1.x.sep_3.dwconv_2.fan.1 = stack(%n1.x.sep_3.dwconv_2.weight, %n2.x.sep_3.dwconv_2.weight)
        %n1.x.sep_3.dwconv_2.fan = dwconv_lanes(%n1.x.sep_3.relu_2.fan, %n1.x.sep_3.dwconv_2.fan.1) copies=2 k=3
        %n1.x.sep_3.bn_2.fan.1 = stack(%n1.x.sep_3.conv_2.weight, %n2.x.sep_3.conv_2.weight)
        %n1.x.sep_3.bn_2.fan.2 = stack(%n1.x.sep_3.bn_2.running, %n2.x.sep_3.bn_2.running)
        %n1.x.sep_3.bn_2.fan = pointwise_norm(%n1.x.sep_3.dwconv_2.fan, %n1.x.sep_3.bn_2.fan.1, """
        """%n1.x.sep_3.bn_2.fan.2) groups=2 out=2*c_x
        %n1.x.sep_3.bn_2 = part(%n1.x.sep_3.bn_2.fan) count=2 index=0
        %n2.x.sep_3.bn_2 = part(%n1.x.sep_3.bn_2.fan) count=2 index=1
        %n1.x.dil_5.dwconv.fan.1 = stack(%n1.x.dil_5.dwconv.weight, %n2.x.dil_5.dwconv.weight)
        %n1.x.dil_5.dwconv.fan = dwconv_fan(%n1.x.sep_3.relu, %n1.x.dil_5.dwconv.fan.1) copies=2 dilation=2 k=5
        %n1.x.dil_5.bn.fan.1 = stack(%n1.x.dil_5.conv.weight, %n2.x.dil_5.conv.weight)
        %n1.x.dil_5.bn.fan.2 = stack(%n1.x.dil_5.bn.running, %n2.x.dil_5.bn.running)
        %n1.x.dil_5.bn.fan = pointwise_norm(%n1.x.dil_5.dwconv.fan, %n1.x.dil_5.bn.fan.1, """
        """%n1.x.dil_5.bn.fan.2) groups=2 out=2*c_x
        %n1.x.dil_5.bn = part(%n1.x.dil_5.bn.fan) count=2 index=0
        %n2.x.dil_5.bn = part(%n1.x.dil_5.bn.fan) count=2 index=1
        """,
    )


def test_fan_leaves_to_a_sum_what_it_accumulates() -> None:
    passes = only("share", "normalise", "accumulate", "fan")
    _, after = around(cell("dw(3), id"), "darts", passes, "fan")
    same(
        lines(after, "fan|mix"),
        """
        %n1.x.dw_3.dwconv.fan.1 = stack(%n1.x.dw_3.dwconv.weight, %n2.x.dw_3.dwconv.weight)
        %n1.x.dw_3.dwconv.fan = dwconv_fan(%n1.x.dw_3.relu, %n1.x.dw_3.dwconv.fan.1) copies=2 k=3
        %n1.x.dw_3.dwconv = part(%n1.x.dw_3.dwconv.fan) count=2 index=0
        %n2.x.dw_3.dwconv = part(%n1.x.dw_3.dwconv.fan) count=2 index=1
        %n1.x = mix(%n1.opx.dist, %n1.x.dw_3.bn, %x) {vectors=1, terms=[[0, 0], [0, 1]], inside=[0]}
        %n2.x = mix(%n2.opx.dist, %n2.x.dw_3.bn, %x) {vectors=1, terms=[[0, 0], [0, 1]], inside=[0]}
        %n2.n1 = mix(%n2.opn1.dist, %n2.n1.dw_3.bn, %n1) {vectors=1, terms=[[0, 0], [0, 1]], inside=[0]}
        """,
    )


# --- laws -----------------------------------------------------------------------


def unlabelled(module: Module) -> Module:
    return module.map(lambda g: g.with_nodes(attrs.evolve(n, label="") for n in g.nodes))


def every_stage(space: Space, method: str, passes: str, but: tuple[str, ...] = ()) -> None:
    """A pass that ran has nothing left to do; what it left is valid, and its text reads back."""
    compilation = space.compile(method, passes=passes).compilation
    for (name, module), step in zip(compilation.stages[1:], compilation.passes, strict=True):
        verify(module, name)
        text = print_module(module)
        assert parse_module(text) == module
        if step.optimises and name not in but:
            assert unlabelled(step(module)) == unlabelled(module), f"{name} is not done after one run"


@pytest.mark.parametrize("passes", ["", "+tie,+simplify"])
@pytest.mark.parametrize(
    "name", ["cells", "nasbench201", "hierarchical", pytest.param("darts", marks=pytest.mark.slow)]
)
def test_twice_is_once_and_the_text_reads_back(name: str, passes: str) -> None:
    every_stage(named(name), "toponas" if passes else "darts", passes)


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(text=nas_spaces())
def test_twice_is_once_on_random_spaces(text: str) -> None:
    space = Space(checked(text))
    try:
        space.compile("toponas")
    except UserError:
        assume(False)
    every_stage(space, "toponas", "+tie,+simplify", but=("fold", "tie"))


def test_fold_is_done_after_one_run() -> None:
    made = space_of(
        "cell c(x) { n[1..1] = sum of all from (x, earlier) via choose { id, rcb(3) } "
        "z = n[1] >> choose { id }  return z }"
    )
    every_stage(made, "darts", only("fold"))


def test_tie_is_done_after_one_run() -> None:
    made = space_of(
        "cell c(x) { n[1..2] = sum of all from (x, earlier) via choose { a: rcb(3), b: relu >> conv(3) >> bn } "
        "return n[2] }"
    )
    every_stage(made, "darts", only(base="+tie"))


def test_share_names_are_done_after_one_run() -> None:
    options = "a: relu >> max_pool(3) >> conv(3), b: relu >> max_pool(3) >> conv(5), c: relu >> conv(3)"
    made = cell(options, 1)
    _, module = around(made, "darts", only("share"), "share")
    assert PASSES.load("share")()(module) == module


@pytest.mark.parametrize("name", EXACT)
def test_a_pass_has_nothing_to_do_where_nothing_is_searched_that_it_knows(name: str) -> None:
    """One candidate without weights on one edge, a plain network around it."""
    before, after = around(cell("pool: max_pool(3), id", 1), "darts", only(name) + ",-search_form", name)
    if name == "fold":  # an edge by itself is a sum of one weighted sum
        assert lines(before, "merge") != ""
        assert lines(after, "merge") == ""
    else:
        assert after == before
    assert PASSES.load(name).exact
