"""A run's folder as it lies on the disk.

Takes a path, returns a `Run`. Invariant: a file that is missing or cannot be read is a problem, in words with
its cure, and never an exception; only a folder that is no run at all is refused. Nothing in the folder is run.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs

from nasdsl.drawing.axes import drawable
from nasdsl.errors import UserError
from nasdsl.records import Each, check, read_record

Record = Mapping[str, Any]

_AGAIN = "run the search again to the end of the run: it is written anew"
_CHOICES = Each((str, int, float, [str]))
_ARCHITECTURE = {"space": str, "fingerprint": str, "choices": _CHOICES}
_ENTRY = {"epoch": int, "architecture?": _CHOICES, "probabilities?": Each([float]), "board?": [dict]}
_EVENT = {"event": str, "time": float, "epoch": int, "step": int}
_JUDGED = [{"accuracy": float, "choices": _CHOICES}]
_RUN = {
    "kind": str,
    "identity?": dict,
    "arguments?": dict,
    "environment?": dict,
    "data?": dict,
    "decisions?": Each([str]),
    "files?": Each(str),
}
_COMPILED = {
    "space": {"name": str, "parameters": dict},
    "method": str,
    "passes": {"edits": str},
    "settings?": dict,
    "files": Each(str),
}
_RESULT = {"test_accuracy": float}


@attrs.frozen
class Retrained:
    """What retrain.py has left: its log, its result where it has ended, what it was made from."""

    log: tuple[Record, ...]
    result: Record | None
    lock: Record | None


@attrs.frozen
class Compiled:
    """The directory around a run.

    Attributes:
        config: tables of settings; empty where config.toml cannot be read.
        config_digest: sha256 of that file, "" where it cannot be read.
        rewrites: the text of rewrites.md, "" where there is none.
    """

    folder: Path
    lock: Record
    config: Mapping[str, Record]
    config_digest: str
    rewrites: str


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
        found = self.identity.get("method") or (self.compiled.lock["method"] if self.compiled else None)
        return None if found is None else str(found)

    @property
    def space(self) -> str | None:
        """The name of the space."""
        if self.compiled is not None:
            return str(self.compiled.lock["space"]["name"])
        return None if self.architecture is None else str(self.architecture["space"])

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


def read_run(path: str | Path, compiled: str | Path | None = None) -> Run:
    """Reads the folder of a run, or of a compiled directory with one run in it.

    Args:
        compiled: the directory that the run was made in, where the run lies elsewhere.

    Raises:
        UserError: NAS609 where there is no run, or several, or `compiled` is no such directory.
    """
    folder = _run_folder(Path(path))
    problems: list[str] = []

    def read(name: str, shape: Any, expected: bool, cure: str = _AGAIN) -> Any:
        return _record(folder / name, shape, problems, expected, cure)

    log = _lines(folder / "log.jsonl", _ENTRY, problems)
    timeline = _lines(folder / "timeline.jsonl", _EVENT, problems)
    lock = read("nasdsl.lock", _RUN, True, "runs of this version write it when they begin")
    ended = any(e["event"] == "finished" for e in timeline)
    judged = read("judged.json", _JUDGED, False) or []
    return Run(
        folder,
        lock,
        _in_order(log, problems),
        timeline,
        read("architecture.json", _ARCHITECTURE, ended),
        tuple(judged),
        tuple(read("front.json", _JUDGED, bool(judged)) or []),
        _retrained(folder / "retrain", problems),
        _compiled(folder, compiled, problems),
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


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).exists() for name in _OF_A_RUN)


def _run_folder(path: Path) -> Path:
    if _is_run(path):
        return path
    if not path.is_dir():
        raise no_run(path, "there is no such folder")
    runs = sorted(p for p in path.glob("runs/*") if _is_run(p))
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise no_run(path, "it has neither a log nor a checkpoint, and no `runs` with such folders")
    raise no_run(path, f"it has {len(runs)} runs", f"name one of them: {', '.join(map(str, runs[:5]))}")


def no_run(path: Path, why: str, cure: str = "") -> UserError:
    """The error of a folder that is no run."""
    usual = "name the folder of a run, such as build/darts-toponas/runs/0; `python search.py` makes one"
    return UserError.plain("NAS609", f"{path} is not the folder of a run: {why}", help=cure or usual)


def _is_compiled(folder: Path) -> bool:
    return (folder / "space.nas").is_file() and (folder / "nasdsl.lock").is_file()


def _compiled(folder: Path, named: str | Path | None, problems: list[str]) -> Compiled | None:
    if named is not None and not _is_compiled(Path(named)):
        raise UserError.plain(
            "NAS609",
            f"{named} is not a directory that `nasdsl compile` wrote: it lacks space.nas or nasdsl.lock",
            help="name the directory whose search.py made the run",
        )
    home = Path(named) if named is not None else folder.resolve().parent.parent
    if not _is_compiled(home):
        problems.append(
            "The compiled directory of the run is not around it, so that there is no picture, no cost and no "
            "list of rewrites; --compiled DIR names it."
        )
        return None
    lock = _record(home / "nasdsl.lock", _COMPILED, problems, True, "`nasdsl compile` writes it anew")
    if lock is None:
        return None
    digest = ""
    try:
        raw = (home / "config.toml").read_bytes()
        config, digest = tomllib.loads(raw.decode("utf-8")), sha256(raw).hexdigest()
    except (OSError, ValueError) as error:
        problems.append(
            f"config.toml of the directory cannot be read ({_word(error)}); settings are left out."
        )
        config = {}
    try:
        rewrites = (home / "rewrites.md").read_text("utf-8")
    except (OSError, ValueError):
        rewrites = ""
    tables = {k: v for k, v in config.items() if isinstance(v, dict)}
    return Compiled(home, lock, tables, digest, rewrites)


# --- reading it --------------------------------------------------------------------


def _record(path: Path, shape: Any, problems: list[str], expected: bool, cure: str) -> Any:
    try:
        return read_record(path, shape)
    except FileNotFoundError:
        if expected:
            problems.append(f"There is no {path.name}: {cure}.")
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read ({_word(error)}): {cure}.")
    return None


def _lines(path: Path, shape: Any, problems: list[str]) -> tuple[Record, ...]:
    """The records of a file of lines; what a crash cut short is left out and said."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        problems.append(f"There is no {path.name}: runs of this version write it from their first step on.")
        return ()
    except OSError as error:
        problems.append(f"{path.name} cannot be read ({_word(error)}).")
        return ()
    found, bad = [], 0
    for line in filter(str.strip, text.splitlines()):
        try:
            entry = json.loads(line)
            check(entry, shape)
            if not all(drawable(entry[name]) for name in ("time", "epoch") if name in entry):
                raise ValueError("it is at no time that there is")
        except (ValueError, RecursionError):
            bad += 1
        else:
            found.append(entry)
    if bad:
        lines = "1 line" if bad == 1 else f"{bad:,} lines"
        problems.append(f"{path.name}: {lines} cannot be read and {'is' if bad == 1 else 'are'} left out.")
    return tuple(found)


def _in_order(log: tuple[Record, ...], problems: list[str]) -> tuple[Record, ...]:
    """The log by epoch, each once: of two lines of one epoch the later counts."""
    by_epoch = {e["epoch"]: e for e in log}
    if len(by_epoch) < len(log):
        problems.append(
            "log.jsonl has epochs twice, as a run that was interrupted may; the later lines count."
        )
    return tuple(by_epoch[epoch] for epoch in sorted(by_epoch))


def _retrained(folder: Path, problems: list[str]) -> Retrained | None:
    if not _is_run(folder) and not (folder / "result.json").exists():
        return None
    mine: list[str] = []
    log = _in_order(_lines(folder / "log.jsonl", _ENTRY, mine), mine)
    result = _record(folder / "result.json", _RESULT, mine, False, "run retrain.py again to its end")
    lock = _record(folder / "nasdsl.lock", _RUN, mine, False, "retrain.py writes it anew")
    problems += [f"Retraining: {p}" for p in mine]
    return Retrained(log, result, lock)


def _word(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


__all__ = ["Compiled", "Record", "Retrained", "Run", "no_run", "number", "read_run", "whole"]
