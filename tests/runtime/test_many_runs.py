"""Scripts under several processes: they end as under one, go on with any number, and say what went wrong once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import nasdsl
from nasdsl.api import Space
from nasdsl.runtime.search.engine import Engine
from nasdsl.runtime.standalone.meeting import attempt
from tests.runtime.many import scripts
from tests.runtime.test_many import SPACE

LINE = ("--data", "digits", "--limit-batches", "3", "--device", "cpu", "--set", "batch_size=16", "--sync-bn")
SEARCH = (*LINE, "--epochs", "2", "--set", "hessian_iterations=1")
PATHS = (*LINE, "--epochs", "2", "--set", "board_images=4", "--set", "judging_batches=3")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a method, compiled once."""
    home = tmp_path_factory.mktemp("many")
    (home / "tiny.nas").write_text(SPACE)

    def folder(method: str) -> Path:
        made = home / method
        if not made.exists():
            nasdsl.load(home / "tiny.nas").compile(method, settings={"retrain_epochs": 2}).write(made)
        return made

    return folder


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def found(folder: Path) -> Any:
    return json.loads((folder / "architecture.json").read_text())["choices"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "line", "cut"), [("toponas", SEARCH, 4), ("cream", PATHS, 8)])
def test_a_run_of_two_goes_on_with_two_or_with_one(
    compiled: Callable[[str], Path], method: str, line: tuple[str, ...], cut: int, tmp_path: Path
) -> None:
    """The first method stops amid steps, the second while it judges paths."""
    script = compiled(method) / "search.py"
    whole, parted, fewer = tmp_path / "whole", tmp_path / "parted", tmp_path / "fewer"
    assert scripts(2, script, *line, "--out", str(whole))[0] == [0, 0]
    codes, text = scripts(2, script, *line, "--out", str(parted), "--stop-after", str(cut))
    assert codes == [0, 0], text
    assert text.count("stopped and saved") == 1
    shutil.copytree(parted, fewer)
    assert scripts(2, script, *line, "--out", str(parted))[0] == [0, 0]
    assert (parted / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    codes, text = scripts(1, script, *line, "--out", str(fewer))
    assert codes == [0], text
    assert "processes was 2, is 1" in text
    assert found(whole) == found(parted) == found(fewer)
    for one, two in zip(log(whole), log(fewer), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], abs=1e-4)


def test_two_processes_retrain_as_one(compiled: Callable[[str], Path], tmp_path: Path) -> None:
    script = compiled("toponas") / "retrain.py"
    program = nasdsl.load(compiled("toponas") / "space.nas")
    network = program.compile("toponas").model_source(next(iter(program.sample(1, seed=0))))
    (tmp_path / "model.py").write_text(network)
    line = (*LINE, "--model", str(tmp_path / "model.py"), "--set", "drop_path=0", "--epochs", "2")
    one, two = tmp_path / "one", tmp_path / "two"
    assert scripts(1, script, *line, "--out", str(one))[0] == [0]
    assert scripts(2, script, *line, "--out", str(two), "--stop-after", "2")[0] == [0, 0]
    codes, text = scripts(2, script, *line, "--out", str(two))
    assert codes == [0, 0], text
    for alone, together in zip(log(one / "retrain"), log(two / "retrain"), strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-4)
    results = [json.loads((folder / "retrain" / "result.json").read_text()) for folder in (one, two)]
    assert results[0]["examples"] == results[1]["examples"]


def part(rank: int) -> None:
    """Rank 1 moves a variable of its own in every step."""
    settle = Engine.settle

    def moved(self: Engine) -> None:
        settle(self)
        if rank == 1:
            with torch.no_grad():
                self.net.architecture_parameters()[0].view(-1)[0] += 1e-3

    Engine.settle = moved  # type: ignore[method-assign]


def test_a_process_that_parts_ends_all_with_one_message(
    compiled: Callable[[str], Path], tmp_path: Path
) -> None:
    codes, text = scripts(2, compiled("toponas") / "search.py", *SEARCH, "--out", str(tmp_path), spoil=part)
    assert codes == [1, 1]
    assert text.count("error: rank 1 has another value of `variables.") == 1
    assert "Traceback" not in text


