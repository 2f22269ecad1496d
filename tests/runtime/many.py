"""Several processes in forks of the test's own, with a fork for each: what they return."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import torch

from nasdsl.runtime.standalone.team import Team
from tests.runtime.forks import ended, fork, run

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
        outs = [(Path(folder) / f"{rank}.out").open("w+") for rank in range(world)]
        errs = [(Path(folder) / f"{rank}.err").open("w+") for rank in range(world)]

        def work(rank: int) -> None:
            os.environ.update(launched(rank, world, port) if world > 1 else {}, **more)
            if spoil is not None:
                spoil(rank)
            sys.modules.pop("supernet", None)
            run(str(script.parent), script.name, line)

        children = [fork(partial(work, rank), outs[rank], errs[rank]) for rank in range(world)]
        codes = [ended(child) for child in children]
        return codes, "".join(_read(each) for each in (*outs, *errs))


def _read(file: TextIO) -> str:
    with file:
        file.seek(0)
        return file.read()
