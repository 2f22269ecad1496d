"""Small tables for the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nasdsl.errors import UserError

SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
CONV = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
POOL = "|avg_pool_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
SMALL = f"arch,accuracy,latency_ms\n{SKIP},54.3,1.5\n{CONV},90,4\n{POOL},71.25,\n"


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> str:
    """The path of a file with this text."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return str(path)


def cell(text: str) -> str:
    """A cell in quotation marks."""
    return '"' + text.replace('"', '""') + '"'


def sheet(rows: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> str:
    """A CSV text."""
    lines = [",".join(["arch", *names])]
    lines += [",".join([cell(a), *("" if v is None else repr(v) for v in row)]) for a, row in rows.items()]
    return "\n".join(lines) + "\n"


def told(error: UserError) -> tuple[str, int | None]:
    """The code of an error and the line it points at."""
    (diagnostic,) = error.diagnostics
    return diagnostic.code, None if diagnostic.primary is None else diagnostic.primary.span.line
