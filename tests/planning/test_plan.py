"""What `plan` says: exact where it says so, and near the truth where it is a model."""

from __future__ import annotations

import json

import pytest

import nasdsl
from benchmarks.plan_memory import measure
from nasdsl.cli import main
from nasdsl.ir.graph import Module
from nasdsl.planning.memory import predict_memory
from nasdsl.planning.report import plan
from nasdsl.planning.trace import trace


@pytest.mark.parametrize(
    ("name", "method", "params", "batch"),
    [
        ("darts", "toponas", {"C": 4, "layers": 3, "resolution": 16}, 8),
        ("nasbench201", "darts", {"C": 8, "N": 1}, 8),
        ("hierarchical", "darts", {"C": 4, "N": 1, "resolution": 16}, 8),
    ],
)
def test_predicted_memory_is_near_the_allocators(
    name: str, method: str, params: dict[str, int], batch: int
) -> None:
    """Allocation does not depend on the clock, so this may be a test (table: benchmarks/plan_memory.py)."""
    found = measure(nasdsl.load(name, **params), method, batch)
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
    module: Module = program.compilation.relaxed
    steps = trace(module).steps
    net = program.supernet()
    assert sum(s.weights for s in steps) == sum(p.numel() for p in net.weight_parameters())
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
    costs = sorted(space.stats(a).params for a in space.sample(301, seed=0))
    assert costs[0] >= found.params.low
    assert costs[-1] <= found.params.high
    assert abs(costs.index(found.params.median) - 150) < 60 if found.params.median in costs else True


def test_limits_duplicates_and_dead_decisions_are_named(tmp_path: object) -> None:
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
    from pathlib import Path

    path = Path(str(tmp_path)) / "p.nas"
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
    assert record["passes"][0]["name"] == "fold"
