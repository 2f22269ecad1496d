"""Candidates that are not drawn, or were pruned, are not computed; what does run is what a step would compute."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product

import pytest
import torch
from torch import nn

import nasdsl
from nasdsl import Program
from nasdsl.codegen.lowered import module_paths
from nasdsl.ir.homes import around, homes
from nasdsl.ir.nodes import Mix, State, Weight
from nasdsl.runtime.operators import mixed
from nasdsl.runtime.supernet import SupernetBase
from tests.laws.common import batch, executed_macs, float64
from tests.thinned import thinned

SIZES: dict[str, dict[str, object]] = {
    "darts": {"layers": 4, "C": 4, "resolution": 8},
    "nasbench201": {"N": 1, "C": 4, "resolution": 8},
}


def program_of(name: str, method: str, passes: str = "", **settings: object) -> Program:
    return nasdsl.load(name, **SIZES[name]).compile(method, settings=settings, passes=passes)


@contextmanager
def calls_of(net: nn.Module) -> Iterator[Counter[str]]:
    """How often each module is called, by its path."""
    found: Counter[str] = Counter()
    names = {module: name for name, module in net.named_modules() if name}
    hooks = [
        m.register_forward_hook(lambda module, _, __: found.update([names[module]])) for m in names
    ]  # a Sequential and what is in it, each by itself
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def candidates(program: Program) -> dict[str, tuple[str, str]]:
    """For the path of every module with weights or statistics that one option of a choice alone needs: both."""
    homes_of = module_paths(program.compilation.lowered)
    found: dict[str, tuple[str, str]] = {}
    for use in program.compilation.relaxed.uses():
        graph, known = use.graph, homes(use.graph)
        for node in graph.nodes:
            if isinstance(node, (Weight, State)):
                mix, operand = next(around(known, node.id), ("", ""))
                outer = graph.by_id.get(mix)
                if isinstance(outer, Mix):
                    term = outer.terms[outer.operands[outer.vectors :].index(operand)]
                    decision, option = term.choices[-1]
                    home = homes_of[(*use.path, node.name.rpartition(".")[0])]
                    path = re.sub(
                        r"\.(conv|norm)$", "", home.path
                    )  # inside a fused module, called as a whole
                    found[path] = (use.decision(decision), option)
    return found


def ran(calls: Mapping[str, int], where: Mapping[str, tuple[str, str]]) -> dict[str, set[str]]:
    """The options of every choice of which a module ran."""
    found: dict[str, set[str]] = {}
    for module, (path, option) in where.items():
        if calls.get(module):
            found.setdefault(path, set()).add(option)
    return found


@contextmanager
def terms_of_sums(patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many terms every weighted sum computes."""
    found: list[int] = []
    plain = mixed.mix

    def spy(weights: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        found.append(len(outputs))
        return plain(weights, outputs)

    with patch.context() as context:
        context.setattr(mixed, "mix", spy)
        yield found


@pytest.mark.parametrize(
    ("name", "passes"),
    thinned(product(SIZES, ("-simplify", "-simplify,-share", "-simplify,-fold,-share,-normalise")), 2),
)
def test_gdas_computes_one_candidate_of_every_edge(
    name: str, passes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_of(name, "gdas", passes)
    net, x = program.supernet(seed=0), batch(program.space)
    where = candidates(program)
    edges = {row.path for group in net.groups() for row in group.rows}
    assert {path for path, _ in where.values()} == edges
    most = max(len(group.rows) for group in net.groups()) if "-fold" not in passes else 1
    seen: set[tuple[str, str]] = set()
    for seed in range(8):
        torch.manual_seed(seed)
        with calls_of(net) as calls, terms_of_sums(monkeypatch) as terms:
            net(x)
        assert terms
        assert max(terms) <= most
        once = ran(calls, where)
        assert all(len(options) == 1 for options in once.values()), once
        seen |= {(path, option) for path, options in once.items() for option in options}
    assert len(seen) > len(edges)  # another draw every time


def test_under_simplification_candidates_that_were_joined_run_when_one_of_them_does() -> None:
    program = program_of("darts", "gdas", "+simplify")
    net, x = program.supernet(seed=0), batch(program.space)
    arch = program.space.sample(1, seed=1)[0]
    net.set_architecture(arch)
    joined = {n for n, _ in net.named_modules() if n.endswith("_shared")}
    edges = {d["path"] for d in net.DECISIONS if d["kind"] == "op" and d["owner"] == "normal"}
    with calls_of(net) as calls:
        net(x)
    ran_shared = {n for n in joined if calls[n]}
    assert ran_shared < joined
    normal = {n for n in joined if n.startswith("body1_1.")}
    wanted = sum("conv" in str(arch.choices.get(path)) for path in edges)
    assert len(ran_shared & normal) == wanted > 0


@pytest.mark.parametrize("name", SIZES)
def test_all_cells_of_a_pass_draw_alike(name: str) -> None:
    program = program_of(name, "gdas", "-simplify")
    net, x = program.supernet(seed=0), batch(program.space)
    where = candidates(program)
    several = 0
    for seed in range(6):
        torch.manual_seed(seed)
        with calls_of(net) as calls:
            net(x)
        of_cell: dict[str, dict[str, set[str]]] = {}
        for module, (path, option) in where.items():
            if calls.get(module):
                of_cell.setdefault(path, {}).setdefault(module.partition(".")[0], set()).add(option)
        for cells in of_cell.values():
            assert len(set(map(frozenset, cells.values()))) == 1
            several += len(cells) > 1
    assert several > 3


@pytest.mark.parametrize("name", SIZES)
def test_the_cost_of_a_draw_is_that_of_its_architecture(name: str) -> None:
    """In executed multiply-accumulates: all of the supernet under DARTS, one path of it under GDAS."""
    plain = "-simplify,-fold,-share,-normalise,-accumulate,-fan"
    whole = program_of(name, "darts", plain)
    drawn = program_of(name, "gdas", plain)
    x = batch(whole.space)
    everything, _ = executed_macs(whole.supernet(seed=0), x)
    net = drawn.supernet(seed=0)
    # Under the mode of the distribution, which evaluation takes, every edge has a known operation.
    arch = drawn.space.sample(1, seed=1)[0]
    net.set_architecture(arch)
    child = drawn.network(arch, inherit=net, form="search")
    torch.manual_seed(0)
    training, evaluation, alone = (executed_macs(n, x)[0] for n in (net.train(), net.eval(), child.eval()))
    assert training == evaluation == alone
    assert alone < everything / 2


def test_where_every_edge_draws_none_no_statistics_of_candidates_move() -> None:
    """The first candidate of a sum runs for its shape."""
    program = program_of("darts", "gdas", "-simplify")
    net = program.supernet(seed=0)
    with torch.no_grad():
        for choice in (d for d in net.DECISIONS if d["kind"] == "op"):
            net.logits(choice).fill_(-1e4)[choice["none"]] = 0.0
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with calls_of(net) as calls:
        net(batch(program.space))
    moved = {name for name, buffer in net.named_buffers() if not torch.equal(buffer, before[name])}
    where = candidates(program)
    assert ran(calls, where)
    assert moved  # those of the stem and of what cells read
    assert not {name for name in moved if any(name.startswith(f"{module}.") for module in where)}


# --- clipped ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_pruned_candidates_are_not_computed(name: str) -> None:
    program = program_of(name, "cbo")
    net, x = program.supernet(seed=0), batch(program.space)
    where = candidates(program)
    with calls_of(net) as calls:
        net(x)
    assert set(where) <= set(calls)  # at the start all of them are
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.architecture_parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    off = net.prune()
    assert off > 10
    alive = {
        d["path"]: {e for e, a in zip(d["entries"], net.alive(d).tolist(), strict=True) if a}  # type: ignore[union-attr]
        for d in net.DECISIONS
        if d["kind"] == "op"
    }
    with calls_of(net) as calls:
        net(x)
    for path, options in ran(calls, where).items():
        assert options <= alive[path]
    weighed = {(p, o) for p, options in alive.items() for o in options}
    assert {pair for pair in where.values() if pair in weighed} == {
        (p, o) for p, options in ran(calls, where).items() for o in options
    }


@pytest.mark.parametrize("training", [True, False])
def test_leaving_out_what_was_pruned_changes_no_number(training: bool) -> None:
    """Against the supernet that computes everything, at variables of which many are zero."""
    with float64():
        nets = []
        for prune in (True, False):
            net = program_of("darts", "cbo", "-simplify,-accumulate,-fan", prune=prune).supernet(seed=0)
            generator = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in net.architecture_parameters():
                    parameter.copy_((torch.rand(parameter.shape, generator=generator) - 0.4).clamp_min(0.0))
            nets.append(net.train(training))
        pruned, whole = nets
        assert (pruned.SPARSE, whole.SPARSE) == (True, False)
        assert pruned.prune() > 10
        assert whole.prune() == 0
        space = nasdsl.load("darts", **SIZES["darts"])
        x = batch(space)
        one, other = pruned(x), whole(x)
        assert (one - other).abs().max() < 1e-10
        one.square().sum().backward()
        other.square().sum().backward()
        for a, b in zip(pruned.architecture_parameters(), whole.architecture_parameters(), strict=True):
            alive = pruned.pruned()[a]
            assert torch.allclose(a.grad[alive], b.grad[alive], rtol=1e-9, atol=1e-12)
            assert not a.grad[~alive].any()


def test_a_pruned_entry_stays_off_whatever_its_optimiser_remembers() -> None:
    program = program_of("nasbench201", "cbo")
    net = program.supernet(seed=0)
    optimiser = torch.optim.Adam(net.architecture_parameters(), 0.1, betas=(0.9, 0.999))
    (parameter,) = net.architecture_parameters()
    for sign in (1.0, 1.0, 1.0, -1.0, -1.0):
        parameter.grad = torch.full_like(parameter, sign)
        optimiser.step()
        net.prune()
    assert net.prune() == parameter.numel()
    assert not parameter.any()
    assert not any(w.any() for w in forward_weights(net))
    assert net(batch(program.space)).isfinite().all()


def forward_weights(net: SupernetBase) -> list[torch.Tensor]:
    return [getattr(w, "weight", w) for of in net.mixing().values() for ws in of.values() for w in ws]


# --- the text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cbo", "gdas"])
def test_a_candidate_of_several_statements_is_a_function_of_its_own(method: str) -> None:
    """DARTS's skip connection with stride 2: two convolutions, one a pixel off, joined and normalised."""
    source = program_of("darts", method, "-simplify").files()["supernet.py"]
    reduce = next(
        n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name.startswith("Reduce")
    )
    forward = next(f for f in reduce.body if isinstance(f, ast.FunctionDef) and f.name == "forward")
    made = {f.name: f for f in ast.walk(forward) if isinstance(f, ast.FunctionDef) and f is not forward}
    assert list(made) == [
        f"make_n{node}_{source}_skip_connect" for node in range(1, 5) for source in ("a", "b")
    ]
    body = ast.unparse(made["make_n1_a_skip_connect"])
    assert "torch.cat" in body
    assert body.count("self.n1_a_skip_connect") == 3
    outside = "\n".join(ast.unparse(s) for s in forward.body if not isinstance(s, ast.FunctionDef))
    assert "skip_connect_3(" not in outside  # its batch norm runs inside only
    names = {n.id for n in ast.walk(forward) if isinstance(n, ast.Name) and n.id.startswith("make_")}
    assert names == set(made)  # each is read


def test_what_is_pruned_is_read_once_for_all_rows() -> None:
    """One transfer from the device for every matrix, not one for each row."""
    source = program_of("darts", "cbo").files()["supernet.py"]
    assert source.count(".tolist()") == source.count("register_buffer('op_alive'") == 2
    whole = program_of("darts", "cbo", prune=False).files()["supernet.py"]
    assert ".tolist()" not in whole
    assert "alive" not in whole
