"""Runs search scripts one after the other in forks of one process, which imports everything once.

    python runs.py JOBS      JOBS: a JSON list of {folder, line, kill, save}

Each fork is the script as `python search.py LINE` runs it. With `kill` the fork ends itself by SIGKILL at that
tick of its loops (after a step, or after a path was judged); with `save` it writes a checkpoint every so many
ticks, instead of once a minute. Prints one JSON list: the exit status of every job and what it wrote.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from nasdsl.runtime.standalone.run import Run
from tests.runtime.forks import ended, fork, run


def ticking(kill: int, save: int) -> None:
    """Counts the ticks of this process."""
    ticks = 0

    def tick(self: Run) -> None:
        nonlocal ticks
        ticks += 1
        if save and ticks % save == 0:
            self.save()
        if ticks == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    Run.tick = tick  # type: ignore[method-assign]


def warm(job: dict[str, Any]) -> None:
    """A run that nobody looks at, for all that is imported on the way."""
    path = list(sys.path)
    with TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        run(job["folder"], "search.py", [*job["line"], "--out", out])
    sys.modules.pop("supernet")
    sys.path[:] = path


def forked(job: dict[str, Any]) -> dict[str, Any]:
    """What a job ended with."""

    def work() -> None:
        ticking(job["kill"], job["save"])
        run(job["folder"], "search.py", job["line"])

    with TemporaryFile("w+") as out:
        code = ended(fork(work, out))
        out.seek(0)
        return {"code": code, "text": out.read()}


if __name__ == "__main__":
    jobs = json.loads(sys.argv[1])
    warm(jobs[0])
    print(json.dumps([forked(job) for job in jobs]))
