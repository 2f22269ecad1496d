"""A search in Weights & Biases: without the package one message, with it one run that goes on under its id."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import nasdsl
from nasdsl.runtime.search.tracking import Tracker, run_id
from nasdsl.runtime.standalone.basics import Mistake

HERE = importlib.util.find_spec("wandb") is not None
NEEDED = pytest.mark.skipif(not HERE, reason="wandb is not installed: pip install 'nasdsl[wandb]'")


def test_without_a_project_nothing_happens(tmp_path: Path) -> None:
    tracker = Tracker(None, tmp_path, {}, {"epoch": 0, "step": 0})
    tracker.write({"epoch": 1, "train_loss": 2.0})
    tracker.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(HERE, reason="wandb is installed")
def test_without_the_package_there_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"pip install 'nasdsl\[wandb\]'"):
        Tracker("p", tmp_path, {}, {"epoch": 0, "step": 0})


def test_a_run_keeps_its_id_until_it_begins_anew(tmp_path: Path) -> None:
    state = random.getstate()
    first = run_id(tmp_path, fresh=True)
    assert run_id(tmp_path, fresh=False) == first
    assert run_id(tmp_path, fresh=True) != first
    assert random.getstate() == state


@NEEDED
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_that_is_continued_is_one_run(tmp_path: Path) -> None:
    """Without a network; and the log is that of a search without the option."""
    made = tmp_path / "made"
    nasdsl.load("nasbench201", C=4).compile("darts").write(made)

    def search(*words: str) -> None:
        command = [sys.executable, str(made / "search.py"), "--data", "digits", "--epochs", "2", *words]
        command += ["--limit-batches", "2", "--device", "cpu"]
        settings = {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, **settings}, timeout=250)

    search("--wandb", "trial", "--stop-after", "3")
    search("--wandb", "trial")
    search("--out", str(tmp_path / "plain"))
    run = made / "runs" / "0"
    offline = sorted(run.glob("wandb/offline-run-*"))
    assert {p.name.rpartition("-")[2] for p in offline} == {run_id(run, fresh=False)}
    assert len(offline) == 2
    assert all(list(p.glob("*.wandb")) for p in offline)
    assert (run / "log.jsonl").read_bytes() == (tmp_path / "plain" / "log.jsonl").read_bytes()
