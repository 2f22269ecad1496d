"""Several processes in forks of the test's own, with a fork for each: what they return."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nasdsl.runtime.standalone.team import Team


def together(world: int, work: Callable[[Team], Any]) -> list[Any]:
    """What `work` returns on every process; where it raises, the error's class and text."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        children = [_fork(rank, world, port, work, Path(folder) / f"{rank}.pt") for rank in range(world)]
        for child in children:
            os.waitpid(child, 0)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _fork(rank: int, world: int, port: int, work: Callable[[Team], Any], path: Path) -> int:
    child = os.fork()
    if child:
        return child
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in here.items()}, MASTER_ADDR="127.0.0.1")
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
