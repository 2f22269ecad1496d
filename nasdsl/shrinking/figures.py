"""The pictures of a shrinking's record.

Takes a record (`nasdsl.shrinking.record`), returns SVG text with what has to be said of it. Invariant: what
is no number is left out and counted; where nothing is left to draw there is no picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nasdsl.drawing.axes import drawable
from nasdsl.drawing.cloud import Layer, draw_cloud, floor_of, points_of, thinned
from nasdsl.drawing.colours import LIGHT
from nasdsl.drawing.lines import Series, Step, draw_lines, draw_rounds

COSTS = {"macs": "MACs", "params": "parameters"}
LEVELS = ((0.5, "0.5"), (1 / math.e, "1/e"))

Record = Mapping[str, Any]


@attrs.frozen
class Figure:
    """A picture and what is said beneath it, a sentence an item."""

    svg: str
    notes: tuple[str, ...]


def rounds_figure(record: Record) -> Figure | None:
    """The trajectory: means and sizes by round."""
    steps = [
        Step(r["number"], _number(r["mean"]), _number(r["error"]), r["size"], r["kept"])
        for r in record["rounds"]
    ]
    if not steps:
        return None
    mean = "The mean of bins is the mean of the fresh samples' scores within each bin of cost, averaged over"
    notes = [f"{mean} the bins, so that each bin counts alike; bars are its standard error."]
    if not all(s.kept for s in steps):
        notes.append("A hollow point is a round whose set was not kept.")
    missing = sum(s.mean is None for s in steps)
    if missing:
        notes.append(f"{missing:,} of {len(steps):,} means are no finite number and are not drawn.")
    return Figure(
        draw_rounds(steps, f"mean of bins: {record['source']}", "architectures in the set"), tuple(notes)
    )


def cloud_figure(record: Record) -> Figure | None:
    """The cloud before and after: true figures where they are known, scores elsewhere."""
    members, truth, scored = record["members"], record["truth"], record["scored"]
    before, figures = record["before"], members["figure"]
    notes: list[str] = []
    known = before is not None and figures is not None
    if known:
        pairs = (before["cost"], before["figure"]), (members["cost"], figures)
        names = "all that are known", "members"
        up = truth["metric"] if truth else record["source"]
        notes.append("Every point is an architecture at its true figure.")
    else:
        inside = [s for s in scored if s["inside"]]
        pairs = _columns(scored), _columns(inside)
        names, up = ("scored", "scored and in the set"), record["source"]
        notes.append("Every point is an architecture that was scored; the set has members that never were.")
    layers = [points_of(*p) for p in pairs]
    if not any(layers):
        return None
    faint, strong = (Layer(f"{n} ({len(p):,})", p) for n, p in zip(names, layers, strict=True))
    drawn = thinned(faint.points)
    if len(drawn) < len(faint.points):
        notes.append(f"Of {len(faint.points):,} grey points {len(drawn):,}, drawn at random, are shown.")
    floor = floor_of(faint, strong)
    low = sum(f < floor for _, f in {*drawn, *strong.points})
    if low:
        notes.append(f"{low:,} points with far lower figures lie on the lower edge.")
    total = _size(record["left"] or record["size"])
    if known and total is not None and len(members["cost"]) < total:
        notes.append(f"Of the members {len(members['cost']):,}, drawn at random, are shown.")
    counted = zip(pairs, layers, strict=True) if known else [(pairs[0], layers[0])]
    missing = sum(len(p[0]) - len(found) for p, found in counted)
    if missing:
        notes.append(f"{missing:,} points without a finite figure are left out.")
    if record["edges"]:
        notes.append("Dashed lines are where bins of cost part: quantiles of the space before.")
    svg = draw_cloud(faint, strong, record["edges"], cost_name(record), up)
    return Figure(svg, tuple(notes))


def locality_figure(record: Record) -> Figure | None:
    """Correlation by edits: of walks, and of shells."""
    found = record["locality"]
    if found is None:
        return None
    walks = tuple(enumerate(map(_number, found["autocorrelation"]), 1))
    shells = tuple(enumerate(map(_number, found["shells"]), 1))
    series, notes = [], []
    if any(y is not None for _, y in walks):
        spread = tuple(map(_number, found["deviation"]))
        name = f"along {found['walks']:,} walks of {found['steps']:,} steps"
        series.append(Series(name, LIGHT["accent"], walks, spread, band=True))
        notes.append(
            "Along walks: the correlation of scores with those so many random edits later; the mean over the "
            "walks and, as a band, its standard deviation."
        )
    if any(y is not None for _, y in shells):
        series.append(Series("between pairs", LIGHT["second"], shells))
        over = "all pairs" if found["pairs"] is None else f"{found['pairs']:,} pairs, drawn at random,"
        notes.append(f"Between pairs: the correlation over {over} exactly so many edits apart.")
    if not series:
        return None
    return Figure(draw_lines(series, "edits", "correlation of scores", LEVELS), tuple(notes))


def cost_name(record: Record) -> str:
    """What bins are of, as it is read."""
    name = str(record["cost"])
    return COSTS.get(name, name)


def _columns(scored: Sequence[Mapping[str, Any]]) -> tuple[list[object], list[object]]:
    return [s["cost"] for s in scored], [s["score"] for s in scored]


def _number(value: object) -> float | None:
    return float(value) if drawable(value) else None  # type: ignore[arg-type]


def _size(tally: Mapping[str, int]) -> int | None:
    return tally["high"] if tally["low"] == tally["high"] else None


__all__ = ["Figure", "Record", "cloud_figure", "cost_name", "locality_figure", "rounds_figure"]
