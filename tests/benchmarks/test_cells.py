"""Cells: done once, continued when killed, refused when changed, left alone while they run elsewhere."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cells import Cell, Runner, flat, slug

COUNTS = """
import json, pathlib, sys
run = pathlib.Path(sys.argv[1])
run.mkdir(exist_ok=True)
log = run / "log"
log.write_text((log.read_text() if log.exists() else "") + "x")
print("so far", log.read_text())
if len(log.read_text()) < int(sys.argv[2]):
    sys.exit(3)
(run / "found").write_text(json.dumps({"attempts_seen": len(log.read_text())}))
"""
WAITS = """
import pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
run.mkdir(exist_ok=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
(run / "up").touch()
time.sleep(60)
"""


def read(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "found").read_text("utf-8"))
    return found


def made(
    folder: Path, identity: Mapping[str, Any] | None = None, script: str = COUNTS, needed: int = 1
) -> Cell:
    given = {"settings": {"epochs": 2}} if identity is None else identity
    command = (sys.executable, "-c", script, str(folder / "run"), str(needed))
    return Cell("a method", 0, folder, given, {"note.txt": "kept"}, command, read)


def runner(restart: bool = False) -> Runner:
    return Runner(1, 1, restart, {})


def test_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    cell = made(tmp_path / "c")
    assert [o.status for o in runner().run([cell])] == ["finished"]
    assert [o.status for o in runner().run([cell])] == ["done"]
    assert (tmp_path / "c" / "run" / "log").read_text("utf-8") == "x"
    assert (tmp_path / "c" / "compiled" / "note.txt").read_text("utf-8") == "kept"
    found = cell.result
    assert found is not None
    assert (found["attempts"], found["attempts_seen"]) == (1, 1)
    assert found["processor_s"] > 0


def test_a_cell_that_failed_is_continued_and_its_time_adds_up(tmp_path: Path) -> None:
    cell = made(tmp_path / "c", needed=2)
    (outcome,) = runner().run([cell])
    assert (outcome.status, outcome.note) == ("failed", "(exit code 3) so far x")
    assert cell.result is None
    assert [o.status for o in runner().run([cell])] == ["finished"]
    assert cell.result is not None
    attempts = [json.loads(a) for a in (tmp_path / "c" / "attempts.jsonl").read_text("utf-8").splitlines()]
    assert [a["exit_code"] for a in attempts] == [3, 0]
    assert cell.result["processor_s"] == pytest.approx(sum(a["processor_s"] for a in attempts))


def test_another_configuration_is_refused_or_redone(tmp_path: Path) -> None:
    runner().run([made(tmp_path / "c")])
    other = made(tmp_path / "c", {"settings": {"epochs": 3}})
    (outcome,) = runner().run([other])
    assert outcome.status == "refused"
    assert "settings.epochs was 2, is 3" in outcome.note
    assert other.result is None
    assert [o.status for o in runner(restart=True).run([other])] == ["finished"]
    assert other.result is not None
    assert other.result["attempts_seen"] == 1
    assert made(tmp_path / "c").result is None


def test_restart_leaves_what_has_not_changed(tmp_path: Path) -> None:
    runner().run([made(tmp_path / "c")])
    assert [o.status for o in runner(restart=True).run([made(tmp_path / "c")])] == ["done"]


def test_a_cell_that_runs_elsewhere_is_left_alone(tmp_path: Path) -> None:
    cell = made(tmp_path / "c")
    cell.folder.mkdir()
    with (cell.folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert [o.status for o in runner().run([cell])] == ["busy"]
        assert not (cell.folder / "run").exists()
    assert [o.status for o in runner().run([cell])] == ["finished"]


def test_a_signal_stops_the_cells_and_those_behind_them(tmp_path: Path) -> None:
    cells = [made(tmp_path / n, script=WAITS) for n in ("a", "b")]
    up = tmp_path / "a" / "run" / "up"

    def stop() -> None:
        while not up.exists():
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    before = signal.getsignal(signal.SIGTERM)
    outcomes = runner().run(cells)
    assert [o.status for o in outcomes] == ["stopped", "stopped"]
    assert not (tmp_path / "b").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_several_at_once(tmp_path: Path) -> None:
    cells = [made(tmp_path / str(n)) for n in range(3)]
    assert {o.status for o in Runner(3, 1, False, {}).run(cells)} == {"finished"}


def test_names() -> None:
    assert slug("toponas, not simplified") == "toponas_not_simplified"
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": None}) == {"a.b": 1, "a.c.d": 2, "e": None}
