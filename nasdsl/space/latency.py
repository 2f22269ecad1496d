"""Latency tables: how long each operation takes on one device.

Takes paths and JSON text, returns a `LatencyTable`. Invariant: times are integers, in
microseconds, and positive; a table says what it was measured on, and one that does not say it
is refused (NAS605).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from nasdsl.errors import UserError
from nasdsl.records import record_of

FORMAT = "nasdsl-latency-1"
UNIT = "us"
UNITS: Mapping[str, int] = {"us": 1, "ms": 1_000, "s": 1_000_000}
"""Units of a bound, in microseconds."""
MOST = 10**12
"""Microseconds of an entry: eleven days, of which sums are no danger."""


@attrs.frozen
class Machine:
    """What a table was measured on; two tables can be compared, or continued, where all of it agrees.

    Attributes:
        device: `cpu` or `cuda`.
        name: of the processor or the accelerator, as it names itself.
        threads: that PyTorch computes with.
        precision: `fp32` or `bf16`.
        batch: examples at once.
        torch: its version.
        layout: `channels_last`, or `contiguous` for a space whose networks may not be in channels last.
    """

    device: str
    name: str
    threads: int
    precision: str
    batch: int
    torch: str
    layout: str

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads != 1 else ''}" if self.device == "cpu" else ""
        return (
            f"{self.name} ({self.device}{threads}, {self.precision}, batch {self.batch}, torch {self.torch})"
        )


@attrs.frozen(slots=False)
class LatencyTable:
    """Times of operations by what they are and the shapes of their inputs.

    Attributes:
        path: the file.
        machine: what it was measured on.
        entries: microseconds by key (`nasdsl.space.units.Unit.key`).
        constant: microseconds that a whole network takes beside its operations.
        scale: how much longer an operation takes within a network than by itself.
        unfinished: how often an entry was measured, for those that are to be measured again.
        error: predicted against measured times of whole networks; empty until they are measured.
    """

    path: str
    machine: Machine
    entries: Mapping[str, int] = attrs.field(factory=dict, repr=False)
    constant: int = 0
    scale: float = 1.0
    error: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    unfinished: Mapping[str, int] = attrs.field(factory=dict, repr=False)

    def with_entry(self, key: str, time: int, rounds: int) -> LatencyTable:
        """The table after one more measurement of an entry, of `rounds`; the least counts."""
        times = self.unfinished.get(key, 0) + 1
        entries = {**self.entries, key: min(time, self.entries.get(key, time))}
        unfinished = {k: v for k, v in self.unfinished.items() if k != key}
        if times < rounds:
            unfinished[key] = times
        return attrs.evolve(self, entries=entries, unfinished=unfinished, error={})

    def price(self, key: str) -> int | None:
        """Microseconds of an operation within a network, scaled and rounded; None for one that is not there."""
        found = self.entries.get(key)
        return None if found is None else round(found * self.scale)

    def text(self) -> str:
        """The file, an entry a line."""
        head = {
            "format": FORMAT,
            "unit": UNIT,
            **attrs.asdict(self.machine),
            "fit": {"constant": self.constant, "scale": self.scale},
            "error": dict(self.error),
        }
        if self.unfinished:
            head["unfinished"] = dict(sorted(self.unfinished.items()))
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
        entries = ",\n".join(f"    {json.dumps(k)}: {v}" for k, v in sorted(self.entries.items()))
        lines.append(f'  "entries": {{\n{entries}\n  }}' if entries else '  "entries": {}')
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def write(self) -> None:
        """Writes the file whole or not at all. Raises OSError."""
        beside = f"{self.path}.part"
        Path(beside).write_text(self.text(), "utf-8")
        os.replace(beside, self.path)


def read_table(path: str | Path) -> LatencyTable:
    """Reads a table.

    Raises:
        UserError: NAS605 for a file that cannot be read or is no table.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _bad(
            path, reason.lower(), f"measure it: nasdsl latency FILE --device cpu -o {Path(path).name}"
        ) from None
    try:
        data = record_of(text, dict)
    except ValueError as error:
        raise _bad(path, str(error)) from None
    if data.get("format") != FORMAT:
        raise _bad(path, f'it does not say `"format": "{FORMAT}"`')
    if data.get("unit") != UNIT:
        raise _bad(path, f"its times are not in microseconds (`{UNIT}`)")
    kinds = {name: int if name in ("threads", "batch") else str for name in attrs.fields_dict(Machine)}
    for name, kind in kinds.items():
        if not isinstance(data.get(name), kind):
            raise _bad(path, f"`{name}` is missing or of the wrong kind")
    entries, fit, differs = data.get("entries"), data.get("fit", {}), data.get("error", {})
    if not isinstance(entries, dict) or not all(_whole(v) and 0 < v < MOST for v in entries.values()):
        raise _bad(path, "its entries are not all positive whole numbers of microseconds")
    unfinished = data.get("unfinished", {})
    if not all(isinstance(part, dict) for part in (fit, differs, unfinished)):
        raise _bad(path, "`fit`, `error` or `unfinished` is no object")
    constant, scale = fit.get("constant", 0), fit.get("scale", 1.0)
    fits = _whole(constant) and 0 <= constant < MOST and isinstance(scale, (int, float)) and 0 < scale < 1e6
    if not fits:
        raise _bad(path, "`fit` needs a `constant` of 0 or more and a positive `scale`")
    machine = Machine(**{name: data[name] for name in kinds})
    return LatencyTable(str(path), machine, entries, constant, float(scale), differs, unfinished)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(path: str | Path, why: str, cure: str | None = None) -> UserError:
    return UserError.plain(
        "NAS605",
        f"no latency table in {path}: {why}",
        help=cure or "measure it anew with `nasdsl latency`, under another name or with --restart",
    )


__all__ = ["FORMAT", "UNITS", "LatencyTable", "Machine", "read_table"]
