"""A shrinking on one page.

Takes a record (`nasdsl.shrinking.record`), returns one HTML file. Invariant: nothing is loaded from outside
and nothing runs; every text of a user is escaped, by the template or by the pictures; what is not known is
left out.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nasdsl.drawing.axes import drawable, short
from nasdsl.drawing.pages import UNKNOWN, Table, render
from nasdsl.shrinking.figures import Figure, Record, cloud_figure, cost_name, locality_figure, rounds_figure

EXACT = 10**15
"""From here on a size is written as a power of ten."""


def page(record: Record) -> str:
    """The page of a record."""
    context = {
        "space": record["space"],
        "summary": _summary(record),
        "nothing": record["left"] is None,
        "stopped": record["stopped"],
        "rounds": _rounds(record),
        "trajectory": _drawn(rounds_figure(record)),
        "cloud": _drawn(cloud_figure(record)),
        "locality": _drawn(locality_figure(record)),
        "correlations": _correlations(record),
        "diversity": _diversity(record),
        "worth": _worth(record),
        "truth": record["truth"],
        "compared": bool(record["baselines"]),
        "ranks": _ranks(record),
        "index": _index(record),
        "best": [
            {"text": b["architecture"], "score": figure(b["score"], ""), "cost": _cost(b["cost"])}
            for b in record["best"]
        ],
        "source": record["source"],
        "cost": cost_name(record),
        "next": _next(record),
        "command": record.get("command"),
        "origin": _origin(record),
    }
    return render("nasdsl.shrinking", "report.html.j2", context)


def figure(value: object, unknown: str = UNKNOWN) -> str:
    """A score as it is read; what is no number has a dash."""
    return f"{value:.5g}" if drawable(value) else unknown


def count(number: int) -> str:
    """A whole number, or its size where nobody reads its digits."""
    if number < EXACT:
        return f"{number:,}"
    exponent = math.floor(math.log10(number))
    return f"{math.floor(100 * 10 ** (math.log10(number) - exponent)) / 100:g}·10^{exponent}"


def _tally(tally: Mapping[str, int]) -> str:
    low, high = tally["low"], tally["high"]
    return count(high) if low == high else f"{count(low)} to {count(high)}"


def _drawn(found: Figure | None) -> dict[str, object] | None:
    # The pictures escape what they write, as `nasdsl.drawing.canvas` says.
    return None if found is None else {"svg": Markup(found.svg), "notes": found.notes}


def _summary(record: Record) -> list[tuple[str, str]]:
    before, after = record["size"], record["left"]
    found = [("architectures before", _tally(before))]
    if after is not None:
        found.append(("architectures left", _tally(after)))
        found.append(("times smaller", _ratio(before["low"] + before["high"], after["low"] + after["high"])))
    kept = sum(r["kept"] for r in record["rounds"][1:])
    found += [("rounds kept", f"{kept:,}"), ("evaluations", f"{record['evaluations']:,}")]
    return found


def _ratio(before: int, after: int) -> str:
    """How many times as large; of integers that may be too large for a float."""
    after = max(1, after)
    return f"{before / after:.3g}" if before // after < 1000 else count(before // after)


def _rounds(record: Record) -> Table:
    heads = (
        *("round", "architectures", "seeds", "candidates", "mean of bins", "standard error"),
        *("best so far", "evaluations", "kept"),
    )
    rows = tuple(
        (
            f"{r['number']}" if r["number"] else "the space",
            count(r["size"]) if r["exact"] else f"about {count(r['size'])}",
            f"{r['seeds']:,}" if r["number"] else UNKNOWN,
            UNKNOWN if r["candidates"] is None else f"{r['candidates']:,}",
            figure(r["mean"]),
            f"{r['error']:.2g}" if drawable(r["error"]) else UNKNOWN,
            figure(r["best"]),
            f"{r['evaluations']:,}",
            "yes" if r["kept"] else "no",
        )
        for r in record["rounds"]
    )
    return Table(heads, rows)


def _correlations(record: Record) -> list[str]:
    """What the measured locality comes to, in words."""
    found = record["locality"]
    if found is None:
        return []
    said = []
    if drawable(found["length"]):
        said.append(
            f"Correlation length: {found['length']:.3g} edits (-1 / ln of the correlation one edit apart)."
        )
    radius = _edits(found["radius"])
    said.append(f"Locality radius: {radius}, the most up to which pairs correlate by 0.5 or more.")
    return said


def _edits(number: int) -> str:
    return "1 edit" if number == 1 else f"{number:,} edits"


def _radius(record: Record) -> int:
    """The radius that was used, where the rules leave it to the size of the space."""
    return int(record.get("radius") or record["rules"]["radius"] or 1)


def _diversity(record: Record) -> Table | None:
    found = record["diversity"]
    if found is None:
        return None
    before, after = found["before"], found["after"]

    def part(value: float | None) -> str:
        return UNKNOWN if not drawable(value) else f"{100 * value:.1f} %"  # type: ignore[operator]

    def whole(value: int | None) -> str:
        return UNKNOWN if value is None else f"{value:,}"

    words = {
        "distance": ("decisions in which two members differ, on average", part),
        "entropy": ("entropy of a decision's values, of the most it can be", part),
        "pockets": (f"pockets: groups that steps of {_edits(_radius(record))} lead between", whole),
        "coverage": ("bins of cost that have a member", part),
    }
    rows = tuple(
        (text, write(before[name]), write(after[name]))
        for name, (text, write) in words.items()
        if before[name] is not None or after[name] is not None
    )
    return Table(("", "before", "after"), rows)


def _worth(record: Record) -> Table | None:
    truth = record["truth"]
    if truth is None:
        return None
    sets: list[tuple[str, str, Mapping[str, Any] | None]] = [
        ("the whole space", _tally(record["size"]), truth["before"]),
        ("what is left", _tally(record["left"] or record["size"]), truth["after"]),
    ]
    sets += [(b["name"], f"{b['size']:,}", b["worth"]) for b in record["baselines"] or ()]
    names = {"mean": "mean", "bin_mean": "mean of bins", "bins": "bins", "best": "best", "regret": "regret"}
    rows = tuple(
        (name, size, *(figure(worth.get(n)) for n in names))
        for name, size, worth in sets
        if worth is not None
    )
    return Table(("", "architectures", *names.values()), rows)


def _ranks(record: Record) -> list[str]:
    """How the scores rank what is true, in words."""
    truth = record["truth"] or {}
    said = []
    for name, where in (("tau_inside", "among members"), ("tau_fixed", "over the whole space")):
        tau = truth.get(name)
        if tau is not None and drawable(tau["tau"]):
            between = (
                f" (95 % interval {tau['low']:.3f} to {tau['high']:.3f})"
                if drawable(tau["low"]) and drawable(tau["high"])
                else ""
            )
            said.append(f"Kendall's tau of the scores {where}: {tau['tau']:.3f}{between}.")
    if said and truth["fixed"]:
        said.append(f"The whole space is sampled by {truth['fixed']:,} architectures.")
    return said


def _index(record: Record) -> str | None:
    index = (record["truth"] or {}).get("index")
    if index is None or not drawable(index["index"]):
        return None
    return (
        f"{index['index']:.3f}: a gain of {index['gain']:.3f} times a reduction of {index['reduction']:.3f}"
    )


def _cost(value: int) -> str:
    return short(value, 4) if drawable(value) else count(value)


def _next(record: Record) -> str:
    """The command that goes on from here."""
    words = ["nasdsl", "compile", str(record.get("file") or record["space"])]
    for name, value in record["params"].items():
        words += ["--param", f"{name}={_value(value)}"]
    if record["left"] is not None:
        words += ["--within", "subspace.json"]
    return shlex.join([*words, "--method", "spos"])


def _value(value: object) -> str:
    if isinstance(value, bool) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return json.dumps(value, separators=(",", ":"))
    return str(value)


def _origin(record: Record) -> list[tuple[str, str]]:
    """Everything that the result depends on."""
    left = record["left"]
    found = [
        ("space", f"{record['space']}, fingerprint {record['fingerprint']}"),
        ("parameters", ", ".join(f"{k}={_value(v)}" for k, v in record["params"].items())),
        ("file", record.get("file")),
        ("scores", record["source"]),
        ("sub-space", None if left is None else left["digest"]),
        ("seed", str(record["seed"])),
        ("rules", _pairs({**record["rules"], "radius": _radius(record)}.items())),
        ("nasdsl", record.get("version")),
    ]
    return [(name, text) for name, text in found if text]


def _pairs(items: Iterable[tuple[str, object]]) -> str:
    def word(value: object) -> str:
        return ("yes" if value else "no") if isinstance(value, bool) else str(value)

    return ", ".join(f"{k} {word(v)}" for k, v in items if v is not None)


__all__ = ["page"]
