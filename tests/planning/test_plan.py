"""What `plan` says: exact where it says so, and near the truth where it is a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nasdsl
from benchmarks.plan_memory import measure
from nasdsl.cli import main
from nasdsl.ir.cost import module_count
from nasdsl.planning import footprint
from nasdsl.planning.memory import predict_memory
from nasdsl.planning.report import plan
from nasdsl.planning.trace import trace
from nasdsl.runtime.operators import depthwise
from tests.thinned import thinned

SPACES = [
    ("darts", "darts", {"C": 4, "layers": 3, "resolution": 16}, ""),
    ("darts", "toponas", {"C": 4, "layers": 3, "resolution": 16}, "+simplify"),
    ("darts", "toponas", {"C": 4, "layers": 3, "resolution": 16}, "-simplify,-fan,-accumulate"),
    ("darts", "darts", {"C": 4, "layers": 3, "resolution": 16}, "-share,-normalise,-accumulate,-fan"),
    ("nasbench201", "darts", {"C": 8, "N": 1}, ""),
    ("nasbench201", "toponas", {"C": 8, "N": 1}, "+simplify"),
    ("hierarchical", "darts", {"C": 4, "N": 1, "resolution": 16}, ""),
    ("hierarchical", "darts", {"C": 4, "N": 1, "resolution": 16}, "+simplify"),
    ("cream", "darts", {"resolution": 32, "depths": [1, 1, 1, 1, 1]}, "+simplify"),
    ("darts", "pcdarts", {"C": 8, "layers": 3, "resolution": 16}, ""),
    ("nasbench201", "cbo", {"C": 8, "N": 1}, ""),
]


@pytest.mark.parametrize(("name", "method", "params", "passes"), thinned(SPACES, 3))
@pytest.mark.usefixtures("tensors_alone")
def test_predicted_memory_is_near_the_allocators(
    name: str, method: str, params: dict[str, int], passes: str
) -> None:
    """Allocation does not depend on the clock, so this may be a test (table: benchmarks/plan_memory.py)."""
    found = measure(nasdsl.load(name, **params), method, 8, passes)
    assert abs(found["weights_error"]) < 0.15, found
    assert abs(found["variables_error"]) < 0.15, found


@pytest.mark.parametrize(("name", "method", "params", "passes"), SPACES)
def test_parameters_are_those_of_the_supernet_that_is_lowered(
    name: str, method: str, params: dict[str, int], passes: str
) -> None:
    space = nasdsl.load(name, **params)
    program = space.compile(method, passes=passes)
    there = sum(p.numel() for p in program.supernet().weight_parameters())
    assert module_count(program.compilation.optimised).params == there
    assert sum(s.weights for s in trace(program.compilation.optimised).steps) == there


def test_what_plan_knows_of_the_runtime_is_so() -> None:
    assert (footprint.SMALL, footprint.WIDEST) == (depthwise.SMALL, depthwise.WIDEST)


@pytest.mark.parametrize(
    ("passes", "parts"), thinned([("+checkpoint,+simplify", 3), ("+checkpoint", 1), ("", 4)], 3)
)
@pytest.mark.usefixtures("tensors_alone")
def test_cells_computed_twice_and_micro_batches_are_modelled(passes: str, parts: int) -> None:
    space = nasdsl.load("darts", C=4, layers=3, resolution=16)
    found = measure(space, "darts", 6, passes, {"accumulate": parts})
    assert abs(found["weights_error"]) < 0.15, found
    assert abs(found["variables_error"]) < 0.15, found


@pytest.mark.parametrize(
    ("bias", "batch"),
    [(False, 8), (True, 8), *(pytest.param(b, 64, marks=pytest.mark.slow) for b in (False, True))],
)
@pytest.mark.usefixtures("tensors_alone")
def test_fans_are_modelled_joined_and_one_by_one(bias: bool, batch: int) -> None:
    """At batch 64 the images are too large to be joined, at 8 they are small."""
    space = nasdsl.load("darts", C=8, layers=3, resolution=16)
    program = space.compile("darts", settings={"conv_bias": bias})
    traced = trace(program.compilation.optimised)
    fans = [s for s in traced.steps if s.op in ("dwconv_fan", "dwconv_lanes")]
    assert {footprint.joined(s, traced, batch) for s in fans} == ({True} if batch == 8 else {True, False})
    if batch == 64:
        found = measure(space, "darts", batch, settings={"conv_bias": bias})
        assert abs(found["error"]) < 0.15, found


def test_memory_beyond_the_weights_grows_with_the_batch() -> None:
    compilation = nasdsl.load("nasbench201", C=4, N=1).compile("darts").compilation
    one, two, four = (predict_memory(compilation, b) for b in (1, 2, 4))
    assert one.weights == two.weights == four.weights
    fixed = one.weights + one.optimizers
    assert two.peak - one.peak > 0
    assert abs((four.peak - two.peak) - 2 * (two.peak - one.peak)) < fixed
    statistics = 2 * one.saved - two.saved  # what batch norm keeps for each channel does not grow
    assert 0 <= statistics < one.saved / 2
    assert four.saved == 2 * two.saved - statistics


def test_the_trace_executes_what_the_network_executes() -> None:
    program = nasdsl.load("darts", C=4, layers=3, resolution=16).compile("darts")
    steps = trace(program.compilation.optimised).steps
    made = [s.writes for s in steps]
    assert len(made) == len(set(made))
    seen = {0}
    for step in steps:
        assert set(step.reads) <= seen
        seen.add(step.writes)


def test_params_and_macs_are_exact() -> None:
    space = nasdsl.load("nasbench201")
    found = plan(space.checked)
    # Every encoding of the benchmark, from its own table of costs: .073306 M to 1.531546 M.
    assert (found.params.low, found.params.high, found.params.error) == (73_306, 1_531_546, 0)
    costs = sorted(space.stats(a).params for a in space.sample(101, seed=0))
    assert costs[0] >= found.params.low
    assert costs[-1] <= found.params.high
    assert abs(costs.index(found.params.median) - 50) < 30 if found.params.median in costs else True


def test_limits_duplicates_and_dead_decisions_are_named(tmp_path: Path) -> None:
    text = """space p {
  input image(3, 8)
  limit params <= 130
  limit macs <= 1G
  cell c(x) {
    idle = x >> choose { relu, swish }
    out = x >> choose { a: relu >> conv(1), b: relu >> conv(1), none: id }
    return out
  }
  network { stem: conv(3, 4)  body: c  head: global_pool >> linear(3) }
}
"""
    path = tmp_path / "p.nas"
    path.write_text(text)
    space = nasdsl.load(path)
    found = plan(space.checked, "darts")
    assert found.dead == ("c.idle.op",)
    assert found.duplicates == ("c.out.op: b",)
    assert [limit.word for limit in found.limits] == ["33.3 % meet it", "everybody meets it"]
    assert found.misfit is not None


def test_a_method_that_does_not_fit_points_at_the_declaration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nats_size", "--method", "darts"]) == 1
    out, err = capsys.readouterr()
    assert "32,768" in out
    assert "nats_size.nas" in err
    assert "chosen here" in err


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nasbench201", "--method", "toponas", "--batch", "4", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["encodings"]["low"] == 15_625
    assert record["distinct"] == {"low": 5_425, "high": 5_425, "exact": True, "how": "by structure"}
    assert record["fits"] is True
    assert record["memory"]["peak"] > record["memory"]["saved"] > 0
    program = nasdsl.load("nasbench201").compile("toponas")
    assert record["supernet_params"] == module_count(program.compilation.optimised).params
    optimising = {p.name for p in program.compilation.passes if p.optimises}
    assert {p["name"] for p in record["passes"]} == optimising


@pytest.mark.usefixtures("tensors_alone")
def test_what_is_drawn_is_predicted_by_the_largest_draw() -> None:
    """No draw takes more than is predicted, and much less is than for all candidates."""
    space = nasdsl.load("nasbench201", C=8, N=1)
    everything = predict_memory(space.compile("gdas", settings={"activation": "softmax"}).compilation, 8)
    for _ in range(2):
        found = measure(space, "gdas", 8)
        for step in ("weights", "variables"):
            assert found[f"{step}_error"] > -0.02, found
        assert found["predicted"] < 0.6 * everything.peak


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("gdas", {}, "one candidate an edge is drawn"),
        ("cbo", {}, "what is pruned later"),
        ("darts", {"hypergradient": "exact"}, "differentiated twice"),
        ("darts", {"hypergradient": "finite"}, "four passes"),
        ("darts", {}, ""),
    ],
)
def test_what_the_figures_leave_out_is_said(
    small: Path, method: str, settings: dict[str, object], words: str
) -> None:
    notes = plan(nasdsl.load(small).checked, method, settings, batch=8).notes
    assert (words in " ".join(notes)) if words else not notes


SMALL = """space small {
  input image(3, 8)
  op sep(k) = relu >> dwconv(k) >> conv(1) >> bn >> relu >> dwconv(k) >> conv(1) >> bn
  cell c(x) {
    n[1..2] = sum of all from (x, earlier) via choose { sep3: sep(3), sep5: sep(5), pool: max_pool(3), skip: id }
    return n[2]
  }
  network { stem: conv(3, 4) >> bn  body: repeat 2 { c }  head: global_pool >> linear(3) }
}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.nas"
    path.write_text(SMALL)
    return path


