"""Scripts in forks of a process that has imported everything once."""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
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
) -> subprocess.CompletedProcess[str]:
    """A script with what it wrote, as of `python -W error SCRIPT` in a folder, without the seconds of its imports.

    Args:
        script: its path from there.
        hide: packages that it cannot import.
        environment: what is not as here.
    """
    with tempfile.TemporaryDirectory() as temporary:
        texts = [Path(temporary) / name for name in ("out", "err")]
        request = {
            "folder": str(folder),
            "script": script,
            "line": line,
            "hide": hide,
            "environment": {**os.environ, **(environment or {})},
            "texts": [str(text) for text in texts],
        }
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            code = int(server.stdout.readline())
        except BaseException:  # such as a time limit: what it answers is of no later script
            server.kill()
            _server.cache_clear()
            raise
        out, err = (text.read_text("utf-8") for text in texts)
    return subprocess.CompletedProcess([script, *line], code, out, err)


@cache
def _server() -> subprocess.Popen[str]:
    """A process that has imported everything, which ends with this one: its input is closed then."""
    root = Path(__file__).resolve().parents[2]
    line = [sys.executable, "-W", "error", "-m", "tests.runtime.forks"]
    return subprocess.Popen(line, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve() -> None:
    for name in PRELOADED:
        import_module(name)
    for text in sys.stdin:
        request = json.loads(text)
        out, err = request["texts"]
        with Path(out).open("w", encoding="utf-8") as one, Path(err).open("w", encoding="utf-8") as other:
            code = ended(fork(lambda request=request: _script(**request), one, other))  # type: ignore[misc]
        print(code, flush=True)


def _script(
    folder: str,
    script: str,
    line: Sequence[str],
    hide: Sequence[str],
    environment: Mapping[str, str],
    texts: object,
) -> None:
    """A script in the environment of who asked for it, and what it left to be done at its end: a fork does not."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    for name in [n for n in sys.modules if n.partition(".")[0] in hide]:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(hide))  # type: ignore[arg-type]
    try:
        run(folder, script, line)
    finally:
        atexit._run_exitfuncs()


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


if __name__ == "__main__":
    _serve()
