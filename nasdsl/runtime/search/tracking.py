"""A search in Weights & Biases, where that is asked for (`--wandb PROJECT`).

Takes the folder of a run and its entries, sends numbers. Invariant: nothing of the run is changed, its random
numbers included; a run that is continued goes on under the same id; without the option the package is not
imported. With WANDB_MODE=offline everything stays in the folder of the run.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from nasdsl.runtime.standalone.basics import Mistake


class Tracker:
    """Sends what a search records of each epoch; nothing where there is no project.

    Args:
        project: its name, None for nothing.
        identity: what makes the run the same run, shown as its configuration.
        at: the counters that the run begins or goes on with.
    """

    def __init__(
        self, project: str | None, folder: Path, identity: Mapping[str, Any], at: Mapping[str, Any]
    ) -> None:
        """Raises Mistake where the package is missing or will not begin."""
        self._run: Any = None
        if project is None:
            return
        try:
            import wandb
        except ImportError:
            raise Mistake("--wandb needs the package wandb: pip install 'nasdsl[wandb]'") from None
        states = random.getstate(), numpy.random.get_state(legacy=True)
        try:
            self._run = wandb.init(
                project=project,
                id=run_id(folder, fresh=not (at["epoch"] or at["step"])),
                resume="allow",
                name=f"{folder.resolve().parent.parent.name}/{folder.name}",
                dir=str(folder),
                config=dict(identity),
                settings=wandb.Settings(console="off"),
            )
        except wandb.errors.Error as error:
            cure = (
                "`wandb login` once, or WANDB_MODE=offline, which keeps everything in the folder of the run"
            )
            raise Mistake(f"--wandb cannot begin ({str(error).splitlines()[0]}): {cure}") from None
        finally:
            random.setstate(states[0])
            numpy.random.set_state(states[1])
        self._run.define_metric("*", step_metric="epoch")

    def write(self, entry: Mapping[str, Any]) -> None:
        """One epoch: every number of its line of the log."""
        if self._run is not None:
            numbers = {n: v for n, v in entry.items() if isinstance(v, (int, float))}
            self._run.log(numbers)

    def close(self) -> None:
        """Waits until everything is sent, or on the disk."""
        if self._run is not None:
            self._run.finish()


def run_id(folder: Path, fresh: bool) -> str:
    """The id of a run, kept in its folder; a run that begins anew has a new one."""
    path = folder / "wandb" / "id.txt"
    if not fresh and path.is_file():
        return path.read_text("utf-8").strip()
    path.parent.mkdir(exist_ok=True)
    path.write_text(secrets.token_hex(4) + "\n", "utf-8")
    return path.read_text("utf-8").strip()


__all__ = ["Tracker", "run_id"]
