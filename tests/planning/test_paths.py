"""`plan` for methods of single paths: parameters exact, memory near the allocator's."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from benchmarks.plan_paths import measure
from nasdsl.cli import main
from nasdsl.planning.memory import predict_memory
from nasdsl.planning.paths import extreme, notes, paths_of_a_step, predict_path_step, supernet_params

SMALL: dict[str, Any] = {"resolution": 32, "depths": [1, 1, 1, 1, 1]}
SPACE = """space small {
  input image(1, 8, 8)
  network {
    stem: conv(3, 4) >> bn
    body: repeat 2 { choose { skip: id, conv: conv(3) >> bn } }
    head: global_pool >> linear(3)
  }
}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.nas"
    path.write_text(SPACE)
    return path


@pytest.mark.parametrize(
    ("name", "method", "params"),
    [
        ("cream", "spos", SMALL),
        ("nasbench201", "spos", {"C": 4, "N": 1}),
        ("nasbench201", "fairnas", {"C": 4, "N": 1}),
        ("residual_mlp", "sandwich", {}),
    ],
)
@pytest.mark.usefixtures("tensors_alone")
def test_parameters_are_exact_and_memory_is_near_the_allocators(
    name: str, method: str, params: dict[str, Any]
) -> None:
    found = measure(nasdsl.load(name, **params), method, 16)
    assert found["predicted_params"] == found["supernet_params"]
    assert abs(found["error"]) < 0.15, found


@pytest.mark.parametrize("name", ["nats_size", "ofa", "autoformer", "residual_mlp", "hierarchical"])
def test_shared_weights_count_at_their_largest_size(name: str) -> None:
    program = nasdsl.load(name).compile("spos")
    assert supernet_params(program.compilation) == sum(p.numel() for p in program.supernet().parameters())


def test_the_largest_path_is_the_largest() -> None:
    space = nasdsl.load("nats_size")
    costs = space.costs("macs")
    assert costs.at(extreme(space.checked.table, costs, 1)) == costs.high
    assert costs.at(extreme(space.checked.table, costs, -1)) == costs.low


def test_paths_of_a_step() -> None:
    table = nasdsl.load("nasbench201", C=4, N=1).checked.table
    found = [
        paths_of_a_step(table, {"sampler": sampler, "paths": paths})
        for sampler, paths in product(("uniform", "fair", "sandwich"), (4,))
    ]
    assert found == [4, 5, 4]  # five operations an edge


def test_one_path_takes_less_than_all_candidates() -> None:
    space = nasdsl.load("nasbench201", C=4, N=1)
    path = predict_path_step(space.compile("spos").compilation, 8).memory
    assert path.saved < 0.6 * predict_memory(space.compile("darts").compilation, 8).saved


def test_several_paths_hold_the_gradients_of_all() -> None:
    space = nasdsl.load("nasbench201", C=4, N=1)
    compiled = [space.compile("spos", settings={"paths": n}).compilation for n in (1, 4)]
    one, four = (predict_path_step(each, 8).memory for each in compiled)
    assert four.gradients > one.gradients
    assert four.saved == one.saved


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("spos", {}, "one path a step"),
        ("fairnas", {}, "paths a step, one after the other"),
        ("cream", {}, "one of 40 images"),
        ("spos", {"sampler": "bins"}, "bins of costs"),
    ],
)
def test_what_the_figures_leave_out_is_said(method: str, settings: dict[str, Any], words: str) -> None:
    compilation = nasdsl.load("nasbench201", C=4, N=1).compile(method, settings=settings).compilation
    count = paths_of_a_step(compilation.space.table, compilation.settings)
    assert words in " ".join(notes(compilation, count))


def test_the_verb_prints_a_step_of_paths(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", str(small), "--method", "spos", "--batch", "8"]
    assert main(line) == 0
    text = capsys.readouterr().out
    assert "MiB of a step" in text
    assert "variables" not in text
    assert main([*line, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["paths"] == 1
    assert record["memory"]["variables_step"] == 0
