"""A run that is killed or interrupted loses nothing that it knew, and its workers leave with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.scoring.spaces import EVERY, LENGTH, ROOT, calls, command


@pytest.mark.parametrize(
    ("workers", "stop"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGINT)], ids=str
)
def test_a_run_that_is_stopped_goes_on(tmp_path: Path, workers: int, stop: signal.Signals) -> None:
    kind = command(tmp_path, "time.sleep(0.3)\n" + LENGTH)
    cache = tmp_path / "scores.jsonl"
    words = ["score", kind.file, "--command", " ".join(kind.kind.words), "--workers", str(workers)]  # type: ignore[attr-defined]
    (tmp_path / "archs.jsonl").write_text("".join(json.dumps(c) + "\n" for c in EVERY))
    words += ["--archs", str(tmp_path / "archs.jsonl"), "--cache", str(cache), "--json"]
    line = [sys.executable, "-m", "nasdsl", *words]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        line,
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Where the tests themselves run in the background, they would hand on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    while not cache.exists() or len(cache.read_text().splitlines()) < 3:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(stop)
    running.communicate()  # also: no worker holds these pipes any longer
    assert running.returncode == (130 if stop == signal.SIGINT else -9)
    known = [json.loads(line)["choices"] for line in cache.read_text().splitlines()]
    assert 3 <= len(known) < 9
    done = subprocess.run(line, env=surroundings, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert (record["known"], record["evaluations"]) == (len(known), 9 - len(known))
    assert [row["score"] for row in record["scores"]] == [len(str(choices)) for choices in EVERY]
    logged = calls(tmp_path)
    assert all(logged.count(choices) == 1 for choices in known)
