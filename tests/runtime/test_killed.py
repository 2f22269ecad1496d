"""A run that is killed by SIGKILL, at any moment, again and again, ends as if it had not been: to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import nasdsl
from nasdsl.methods import METHODS
from tests.runtime.paths.test_runs import LARGER, METHOD_NAMES, SETS
from tests.runtime.paths.test_runs import SPACE as PATH_SPACE
from tests.runtime.test_run import equal
from tests.runtime.test_search import SPACE, environment

LINE = ("--data", "digits", "--limit-batches", "5", "--device", "cpu", "--deterministic")
RICH = {
    "darts": {"hypergradient": "finite", "proximity": "plain"},
    "toponas": {"regulariser_form": "pa", "admm": True, "admm_period": 2},
    "cbo": {"schedule": "informed", "arch_lr": 0.1},
    "pcdarts": {"admm": True, "admm_period": 2},
    "drnas": {"dirichlet_kl": 0.1},
}
"""What gives a method more to remember."""


def compiled(method: str, place: Path) -> Path:
    """A directory that searches a small space by a method."""
    place.mkdir(parents=True, exist_ok=True)
    if method in METHOD_NAMES:
        text, settings = (LARGER if method == "lissnas" else PATH_SPACE), dict(SETS[method])
    else:
        text = SPACE if method == "toponas" else SPACE.replace("choose 1..2", "choose 1")
        settings = {"batch_size": 16, "warmup_epochs": 1, **RICH.get(method, {})}
    (place / "small.nas").write_text(text)
    program = nasdsl.load(place / "small.nas").compile(method, settings=settings | {"retrain_epochs": 3})
    program.write(place / method)
    return place / method


def job(folder: Path, kills: int, script: str = "search.py", line: Sequence[str] = ()) -> dict[str, Any]:
    more = ("--epochs", "2" if folder.name in METHOD_NAMES else "3") if script == "search.py" else ()
    whole = [*LINE, *more, *line]
    return {"folder": str(folder), "script": script, "line": whole, "kills": kills, "seed": 11}


def done(root: Path, jobs: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    line = [sys.executable, "-W", "error", str(Path(__file__).with_name("killer.py")), json.dumps(jobs)]
    ended = subprocess.run(
        line, check=False, env=environment(root), capture_output=True, text=True, timeout=limit
    )
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def check(one: dict[str, Any], made: dict[str, Any], below: str = "") -> None:
    folder = Path(made["folder"])
    assert one["codes"] == [0, 0], one["text"]
    assert one["kills"] == made["kills"], one["text"]
    whole, killed = (folder / name / below for name in ("whole", "killed"))
    locks = [json.loads((f / "nasdsl.lock").read_text()) for f in (whole, killed)]
    assert locks[0] == locks[1]
    assert locks[0]["first_steps"]["steps"] == 3
    names = set(locks[0]["files"])
    assert names >= ({"log.jsonl", "weights.safetensors"} if below else {"log.jsonl", "model.py"})
    if not below:  # what a search leaves is known by name
        left = {p.relative_to(killed).as_posix() for p in killed.rglob("*") if p.is_file()}
        known = names | {"nasdsl.lock", "timeline.jsonl", "report.html"}
        others = {name for name in left - known if not name.startswith(("checkpoint", "tensorboard/"))}
        assert not others
    for name in names:  # the digests are of what is there
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    states = [torch.load(f / "checkpoint.pt", weights_only=True) for f in (whole, killed)]
    assert equal(*states)


def test_runs_that_are_killed(tmp_path: Path, root: Path) -> None:
    jobs = [job(compiled(method, tmp_path / method), 2) for method in ("toponas", "cream")]
    folder = Path(jobs[0]["folder"])
    found = done(root, jobs, 250)
    for one, made in zip(found, jobs, strict=True):
        check(one, made)
    retraining = [job(folder, 2, "retrain.py", ("--model", str(folder / "whole/model.py")))]
    (one,) = done(root, retraining, 120)
    check(one, retraining[0], "retrain")
    assert any("continuing" in r["text"] for r in found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_killed_25_times(tmp_path: Path, root: Path, method: str) -> None:
    made = job(compiled(method, tmp_path), 25)
    (one,) = done(root, [made], 800)
    check(one, made)
    places = {place.partition(" at ")[2] for place in one["places"]}
    print(f"{method}: killed {one['kills']} times, went on at {len(places)} places: {sorted(places)}")
    assert len(places) >= 3
