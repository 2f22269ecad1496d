"""Whatever lies in a run's folder, it is read or said to be missing; only what is no run is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from nasdsl.errors import UserError
from nasdsl.reporting import page, read_run
from tests.reporting.common import example, write_compiled, write_lines, write_retrained, write_run


def test_everything_that_a_run_leaves_is_read(tmp_path: Path) -> None:
    folder = example(tmp_path / "darts-toponas", 6)
    write_retrained(folder, 10)
    run = read_run(folder)
    assert run.problems == ()
    assert (run.name, run.space, run.method, run.state) == ("darts-toponas/0", "darts", "toponas", "finished")
    assert [e["epoch"] for e in run.log] == [1, 2, 3, 4, 5, 6]
    assert run.choices == json.loads((folder / "architecture.json").read_text())["choices"]
    assert run.retrained is not None
    assert run.retrained.result == {"test_accuracy": 0.9712, "examples": 10_000}


def test_a_compiled_directory_stands_for_its_only_run(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 2)
    assert read_run(tmp_path / "made").folder == folder
    write_run(tmp_path / "made" / "runs" / "1", 2)
    with pytest.raises(UserError, match="it has 2 runs"):
        read_run(tmp_path / "made")


def test_a_run_elsewhere_has_its_directory_named(tmp_path: Path) -> None:
    made, folder = write_compiled(tmp_path / "made"), write_run(tmp_path / "elsewhere", 2)
    alone = read_run(folder)
    assert alone.compiled is None
    assert any("--compiled" in p for p in alone.problems)
    assert read_run(folder, made).compiled is not None
    with pytest.raises(UserError, match="is not a directory that `nasdsl compile` wrote"):
        read_run(folder, tmp_path)


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_what_is_no_run_is_refused_with_a_cure(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not the folder of a run") as caught:
        read_run(tmp_path / name)
    assert caught.value.diagnostics[0].code == "NAS609"
    assert "search.py" in str(caught.value)


FILES = ("log.jsonl", "timeline.jsonl", "nasdsl.lock", "architecture.json")
DAMAGED = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "binary": lambda raw: random.Random(0).randbytes(300),
    "another": lambda raw: b'{"epoch": "one", "kind": 3, "choices": [1]}\n',
    "a list": lambda raw: b"[1, 2]\n",
    "deep": lambda raw: b"[" * 100_000,
}


@pytest.mark.parametrize("how", DAMAGED)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_said_and_the_rest_is_shown(tmp_path: Path, name: str, how: str) -> None:
    folder = example(tmp_path / "made", 4)
    path = folder / name
    path.write_bytes(DAMAGED[how](path.read_bytes()))
    run = read_run(folder)
    text = page(run)
    assert "How to reproduce" in text
    if (how, path.suffix) != ("empty", ".jsonl"):
        assert [p for p in run.problems if name in p], run.problems
        assert "missing or damaged" in text


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    folder = example(tmp_path / "made", 4)
    (folder / name).unlink()
    run = read_run(folder)
    assert any(p.startswith(f"There is no {name}:") for p in run.problems), run.problems
    assert "How to reproduce" in page(run)


def test_a_line_that_a_crash_cut_is_left_out(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 4)
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"epoch": 5, "train_lo')
    run = read_run(folder)
    assert len(run.log) == 4
    assert run.problems == ("log.jsonl: 1 line cannot be read and is left out.",)


def test_of_two_lines_of_an_epoch_the_later_counts(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 3)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    write_lines(folder / "log.jsonl", [*log, {**log[1], "train_loss": 9.0}])
    run = read_run(folder)
    assert [e["epoch"] for e in run.log] == [1, 2, 3]
    assert run.log[1]["train_loss"] == 9.0


def test_a_run_that_has_not_ended_says_how_far_it_is(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 5, finished=False)
    run = read_run(folder)
    assert run.state == "running"
    assert "This run has not ended: 5 of 10 epochs." in page(run)
    with (folder / "timeline.jsonl").open("a") as file:
        file.write('{"event": "stopped", "time": 1800000999.5, "epoch": 5, "step": 3}\n')
    stopped = read_run(folder)
    assert stopped.state == "stopped"
    assert "This run was stopped: 5 of 10 epochs." in page(stopped)
    assert "Architecture, if it ended now" in page(stopped)


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    folder = write_compiled(tmp_path / "made") / "runs" / "0"
    folder.mkdir(parents=True)
    (folder / "timeline.jsonl").write_text(
        '{"event": "started", "time": 1800000000.0, "epoch": 0, "step": 0}\n'
    )
    (folder / "log.jsonl").write_text("")
    text = page(read_run(folder))
    assert "0 epochs" in text
    assert "What the compiler saved" in text
