"""Paths of a supernet of single paths: those that were judged, and the board of the best while it trained.

Takes a run, returns pictures and tables. Invariant: the front is what the run wrote of it; the picture has every
path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nasdsl.drawing.canvas import Canvas
from nasdsl.drawing.colours import LIGHT, NAMES
from nasdsl.drawing.epochs import Line, draw_epochs
from nasdsl.drawing.pages import UNKNOWN, Table
from nasdsl.drawing.points import draw_points
from nasdsl.reporting.curves import EpochFigure, legend_of, word
from nasdsl.reporting.folder import Record, Run, number

COSTS = {"macs": "multiply-accumulates", "params": "parameters", "latency": "microseconds"}
BEST = 10


def judged_paths(run: Run) -> dict[str, Any] | None:
    """The picture and the tables; None where no path was judged."""
    cost = next((c for c in COSTS if run.judged and number(run.judged[0].get(c)) is not None), None)
    if cost is None:
        return None
    paths, best = ([j for j in part if _drawable(j, cost)] for part in (run.judged, run.front))
    if not paths:
        return None
    front = {_key(j) for j in best}
    points = [(float(j[cost]), float(j["accuracy"]), _key(j) in front) for j in paths]
    ranked = sorted(paths, key=lambda j: (-float(j["accuracy"]), float(j[cost])))
    count = "1 path was" if len(paths) == 1 else f"{len(paths):,} paths were"
    return {
        "words": f"{count} judged; the best has {100 * float(ranked[0]['accuracy']):.2f} % on held-out data and "
        f"{ranked[0][cost]:,} {COSTS[cost]}.",
        "picture": Markup(draw_points(points, COSTS[cost], Canvas(NAMES))),
        "front": _table(best, cost),
        "best": _table(ranked[:BEST], cost),
    }


def _drawable(item: Record, cost: str) -> bool:
    """Whether a record has numbers: a damaged file may hold others."""
    return number(item.get(cost)) is not None and number(item.get("accuracy")) is not None


def board_figures(run: Run) -> list[EpochFigure]:
    """The best and the worst path on the board at every epoch; none for a method without one."""
    boards = [e.get("board") or [] for e in run.log]
    if not any(boards):
        return []
    accuracies = [[v for b in board if (v := number(b.get("accuracy"))) is not None] for board in boards]
    epochs = [e["epoch"] for e in run.log]
    lines = [
        Line(
            name, colour, tuple((e, pick(a) if a else None) for e, a in zip(epochs, accuracies, strict=True))
        )
        for name, colour, pick in (("best", LIGHT["accent"], max), ("worst", LIGHT["second"], min))
    ]
    chart = draw_epochs(lines, "Accuracy on the board by epoch", epochs, word(" %"))
    texts = [
        f"{len(a)} {'path' if len(a) == 1 else 'paths'}, {min(a):.4g} % to {max(a):.4g} %"
        if a
        else f"board empty {UNKNOWN}"
        for a in accuracies
    ]
    note = "Of the best paths so far, on the minibatch that trained each."
    return [EpochFigure("board", "Board", note, legend_of(lines), chart, tuple(texts))]


def _key(item: Record) -> str:
    return json.dumps(item["choices"], sort_keys=True)


def _table(items: Sequence[Record], cost: str) -> Table:
    rows = []
    for i, item in enumerate(items, 1):
        choices: Mapping[str, Any] = item["choices"]
        words = ", ".join(f"{p} {_word(c)}" for p, c in choices.items())
        rows.append((f"{i}", f"{100 * float(item['accuracy']):.2f} %", f"{item[cost]:,}", words))
    return Table(("", "accuracy", COSTS[cost], "choices"), rows, frozenset({3}))


def _word(choice: object) -> str:
    return "+".join(map(str, choice)) if isinstance(choice, list) else str(choice)


__all__ = ["COSTS", "board_figures", "judged_paths"]
