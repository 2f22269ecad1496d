"""Time of `nasdsl compile`: shipped spaces, and DARTS spaces of growing depth and number of edges.

    python benchmarks/compile_speed.py [--json FILE]

`command` rows are whole commands, interpreter included, wall clock. The others are processor time of
loading, compiling and generating every file in one process, medians of three.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from report import surroundings, table, write_json

import nasdsl

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (("darts", "toponas"), ("darts", "darts"), ("nasbench201", "toponas"), ("hierarchical", "darts"))
CELLS = (8, 20, 50, 100, 200)
NODES = (2, 4, 6, 8, 12)


def command(space: str, method: str, folder: Path) -> float:
    """Seconds of one command."""
    begun = time.perf_counter()
    line = ["-m", "nasdsl", "compile", space, "--method", method, "-o", str(folder / f"{space}-{method}")]
    subprocess.run([sys.executable, *line], check=True, capture_output=True)
    return time.perf_counter() - begun


def process(path: Path | str, **parameters: int) -> float:
    """Processor seconds from the file to the text of every file."""
    begun = time.process_time()
    nasdsl.load(path, **parameters).compile("toponas").files()
    return time.process_time() - begun


def with_nodes(nodes: int, folder: Path) -> Path:
    """`spaces/darts.nas` with cells of so many nodes."""
    text = (ROOT / "spaces" / "darts.nas").read_text("utf-8")
    path = folder / f"darts{nodes}.nas"
    text = text.replace("n[1..4]", f"n[1..{nodes}]").replace("  notation darts_genotype\n", "")
    path.write_text(text, "utf-8")
    return path


def measure(folder: Path) -> list[dict[str, Any]]:
    """One row a figure."""
    rows: list[dict[str, Any]] = []
    for space, method in COMMANDS:
        rows.append(
            {
                "what": f"command {space} {method}",
                "size": "",
                "seconds": median(command(space, method, folder) for _ in range(3)),
            }
        )
    for cells in CELLS:
        seconds = median(process("darts", layers=cells) for _ in range(3))
        rows.append({"what": "cells", "size": cells, "seconds": seconds})
    for nodes in NODES:
        path, edges = with_nodes(nodes, folder), nodes * (nodes + 3) // 2
        seconds = median(process(path) for _ in range(3))
        rows.append({"what": f"edges a cell ({nodes} nodes)", "size": edges, "seconds": seconds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "compile_speed.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    shown = [
        (
            r["what"],
            str(r["size"]),
            f"{r['seconds']:.2f}",
            f"{1000 * r['seconds'] / r['size']:.1f}" if r["size"] else "",
        )
        for r in rows
    ]
    print(table(("what", "size", "seconds", "ms each"), shown))
    write_json(args.json, {"benchmark": "compile_speed", "surroundings": surroundings("cpu"), "rows": rows})


if __name__ == "__main__":
    main()
