"""The same scores from Ray's workers; skipped where Ray, an optional extra, is not installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nasdsl.errors import UserError
from nasdsl.scoring import CostScores, Pool
from tests.scoring.spaces import EVERY, LENGTH, ROOT, calls, command, recipe

FAILURES = {
    "os.kill(os.getppid(), 9); time.sleep(60)": "ended from outside",
    "sys.exit(3)": "left with code 3",
}


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    pool = Pool(recipe(tmp_path, CostScores("params")), engine="ray")
    with pytest.raises(UserError, match=r"pip install 'nasdsl\[cluster\]'"):
        pool.scores(EVERY[:1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_scores_as_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray, the extra `cluster`, is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with Pool(command(tmp_path, LENGTH), 2, "ray", tmp_path / "scores.jsonl") as pool:
            assert pool.scores([*EVERY, *EVERY]) == [len(str(c)) for c in (*EVERY, *EVERY)]
            assert pool.evaluations == 9
        assert sorted(map(str, calls(tmp_path))) == sorted(map(str, EVERY))
        for body, says in FAILURES.items():
            with Pool(command(tmp_path, body), 2, "ray") as pool, pytest.raises(UserError, match=says):
                pool.scores(EVERY)
    finally:
        ray.shutdown()
