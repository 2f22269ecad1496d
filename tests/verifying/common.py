"""What tests of verifying share: a space, a way to run scripts, and ways to change files and locks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasdsl.codegen.lock import LOCK, checksum_of
from nasdsl.verifying import Finding, Report
from tests.runtime.forks import ran

SMALL = """
space small {
  param C = 4
  input image(1, 8, 8)
  network { stem: choose { a: conv(3, C), b: conv(5, C) } head: global_pool >> linear(10) }
}
"""
LINE = ("--data", "digits", "--device", "cpu", "--limit-batches", "4", "--set", "batch_size=8")


def script(name: Path, *line: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What a script wrote, and how it ended."""
    return ran(cwd or Path.cwd(), str(name), *line)


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text("utf-8")
    path.write_text(change(before), "utf-8")
    assert path.read_text("utf-8") != before


def relock(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a lock and makes it fit its checksum again, as anybody can."""
    data = json.loads((folder / LOCK).read_text("utf-8"))
    del data["checksum"]
    change(data)
    (folder / LOCK).write_text(json.dumps({**data, "checksum": checksum_of(data)}) + "\n", "utf-8")


def of(report: Report, subject: str) -> Finding:
    """The one finding on a subject."""
    (finding,) = [f for f in report.findings if f.subject == subject]
    return finding


def _flip(data: bytes, place: float) -> bytes:
    at = int(len(data) * place)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "emptied": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "bit flipped": lambda data: _flip(data, 0.3),
    "another bit": lambda data: _flip(data, 0.71),
    "no text": lambda data: data[:40] + b"\xff\x00" + data[40:],
    "removed": lambda data: None,
}


def damage(path: Path, how: str) -> None:
    data = DAMAGES[how](path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
