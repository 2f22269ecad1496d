"""Predicted and measured peak memory of search steps on the CPU.

    python benchmarks/plan_memory.py [--json FILE]

Measured with torch's allocator: every allocation and release that `torch.profiler` sees during one
weight step and one architecture step, summed in time order on top of what is held before. The
supernets are those of the methods, and a few with optimising passes left out or put in.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nasdsl
from nasdsl.planning.memory import predict_memory
from nasdsl.runtime.search import bilevel

CASES = [
    ("darts", "darts", {"C": 4, "layers": 5, "resolution": 16}, 16),
    ("darts", "toponas", {"C": 4, "layers": 5, "resolution": 16}, 16),
    ("darts", "darts", {"C": 8, "layers": 8, "resolution": 32}, 8),
    ("darts", "toponas", {"C": 8, "layers": 8, "resolution": 32}, 8),
    ("darts", "darts", {"C": 16, "layers": 3, "resolution": 32}, 16),
    ("nasbench201", "darts", {"C": 8, "N": 2}, 16),
    ("nasbench201", "toponas", {"C": 8, "N": 2}, 16),
    ("nasbench201", "darts", {"C": 16, "N": 5}, 8),
    ("hierarchical", "darts", {"C": 8, "N": 1}, 16),
    ("cream", "darts", {"resolution": 64, "depths": [1, 1, 1, 1, 1]}, 4),
]

VARIANTS = [
    ("darts", "darts", {"C": 8, "layers": 5, "resolution": 32}, 16, "+simplify"),
    ("darts", "darts", {"C": 8, "layers": 5, "resolution": 32}, 16, "-fan"),
    ("darts", "darts", {"C": 8, "layers": 5, "resolution": 32}, 16, "-normalise"),
    ("darts", "toponas", {"C": 8, "layers": 5, "resolution": 32}, 16, "-simplify"),
    ("darts", "darts", {"C": 8, "layers": 5, "resolution": 32}, 16, "-share,-normalise,-accumulate,-fan"),
    ("nasbench201", "darts", {"C": 8, "N": 2}, 64, "+simplify"),
    ("nasbench201", "toponas", {"C": 8, "N": 2}, 64, "-simplify,-fold"),
    ("hierarchical", "darts", {"C": 8, "N": 1}, 16, "+simplify"),
    ("cream", "darts", {"resolution": 64, "depths": [1, 1, 1, 1, 1]}, 16, "+simplify"),
    ("darts", "darts", {"C": 8, "layers": 5, "resolution": 32}, 16, "+checkpoint"),
]
"""Supernets with other passes than their method's."""


def peak_of(action: object) -> int:
    """Bytes above the start at the highest moment of an action."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        action()  # type: ignore[operator]
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda e: e.start_ns())
    now = peak = 0
    for event in events:
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def held(net: torch.nn.Module, *optimizers: torch.optim.Optimizer) -> int:
    """Bytes of parameters, buffers and optimiser states."""
    tensors = [*net.parameters(), *net.buffers()]
    for optimizer in optimizers:
        for state in optimizer.state.values():
            tensors += [v for v in state.values() if isinstance(v, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)


def measure(
    space: nasdsl.Space, method: str, batch: int, passes: str = "", settings: dict[str, object] | None = None
) -> dict[str, float]:
    """Both steps of one supernet, after one of each has made the optimisers' states."""
    program = space.compile(method, passes=passes, settings=settings)
    net = program.supernet(seed=0)
    chosen = program.compilation.settings
    weights, variables = bilevel.weight_optimizer(net, chosen), bilevel.variable_optimizer(net, chosen)
    parts = int(chosen["accumulate"])
    shape = space.checked.input.evaluate({})
    x, y = torch.randn(batch, *shape), torch.randint(0, space.checked.classes, (batch,))
    steps = {
        "weights": lambda: bilevel.weight_step(net, (x, y), weights, accumulate=parts),
        "variables": lambda: bilevel.architecture_step(net, (x, y), variables, accumulate=parts),
    }
    for step in steps.values():
        step()
    base = held(net, weights, variables) + x.numel() * x.element_size()
    peaks = {name: base + peak_of(step) for name, step in steps.items()}
    predicted = predict_memory(program.compilation, batch)
    measured = max(peaks.values())
    return {
        "measured": measured,
        "predicted": predicted.peak,
        "error": predicted.peak / measured - 1,
        "weights_step": peaks["weights"],
        "weights_error": predicted.weights_step / peaks["weights"] - 1,
        "variables_step": peaks["variables"],
        "variables_error": predicted.variables_step / peaks["variables"] - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, method, params, batch, passes in [*((*c, "") for c in CASES), *VARIANTS]:
        row = {"space": name, "method": method, "params": params, "batch": batch, "passes": passes}
        row.update(measure(nasdsl.load(name, **params), method, batch, passes))
        rows.append(row)
        print(
            f"{name:13} {method:8} {params!s:52} B={batch:<3} {passes:35} "
            f"measured {row['measured'] / 2**20:8.1f} MiB  "
            f"predicted {row['predicted'] / 2**20:8.1f} MiB  {100 * row['error']:+6.1f} %  "
            f"(w {100 * row['weights_error']:+.1f} %, a {100 * row['variables_error']:+.1f} %)",
            flush=True,
        )
    worst = max(abs(r["error"]) for r in rows)
    print(f"worst error {100 * worst:.1f} %")
    if args.json:
        machine = {"python": platform.python_version(), "torch": torch.__version__, "device": "CPU, fp32"}
        args.json.write_text(json.dumps({"machine": machine, "worst": worst, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
