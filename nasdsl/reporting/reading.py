"""The files of a run's folder, each by itself.

Takes a path, returns plain data. Invariant: a file that is missing, cannot be read or was changed since is a
problem, in words with its cure, and never an exception.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from nasdsl.codegen.lock import LOCK
from nasdsl.drawing.axes import drawable
from nasdsl.errors import UserError
from nasdsl.records import Each, check, read_record
from nasdsl.verifying.record import read_run

Record = Mapping[str, Any]

CHOICES = Each((str, int, float, [str]))
ENTRY = {"epoch": int, "architecture?": CHOICES, "probabilities?": Each([float]), "board?": [dict]}
EVENT = {"event": str, "time": float, "epoch": int, "step": int}
_LOCK = {"identity": dict, "arguments": dict, "decisions?": Each([str]), "files": Each(str)}


def record(path: Path, shape: Any, problems: list[str], expected: bool, cure: str) -> Any:
    """The data of a JSON file; None where it is missing, which is a problem if it is `expected`."""
    try:
        return read_record(path, shape)
    except FileNotFoundError:
        if expected:
            problems.append(f"There is no {path.name}: {cure}.")
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read ({word(error)}): {cure}.")
    return None


def run_lock(folder: Path, problems: list[str], cure: str) -> Record | None:
    """What a script's lock says, if its kinds and its checksum are as they were written."""
    path = folder / LOCK
    if not path.exists():
        problems.append(f"There is no {LOCK}: {cure}.")
        return None
    try:
        read_run(folder)
        found: Record = read_record(path, _LOCK)
    except UserError as error:
        why = error.diagnostics[0].message.rpartition(" cannot be used: ")[2]
        problems.append(f"{LOCK} cannot be used ({why}): {cure}.")
    except (OSError, ValueError) as error:
        problems.append(f"{LOCK} cannot be used ({word(error)}): {cure}.")
    else:
        return found
    return None


def lines(path: Path, shape: Any, problems: list[str]) -> tuple[Record, ...]:
    """The records of a file of lines; what a crash cut short is left out and said."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        problems.append(f"There is no {path.name}: runs of this version write it from their first step on.")
        return ()
    except OSError as error:
        problems.append(f"{path.name} cannot be read ({word(error)}).")
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
        many = "1 line" if bad == 1 else f"{bad:,} lines"
        problems.append(f"{path.name}: {many} cannot be read and {'is' if bad == 1 else 'are'} left out.")
    return tuple(found)


def in_order(log: Sequence[Record], problems: list[str]) -> tuple[Record, ...]:
    """The log by epoch, each once: of two lines of one epoch the later counts."""
    by_epoch = {e["epoch"]: e for e in log}
    if len(by_epoch) < len(log):
        problems.append(
            "log.jsonl has epochs twice, as a run that was interrupted may; the later lines count."
        )
    return tuple(by_epoch[epoch] for epoch in sorted(by_epoch))


def digest(path: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None


def left_by_it(path: Path, timeline: Sequence[Record], lock: Record | None, problems: list[str]) -> bool:
    """Whether a file is what the run around it has left at its end, and not what one before it left.

    A run of a version without a timeline has left what lies there.
    """
    known = (lock or {}).get("files", {}).get(path.name)
    if known is not None:
        now = digest(path)
        if now is not None and now != known:
            problems.append(
                f"{path.name} is not what the run wrote, it was changed or damaged, and is left out: take it from a "
                "copy, or run the same command again."
            )
        return bool(now == known)
    return not timeline or any(e["event"] == "finished" for e in timeline)


def word(error: Exception) -> str:
    """An error in one line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


__all__ = [
    "CHOICES",
    "ENTRY",
    "EVENT",
    "Record",
    "digest",
    "in_order",
    "left_by_it",
    "lines",
    "record",
    "run_lock",
    "word",
]
