"""What a path of a supernet costs beside the stand-alone network of the same architecture.

    python benchmarks/path_speed.py --json benchmarks/results/path_speed_cpu.json

For every space a few paths are drawn. A step is zeroing, forward and backward pass of the cross-entropy.
Supernet and network alternate in one process, the ratio is taken pair by pair, the table shows medians.
Switching is the time of `set_architecture`; operators are those that PyTorch runs while it happens.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from report import surroundings, table, write_json
from torch.utils._python_dispatch import TorchDispatchMode

import nasdsl

SPACES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cream", {"resolution": 64, "depths": [1, 2, 2, 2, 1], "classes": 10}),
    ("nasbench201", {"N": 1}),
    ("ofa", {"classes": 10}),
    ("nats_size", {}),
    ("residual_mlp", {}),
)


class Operators(TorchDispatchMode):
    """Counts what PyTorch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def measured(name: str, parameters: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one space."""
    space = nasdsl.load(name, **parameters)
    program = space.compile("spos")
    net = program.supernet().to(args.device)
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    switches, ratios, steps, operators = [], [], [], 0
    for arch in space.sample(args.paths, seed=0):
        started = time.perf_counter()
        net.set_architecture(arch)
        switches.append(time.perf_counter() - started)
        with Operators() as counted:
            net.set_architecture(arch)
        operators += counted.count
        alone = program.network(arch).to(args.device)
        shape = [d.settle(arch.choices).evaluate({}) for d in space.checked.input.dims]
        x = torch.randn(args.batch, *shape, device=args.device)
        y = torch.randint(0, space.checked.classes, (args.batch,), device=args.device)

        def step(model: torch.nn.Module, x: torch.Tensor = x, y: torch.Tensor = y) -> float:
            if x.is_cuda:
                torch.cuda.synchronize()
            begun = clock()
            model.zero_grad(set_to_none=True)
            F.cross_entropy(model(x), y).backward()
            if x.is_cuda:
                torch.cuda.synchronize()
            return clock() - begun

        for model in (net, alone):
            step(model)
        each = [(step(net), step(alone)) for _ in range(args.repeats)]
        ratios.append(median(a / b for a, b in each))
        steps.append((median(a for a, _ in each), median(b for _, b in each)))
    return {
        "space": name,
        "parameters": parameters,
        "switch_us": [1e6 * s for s in switches],
        "operators": operators,
        "steps_s": steps,
        "ratios": ratios,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--paths", type=int, default=8)
    add("--repeats", type=int, default=7)
    add("--batch", type=int, default=32)
    add("--device", default="cpu")
    add("--threads", type=int, default=1)
    add("--clock", choices=("cpu", "wall"), default="cpu", help="cpu with one thread ignores other load")
    add("--spaces", nargs="+", choices=[n for n, _ in SPACES], default=[n for n, _ in SPACES])
    add("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = [measured(n, p, args) for n, p in SPACES if n in args.spaces]
    header = ("space", "switch", "operators", "path", "alone", "path / alone", "worst")
    rows = [
        (
            f["space"],
            f"{median(f['switch_us']):.0f} us",
            str(f["operators"]),
            f"{1e3 * median(a for a, _ in f['steps_s']):.1f} ms",
            f"{1e3 * median(b for _, b in f['steps_s']):.1f} ms",
            f"{median(f['ratios']):.2f}",
            f"{max(f['ratios']):.2f}",
        )
        for f in found
    ]
    print(table(header, rows))
    if args.json is not None:
        shown = {k: v for k, v in vars(args).items() if k != "json"}
        write_json(
            args.json,
            {"benchmark": "path_speed", **surroundings(args.device), "arguments": shown, "rows": found},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
