"""Predicted and measured steps on single paths: peak memory and time, on the CPU.

    python benchmarks/plan_paths.py [--json FILE]

Memory as in `plan_memory.py`; of `spos` the step is on the largest path, which is what is predicted, of the
others the worst of a few steps. Time is the median of steps on random paths, beside rates measured here.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nasdsl
from benchmarks.plan_memory import held, peak_of
from nasdsl.planning.calibrate import calibrate
from nasdsl.planning.paths import extreme, predict_path_step, supernet_params
from nasdsl.planning.time import Rates
from nasdsl.runtime.paths.engine import PathEngine
from nasdsl.runtime.paths.sampling import Draw

CASES = [
    ("nats_size", "spos", {}, 16),
    ("nats_size", "sandwich", {}, 16),
    ("cream", "spos", {"resolution": 64, "depths": [1, 1, 1, 1, 1]}, 16),
    ("cream", "fairnas", {"resolution": 64, "depths": [1, 1, 1, 1, 1]}, 8),
    ("nasbench201", "spos", {"C": 8, "N": 1}, 32),
    ("nasbench201", "fairnas", {"C": 8, "N": 1}, 32),
    ("darts", "spos", {"C": 8, "layers": 5, "resolution": 32}, 16),
    ("residual_mlp", "sandwich", {}, 64),
]
FEW = 8


class _Only:
    """Draws one path for ever."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def next(self) -> list[Any]:
        return [dict(self.path)]


def engine_of(space: nasdsl.Space, method: str, batch: int) -> tuple[Any, PathEngine]:
    program = space.compile(method, settings={"batch_size": batch})
    net = program.supernet(seed=0)
    settings = program.compilation.settings
    draw = Draw(net.DECISIONS, 0, space.costs("macs").at, space.allows, space.draw_choices)
    engine = PathEngine(net, settings, draw, space.checked.classes)
    engine.begin(0)
    return program, engine


def measure(
    space: nasdsl.Space, method: str, batch: int, rates: Rates | None = None, timed: int = 20
) -> dict[str, float]:
    """One method on one space: bytes at the peak, and with `rates` seconds of a step."""
    program, engine = engine_of(space, method, batch)
    shape = tuple(d.evaluate({}) for d in space.checked.input.dims)
    x, y = torch.randn(batch, *shape), torch.randint(0, space.checked.classes, (batch,))
    predicted = predict_path_step(program.compilation, batch, rates)
    there = sum(p.numel() for p in engine.net.parameters())
    usual = engine.sampler
    if method == "spos":
        engine.sampler = _Only(extreme(space.checked.table, space.costs("macs"), 1))
    for parameter in engine.net.parameters():  # momentum of all, as after many steps
        parameter.grad = torch.zeros_like(parameter)
    engine.optimizer.step()
    engine.optimizer.zero_grad()
    engine.step((x, y), 0.0)
    base = held(engine.net, engine.optimizer) + x.numel() * x.element_size()
    peak = base + max(
        peak_of(lambda: engine.step((x, y), 0.0)) for _ in range(1 if method == "spos" else FEW)
    )
    found = {
        "supernet_params": there,
        "predicted_params": supernet_params(program.compilation),
        "measured": peak,
        "predicted": predicted.memory.peak,
        "error": predicted.memory.peak / peak - 1,
    }
    if rates is not None and predicted.time is not None:
        engine.sampler = usual
        taken = []
        for _ in range(timed):
            begun = time.perf_counter()
            engine.step((x, y), 0.0)
            taken.append(time.perf_counter() - begun)
        found |= {"seconds": median(taken), "predicted_seconds": predicted.time.weights}
        found["time_error"] = predicted.time.weights / median(taken) - 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rates = calibrate("cpu")
    rows = []
    for name, method, params, batch in CASES:
        row: dict[str, Any] = {"space": name, "method": method, "params": params, "batch": batch}
        row |= measure(nasdsl.load(name, **params), method, batch, rates)
        rows.append(row)
        print(
            f"{name:13} {method:9} B={batch:<3} params {row['predicted_params'] - row['supernet_params']:+d}  "
            f"measured {row['measured'] / 2**20:8.1f} MiB  {100 * row['error']:+6.1f} %   "
            f"{row['seconds']:.3f} s a step  {100 * row['time_error']:+6.1f} %",
            flush=True,
        )
    if args.json:
        machine = {"python": platform.python_version(), "torch": torch.__version__, "device": "CPU, fp32"}
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
