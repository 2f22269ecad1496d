"""What a run says of a file of weights that it left.

Takes the path of a file, returns what may be said of it. Invariant: only what the lock of the run vouches for, of this
file by its digest; whatever is missing, damaged or of another file is not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs

from nasdsl.errors import UserError
from nasdsl.exporting.inherited import FOLDER, RECORD, not_compared, not_the_same
from nasdsl.records import read_record
from nasdsl.verifying.findings import printable
from nasdsl.verifying.record import Record, read_run

_ACCURACIES = {"weights": "test_accuracy", "last_step": "last_step_accuracy"}
"""Weights that a retraining leaves, and what its result calls their accuracy."""
_SCALE = {"mean?": [float], "std?": [float], "notes?": [str]}
_RESULT = {"test_accuracy?": float, "last_step_accuracy?": float, "examples?": int, **_SCALE}
_RECORD = {"same_as_model?": bool, "uncompared?": str, "fresh?": [str], "left?": [str], **_SCALE}
STATISTICS = (
    "Statistics of batch norm are those of the search, of all architectures that it mixed or drew: what the "
    "network reaches alone shows after training it on, or after a pass over training data in training mode."
)


@attrs.frozen
class Claims:
    """What is known of weights.

    Attributes:
        words: sentences on where they come from.
        mean, std: of the data, a value for each channel or feature; None where unknown.
        accuracy: on the test set, 0 to 1, and on how many examples; None where unknown.
        notes: what was done to the data before.
    """

    words: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    accuracy: tuple[float, int] | None = None
    notes: tuple[str, ...] = ()


def claims_of(path: Path, channels: int) -> Claims:
    """What the run around a file of weights says of it.

    Args:
        channels: of the input, or its features.
    """
    digest = sha256(path.read_bytes()).hexdigest()
    here = path.resolve().parent
    if path.stem in _ACCURACIES and (run := _vouching(here, path.name, digest)):
        return _trained(run, here / "result.json", _ACCURACIES[path.stem], channels)
    if here.name == FOLDER and (run := _vouching(here.parent, f"{FOLDER}/{path.name}", digest)):
        return _inherited(run, here / RECORD, channels)
    return Claims()


def of_the_run(folder: Path, channels: int) -> Claims:
    """What the folder of a search says of the data that it was of."""
    try:
        run = read_run(folder)
    except UserError:
        return Claims()
    known = _known(run, folder / FOLDER / RECORD, _RECORD)
    return Claims(run_words(run.identity), *_scale(known, channels), notes=tuple(known.get("notes", ())))


def run_words(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """What a run was of and for how long, as its identity says it."""
    names = {"name": "on {}", "seed": "seed {}", "epochs": "epochs {}"}
    said = {n: printable(str(v)) for n, v in identity.items() if n in names and v is not None}
    found = [words.format(said[n]) for n, words in names.items() if n in said]
    limit = identity.get("limit_batches")
    return (*found, f"at most {printable(str(limit))} steps an epoch") if limit is not None else tuple(found)


def _vouching(folder: Path, name: str, digest: str) -> Record | None:
    """The run in a folder, if it says that it left a file of that name with that content."""
    try:
        run = read_run(folder)
    except UserError:
        return None
    return run if run.files.get(name) == digest else None


def _known(run: Record, path: Path, shape: Any) -> dict[str, Any]:
    """A record that a run left, if it is as it left it; {} else."""
    try:
        name = path.relative_to(run.folder).as_posix()
        if run.files.get(name) != sha256(path.read_bytes()).hexdigest():
            return {}
        found: dict[str, Any] = read_record(path, shape)
    except (OSError, ValueError):
        return {}
    return found


def _trained(run: Record, path: Path, accuracy: str, channels: int) -> Claims:
    result = _known(run, path, _RESULT)
    reached, count = result.get(accuracy), result.get("examples")
    both = None
    if reached is not None and count is not None and 0 <= reached <= 1 and count > 0:
        both = float(reached), count
    said = ", ".join([*_began(run), *run_words(run.identity)])
    return Claims(
        (f"Trained by retrain.py{f': {said}' if said else ''}.",),
        *_scale(result, channels),
        accuracy=both,
        notes=tuple(result.get("notes", ())),
    )


def _began(run: Record) -> list[str]:
    """What a retraining began from; nothing where its lock does not say it."""
    if "weights" not in run.identity:
        return []
    if run.identity["weights"] is None:
        return ["from scratch"]
    # The file's name alone: where it lay is nobody's business who gets the network.
    name, digest = run.arguments.get("weights"), printable(str(run.identity["weights"]))
    return [
        f"from weights of `{printable(Path(str(name)).name)}` ({digest})"
        if name
        else f"from weights ({digest})"
    ]


def _inherited(run: Record, path: Path, channels: int) -> Claims:
    record = _known(run, path, _RECORD)
    words = ["They are those of a supernet, not trained on since.", STATISTICS]
    if record.get("same_as_model") is False:
        fresh, left = record.get("fresh", ()), record.get("left", ())
        why = record.get("uncompared", "")
        words.append(not_compared(why) if why and not (fresh or left) else not_the_same(fresh, left))
    return Claims(tuple(words), *_scale(record, channels), notes=tuple(record.get("notes", ())))


def _scale(
    record: Mapping[str, Any], channels: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and deviation; neither where one does not have a number for each channel."""
    mean, std = (tuple(map(float, record.get(name, ()))) for name in ("mean", "std"))
    return (mean, std) if len(mean) == len(std) == channels else (None, None)


__all__ = ["STATISTICS", "Claims", "claims_of", "of_the_run", "run_words"]
