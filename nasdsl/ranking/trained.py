"""Architectures with what they reach when each is trained by itself.

Takes a table of results, or files and folders of trained networks; returns architectures with figures of
which higher is better. Invariant: an architecture stands once, several figures of it are averaged; what
cannot be read is said with its file and line.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.errors import UserError
from nasdsl.space.decisions import Choice
from nasdsl.tabular.keys import Keys

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.tabular import Table


@attrs.frozen
class Trained:
    """One architecture.

    Attributes:
        figure: as it was given.
        worth: the figure, its sign turned where lower is better.
        runs: how many figures it is the mean of.
    """

    choices: Mapping[str, Choice]
    figure: float
    worth: float
    runs: int = 1


def from_table(space: Space, table: Table, metric: str | None, n: int, seed: int) -> list[Trained]:
    """`n` random architectures within the limits of a space that a table knows the metric of, or all there are.

    Raises:
        UserError: NAS603 for a metric that the table does not have.
    """
    spread = table.spread(metric)
    sign = -1.0 if spread.better == "lower" else 1.0
    keys = Keys(space.checked)
    rows = sorted((row.architecture, row.value) for row in table.top(len(table), metric))
    random.Random(seed).shuffle(rows)
    found: list[Trained] = []
    for text, value in rows:
        choices = keys.choices(text)
        if space.allows(choices):
            found.append(Trained(choices, value, sign * value))
        if len(found) == n:
            break
    return found


def from_files(space: Space, names: Sequence[str], n: int, seed: int) -> list[Trained]:
    """`n` random architectures of those that files and folders hold, or all; of a sub-space those inside.

    A name is a file of JSON lines {"architecture": ..., "accuracy": ...}, or the folder of a run that
    `retrain.py` has ended in. An architecture is its JSON, its choices alone, or the space's notation.

    Raises:
        UserError: NAS005 for what cannot be read, NAS601 for a line that is no such pair.
    """
    keys = Keys(space.checked)
    figures: dict[str, list[float]] = {}
    for name in names:
        path = Path(name)
        for place, architecture, accuracy in _folder(path) if path.is_dir() else _lines(path):
            figures.setdefault(_key(space, keys, architecture, place), []).append(accuracy)
    part = space.subspace
    chosen = sorted(k for k in figures if part is None or part.contains(keys.choices(k)))
    random.Random(seed).shuffle(chosen)
    return [
        Trained(keys.choices(key), mean := fmean(figures[key]), mean, len(figures[key])) for key in chosen[:n]
    ]


def _key(space: Space, keys: Keys, architecture: Any, place: str) -> str:
    """The one text of an architecture, whichever way it is written."""
    try:
        if isinstance(architecture, str):
            return keys.of_text(architecture)
        if isinstance(architecture, dict):
            return keys.of_choices(architecture.get("choices", architecture))
    except UserError as error:
        problem = error.diagnostics[0]
        raise UserError.plain(problem.code, f"{place}: {problem.message}", help=problem.help) from None
    raise UserError.plain(
        "NAS601", f"{place}: an architecture is its choices, or a text; not {architecture!r}"
    )


def _lines(path: Path) -> Iterator[tuple[str, Any, float]]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise _unfit(place, "is not a JSON object")
        architecture = record.get("architecture", record.get("choices"))
        if architecture is None or "accuracy" not in record:
            lacks = "accuracy" if architecture is not None else "architecture"
            raise _unfit(place, f"has no `{lacks}`")
        yield place, architecture, _number(place, record["accuracy"])


def _folder(path: Path) -> Iterator[tuple[str, Any, float]]:
    """What `search.py` and `retrain.py` leave in the folder of a run."""
    result = path / "retrain" / "result.json"
    try:
        architecture = json.loads(_read(path / "architecture.json"))
        accuracy = json.loads(_read(result))["test_accuracy"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _unfit(str(path), "holds no result of retrain.py") from None
    yield str(path), architecture, _number(str(result), accuracy)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError.plain(
            "NAS005",
            f"{path} cannot be read: {reason.lower()}",
            help='--trained takes files of lines {"architecture": ..., "accuracy": ...}, '
            "and folders of runs that retrain.py has ended in",
        ) from None


def _number(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _unfit(place, f"has the accuracy {value!r}, which is no number")
    return float(value)


def _unfit(place: str, what: str) -> UserError:
    return UserError.plain(
        "NAS601", f"{place} {what}", help='a line is {"architecture": {...}, "accuracy": 0.93}'
    )


__all__ = ["Trained", "from_files", "from_table"]