def test_passes_are_compared_with_the_supernet_without_them(small: Path) -> None:
    checked = nasdsl.load(small).checked
    plain, simplified = (plan(checked, "darts", batch=8, passes=p) for p in ("", "+simplify"))
    assert plain.memory is not None
    assert simplified.memory is not None
    reports = {p.name: p for p in simplified.passes}
    assert not reports["simplify"].exact
    assert reports["simplify"].peak == (plain.memory.peak, simplified.memory.peak)
    assert simplified.supernet_params < plain.supernet_params
    without = plan(checked, "darts", batch=8, passes="-share")
    assert "share" not in {p.name for p in without.passes}
    assert without.memory is not None
    share = {p.name: p for p in plain.passes}["share"]
    assert share.exact
    assert share.peak == (without.memory.peak, plain.memory.peak)
    assert share.operations[1] < share.operations[0]


def test_plan_takes_passes_as_compile_does(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(small), "--method", "darts"]
    assert main([*words, "--pass", "+simplify,-share"]) == 0
    out = capsys.readouterr().out
    assert "approximating" in out
    assert "pass share" not in out
    assert main([*words, "--pass", "+nothing"]) == 1
    assert "NAS503" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--pass", "+simplify"], ["--set", "epochs=2"], ["--batch", "4"]])
def test_what_only_a_method_reads_is_refused_without_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "nasbench201", *words]) == 2
    assert f"{words[0]} says how to search" in capsys.readouterr().err
