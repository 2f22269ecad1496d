"""A run's folder as it lies on the disk.

Takes a path, returns a `Run`. Invariant: a file that is missing, cannot be read or is of another run is a problem,
in words with its cure, and never an exception; only a folder that is no run at all is refused. Nothing in the
folder is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from nasdsl.drawing.axes import drawable
from nasdsl.errors import UserError
from nasdsl.reporting.compiled import Compiled, compiled_of
from nasdsl.reporting.reading import (
    CHOICES,
    ENTRY,
    EVENT,
    Record,
    in_order,
    left_by_it,
    lines,
    record,
    run_lock,
)
from nasdsl.reporting.retrained import Retrained, retrained_of

_AGAIN = "run the search again to the end of the run: it is written anew"
_ARCHITECTURE = {"space": str, "fingerprint": str, "choices": CHOICES}
_JUDGED = [{"accuracy": float, "choices": CHOICES}]


@attrs.frozen
class Run:
    """What a run's folder says.

    Attributes:
        lock: what the run was made from; None for a run of a version without it.
        log: a record an epoch, in order.
        timeline: what happened when.
        architecture: what was found, as its file has it.
        judged, front: paths with accuracies, of methods of single paths.
        compiled: the directory that the run was made in, where it is known.
        problems: what is missing or damaged, a sentence each.
    """

    folder: Path
    lock: Record | None
    log: tuple[Record, ...]
    timeline: tuple[Record, ...]
    architecture: Record | None
    judged: tuple[Record, ...]
    front: tuple[Record, ...]
    retrained: Retrained | None
    compiled: Compiled | None
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the run is called beside others: the directory it was compiled in, and its own folder."""
        return f"{self.compiled.folder.name}/{self.folder.name}" if self.compiled else self.folder.name

    @property
    def identity(self) -> Record:
        """The settings of the run and what else makes it the same run."""
        return {} if self.lock is None else dict(self.lock.get("identity", {}))

    @property
    def method(self) -> str | None:
        """The method that searched."""
        found = self.identity.get("method") or (self.compiled.lock.method if self.compiled else None)
        return None if found is None else str(found)

    @property
    def space(self) -> str | None:
        """The name of the space."""
        if self.architecture is not None:
            return str(self.architecture["space"])
        return None if self.compiled is None else self.compiled.lock.space

    @property
    def epochs(self) -> int | None:
        """How many the run was to have."""
        return whole(self.identity.get("epochs"))

    @property
    def state(self) -> str:
        """`finished`, `stopped`, `running` (or ended without a word), or `unknown`."""
        last = next(
            (e["event"] for e in reversed(self.timeline) if e["event"] not in ("epoch", "saved")), None
        )
        if last == "finished" or (last is None and self.architecture is not None):
            return "finished"
        if last is None:
            return "unknown"
        return "stopped" if last == "stopped" else "running"

    @property
    def choices(self) -> Mapping[str, Any] | None:
        """What was found, or what would be if the run ended after its last epoch."""
        if self.architecture is not None:
            found: Mapping[str, Any] = self.architecture["choices"]
            return found
        return self.log[-1].get("architecture") if self.log else None


def _of_retraining(folder: Path, lock: Mapping[str, Any] | None) -> bool:
    """Whether a folder is that of a retraining: its lock says so, or where there is none the file that it leaves."""
    if lock is None:
        return (folder / "result.json").exists()
    return "model" in lock["identity"] and "method" not in lock["identity"]


def read_run(path: str | Path, compiled: str | Path | None = None) -> Run:
    """Reads the folder of a run, or of a compiled directory with one run in it.

    Args:
        compiled: the directory that the run was made in, where the run lies elsewhere.

    Raises:
        UserError: NAS609 where there is no run, or several, or `compiled` is no such directory.
    """
    folder = run_folder(path).resolve()
    problems: list[str] = []
    log = in_order(lines(folder / "log.jsonl", ENTRY, problems), problems)
    timeline = lines(folder / "timeline.jsonl", EVENT, problems)
    lock = run_lock(folder, problems, "runs of this version write it when they begin")
    if _of_retraining(folder, lock):
        raise no_run(Path(path), "it is that of a retraining", f"name the run above it: {folder.parent}")
    ended = not timeline or any(e["event"] == "finished" for e in timeline)

    def left(name: str, shape: Any, expected: bool) -> Any:
        """What the run wrote at its end; of one that was begun anew nothing that the one before it left."""
        if (folder / name).exists() and not left_by_it(folder / name, timeline, lock, problems):
            return None
        return record(folder / name, shape, problems, expected, _AGAIN)

    architecture = left("architecture.json", _ARCHITECTURE, ended and bool(timeline))
    judged = left("judged.json", _JUDGED, False) or []
    front = left("front.json", _JUDGED, bool(judged)) or []
    return Run(
        folder,
        lock,
        log,
        timeline,
        architecture,
        tuple(judged),
        tuple(front),
        retrained_of(folder, lock, ended or architecture is not None, problems),
        compiled_of(folder, compiled, lock, architecture, problems),
        tuple(problems),
    )


def whole(value: object) -> int | None:
    """A whole number, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: object) -> float | None:
    """A number that has a place on an axis, or None."""
    return float(value) if drawable(value) else None  # type: ignore[arg-type]


# --- finding it --------------------------------------------------------------------

_OF_A_RUN = ("log.jsonl", "timeline.jsonl", "checkpoint.pt", "architecture.json")


def run_folder(path: str | Path) -> Path:
    """The folder of a run: the path itself, or that of the only run of a compiled directory.

    Raises:
        UserError: NAS609 as `read_run`.
    """
    place = Path(path)
    if _is_run(place):
        return place
    if not place.is_dir():
        raise no_run(place, "there is no such folder")
    runs = sorted(p for p in place.glob("runs/*") if _is_run(p))
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise no_run(place, "it has neither a log nor a checkpoint, and no `runs` with such folders")
    raise no_run(place, f"it has {len(runs)} runs", f"name one of them: {', '.join(map(str, runs[:5]))}")


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).exists() for name in _OF_A_RUN)


def no_run(path: Path, why: str, cure: str = "") -> UserError:
    """The error of a folder that is no run."""
    usual = "name the folder of a run, such as build/darts-toponas/runs/0; `python search.py` makes one"
    return UserError.plain("NAS609", f"{path} is not the folder of a run: {why}", help=cure or usual)


__all__ = [
    "Compiled",
    "Record",
    "Retrained",
    "Run",
    "no_run",
    "number",
    "read_run",
    "run_folder",
    "whole",
]
