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
import runpy
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from nasdsl.runtime.standalone.run import Run


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


def run(folder: str, line: Sequence[str]) -> None:
    """The script, as a shell would start it."""
    os.chdir(folder)
    sys.argv = ["search.py", *line]
    runpy.run_path(str(Path(folder) / "search.py"), run_name="__main__")


def warm(job: dict[str, Any]) -> None:
    """A run that nobody looks at, for all that is imported on the way."""
    path = list(sys.path)
    with TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        run(job["folder"], [*job["line"], "--out", out])
    sys.modules.pop("supernet")
    sys.path[:] = path


def forked(job: dict[str, Any]) -> dict[str, Any]:
    """What a job ended with."""
    with TemporaryFile("w+") as out:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            code = 0
            try:
                ticking(job["kill"], job["save"])
                run(job["folder"], job["line"])
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:  # noqa: BLE001 - whatever it was is the result
                traceback.print_exc()
                code = 99
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "text": out.read()}


if __name__ == "__main__":
    jobs = json.loads(sys.argv[1])
    warm(jobs[0])
    print(json.dumps([forked(job) for job in jobs]))
