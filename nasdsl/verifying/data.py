"""The data of a run, where they are at hand, against their digests.

Takes the record of a run and its directory, adds what differs to a report. Invariant: nothing is downloaded, and
no script or model is run to learn what it declares; what data are loaded is for the caller to say, since a record
may name code as its data.
"""

from __future__ import annotations

import ast
import contextlib
import io
from pathlib import Path
from typing import Any

from nasdsl.verifying.findings import Report
from nasdsl.verifying.record import Record

_PARTS = {"train": "training examples", "test": "test examples", "split": "division into two parts"}


def verify_data(record: Record, home: Path, data: str, data_dir: str, report: Report) -> bool:
    """Loads the data as the run did and compares; returns whether they are at hand.

    Args:
        home: the directory that the run is of.
        data, data_dir: as of the script.
    """
    from nasdsl.runtime.standalone.basics import Mistake

    absent = _absent(data, data_dir)
    if absent is not None:
        report.unknown.append(f"data: {absent}")
        return False
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            now = _digests(record, home, data, data_dir)
    except Exception as error:  # noqa: BLE001 - what a user's own function raises is the user's
        said = str(error) if isinstance(error, Mistake) else f"{type(error).__name__}: {error}"
        report.unknown.append(f"data: they cannot be loaded ({said})")
        return False
    other = [part for part, digest in now.items() if record.data.get(part) != digest]
    for part in other:
        report.add(
            "data",
            f"the {_PARTS.get(part, part)} of {data} are not those of the run",
            matters=True,
            cure="name the run's own with --data and --data-dir",
        )
    if not other:
        report.good.append(f"data: {data}, the run's own ({', '.join(now)})")
    return True


def _absent(name: str, root: str) -> str | None:
    """Why data are not loaded; None where they are at hand."""
    if name == "digits":
        return None
    if name == "cifar10":
        return _no_cifar10(root)
    if name.startswith("imagefolder:"):
        path = name.partition(":")[2]
        return None if Path(path).is_dir() else f"there is no folder {path}"
    return None


def _no_cifar10(root: str) -> str | None:
    from nasdsl.runtime.standalone.basics import Mistake, ensure_torchvision

    try:
        ensure_torchvision()
        from torchvision.datasets import CIFAR10

        CIFAR10(root, download=False)
    except Mistake as mistake:
        return str(mistake)
    except RuntimeError:
        return f"cifar10 is not in {root}, or not whole (--data-dir names another folder)"
    return None


def _digests(record: Record, home: Path, name: str, root: str) -> dict[str, str]:
    from nasdsl.runtime.search.bilevel import search_streams
    from nasdsl.runtime.standalone.data import load_data

    declares = home / "search.py" if record.script == "search.py" else record.model
    declared, classes = _constant(declares, "INPUT"), _constant(declares, "CLASSES")
    settings, workers = dict(record.identity), record.arguments.get("workers")
    how = workers if isinstance(workers, int) else 2, str(settings["loader"]), str(settings["interpolation"])
    loaded = load_data(name, tuple(declared), int(classes), root, *how)
    found = loaded.digests()
    if "split" in record.data:
        train, _ = search_streams(loaded, settings, int(settings["seed"]))
        found["split"] = train.split.digest
    return {part: found[part] for part in record.data if part in found}


def _constant(path: Path, name: str) -> Any:
    """What a generated file sets a name to, read and not run. Raises ValueError, OSError."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == [name]:
            return ast.literal_eval(node.value)
    raise ValueError(f"{path} sets no {name}")


__all__ = ["verify_data"]
