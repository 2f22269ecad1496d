"""What --deterministic promises: on one device, with as many threads, the same command gives the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nasdsl
from nasdsl.runtime.standalone.arguments import read_arguments
from tests.runtime.test_run import equal

SPACE = """
space small {
  input image(1, 8, 8)
  cell body(x; C) {
    n[1..2] = sum of choose 1 from (x, earlier) via choose {
      conv: relu >> conv(3, C) >> bn, skip: id, pool: avg_pool(3)
    }
    return concat(n)
  }
  network { stem: conv(3, 4) >> bn  body: body(C=4)  head: global_pool >> linear(10) }
}
"""
LINE = (
    "--data",
    "digits",
    "--device",
    "cpu",
    "--deterministic",
    "--limit-batches",
    "3",
    "--set",
    "batch_size=8",
)


def written(tmp_path: Path, method: str) -> Path:
    (tmp_path / "small.nas").write_text(SPACE)
    settings = {"epochs": 2} | ({"evaluations": 6} if method == "spos" else {})
    nasdsl.load(tmp_path / "small.nas").compile(method, settings=settings).write(tmp_path / "out")
    return tmp_path / "out"


def run(folder: Path, root: Path, name: str, out: str, *line: str) -> None:
    """Runs a script. Its hashes of texts are other ones each time: no order may come of them."""
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    seed = str(1 + sum(map(ord, out)))
    done = subprocess.run(
        [sys.executable, str(folder / name), *LINE, "--out", str(folder / out), *line],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "method", ["toponas", *(pytest.param(m, marks=pytest.mark.slow) for m in ("gdas", "spos"))]
)
def test_the_same_command_gives_the_same_bits(tmp_path: Path, root: Path, method: str) -> None:
    """Losses, weights, variables, generators, draws, what was found."""
    folder = written(tmp_path, method)
    for out in ("one", "two"):
        run(folder, root, "search.py", out)
    one, two = (torch.load(folder / out / "checkpoint.pt", weights_only=True) for out in ("one", "two"))
    for part in ("parts", "random", "counters", "log", "identity"):
        assert equal(one[part], two[part]), part
    for name in ("log.jsonl", "architecture.json", "model.py"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes(), name
    locks = [json.loads((folder / out / "nasdsl.lock").read_text()) for out in ("one", "two")]
    assert locks[0]["first_steps"] == locks[1]["first_steps"] is not None
    assert locks[0]["arguments"]["deterministic"] is True


@pytest.mark.slow
def test_another_seed_gives_other_bits(tmp_path: Path, root: Path) -> None:
    """Else the test above would hold of anything."""
    folder = written(tmp_path, "gdas")
    run(folder, root, "search.py", "one", "--stop-after", "3")
    run(folder, root, "search.py", "two", "--stop-after", "3", "--seed", "1")
    digests = {
        json.loads((folder / out / "nasdsl.lock").read_text())["first_steps"]["digest"]
        for out in ("one", "two")
    }
    assert len(digests) == 2


@pytest.mark.slow
def test_retraining_gives_the_same_bits(tmp_path: Path, root: Path) -> None:
    folder = written(tmp_path, "gdas")
    space = nasdsl.load(folder / "space.nas")
    (folder / "model.py").write_text(space.model_source(space.sample(1, seed=2)[0]))
    line = ("--model", str(folder / "model.py"), "--epochs", "2", "--set", "drop_path=0.3")
    for out in ("one", "two"):
        run(folder, root, "retrain.py", out, *line)
    weights = [(folder / out / "retrain" / "weights.safetensors").read_bytes() for out in ("one", "two")]
    assert weights[0] == weights[1]


def test_cublas_is_asked_before_any_device_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the variable once; what the user has set stays."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    read_arguments("test", [])
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    read_arguments("test", ["--deterministic"])
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    read_arguments("test", ["--deterministic"])
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_cublas_is_asked_in_time_in_every_script(tmp_path: Path) -> None:
    """The command line is read before the device is picked."""
    for method in ("darts", "spos"):
        files = nasdsl.load("nasbench201", N=1, C=4).compile(method).files()
        main = files["search.py"].partition("def main()")[2]
        first = min(main.index(word) for word in ("pick_device", "Team.start") if word in main)
        assert main.index("read_arguments(") < first
    main = files["retrain.py"].rpartition("def main()")[2]
    assert main.index("read_arguments(") < main.index("retrain(args")
