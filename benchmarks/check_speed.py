"""Time of `nasdsl check`: shipped spaces, and generated files of growing length.

    python benchmarks/check_speed.py [--json FILE]

Medians of five runs in one process, the interpreter's start not included; `space` is a whole
command, interpreter included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nasdsl.diagnostics import Source  # noqa: E402
from nasdsl.space.checked import check_source  # noqa: E402


def generated(lines: int) -> str:
    """A valid file of so many lines: operations, sets and cells, each used by a step."""
    groups = lines // 5
    items, steps = [], []
    for i in range(groups):
        items += [
            f"  op op{i}(k; stride=1) = relu >> conv(k, 8, stride=stride) >> bn",
            f"  set set{i} = {{ op{i}(1), op{i}(3), id }}",
            f"  cell cell{i}(x) {{ n[1..2] = sum of choose 1.. from (x, earlier) via choose set{i}",
            "    return n[2] }",
        ]
        steps.append(f"    s{i}: cell{i}")
    body = "\n".join(
        [*items, "  network {", "    stem: conv(3, 8)", *steps, "    head: global_pool >> linear(10)", "  }"]
    )
    return f"space generated {{\n  input image(3, 16)\n{body}\n}}\n"


def timed(text: str) -> float:
    found = []
    for _ in range(5):
        begun = time.perf_counter()
        space, problems = check_source(Source("generated.nas", text))
        found.append(time.perf_counter() - begun)
        assert space is not None, problems.items[:3]
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for lines in (250, 500, 1000, 2000, 3000, 5000):
        text = generated(lines)
        seconds = timed(text)
        real = text.count("\n")
        rows.append({"lines": real, "seconds": seconds, "ms_per_line": 1000 * seconds / real})
        print(f"{real:6} lines  {seconds:7.3f} s  {1000 * seconds / real:.3f} ms a line", flush=True)
    spaces = {}
    for path in sorted(ROOT.glob("spaces/*.nas")):
        runs = []
        for _ in range(3):
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "nasdsl", "check", str(path)],
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
            runs.append(time.perf_counter() - begun)
        spaces[path.stem] = median(runs)
        print(f"{path.stem:14} {spaces[path.stem]:.3f} s", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"generated": rows, "spaces": spaces}, indent=1) + "\n")


if __name__ == "__main__":
    main()
