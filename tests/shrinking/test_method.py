"""Generated searches that shrink a space: what they leave, killed or not, and what searches the rest of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from nasdsl.subspace.value import Members
from tests.runtime.paths.test_runs import FEW, SET, done

SPACE = """
space small {
  input image(1, 8, 8)
  network {
    stem: conv(3, 8) >> bn
    body: repeat 4 { choose { conv: relu >> conv(3) >> bn, wide: relu >> conv(5) >> bn, blur: avg_pool(7) >> conv(1) } }
    head: global_pool >> linear(10)
  }
}
"""
TRAINED = {**SET, "batch_size": 32, "weight_lr": 0.1, "judging_batches": 8}
"""Enough for some paths to be better than others: those that do not blur."""
SHRINK = {
    "evaluations": 40,
    "shrink_samples": 20,
    "shrink_fresh": 12,
    "shrink_top": 0.3,
    "shrink_bins": 2,
    "shrink_least": 6,
}
LINE = ["--data", "digits", "--epochs", "2", "--limit-batches", "30", "--device", "cpu"]
STEPS = 60
"""Ticks until paths are judged."""
FILES = ("subspace.json", "shrinking.json", "shrinking.html", "judged.json", "architecture.json")


def job(
    folder: Path, out: str, kill: int = 0, save: int = 0, line: list[str] | None = None
) -> dict[str, Any]:
    return {"folder": str(folder), "line": [*(line or LINE), "--out", out], "kill": kill, "save": save}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """`lissnas`, and `fairnas` with its search, compiled and run; the first also killed, twice, and continued."""
    place = tmp_path_factory.mktemp("lissnas")
    (place / "small.nas").write_text(SPACE)
    space = nasdsl.load(place / "small.nas")
    space.compile("lissnas", settings={**TRAINED, **SHRINK}).write(place / "lissnas")
    space.compile("fairnas", settings={**TRAINED, **SHRINK, "search": "shrink"}).write(place / "fairnas")
    folder = place / "lissnas"
    jobs = [
        job(folder, "runs/0"),
        job(folder, "runs/1", kill=STEPS + 7, save=3),
        job(folder, "runs/1", kill=15, save=5),
        job(folder, "runs/1"),
        job(place / "fairnas", "runs/0"),
    ]
    ended = done(root, *jobs)
    for one, end in zip(jobs, ended, strict=True):
        assert end["code"] == (-9 if one["kill"] else 0), end["text"]
    (place / "said.txt").write_text(ended[0]["text"])
    return place


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def plain(choices: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, str) else tuple(v) for k, v in choices.items()}


@pytest.mark.parametrize("method", ["lissnas", "fairnas"])
def test_a_search_leaves_a_subspace_and_its_best_path(home: Path, method: str) -> None:
    run = home / method / "runs" / "0"
    record, judged = read(run / "shrinking.json"), read(run / "judged.json")
    assert record["evaluations"] == len(judged) <= SHRINK["evaluations"]
    assert record["rules"]["samples"] == 20
    assert [s["score"] for s in record["scored"]] == pytest.approx([j["accuracy"] for j in judged])
    assert "<svg" in (run / "shrinking.html").read_text()
    candidates = [plain(j["choices"]) for j in judged]
    kept = [r for r in record["rounds"] if r["kept"]]
    assert (run / "subspace.json").exists() == (len(kept) > 1)
    if len(kept) > 1:
        sub = nasdsl.load(home / "small.nas").read_subspace(run / "subspace.json")
        assert sub.tally().high == kept[-1]["size"] < 81
        candidates = [c for c in candidates if sub.contains(c)]
    found = plain(read(run / "architecture.json")["choices"])
    assert found in candidates
    best = max(j["accuracy"] for j in judged if plain(j["choices"]) in candidates)
    assert any(j["accuracy"] == best for j in judged if plain(j["choices"]) == found)


def test_it_says_how_to_go_on(home: Path) -> None:
    said = (home / "said.txt").read_text()
    assert "shrunk: " in said
    if (home / "lissnas/runs/0/subspace.json").exists():
        assert "nasdsl compile" in said
        assert "--within" in said


def test_killed_twice_and_continued_it_ends_the_same(home: Path) -> None:
    whole, cut = home / "lissnas/runs/0", home / "lissnas/runs/1"
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in cut.iterdir())
    for name in FILES:
        if (whole / name).exists():
            assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_what_is_left_is_searched_by_other_methods(home: Path, root: Path) -> None:
    space = nasdsl.load(home / "small.nas")
    file = home / "lissnas/runs/0/subspace.json"
    assert file.exists(), "the settings of these tests leave a sub-space"
    sub = space.read_subspace(file)
    assert isinstance(sub, Members)
    inner = space.within(file)
    own: dict[str, dict[str, object]] = {"toponas": {"batch_size": 16}, "spos": {**SET, **FEW}}
    for method, settings in own.items():
        inner.compile(method, settings=settings).write(home / f"then-{method}")
    two = ["--data", "digits", "--epochs", "1", "--limit-batches", "2", "--device", "cpu"]
    ended = done(root, *(job(home / f"then-{method}", "runs/0", line=two) for method in own))
    for method, end in zip(own, ended, strict=True):
        assert end["code"] == 0, end["text"]
        assert sub.contains(plain(read(home / f"then-{method}/runs/0/architecture.json")["choices"]))
