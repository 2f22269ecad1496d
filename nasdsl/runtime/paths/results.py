"""What a search over single paths reads at its end and leaves behind.

Takes a run, a finder and plain data; writes files of the run. Invariant: the report says what
`log.jsonl`, `judged.json` and `architecture.json` hold and nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nasdsl.runtime.paths.finding import Finder, Judged
from nasdsl.runtime.paths.judging import Batch, Peeked
from nasdsl.runtime.paths.supernet import PathSupernet
from nasdsl.runtime.standalone.basics import WrongUse
from nasdsl.runtime.standalone.data import Stream
from nasdsl.runtime.standalone.run import Run


class Program(Protocol):
    """What a compiled program is asked for here."""

    def architecture(self, found: Mapping[str, Any]) -> Any: ...

    def draw_points(self, points: Sequence[tuple[float, float, bool]], cost: str) -> str: ...


UNITS = {"macs": "multiply-accumulates", "params": "parameters", "latency": "microseconds"}
"""What an objective is counted in."""


def refuse(args: argparse.Namespace) -> None:
    """Raises WrongUse for options that single paths have no use for."""
    if args.compile:
        raise WrongUse("--compile: a path changes every step, and each would be compiled anew")
    if args.cuda_graph:
        raise WrongUse("--cuda-graph: a recorded step is of one path; this method draws another each step")


def describe(net: PathSupernet) -> str:
    """The supernet in a few words."""
    return f"supernet of {sum(p.numel() for p in net.parameters()):,} weights, {len(net.DECISIONS)} decisions"


def batches(
    train: Stream, held_out: Stream, settings: Mapping[str, Any], limit: int | None
) -> tuple[Sequence[Batch], Sequence[Batch]]:
    """Training batches for the batch norm of a path, and held-out ones that judge it, not augmented."""
    most = limit or max(train.batches, held_out.batches)
    calibration = min(settings["calibration_batches"], train.batches, most)
    judging = min(settings["judging_batches"] or held_out.batches, held_out.batches, most)
    return Peeked(train, calibration), Peeked(held_out, judging)


def resumed(finder: Finder, run: Run) -> Finder:
    """The finder as the last checkpoint of the run knows it, if it does."""
    state = run.load()
    if state is not None and "finder" in state["parts"]:
        finder.load_state_dict(state["parts"]["finder"])
    return finder


def ended(finder: Finder) -> str:
    """Why a finder asked for fewer paths than it might, in words; "" where it did not."""
    if not finder.exhausted or len(finder.judged) >= finder.budget:
        return ""
    return f"all {len(finder.judged):,} members of the sub-space were judged: the search ends early"


def write_front(run: Run, program: Program, finder: Finder, cost: str, every: bool) -> None:
    """Writes `judged.json`, `front.json`, `front.svg` and, with `every`, an architecture file a point."""
    front = finder.front()
    run.write("judged.json", json.dumps([_record(j, cost) for j in finder.judged], indent=1) + "\n")
    run.write("front.json", json.dumps([_record(j, cost) for j in front], indent=1) + "\n")
    points = [(float(j.cost), j.accuracy, j in front) for j in finder.judged]
    run.write("front.svg", program.draw_points(points, UNITS[cost]))
    if every:
        shutil.rmtree(run.folder / "front", ignore_errors=True)  # of a run that was begun anew
        (run.folder / "front").mkdir()
        for number, item in enumerate(front, 1):
            run.write(f"front/{number:02}.json", program.architecture(item.choices).to_json() + "\n")


def _record(item: Judged, cost: str) -> dict[str, Any]:
    return {"accuracy": item.accuracy, cost: item.cost, "choices": item.choices}


def write_report(run: Run, finder: Finder, cost: str) -> Path:
    """Writes `report.md` of a run; returns its path."""
    entries = [json.loads(line) for line in (run.folder / "log.jsonl").read_text("utf-8").splitlines()]
    found = json.loads((run.folder / "architecture.json").read_text("utf-8"))
    best, ranked = finder.best(), sorted(finder.judged, key=lambda j: (-j.accuracy, j.cost))
    lines = [
        f"# Search of {found['space']}",
        "",
        f"{len(entries)} epochs of the supernet, {len(finder.judged)} paths judged.",
        f"The best: accuracy {best.accuracy:.2%} with inherited weights, {best.cost:,} {UNITS[cost]}.",
        "",
        "![the architecture](architecture.svg)",
        "",
        "![accuracy against cost](front.svg)",
        "",
        "| decision | choice |",
        "|---|---|",
    ]
    for path, choice in found["choices"].items():
        lines.append(f"| `{path}` | {choice if isinstance(choice, str) else ', '.join(choice)} |")
    lines += ["", f"| rank | accuracy | {UNITS[cost]} |", "|---|---|---|"]
    lines += [f"| {i} | {j.accuracy:.2%} | {j.cost:,} |" for i, j in enumerate(ranked[:10], 1)]
    lines += ["", "| epoch | train loss |", "|---|---|"]
    lines += [f"| {e['epoch']} | {e['train_loss']:.4g} |" for e in entries]
    return run.write("report.md", "\n".join([*lines, ""]))


__all__ = [
    "batches",
    "describe",
    "ended",
    "refuse",
    "resumed",
    "write_front",
    "write_report",
]
