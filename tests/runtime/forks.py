"""Scripts in forks of a process that has imported everything once."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO


def run(folder: str, script: str, line: Sequence[str]) -> None:
    """A script, as a shell would start it in its folder."""
    os.chdir(folder)
    sys.argv = [script, *line]
    runpy.run_path(str(Path(folder) / script), run_name="__main__")


def fork(work: Callable[[], None], out: TextIO, err: TextIO | None = None) -> int:
    """Starts a process that does some work and writes to a file, or to one and to another; its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.dup2(out.fileno(), 1)
    os.dup2((err or out).fileno(), 2)
    # What a test runner put in their place would keep what is written.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - the process ends with them
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code = 0
    try:
        work()
    except SystemExit as end:
        if end.code is not None:
            code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it was is the result
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ended(child: int) -> int:
    """Waits for a process; its exit code, or less than 0 the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