def test_a_batch_that_cannot_be_divided_ends_all_with_one_message(
    compiled: Callable[[str], Path], tmp_path: Path
) -> None:
    codes, text = scripts(3, compiled("toponas") / "search.py", *SEARCH, "--out", str(tmp_path))
    assert codes == [2, 2, 2]
    assert text.count("a batch of 16 cannot be divided among 3 processes: --set batch_size=15") == 1


def lose_the_table(rank: int) -> None:
    """Rank 1 is on a machine where the table is not."""
    table = Space.table

    def looked_up(self: Space, path: str, metric: str | None) -> Any:
        return table(self, path, metric) if rank == 1 else None

    Space.table = looked_up  # type: ignore[method-assign,assignment]


def test_a_mistake_that_one_process_meets_is_said_by_that_one(
    compiled: Callable[[str], Path], tmp_path: Path
) -> None:
    line = (*SEARCH, "--out", str(tmp_path / "run"), "--benchmark", str(tmp_path / "table.csv"))
    codes, text = scripts(2, compiled("toponas") / "search.py", *line, spoil=lose_the_table)
    assert codes == [1, 1], text
    assert "rank 1: error[NAS" in text
    assert "table.csv" in text
    assert "error: 1 of 2 processes cannot begin, and say why" in text
    assert "Traceback" not in text


def test_processes_that_were_started_again_do_not_begin_anew(
    compiled: Callable[[str], Path], tmp_path: Path
) -> None:
    """torchrun repeats the command line, `--restart` in it."""
    script, line = compiled("toponas") / "search.py", (*SEARCH, "--out", str(tmp_path), "--restart")
    assert scripts(2, script, *line, "--stop-after", "2")[0] == [0, 0]
    codes, text = scripts(2, script, *line, "--stop-after", "1", TORCHELASTIC_RESTART_COUNT="1")
    assert codes == [0, 0], text
    assert "at epoch 1, step 3" in text


def test_processes_of_an_attempt_do_not_take_the_words_of_one_before() -> None:
    """The store still has an offer and answers of processes that ended."""
    store = dist.HashStore()
    old = _met(store, 3)
    new = _met(store, 3)
    assert len(set(old)) == len(set(new)) == 1
    assert old[0] != new[0]


def _met(store: Any, world: int) -> list[str]:
    words: list[str] = [""] * world

    def meet(rank: int) -> None:
        if rank == 0:
            time.sleep(0.2)  # the others find what is old first
        words[rank] = attempt(store, rank, world)

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return words


# --- torchrun itself ---------------------------------------------------------------


def torchrun(script: Path, *line: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    return [*launcher, str(script), *line]


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)


@pytest.mark.slow
def test_torchrun_starts_a_run_again_that_lost_a_process(
    compiled: Callable[[str], Path], tmp_path: Path
) -> None:
    line = (*SEARCH[:-4], "--epochs", "4", "--set", "hessian_iterations=1", "--out", str(tmp_path / "killed"))
    with subprocess.Popen(torchrun(compiled("toponas") / "search.py", *line), start_new_session=True) as run:
        path = tmp_path / "killed" / "log.jsonl"
        wait_for(lambda: path.exists() and len(path.read_text().splitlines()) >= 1)
        os.kill(children(run.pid)[-1], signal.SIGKILL)
        assert run.wait(240) == 0
    events = [json.loads(e)["event"] for e in (path.parent / "timeline.jsonl").read_text().splitlines()]
    assert events[0] == "started"
    assert events[-1] == "finished"
    assert "continued" in events
    codes, _ = scripts(2, compiled("toponas") / "search.py", *line[:-1], str(tmp_path / "whole"))
    assert codes == [0, 0]
    assert path.read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


@pytest.mark.slow
def test_what_is_sent_to_torchrun_saves(compiled: Callable[[str], Path], tmp_path: Path) -> None:
    line = ("--data", "digits", "--device", "cpu", "--set", "batch_size=16", "--out", str(tmp_path))
    with subprocess.Popen(
        torchrun(compiled("toponas") / "search.py", *line), stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        wait_for((tmp_path / "nasdsl.lock").exists)
        time.sleep(2)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) != 0
    events = [json.loads(e)["event"] for e in (tmp_path / "timeline.jsonl").read_text().splitlines()]
    assert events[-2:] == ["saved", "stopped"]
