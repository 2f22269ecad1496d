"""Supernets inside a sub-space: at a member they are its own path; their ends are members; nothing else changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import nasdsl
from nasdsl import Program, Space
from nasdsl.cli import main
from nasdsl.methods import METHODS
from nasdsl.planning.report import plan
from nasdsl.runtime.search.nearest import best, candidates, log_weights, nearest, score
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.supernet import SupernetBase
from nasdsl.subspace.value import Subspace
from tests.laws.common import SMALL, batch, expressible, float64, small

BOUND = 1e-10
GRADIENT = [n for n in METHODS.names() if METHODS.load(n).template == "search.py.j2"]
KINDS = ("members", "ball", "restriction")


@cache
def whole(name: str) -> Space:
    return small(name)


def sub_of(space: Space, kind: str) -> Subspace:
    some = space.sample(4, seed=1)
    if kind == "members":
        return space.members(some)
    if kind == "ball":
        return space.balls(some[:2], 2)
    return space.restriction({d.path: d.values[:2] for d in space.decisions if d.kind == "op"})


def same(program: Program, net: Any, space: Space) -> int:
    """How many members were found to be paths of the supernet, to the last bits."""
    found, x = 0, batch(space)
    for arch in program.space.sample(3, seed=5):
        if not expressible(program, arch):
            continue
        try:
            net.set_architecture(arch.choices)
        except ValueError as error:
            if "always takes this edge" not in str(error):  # of the method, in the whole space as well
                raise
            continue
        child = program.network(arch, inherit=net.train(), form="search")
        assert (net(x) - child(x)).abs().max() < BOUND
        assert program.architecture(net.derive()) == arch
        found += 1
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [*GRADIENT, "spos", "cream"])
def test_a_member_is_its_own_path(method: str, kind: str) -> None:
    space = whole("nasbench201")
    with float64():
        program = space.within(sub_of(space, kind)).compile(method)
        assert same(program, program.supernet(seed=1), space) > 0


@pytest.mark.parametrize(
    ("name", "method", "kind"),
    [
        ("darts", "toponas", "ball"),
        ("darts", "gdas", "members"),
        ("darts", "pcdarts", "restriction"),
        ("darts", "spos", "members"),
        ("cream", "darts", "ball"),
        ("cream", "cream", "members"),
    ],
)
def test_a_member_is_its_own_path_in_larger_spaces(name: str, method: str, kind: str) -> None:
    space = whole(name)
    with float64():
        program = space.within(sub_of(space, kind)).compile(method)
        assert same(program, program.supernet(seed=1), space) > 0


@pytest.mark.parametrize("method", ["darts", "cbo", "gdas", "spos"])
def test_the_supernet_has_what_members_take_and_no_more(method: str) -> None:
    space = whole("nasbench201")
    inner = space.within(space.members(space.sample(2, seed=3)))
    left, all_ = inner.compile(method).supernet(), space.compile(method).supernet()
    taken = {d["path"]: set(d["options"]) for d in left.DECISIONS}
    for path, values in inner.subspace.support().items():  # type: ignore[union-attr]
        assert taken[path] == set(values)
    count = [sum(p.numel() for p in n.weight_parameters()) for n in (left, all_)]
    assert count[0] < count[1]


def test_candidates_that_skip_alone_are_summed_where_some_are_left_out() -> None:
    """Two edges of one node that hand on the same sum: it is computed for both of them."""
    space = whole("nasbench201")
    kept = {d.path: ["none", "skip_connect"] for d in space.decisions}
    with float64():
        program = space.within(space.restriction(kept)).compile("cbo")
        assert same(program, program.supernet(), space) == 3


# --- where a search ends -------------------------------------------------------


def shaken(net: SupernetBase, seed: int) -> SupernetBase:
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.architecture_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=made).to(parameter))
    return net


@pytest.mark.parametrize("method", GRADIENT)
def test_whatever_the_variables_are_a_search_ends_in_a_member(method: str) -> None:
    space = whole("nasbench201")
    kinds = set()
    for kind in KINDS:
        program = space.within(sub_of(space, kind)).compile(method)
        net = program.supernet()
        for seed in range(6):
            derived = shaken(net, seed).derive()
            found = nearest(net, derived, program.inside)  # type: ignore[arg-type]
            program.architecture(found.choices)  # raises NAS405 outside
            is_member = program.space.allows(derived)
            assert (found.edits == 0) == is_member
            assert (found.choices == derived) if is_member else found.looked > 0
            kinds.add(is_member)
    assert kinds == {True, False}


@pytest.mark.parametrize("method", ["darts", "toponas", "cbo", "drnas", "pcdarts"])
@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_the_member_is_that_with_the_largest_product_of_weights(name: str, method: str) -> None:
    """Against products written out: of a forward pass's own weights where a decision has a vector of them."""
    space = whole(name)
    program = space.within(space.members(space.sample(8, seed=2))).compile(method)
    net = shaken(program.supernet(), 3)
    assert program.inside is not None
    logs = log_weights(net)
    found = best(net, candidates(program.inside, 0))
    assert found is not None
    points = [c for c in program.inside.all() if score(net, logs, c) is not None]
    assert len(points) == found[1] == sum(expressible(program, space.architecture(c)) for c in points)
    top = max(points, key=lambda c: _product(net, c))
    assert _product(net, found[0]) == pytest.approx(_product(net, top), rel=1e-9)


