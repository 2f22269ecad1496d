"""What --deterministic costs: a step of a supernet with and without it, the two taking turns in one process.

    python benchmarks/deterministic.py [--device cuda] [--repeats N] [--json FILE]

A step is zeroing, forward and backward. What is compared on a CPU is `torch.use_deterministic_algorithms`, which also
fills new memory; on a GPU it chooses other kernels, too, and CUBLAS_WORKSPACE_CONFIG is set for both sides.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before a GPU is used

import torch
import torch.nn.functional as F
from report import surroundings, write_json

import nasdsl

CASES: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("nasbench201", "darts", {"N": 1, "C": 16}),
    ("darts", "toponas", {"layers": 5, "C": 8}),
)


def measure(space: str, method: str, params: dict[str, int], args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step on both sides."""
    net = nasdsl.load(space, **params).compile(method).supernet(seed=0).to(args.device).train()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((args.batch, 3, 32, 32), generator=generator).to(args.device)
    y = torch.randint(10, (args.batch,), generator=generator).to(args.device)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(args.repeats + 1):
        for deterministic in (False, True) if turn % 2 else (True, False):
            torch.use_deterministic_algorithms(deterministic)
            torch.backends.cudnn.benchmark = not deterministic
            begun = time.perf_counter()
            net.zero_grad(set_to_none=True)
            F.cross_entropy(net(x), y).backward()
            if x.is_cuda:
                torch.cuda.synchronize()
            if turn:  # the first is a warm-up
                seconds[deterministic].append(time.perf_counter() - begun)
    plain, strict = median(seconds[False]), median(seconds[True])
    return {"space": space, "method": method, **params, "plain_s": plain, "deterministic_s": strict}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [measure(*case, args) for case in CASES]
    for row in rows:
        ratio = row["deterministic_s"] / row["plain_s"] - 1
        print(f"{row['space']}, {row['method']}: {1e3 * row['plain_s']:.0f} ms, deterministic {ratio:+.1%}")
    if args.json:
        write_json(args.json, {**surroundings(args.device), "batch": args.batch, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
