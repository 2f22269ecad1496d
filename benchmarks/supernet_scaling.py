"""How the supernets scale: cells, width, nodes and batch, exact and simplified against unoptimised.

    python benchmarks/supernet_scaling.py [--device cuda] [--json FILE]

One parameter of the DARTS space is changed at a time around C=16, 5 cells, 4 nodes, batch 16. Times are
medians of a step (zeroing, forward, backward), the sides taking turns; see `supernet.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from compile_speed import with_nodes
from report import surroundings, table, write_json
from supernet import SIDES, interleaved, ours, saved_bytes

import nasdsl

CASES: tuple[tuple[str, dict[str, int]], ...] = (
    *(("cells", {"layers": n}) for n in (3, 5, 8, 14)),
    *(("width", {"C": n}) for n in (8, 16, 32)),
    *(("nodes", {"nodes": n}) for n in (2, 4, 6)),
    *(("batch", {"batch": n}) for n in (8, 16, 64)),
)
BASE = {"layers": 5, "C": 16, "nodes": 4, "batch": 16}


def measure(changed: dict[str, int], folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One row: medians and saved bytes of all sides."""
    case = {**BASE, **changed}
    space = nasdsl.load(with_nodes(case["nodes"], folder), layers=case["layers"], C=case["C"])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((case["batch"], 3, 32, 32), generator=generator)
    y = torch.randint(10, (case["batch"],), generator=generator)
    batch = (x.to(args.device, memory_format=torch.channels_last), y.to(args.device))
    sides = [ours(space, name, passes, [batch, batch], args) for name, passes in SIDES.items()]
    row: dict[str, Any] = dict(case)
    for side in sides:
        row[f"{side.name}_saved_bytes"] = saved_bytes(side)
    row["seconds"] = interleaved(sides, "step", args)
    for name, values in row["seconds"].items():
        row[f"{name}_step_s"] = sorted(values)[len(values) // 2]
    return row


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.space, args.cuda_graph = "darts", False
    torch.set_num_threads(args.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for what, changed in CASES:
            rows.append({"what": what, **measure(changed, Path(folder), args)})
            print(f"{what} {next(iter(changed.values()))}: done", file=sys.stderr, flush=True)
    shown = [
        (
            row["what"],
            str(next(iter(changed.values()))),
            *(f"{row[f'{side}_step_s'] * 1e3:.0f}" for side in SIDES),
            *(f"{row['plain_step_s'] / row[f'{side}_step_s']:.2f}" for side in ("exact", "simplified")),
            *(f"{row[f'{side}_saved_bytes'] / 2**20:.0f}" for side in SIDES),
        )
        for row, (_, changed) in zip(rows, CASES, strict=True)
    ]
    header = (
        "what",
        "value",
        *(f"{s} ms" for s in SIDES),
        "exact x",
        "simplified x",
        *(f"{s} MiB" for s in SIDES),
    )
    print(table(header, shown))
    kind = args.device.partition(":")[0]
    write_json(
        args.json or Path(__file__).parent / "results" / f"supernet_scaling_{kind}.json",
        {"benchmark": "supernet_scaling", "surroundings": surroundings(args.device), "rows": rows},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
