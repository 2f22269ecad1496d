"""Several runs on one page: what they reached, in what they differ, their curves, their architectures.

Takes runs, returns one HTML file. Invariant: as `nasdsl.reporting.page`; a run has the same colour and the same
dashes in every chart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from nasdsl.drawing.colours import PALETTE
from nasdsl.drawing.epochs import Line
from nasdsl.drawing.pages import UNKNOWN, Table, render
from nasdsl.reporting.comparison import Comparison, compared
from nasdsl.reporting.curves import (
    INSTRUMENTS,
    LEARNING,
    RETRAINING,
    EpochFigure,
    Measure,
    figure_of,
    legend_of,
    others,
    table_of,
)
from nasdsl.reporting.folder import Run, number
from nasdsl.reporting.opened import Opened, opened_all
from nasdsl.reporting.page import data_of, percent, size
from nasdsl.reporting.timeline import duration

Logs = Sequence[tuple[str, Sequence[Mapping[str, Any]]]]

_DIGEST = re.compile(r"[0-9a-f]{64}")
STATES = {"finished": "finished", "stopped": "stopped", "running": "not ended", "unknown": "not ended"}
RESULTS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "test_accuracy": ("test accuracy, retrained", percent),
    "retrained": ("retrained", str),
    "held_out_accuracy": ("held-out, supernet", percent),
    "inherited_accuracy": ("inherited weights", percent),
    "true_value": ("true value", lambda v: f"{v:.5g}"),
    "params": ("parameters", size),
    "macs": ("MACs", size),
    "epochs": ("epochs", str),
    "seconds": ("time running", duration),
    "state": ("state", lambda s: STATES[s]),
}
"""What is shown of a run, if any of them has it."""


def comparison_page(runs: Sequence[Run], allow_python: bool = False) -> str:
    """The page.

    Args:
        allow_python: whether the spaces may import what their `use python` names.
    """
    return page_of_all(opened_all(runs, allow_python))


def page_of_all(opened: Sequence[Opened]) -> str:
    """The page of runs that were opened."""
    runs = [o.run for o in opened]
    pictures = [o.picture(f"run{i}-") for i, o in enumerate(opened)]
    found = compared(opened)
    names = [r["name"] for r in found["runs"]]
    logs = [(name, run.log) for name, run in zip(names, runs, strict=True)]
    known = (*LEARNING, *INSTRUMENTS)
    figures = overlaid(logs, (*known, *_others(logs, known)), "c")
    retrained = [
        (name, run.retrained.log) for name, run in zip(names, runs, strict=True) if run.retrained is not None
    ]
    training = overlaid(retrained, (*RETRAINING, *_others(retrained, RETRAINING)), "r", colours=names)
    epochs = _epochs(logs)
    context: dict[str, Any] = {
        "title": f"{len(runs)} runs beside each other",
        "lead": f"{', '.join(names)}.",
        "results": results_table(found),
        "problems": [f"{r['name']}: {p}" for r in found["runs"] for p in r["problems"]],
        "keys": legend_of([_line(name, i, ()) for i, name in enumerate(names)]),
        "settings": [
            (heading, Table(("", *names), _rows(rows))) for heading, rows in found["settings"].items()
        ],
        "figures": figures,
        "figures_table": table_of([{"epoch": e} for e in epochs], figures),
        "last_index": len(epochs) - 1,
        "texts": Markup(data_of(epochs, figures)),
        "training": training,
        "training_table": table_of([{"epoch": e} for e in _epochs(retrained)], training),
        "pictures": [(n, p) for n, p in zip(names, pictures, strict=True) if p is not None],
        "decisions": Table(
            ("decision", *names), _rows(found["decisions"]), frozenset(range(1, len(names) + 1))
        ),
        "alike": found["alike"],
    }
    script = files("nasdsl.reporting").joinpath("templates", "page.js").read_text("utf-8") if figures else ""
    return render("nasdsl.reporting", "compare.html.j2", context, script)


def results_table(found: Comparison) -> Table:
    """What the runs reached, a run a row; what none of them knows has no column."""
    shown = {n: how for n, how in RESULTS.items() if any(r[n] is not None for r in found["runs"])}
    rows = [
        (r["name"], *(UNKNOWN if r[n] is None else write(r[n]) for n, (_, write) in shown.items()))
        for r in found["runs"]
    ]
    return Table(("run", *(words for words, _ in shown.values())), rows)


def _rows(values: Mapping[str, Sequence[Any]]) -> list[tuple[str, ...]]:
    return [(name, *map(text_of, of_runs)) for name, of_runs in values.items()]


def text_of(value: object) -> str:
    """A value of a table; a dash where a run does not have it, of a digest its beginning."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:12]}…"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# --- curves ----------------------------------------------------------------------------


def overlaid(
    logs: Logs, measures: Sequence[Measure], prefix: str, colours: Sequence[str] = ()
) -> list[EpochFigure]:
    """A figure for every number, with a line a run.

    Args:
        colours: the names of all runs, in the order of their colours, where `logs` are of some.
    """
    places = list(colours or [name for name, _ in logs])
    epochs = _epochs(logs)
    found: list[EpochFigure] = []
    for measure in measures:
        for field, words in measure.fields.items():
            lines = [
                _line(name, places.index(name), _points(log, field, measure.factor), measure.sparse)
                for name, log in logs
            ]
            if any(v is not None for line in lines for _, v in line.points):
                title = f"{measure.title}: {words}" if words else measure.title
                found.append(figure_of(lines, measure, title, epochs, f"{prefix}{len(found)}"))
    return found


def _line(name: str, place: int, points: tuple[tuple[int, float | None], ...], sparse: bool = False) -> Line:
    return Line(name, PALETTE[place % len(PALETTE)], points, sparse)


def _points(
    log: Sequence[Mapping[str, Any]], field: str, factor: float
) -> tuple[tuple[int, float | None], ...]:
    values = ((e["epoch"], number(e.get(field))) for e in log)
    return tuple((epoch, None if v is None else v * factor) for epoch, v in values)


def _epochs(logs: Logs) -> list[int]:
    return sorted({e["epoch"] for _, log in logs for e in log})


def _others(logs: Logs, measures: Sequence[Measure]) -> list[Measure]:
    return list({m.title: m for _, log in logs for m in others(log, measures)}.values())


__all__ = ["comparison_page", "overlaid", "page_of_all", "results_table", "text_of"]
