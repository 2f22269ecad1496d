"""Scripts in forks of a process that has imported everything once."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TextIO

PRELOADED = (
    "torch",
    "torch.utils.tensorboard",
    "sklearn.datasets",
    "nasdsl.compiler",
    "nasdsl.runtime.paths.engine",
    "nasdsl.runtime.search.engine",
)


def run(folder: str, script: str, line: Sequence[str]) -> None:
    """A script, as a shell would start it in its folder."""
    os.chdir(folder)
    sys.argv = [script, *line]
    runpy.run_path(str(Path(folder) / script), run_name="__main__")


def ran(
    folder: Path,
    script: str,
    *line: str,
    hide: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 250,
) -> subprocess.CompletedProcess[str]:
    """A script with what it wrote, as of `python -W error SCRIPT` in a folder, without the seconds of its imports.

    Args:
        script: its path from there.
        hide: packages that it cannot import.
        environment: what is not as here.
    """
    with tempfile.TemporaryDirectory() as temporary:
        texts = [Path(temporary) / name for name in ("out", "err")]
        names = [str(text) for text in texts]
        work = (str(folder), script, line, hide, {**os.environ, **(environment or {})}, names)
        child = _server().Process(target=_script, args=work)
        child.start()
        child.join(timeout)
        if child.exitcode is None:
            child.kill()
            raise subprocess.TimeoutExpired([script, *line], timeout)
        out, err = (text.read_text("utf-8") for text in texts)
    return subprocess.CompletedProcess([script, *line], child.exitcode, out, err)


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _script(
    folder: str,
    script: str,
    line: Sequence[str],
    hide: Sequence[str],
    environment: dict[str, str],
    texts: Sequence[str],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for name in [n for n in sys.modules if n.partition(".")[0] in hide]:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(hide))  # type: ignore[arg-type]
    warnings.simplefilter("error")
    with Path(texts[0]).open("w", encoding="utf-8") as out, Path(texts[1]).open("w", encoding="utf-8") as err:
        _written(lambda: _whole(folder, script, line), out, err)


def _whole(folder: str, script: str, line: Sequence[str]) -> None:
    """A script and what it left to be done at its end, which the end of a fork does not do."""
    try:
        run(folder, script, line)
    finally:
        atexit._run_exitfuncs()


def fork(work: Callable[[], None], out: TextIO, err: TextIO | None = None) -> int:
    """Starts a process that does some work and writes to a file, or to one and to another; its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _written(work, out, err or out)
    return child


def _written(work: Callable[[], None], out: TextIO, err: TextIO) -> None:
    """Does some work, which writes to files, and ends the process."""
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    # What a test runner put in their place would keep what is written.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - the process ends with them
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code = 0
    try:
        work()
    except SystemExit as end:
        if end.code is not None:
            code = end.code if isinstance(end.code, int) else print(end.code, file=sys.stderr) or 1
    except BaseException:  # noqa: BLE001 - whatever it was is the result
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ended(child: int) -> int:
    """Waits for a process; its exit code, or less than 0 the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
