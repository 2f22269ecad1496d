"""Where exported files go.

Takes paths, refuses or moves. Invariant: nothing that an export is made of, no file of a run or of a compiled
directory and no page of somebody's own is written over; whether every file can be where it is wanted is looked at
before the first is moved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nasdsl.codegen.lock import LOCK
from nasdsl.errors import UserError
from nasdsl.exporting.card import replaceable
from nasdsl.exporting.formats import FORMATS, Format, weights_of
from nasdsl.records import read_record

if TYPE_CHECKING:
    from nasdsl.exporting.writing import Source

_ELSEWHERE = "-o names another file"
_OTHER_CARD = "--card FILE puts the card elsewhere, --no-card leaves it out"


def targets_of(target: Path, wanted: Sequence[Format], weighed: bool) -> dict[str, list[Path]]:
    """What is written, by format: its file and, of Python with weights, theirs."""
    known = next((f.suffix for f in FORMATS.values() if target.suffix == f.suffix), "")
    stem = target.name.removesuffix(known)
    found: dict[str, list[Path]] = {}
    for each in wanted:
        path = target.parent / (stem + each.suffix)
        found[each.name] = [path, weights_of(path)] if each.name == "py" and weighed else [path]
    return found


def refuse_taken(targets: Mapping[str, Sequence[Path]], page: Path | None, weights: Source | None) -> None:
    """Refuses what may not be written over.

    Args:
        page: the card, None for none.

    Raises:
        UserError: NAS801.
    """
    paths = [path for made in targets.values() for path in made]
    source = Path(weights) if isinstance(weights, (str, Path)) else None
    for path in paths:
        if path.is_dir():
            raise UserError.plain("NAS801", f"{path} is a folder", help=_ELSEWHERE)
        if source is not None and source.is_file() and path.exists() and path.samefile(source):
            raise UserError.plain("NAS801", f"{path} holds the weights that are exported", help=_ELSEWHERE)
        if path.exists() and (home := _finished_by(path)):
            raise UserError.plain("NAS801", f"{path} is a file of {home}: it stays", help=_ELSEWHERE)
    if page is None:
        return
    if page.resolve() in {path.resolve() for path in paths}:
        raise UserError.plain("NAS801", f"{page} is one of the exported files", help=_OTHER_CARD)
    _refuse_own(page)


def _finished_by(path: Path) -> str:
    """The run or the compiled directory that wrote a file, as its lock names it; "" for none."""
    full = path.resolve()
    for folder in (full.parent, full.parent.parent):
        try:
            lock = read_record(folder / LOCK, {"kind": str, "files": dict})
        except (OSError, ValueError):
            continue
        if full.relative_to(folder).as_posix() in lock["files"]:
            return f"the {'run' if lock['kind'] == 'run' else 'compiled directory'} {folder.name}"
    return ""


def _refuse_own(page: Path) -> None:
    """A page that no export wrote is somebody's own."""
    try:
        text = page.read_text("utf-8") if page.exists() else None
    except (OSError, ValueError):
        text = ""
    if text is not None and not replaceable(text):
        raise UserError.plain(
            "NAS801", f"{page} is there and was not written by an export: it stays", help=_OTHER_CARD
        )


def refuse_weights_beside(path: Path, source: str) -> None:
    """Source alone does not take the place of another network's, whose weights would be taken for its own.

    Raises:
        UserError: NAS801.
    """
    weights = weights_of(path)
    if not weights.exists():
        return
    try:
        same = path.read_text("utf-8") == source
    except (OSError, ValueError):
        same = False
    if not same:
        raise UserError.plain(
            "NAS801",
            f"{weights} lies beside {path.name} and would be taken for the weights of this network, which has none",
            help=f"{_ELSEWHERE}; or remove {weights.name}",
        )


def move(made: Sequence[Path], targets: Sequence[Path], text: str | None, page: Path | None) -> None:
    """Moves files to where they are wanted, those that others need first, and writes the card last.

    Raises:
        UserError: NAS005, naming the path that cannot be written.
        OSError: the folder of the card cannot be made.
    """
    # Source without its weights would load an earlier export's.
    order = sorted(zip(made, targets, strict=True), key=lambda pair: pair[1].suffix != ".safetensors")
    if page is None or text is None:
        _replace(order)
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=page.parent) as folder:
        card = Path(folder) / page.name
        card.write_text(text, "utf-8", newline="\n")
        _replace([*order, (card, page)])


def _replace(pairs: Sequence[tuple[Path, Path]]) -> None:
    for made, target in pairs:
        try:
            os.replace(made, target)
        except OSError as problem:
            raise UserError.plain(
                "NAS005", f"{target} cannot be written: {problem.strerror or problem}"
            ) from None


__all__ = ["move", "refuse_taken", "refuse_weights_beside", "targets_of"]