def _product(net: SupernetBase, choices: Mapping[str, Any]) -> float:
    product, at = 1.0, net.lifted(choices)
    for decision in net.DECISIONS:
        if decision.get("parameter") is None or decision["path"] not in at:
            continue
        value, entries = at[decision["path"]], list(decision["entries"])
        weights = _weights(net, decision)
        if decision["kind"] == "op" and value not in entries:
            product *= max(1.0 - float(weights.sum()), 1e-30)
        elif decision.get("role") == "edges":
            product *= float(torch.stack([weights[entries.index(v)] for v in value]).prod())
        else:
            product *= max(float(weights[entries.index(value)]), 1e-30)
    return product


def _weights(net: SupernetBase, decision: Mapping[str, Any]) -> torch.Tensor:
    logits = net.logits(decision).detach().double()
    if decision["kind"] == "op" and net.ACTIVATION == "clipped":
        return logits.clamp(0, 1)
    if decision["kind"] == "op" and net.ACTIVATION == "dirichlet":
        return (F.elu(logits) + 1) / (F.elu(logits) + 1).sum()
    return torch.softmax(logits, 0)


def test_a_member_that_is_set_is_the_one_that_is_preferred() -> None:
    space = whole("darts")
    sub = space.members(space.sample(20, seed=6))
    program = space.within(sub).compile("toponas")
    net = program.supernet()
    assert program.inside is not None
    for index in range(5):
        net.set_architecture(sub.member(index))
        found = best(net, candidates(program.inside, 0))
        assert found is not None
        assert found[0] == sub.member(index)


def test_members_that_are_no_points_of_the_relaxation_are_said() -> None:
    space = whole("nasbench201")
    dead = space.architecture({d.path: "none" for d in space.decisions})
    near = space.balls([dead], 1)
    program = space.within(near).compile("toponas")
    net, inside = program.supernet(), program.inside
    assert inside is not None
    with pytest.raises(Mistake, match="no member of the sub-space is a point"):
        nearest(net, shaken(net, 0).derive(), inside)


# --- what is written -----------------------------------------------------------


@pytest.mark.parametrize("method", ["darts", "spos"])
def test_a_directory_holds_its_sub_space_and_is_the_same_twice(method: str, tmp_path: Path) -> None:
    space = whole("nasbench201")
    sub = space.balls(space.sample(2, seed=0), 1)
    files = space.within(sub).compile(method).files()
    sub.write(tmp_path / "part.json")
    assert whole.__wrapped__("nasbench201").within(tmp_path / "part.json").compile(method).files() == files
    assert json.loads(files["nasdsl.lock"])["subspace"] == sub.digest
    (tmp_path / "again.json").write_text(files["subspace.json"])
    assert space.read_subspace(tmp_path / "again.json") == sub
    plain = space.compile(method).files()
    assert sorted(files) == sorted([*plain, "subspace.json"])
    assert files["space.nas"] == plain["space.nas"]
    for name in ("search.py", "README.md"):
        assert "sub-space" in files[name]
        assert "sub-space" not in plain[name]
        for text in _numbers(space, sub, method):
            assert text in files[name]


def _numbers(space: Space, sub: Subspace, method: str) -> Sequence[str]:
    inside = f"{sub.tally().low:,}"
    if method == "spos":
        return (
            f"inside a sub-space of {inside} of {space.count():,} architectures: only its members are drawn",
        )
    return (
        f"inside a sub-space of {inside} architectures, relaxed to the product",
        f"of which {inside} are in it",
    )


def test_the_verb_takes_the_file_and_a_space_may_name_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = whole("nasbench201")
    sub = space.balls(space.sample(2, seed=0), 1)
    sub.write(tmp_path / "part.json")
    params = [f"--param={name}={value}" for name, value in SMALL["nasbench201"].items()]
    line = ["compile", "nasbench201", *params, "--method", "darts", "--within", str(tmp_path / "part.json")]
    assert main([*line, "-o", str(tmp_path / "out")]) == 0
    assert "subspace.json" in capsys.readouterr().out
    wanted = space.within(sub).compile("darts").files()
    assert {f.name: f.read_text() for f in (tmp_path / "out").iterdir()} == wanted
    base = wanted["space.nas"].rpartition("}")[0]
    (tmp_path / "named.nas").write_text(f'{base}  within "part.json"\n}}\n')
    named = nasdsl.load(tmp_path / "named.nas", N=1, C=4, resolution=8).compile("darts")
    named.write(tmp_path / "named")
    assert (tmp_path / "named" / "search.py").read_text() == wanted["search.py"]
    again = nasdsl.load(tmp_path / "named" / "space.nas", N=1, C=4, resolution=8)
    assert again.within(tmp_path / "named" / "subspace.json").within_digest == sub.digest


def test_a_plan_is_that_of_the_supernet_inside() -> None:
    space = whole("nasbench201")
    sub = space.members(space.sample(3, seed=4))
    for method in ("darts", "sandwich"):
        net = space.within(sub).compile(method).supernet()
        found = plan(space.checked, method, part=sub)
        assert found.supernet_params == sum(p.numel() for p in net.weight_parameters())
        assert any(note.startswith("inside a sub-space of 3") for note in found.notes)
