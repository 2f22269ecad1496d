"""Sub-spaces as files, and as what a program gives.

Takes a checked space and a file's text, or architectures, or values; returns a `Subspace`. Invariant: what is
written reads back as itself; options stand by their names, so that a space whose options were reordered reads
the same set or refuses; whatever a file holds, what is wrong with it is a `UserError` (NAS404).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.space.architecture import check_choices, checked_value
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice
from nasdsl.subspace.codes import ABSENT, Codes
from nasdsl.subspace.value import Balls, Members, Restriction, Subspace

if TYPE_CHECKING:
    from nasdsl.subspace.codes import Rows

FORM = (
    'a file of `Subspace.write` is JSON: {"space": ..., "fingerprint": ..., "params": ..., '
    '"subspace": {"kind": "members", "balls", "restriction" or "both", ...}}'
)
MAX_PARTS = 64
"""Sub-spaces in one intersection of a file."""


def write(sub: Subspace, path: str | Path) -> None:
    """Writes a file. Raises UserError (NAS005)."""
    try:
        Path(path).write_bytes(text_of(sub).encode("utf-8"))
    except OSError as error:
        raise UserError.plain("NAS005", f"{path} cannot be written: {error.strerror}") from None


def text_of(sub: Subspace) -> str:
    """What a file says; the same sub-space gives the same text."""
    space = sub.space
    head = {"space": space.name, "fingerprint": space.fingerprint, "params": dict(space.parameters)}
    return _laid_out({**head, "subspace": sub.record()}) + "\n"


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON with a line for every key and for every row."""
    inner = indent + " "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(k)}: {_laid_out(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return "[\n" + ",\n".join(f"{inner}{_laid_out(v, inner)}" for v in value) + f"\n{indent}]"
    return json.dumps(value)


def read_subspace(path: str | Path, space: CheckedSpace) -> Subspace:
    """The sub-space of a file.

    Raises:
        UserError: NAS404 for one that does not fit the space or is none; NAS005 for one that cannot be read.
    """
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise UserError.plain(
            "NAS005",
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}",
            help="`nasdsl shrink` writes one where it leaves something out; so does `Subspace.write`",
        ) from None
    except ValueError:
        raise _wrong(f"{path} is not text", FORM) from None
    return read_named(text, path, space)


def read_named(text: str, path: str | Path, space: CheckedSpace) -> Subspace:
    """Reads the text of a file, which is named where it is wrong. Raises UserError (NAS404)."""
    try:
        return read_text(text, space)
    except UserError as error:
        problem = error.diagnostics[0]
        raise _wrong(f"{path}: {problem.message}", problem.help) from None


def read_text(text: str, space: CheckedSpace) -> Subspace:
    """Reads `text_of`. Raises UserError (NAS404, NAS310)."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong("this is not JSON, or not all of it", FORM) from None
    for name, kind in (("space", str), ("fingerprint", str), ("params", dict), ("subspace", dict)):
        if not isinstance(data, dict) or not isinstance(data.get(name), kind):
            raise _wrong(f"this is no sub-space: it has no `{name}`", FORM)
    try:
        return from_record(data["subspace"], space)
    except UserError as error:
        problem = error.diagnostics[0]
        if data["fingerprint"] == space.fingerprint or problem.code != "NAS404":
            raise
        made = f"it was made for `{data['space']}` ({data['fingerprint']}), not for `{space.name}`"
        here = "" if data["space"] != space.name else f" as it is now ({space.fingerprint})"
        raise _wrong(
            f"{problem.message}; {made}{here}",
            "load the space that it was made for, with the same parameters",
        ) from None


def from_record(record: Mapping[str, Any], space: CheckedSpace) -> Subspace:
    """Reads `Subspace.record`. Raises UserError (NAS404, NAS310)."""
    sub = _read(record, space, "subspace")
    if not sub.tally().high:
        raise _wrong("the sub-space has no member", "an empty one cannot be searched: widen it")
    return sub


def fitted(sub: Subspace, space: CheckedSpace) -> Subspace:
    """A sub-space as one of this space. Raises UserError (NAS404) where it does not fit."""
    return sub if sub.space.fingerprint == space.fingerprint else read_text(text_of(sub), space)


def _read(record: Any, space: CheckedSpace, place: str) -> Subspace:
    kind = record.get("kind") if isinstance(record, dict) else None
    if not isinstance(kind, str) or kind not in _READERS:
        raise _wrong(f"`{place}.kind` is none of {', '.join(_READERS)}", FORM)
    return _READERS[kind](record, space, place)


def _members(record: Mapping[str, Any], space: CheckedSpace, place: str) -> Subspace:
    return Members(space, _rows(record, space, place, "rows"))


def _balls(record: Mapping[str, Any], space: CheckedSpace, place: str) -> Subspace:
    radius = record.get("radius")
    if not isinstance(radius, int) or isinstance(radius, bool) or radius < 0:
        raise _wrong(f"`{place}.radius` is not an integer of 0 or more", FORM)
    return Balls(space, _rows(record, space, place, "seeds"), radius)


def _restriction(record: Mapping[str, Any], space: CheckedSpace, place: str) -> Subspace:
    allowed = record.get("allowed")
    if not isinstance(allowed, dict):
        raise _wrong(f"`{place}.allowed` is no object of decisions", FORM)
    return restriction(space, {p: _values(space, p, v, f"{place}.allowed") for p, v in allowed.items()})


def _intersection(record: Mapping[str, Any], space: CheckedSpace, place: str) -> Subspace:
    parts = record.get("parts")
    if not isinstance(parts, list) or not 1 < len(parts) <= MAX_PARTS:
        raise _wrong(f"`{place}.parts` is no list of 2 to {MAX_PARTS} sub-spaces", FORM)
    if any(isinstance(p, dict) and p.get("kind") == "both" for p in parts):
        raise _wrong(f"`{place}.parts` holds an intersection, whose parts belong here themselves", FORM)
    first, *rest = (_read(p, space, f"{place}.parts[{i}]") for i, p in enumerate(parts))
    for part in rest:
        first = first & part
    return first


_READERS: Mapping[str, Callable[[Mapping[str, Any], CheckedSpace, str], Subspace]] = {
    "members": _members,
    "balls": _balls,
    "restriction": _restriction,
    "both": _intersection,
}


def _rows(record: Mapping[str, Any], space: CheckedSpace, place: str, name: str) -> Rows:
    """The encodings that a file lists, each once and sorted."""
    import numpy as np

    codes = Codes(space.table)
    decisions, rows = record.get("decisions"), record.get(name)
    if not isinstance(decisions, dict):
        raise _wrong(f"`{place}.decisions` is no object of decisions", FORM)
    if not isinstance(rows, list) or not rows:
        raise _wrong(f"`{place}.{name}` is no list of encodings, or an empty one", FORM)
    legend = {p: _values(space, p, v, f"{place}.decisions") for p, v in decisions.items()}
    try:
        read = np.array(rows, np.int64)
    except (ValueError, TypeError, OverflowError):
        read = np.empty((0, 0), np.int64)
    # Floats and booleans would become integers without a word.
    if read.shape != (len(rows), len(legend)) or not all(_is_index(v) for row in rows for v in row):
        raise _wrong(f"`{place}.{name}` is no list of rows of {len(legend)} integers", FORM)
    found = np.full((len(rows), len(codes.values)), ABSENT, np.int16)
    columns = {d.path: i for i, d in enumerate(space.table.decisions)}
    for at, (path, values) in enumerate(legend.items()):
        mine = read[:, at]
        outside = np.flatnonzero((mine < ABSENT) | (mine >= len(values)))
        if len(outside):
            where = f"`{place}.{name}[{outside[0]}]`"
            raise _wrong(
                f"{where} names value {mine[outside[0]]} of `{path}`, which has {len(values)} here", FORM
            )
        column = columns[path]
        # The last entry is what -1 reads.
        meant = np.array([*(codes.index[column][v] for v in values), ABSENT], np.int16)
        found[:, column] = meant[mine]
    bad = np.flatnonzero(~codes.complete(found))
    if len(bad):
        where = f"`{place}.{name}[{bad[0]}]`"
        try:
            check_choices(space.table, codes.choices(found[bad[0]]))
        except UserError as error:
            raise _wrong(f"{where}: {error.diagnostics[0].message}", FORM) from None
    return codes.unique(found)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _values(space: CheckedSpace, path: str, values: Any, place: str) -> list[Choice]:
    """The values that a file names for one decision."""
    known = space.table.by_path
    if path not in known:
        raise _wrong(
            f"the space has no decision `{path}`, which `{place}` names{did_you_mean(path, known)}",
            "`nasdsl sample` shows the decisions of a space",
        )
    if not isinstance(values, list):
        raise _wrong(f"`{place}.{path}` is no list of values", FORM)
    found: list[Choice] = []
    for value in values:
        inputs = isinstance(value, list) and all(isinstance(v, str) for v in value)
        if not isinstance(value, str) and not inputs:
            raise _wrong(f"`{place}.{path}` holds {json.dumps(value)[:60]}, which is no value", FORM)
        found.append(_value(space, path, value))
    if len(set(found)) < len(found):
        raise _wrong(f"`{place}.{path}` names a value twice", FORM)
    return found


def _value(space: CheckedSpace, path: str, value: Any) -> Choice:
    known = space.table.by_path
    if path not in known:
        _fail(f"the space has no decision `{path}`{did_you_mean(path, known)}")
    try:
        return checked_value(known[path], value)
    except UserError as error:
        _fail(error.diagnostics[0].message)


def _fail(message: str) -> NoReturn:
    raise _wrong(message, "`nasdsl sample` shows decisions and options of a space") from None


# --- from programs -------------------------------------------------------------


def members(space: CheckedSpace, many: Iterable[Mapping[str, Any]]) -> Members:
    """An explicit set. Raises UserError (NAS401 for what is no encoding, NAS404 for none at all)."""
    return Members(space, _checked(space, many))


def balls(space: CheckedSpace, seeds: Iterable[Mapping[str, Any]], radius: int) -> Balls:
    """Everything within some edits of a seed. Raises UserError as `members`."""
    if not _is_index(radius) or radius < 0:
        raise _wrong(f"a radius is an integer of 0 or more, not {radius!r}", "0 is the seeds alone")
    return Balls(space, _checked(space, seeds), radius)


def _checked(space: CheckedSpace, many: Iterable[Mapping[str, Any]]) -> Rows:
    codes = Codes(space.table)
    rows = codes.rows([check_choices(space.table, one) for one in many])
    if not len(rows):
        raise _wrong("a sub-space needs an architecture to begin with", "give one or more")
    return codes.unique(rows)


def restriction(space: CheckedSpace, allowed: Mapping[str, Sequence[Any]]) -> Restriction:
    """Some values of some decisions only. Raises UserError (NAS404)."""
    codes = Codes(space.table)
    found: dict[int, tuple[int, ...]] = {}
    meant = {path: {_value(space, path, v) for v in values} for path, values in allowed.items()}
    for column, (decision, values) in enumerate(zip(space.table.decisions, codes.values, strict=True)):
        if decision.path in meant and len(meant[decision.path]) < len(values):
            found[column] = tuple(i for i, v in enumerate(values) if v in meant[decision.path])
    return Restriction(space, found)


def _wrong(message: str, cure: str | None) -> UserError:
    return UserError.plain("NAS404", message, help=cure)
