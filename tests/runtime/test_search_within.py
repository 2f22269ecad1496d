"""Generated searches inside a sub-space: they say which relaxation they are and end in a member."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from nasdsl import Space, UserError
from nasdsl.ranking.searched import Options, open_run
from nasdsl.subspace.value import Subspace
from tests.runtime.paths.test_runs import FEW, SET, done

GRADIENT = ("toponas", "darts", "gdas")
PATHS = ("spos", "evolution", "cream", "random")
OWN = {
    "cream": {"board_size": 3, "board_images": 4, "meta_interval": 2},
    "random": {"evaluations": 6},
}
SPACE = """
space small {
  input image(1, 8, 8)
  set candidates(; C) = { conv: relu >> conv(3, C) >> bn, skip: id, pool: avg_pool(3) }
  cell body(x; C) {
    n[1..3] = sum of choose 1 from (x, earlier) via choose candidates
    return concat(n)
  }
  network { stem: conv(3, 4) >> bn  body1: body(C=4)  head: global_pool >> linear(10) }
}
"""
LINE = ["--data", "digits", "--epochs", "2", "--limit-batches", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    file = tmp_path_factory.mktemp("space") / "small.nas"
    file.write_text(SPACE)
    return nasdsl.load(file)


@pytest.fixture(scope="module")
def sub(space: Space) -> Subspace:
    """Few members of many combinations, so that hardly any derived architecture is one."""
    return space.members(space.sample(5, seed=2))


@pytest.fixture(scope="module")
def folders(space: Space, sub: Subspace, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    place = tmp_path_factory.mktemp("within")
    for method in (*GRADIENT, *PATHS):
        chosen = {"batch_size": 16} if method in GRADIENT else {**SET, **OWN.get(method, FEW)}
        space.within(sub).compile(method, settings=chosen).write(place / method)
    return {method: place / method for method in (*GRADIENT, *PATHS)}


@pytest.fixture(scope="module")
def ran(folders: Mapping[str, Path], root: Path) -> Mapping[str, str]:
    """What every search printed; two are stopped once and continued."""
    jobs: list[dict[str, Any]] = []
    for method, folder in folders.items():
        whole = {"folder": str(folder), "line": [*LINE, "--out", "runs/0"], "kill": 0, "save": 0}
        jobs += [{**whole, "kill": 3, "save": 2}, whole] if method in ("darts", "spos") else [whole]
    ended = done(root, *jobs)
    for job, end in zip(jobs, ended, strict=True):
        assert end["code"] == (-9 if job["kill"] else 0), end["text"]
    texts = [end["text"] for job, end in zip(jobs, ended, strict=True) if not job["kill"]]
    return dict(zip(folders, texts, strict=True))


def chosen(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "runs" / "0" / "architecture.json").read_text())["choices"]
    return {k: v if isinstance(v, str) else tuple(v) for k, v in found.items()}


@pytest.mark.parametrize("method", [*GRADIENT, *PATHS])
def test_a_search_says_what_it_is_and_ends_in_a_member(
    method: str, ran: Mapping[str, str], folders: Mapping[str, Path], sub: Subspace, space: Space
) -> None:
    first = ran[method].splitlines()[0]
    count = sub.tally().low
    if method in GRADIENT:
        assert first.startswith(f"inside a sub-space of {count} architectures, relaxed to the product")
    else:
        assert (
            first
            == f"inside a sub-space of {count} of {space.count()} architectures: only its members are drawn"
        )
    assert sub.contains(chosen(folders[method]))


@pytest.mark.parametrize("method", GRADIENT)
def test_log_and_report_say_how_far_the_member_is(
    method: str, ran: Mapping[str, str], folders: Mapping[str, Path], sub: Subspace, space: Space
) -> None:
    run = folders[method] / "runs" / "0"
    *before, last = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert not any("member" in entry for entry in before)
    derived = {k: v if isinstance(v, str) else tuple(v) for k, v in last["architecture"].items()}
    edits = space.population.edits(derived, chosen(folders[method]))
    assert last["member_edits"] == edits
    assert (edits == 0) == sub.contains(derived)
    words = "is in the sub-space" if edits == 0 else f"{edits} edit"
    assert words in ran[method]
    assert words in (run / "report.md").read_text()


@pytest.mark.parametrize("method", PATHS)
def test_everything_judged_is_a_member(
    method: str, ran: Mapping[str, str], folders: Mapping[str, Path], sub: Subspace
) -> None:
    judged = json.loads((folders[method] / "runs" / "0" / "judged.json").read_text())
    assert judged
    for one in judged:
        assert sub.contains({k: v if isinstance(v, str) else tuple(v) for k, v in one["choices"].items()})
    if method != "cream":
        assert len(judged) == sub.tally().low
        assert "members of the sub-space were judged: the search ends early" in ran[method]


def test_a_run_is_not_continued_in_another_sub_space(
    ran: Mapping[str, str],
    folders: Mapping[str, Path],
    space: Space,
    sub: Subspace,
    root: Path,
    tmp_path: Path,
) -> None:
    # The same options, so the same supernet: only the set is another.
    other = space.restriction({p: v for p, v in sub.support().items() if v})
    jobs = []
    for method, given in (("darts", {"batch_size": 16}), ("spos", {**SET, **FEW})):
        folder = tmp_path / method
        space.within(other).compile(method, settings=given).write(folder)
        assert (folder / "supernet.py").read_text() == (folders[method] / "supernet.py").read_text()
        shutil.copytree(folders[method] / "runs", folder / "runs")
        jobs.append({"folder": str(folder), "line": [*LINE, "--out", "runs/0"], "kill": 0, "save": 0})
    for ended in done(root, *jobs):
        assert ended["code"] != 0
        assert f"subspace was {sub.digest}, is {other.digest}" in ended["text"]


def test_a_run_inside_is_opened_again_and_judges_members_alone(
    ran: Mapping[str, str], folders: Mapping[str, Path], space: Space, sub: Subspace, tmp_path: Path
) -> None:
    found = open_run(folders["spos"], "runs/0", Options(data="digits", device="cpu", judging_batches=1))
    assert found.space.within_digest == sub.digest
    judge = found.judge()
    assert 0.0 <= judge(sub.member(0)) <= 1.0
    outside = next(a for a in space.sample(20, seed=9) if not sub.contains(a.choices))
    with pytest.raises(UserError, match="NAS405"):
        judge(outside.choices)
    copy = tmp_path / "copy"
    shutil.copytree(folders["spos"], copy)
    space.members(space.sample(3, seed=1)).write(copy / "subspace.json")
    with pytest.raises(UserError, match=r"subspace\.json was changed"):
        open_run(copy, "runs/0", Options())
