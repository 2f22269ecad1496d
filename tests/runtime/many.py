"""Several processes in forks of the test's own, with a fork for each: what they return."""

from __future__ import annotations

import os
import runpy
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nasdsl.runtime.standalone.team import Team

Ends = tuple[list[int], str]


def together(world: int, work: Callable[[Team], Any]) -> list[Any]:
    """What `work` returns on every process; where it raises, the error's class and text."""
    port = free_port()
    with TemporaryDirectory() as folder:
        children = [_fork(rank, world, port, work, Path(folder) / f"{rank}.pt") for rank in range(world)]
        for child in children:
            os.waitpid(child, 0)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def launched(rank: int, world: int, port: int) -> dict[str, str]:
    """What `torchrun` says to a process by its environment."""
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in here.items()}}


def _fork(rank: int, world: int, port: int, work: Callable[[Team], Any], path: Path) -> int:
    child = os.fork()
    if child:
        return child
    os.environ.update(launched(rank, world, port))
    try:
        team = Team.start("cpu")
        made = work(team)
        team.close()
    except BaseException as error:  # noqa: BLE001 - whatever it was is the result
        made = (type(error).__name__, str(error))
        if not isinstance(error, Exception) or type(error).__module__ == "builtins":
            traceback.print_exc()
    torch.save(made, path)
    sys.stderr.flush()
    os._exit(0)


def scripts(
    world: int, script: Path, *line: str, spoil: Callable[[int], None] | None = None, **more: str
) -> Ends:
    """A script as so many processes run it.

    Args:
        spoil: is called with the rank before the script begins.
        more: of the environment.

    Returns:
        Exit codes, and what all wrote, standard error behind standard output.
    """
    port = free_port()
    with TemporaryDirectory() as folder:
        paths = [(Path(folder) / f"{rank}.out", Path(folder) / f"{rank}.err") for rank in range(world)]
        children = []
        for rank in range(world):
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                os.environ.update(launched(rank, world, port) if world > 1 else {}, **more)
                _run(script, line, paths[rank], lambda rank=rank: spoil and spoil(rank))
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        return codes, "".join(out.read_text() for out, _ in paths) + "".join(
            err.read_text() for _, err in paths
        )


def _run(script: Path, line: tuple[str, ...], paths: tuple[Path, Path], before: Callable[[], object]) -> None:
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - the process ends with them
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code: object = 0
    try:
        before()
        os.chdir(script.parent)
        sys.argv = [script.name, *line]
        sys.modules.pop("supernet", None)
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - whatever it was is the result
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
