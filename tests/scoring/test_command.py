"""A user's own command: what it is given, and every way in which it can be wrong."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from nasdsl.errors import UserError
from nasdsl.scoring import CommandScores, Pool
from tests.scoring.spaces import EVERY, calls, command, recipe


def test_it_reads_the_architecture_and_its_last_line_counts(tmp_path: Path) -> None:
    body = (
        "print('epoch 1', 0.5)\nprint('warned', file=sys.stderr)\nprint(architecture['space'] == 'scored')\n"
    )
    with Pool(command(tmp_path, body + "print(' 0.25 ')")) as pool:
        assert pool.scores(EVERY[:2]) == [0.25, 0.25]
    assert calls(tmp_path) == EVERY[:2]


def test_no_shell_reads_the_words(tmp_path: Path) -> None:
    words = (sys.executable, "-c", "import sys; print(len(sys.argv[1]))", "$HOME; `exit 1` *")
    with Pool(recipe(tmp_path, CommandScores(words))) as pool:
        assert pool.scores(EVERY[:1]) == [len(words[-1])]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit(3)", "left with code 3"),
        ("raise MemoryError('of the GPU')", "MemoryError: of the GPU"),
        ("os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("pass", "printed nothing"),
        ("print('0.9 accuracy')", "printed `0.9 accuracy`, which is no number"),
        ("print('nan')", "which is no number"),
        ("print('inf')", "which is no number"),
    ],
)
def test_a_failure_is_told_with_its_cause(tmp_path: Path, body: str, says: str) -> None:
    with Pool(command(tmp_path, body)) as pool, pytest.raises(UserError, match="NAS608") as caught:
        pool.scores(EVERY[:1])
    assert says in str(caught.value)
    assert '{"first.op": "skip", "second.op": "skip"}' in str(caught.value)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    pool = Pool(recipe(tmp_path, CommandScores(("no-such-program",))))
    with pytest.raises(UserError, match="cannot be run: no such file"):
        pool.scores(EVERY[:1])


def test_one_that_takes_too_long_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    child = f"import time\nwhile True:\n    open({str(beats)!r}, 'a').write('x'); time.sleep(0.05)"
    body = f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(600)"
    pool = Pool(command(tmp_path, body, timeout=1.5))
    with pytest.raises(UserError, match=r"more than 1\.5 seconds"):
        pool.scores(EVERY[:1])
    size = beats.stat().st_size if beats.exists() else 0
    time.sleep(0.5)
    assert (beats.stat().st_size if beats.exists() else 0) == size


def test_a_script_that_was_edited_is_another_source(tmp_path: Path) -> None:
    cache = tmp_path / "scores.jsonl"
    for body, score in (("print(1)", 1.0), ("print(2)", 2.0), ("print(1)", 1.0)):
        with Pool(command(tmp_path, body), cache=cache) as pool:
            assert pool.scores(EVERY[:1]) == [score]
    assert len(calls(tmp_path)) == 2
