"""The verifier finds what is wrong with the nodes that optimising passes make."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from nasdsl.errors import VerifyError
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Arith, Blend, Mix, Op, Stack, WeightType
from nasdsl.ir.verify import verify
from nasdsl.types import Dim
from tests.passes.short import cell

FANNED = cell("sep(3), dil(5), rcb(1), id").compile("darts").compilation.optimised
MERGED = (
    cell("dw(3), dw(5), rcb(3), rcb(5), id", 1).compile("darts", passes="+simplify").compilation.optimised
)


def change(module: Module, name: str, **fields: object) -> Module:
    """The module with some fields of a node of its cell changed."""
    assert name in module.by_name["c"].by_id
    return module.map(
        lambda g: g.with_nodes(
            attrs.evolve(n, **fields) if g.name == "c" and n.id == name else n for n in g.nodes
        )
    )


def first(module: Module, wanted: Callable[[AnyNode, Graph], bool]) -> AnyNode:
    graph = module.by_name["c"]
    return next(n for n in graph.nodes if wanted(n, graph))


def op(module: Module, name: str, number: int = 0, **values: object) -> Op:
    """An operation by its kind and some of its values."""
    found = [n for n in module.by_name["c"].nodes if isinstance(n, Op) and n.op == name]
    return [n for n in found if values.items() <= dict(n.values).items()][number]


def of(module: Module, kind: type, number: int = 0) -> AnyNode:
    return [n for n in module.by_name["c"].nodes if isinstance(n, kind)][number]


def with_value(node: Op, **values: object) -> tuple[tuple[str, object], ...]:
    return tuple(sorted({**dict(node.values), **values}.items()))


def refused(module: Module, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify(module, "a broken pass")


def test_what_is_whole_is_accepted() -> None:
    for module in (FANNED, MERGED):
        verify(module)
    kinds = {type(n) for m in (FANNED, MERGED) for n in m.by_name["c"].nodes}
    assert {Stack, Blend, Mix, Arith} <= kinds


# --- stacks -----------------------------------------------------------------------


def test_a_stack_is_as_large_as_its_parts() -> None:
    stack = of(FANNED, Stack)
    refused(change(FANNED, stack.id, operands=stack.operands[:1]), "it is weight")
    refused(change(FANNED, stack.id, operands=()), "it stacks weights, one at least")
    narrow = WeightType((Dim.of(3), *stack.type.shape[1:]))  # type: ignore[union-attr]
    refused(change(FANNED, stack.id, type=narrow), "it is weight")


def test_a_stack_is_of_weights_that_differ_in_their_first_size_only() -> None:
    stack = of(FANNED, Stack)
    refused(change(FANNED, stack.id, operands=("x", "x")), "it stacks weights")
    other = next(n.id for n in FANNED.by_name["c"].nodes if n.id.endswith("rcb_1.conv.weight"))
    early = FANNED.map(
        lambda g: g.with_nodes(sorted(g.nodes, key=lambda n: n.kind not in ("weight", "state")))
    )
    verify(early)
    refused(change(early, stack.id, operands=(stack.operands[0], other)), "more than their first size")
    state = next(n.id for n in early.by_name["c"].nodes if n.kind == "state")
    refused(change(early, stack.id, operands=(stack.operands[0], state)), "more than their first size")


@pytest.mark.parametrize("stage", [Stage.SPACE, Stage.CONCRETE])
def test_stacks_and_blends_belong_to_supernets(stage: Stage) -> None:
    for module, kind in ((FANNED, Stack), (MERGED, Blend)):
        kept = [n for n in module.by_name["c"].nodes if n.kind in ("input", "weight", "state", kind.kind)]
        seen: set[str] = set()
        nodes = [n for n in kept if set(n.operands) <= seen and not seen.add(n.id)]  # type: ignore[func-returns-value]
        if kind is Blend:
            nodes.append(attrs.evolve(of(module, Blend), operands=()))
        graph = Graph("c", module.by_name["c"].sizes, tuple(nodes), nodes[0].id)
        refused(Module(stage, (graph,), "c"), f"does not belong to stage {stage.value}")


# --- blends -----------------------------------------------------------------------


def test_a_blend_has_a_weight_for_each_entry() -> None:
    blend = of(MERGED, Blend)
    refused(change(MERGED, blend.id, operands=blend.operands[:-1]), "not one weight for each entry")
    refused(change(MERGED, blend.id, operands=blend.operands[1:]), "not one weight for each entry")
    refused(change(MERGED, blend.id, normalise="channel"), "no normalisation 'channel'")


def test_a_blend_is_of_filters_of_one_shape() -> None:
    blend = of(MERGED, Blend)
    vector, first_weight, _ = blend.operands
    other = next(
        n for n in MERGED.by_name["c"].nodes if n.kind == "weight" and n.id.endswith("dw_3.conv.weight")
    )
    early = MERGED.map(
        lambda g: g.with_nodes(sorted(g.nodes, key=lambda n: n.kind not in ("weight", "state")))
    )
    verify(early)
    refused(change(early, blend.id, operands=(vector, first_weight, other.id)), "no filters of one shape")
    refused(change(early, blend.id, type=WeightType((Dim.of(4),))), "no filters of one shape")


def test_groups_and_shares_are_of_entries_of_the_vector() -> None:
    arith = next(n for n in MERGED.by_name["c"].nodes if isinstance(n, Arith) and n.form == "shares")
    for groups in (((0,), (9,)), ((0,), (0,)), ()):
        refused(change(MERGED, arith.id, groups=groups), "its groups are no entries")
    refused(change(MERGED, arith.id, groups=((0,),)), "its groups are no entries")


# --- what is accumulated ------------------------------------------------------------


def mix(module: Module) -> Mix:
    found = first(module, lambda n, _: isinstance(n, Mix) and bool(n.inside))
    assert isinstance(found, Mix)
    return found


def test_what_is_accumulated_is_a_normalised_convolution() -> None:
    node = mix(FANNED)
    operands = node.operands[node.vectors :]
    plain = operands.index("x")
    assert plain not in node.inside
    refused(change(FANNED, node.id, inside=(*node.inside, plain)), "no `pointwise_norm`")
    refused(change(FANNED, node.id, inside=(len(operands),)), "no `pointwise_norm`")
    term = FANNED.by_name["c"].by_id[operands[node.inside[0]]]
    assert isinstance(term, Op)
    refused(change(FANNED, term.id, values=with_value(term, relu=True)), "no `pointwise_norm`")


def test_what_is_accumulated_is_read_by_its_sum_alone() -> None:
    node = mix(FANNED)
    term = node.operands[node.vectors + node.inside[0]]
    plain = node.operands.index("x")
    operands = (*node.operands[:plain], term, *node.operands[plain + 1 :])
    refused(change(FANNED, node.id, operands=operands), "read by others")


def test_what_is_accumulated_has_one_shape() -> None:
    node = mix(FANNED)
    term = FANNED.by_name["c"].by_id[node.operands[node.vectors + node.inside[0]]]
    assert isinstance(term, Op)
    biased = attrs.evolve(
        FANNED.by_name["c"].by_id[term.operands[1]],
        id="bias",
        name="bias",
        type=WeightType(FANNED.by_name["c"].by_id[term.operands[1]].type.shape[:1]),  # type: ignore[union-attr]
    )
    changed = change(
        FANNED,
        term.id,
        values=with_value(term, bias=True),
        operands=(*term.operands[:2], "bias", term.operands[2]),
    )
    broken = changed.map(lambda g: g.with_nodes((biased, *g.nodes)) if g.name == "c" else g)
    refused(broken, "several shapes")


# --- several results ------------------------------------------------------------------


def test_only_parts_and_lanes_read_what_has_several_results() -> None:
    message, other = "only parts and lanes read what has several results", "results; what it reads has 1"
    part, fan = op(FANNED, "part"), op(FANNED, "dwconv_fan")
    relu = next(n.id for n in FANNED.by_name["c"].nodes if isinstance(n, Op) and n.op == "relu")
    refused(change(FANNED, part.id, operands=(relu,)), other)
    reader = FANNED.by_name["c"].by_id[FANNED.by_name["c"].readers[part.id][0]]
    assert isinstance(reader, Op)
    refused(change(FANNED, reader.id, operands=(fan.id, *reader.operands[1:])), message)
    lanes = op(FANNED, "dwconv_lanes")
    refused(change(FANNED, lanes.id, operands=(relu, *lanes.operands[1:])), other)


def test_a_merge_does_not_read_what_has_several_results() -> None:
    fan = op(FANNED, "dwconv_fan")
    result = FANNED.by_name["c"].by_id["n2"]
    refused(change(FANNED, result.id, operands=(*result.operands[:-1], fan.id)), "several results")


def test_a_part_is_one_of_the_results() -> None:
    part = op(FANNED, "part")
    refused(change(FANNED, part.id, values=with_value(part, index=2)), "part|result")
    refused(change(FANNED, part.id, values=with_value(part, count=3)), "part|result")


def test_lanes_are_as_many_as_there_are_results() -> None:
    lanes = op(FANNED, "dwconv_lanes")
    refused(change(FANNED, lanes.id, values=with_value(lanes, copies=4)), "lanes|result|weights")
