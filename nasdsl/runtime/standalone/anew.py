"""What a run that begins anew removes: what the run before it left in its folder, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from nasdsl.runtime.standalone.artefacts import ALIVE, RETRAINED, left_in
from nasdsl.runtime.standalone.basics import file_digest
from nasdsl.runtime.standalone.checkpoint import Checkpoints
from nasdsl.runtime.standalone.lock import LOCK

_INSIDE = "retrain"


def job() -> str | None:
    """The job of a queue that this process belongs to, which may be started again with the same command."""
    return os.environ.get("SLURM_JOB_ID")


def begun_by_this_job(folder: Path) -> bool:
    """Whether the run in a folder was begun by an earlier start of this process's job."""
    again = os.environ.get("SLURM_RESTART_COUNT", "0")
    return again.isdecimal() and int(again) > 0 and job() is not None and _of_lock(folder, "job") == job()


def forget(folder: Path, known: tuple[str, ...]) -> None:
    """Removes what a run left, and the retraining of the network that a search found.

    Where no run was, nothing is removed: a file may have the name of a run's and be the user's own.

    Args:
        known: the patterns of what the run leaves (`known_of`).
    """
    checkpoints = Checkpoints(folder)
    if _of_lock(folder, "kind") != "run" and not checkpoints.found():
        return
    retrained, model = folder / _INSIDE, folder / "model.py"
    if "model.py" in known and model.is_file() and _trained(retrained) == file_digest(model):
        Checkpoints(retrained).remove()
        _remove(retrained, (*RETRAINED, *ALIVE))
    checkpoints.remove()
    _remove(folder, (*known, *ALIVE))
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    for inside in (retrained, folder / "inherited", folder / "front"):
        if "model.py" in known and inside.is_dir() and not any(inside.iterdir()):
            inside.rmdir()


def _remove(folder: Path, known: tuple[str, ...]) -> None:
    for path in left_in(folder, known):
        path.unlink()


def _trained(folder: Path) -> object:
    """The digest of the network that a retraining was of; None where there is none that says so."""
    identity = _of_lock(folder, "identity")
    return identity.get("model") if isinstance(identity, dict) else None


def _of_lock(folder: Path, name: str) -> Any:
    """What the lock in a folder says, whole or not; None for nothing."""
    try:
        return json.loads((folder / LOCK).read_text("utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
