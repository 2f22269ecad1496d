"""Predicted and measured time of search steps on this device.

    python benchmarks/plan_time.py [--device cpu] [--json FILE]

Medians of a few steps; a weight step and an architecture step together. The device is measured anew
before each supernet, because others may be at work on it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from statistics import median

import attrs
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nasdsl
from benchmarks.plan_memory import CASES
from nasdsl.planning.calibrate import calibrate
from nasdsl.planning.time import predict_time
from nasdsl.runtime.search import bilevel


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, method, params, batch in CASES:
        space = nasdsl.load(name, **params)
        program = space.compile(method)
        net = program.supernet(seed=0).to(args.device)
        settings = program.compilation.settings
        weights = bilevel.weight_optimizer(net, settings)
        variables = bilevel.variable_optimizer(net, settings)
        x = torch.randn(batch, *space.checked.input.evaluate({}), device=args.device)
        y = torch.randint(0, space.checked.classes, (batch,), device=args.device)
        rates = calibrate(args.device)
        found = []
        for step in range(6):
            begun = time.perf_counter()
            bilevel.weight_step(net, (x, y), weights)
            bilevel.architecture_step(net, (x, y), variables)
            if step:
                found.append(time.perf_counter() - begun)
        measured, predicted = median(found), predict_time(program.compilation, batch, rates).pair
        rows.append(
            {
                "space": name,
                "method": method,
                "params": params,
                "batch": batch,
                "measured": measured,
                "predicted": predicted,
                "error": predicted / measured - 1,
                "rates": attrs.asdict(rates),
                "raw": found,
            }
        )
        print(
            f"{name:13} {method:8} {params!s:52} B={batch:<3} measured {measured:7.3f} s  "
            f"predicted {predicted:7.3f} s  {100 * rows[-1]['error']:+6.1f} %",
            flush=True,
        )
    errors = [abs(r["error"]) for r in rows]
    print(f"median error {100 * median(errors):.0f} %, worst {100 * max(errors):.0f} %")
    if args.json:
        machine = {"python": platform.python_version(), "torch": torch.__version__, "device": args.device}
        summary = {"median": median(errors), "worst": max(errors)}
        args.json.write_text(json.dumps({"machine": machine, **summary, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
