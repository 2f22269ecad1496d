"""Directions that "On Constrained Optimization in Differentiable NAS" claims, one part of it at a time.

    python benchmarks/directions.py --data imagefolder:DIR --benchmark TABLE --metric cifar10_test_200 --out FOLDER

Its text says that the clipped activation gives smaller final networks and that the regularisers are more
reliable, most of all under the informed schedule; its tables were not found. Each claim is put to `darts`
with that part and nothing else, over the same seeds, in cells that `evaluation.py --out FOLDER` shares.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import mean, stdev

import attrs
from configurations import PARTS_OF_CBO
from evaluation import arguments, evaluated
from figures import paired, variances_differ
from report import table, write_json
from standings import Record

from nasdsl.errors import UserError

SMALLER = (("clipped only", "darts"),)
"""The first is to have fewer parameters than the second."""
STEADIER = (
    ("proximity only", "darts"),
    ("admm only", "darts"),
    ("proximity, informed", "informed only"),
    ("admm, informed", "informed only"),
)
"""The first is to vary less over seeds than the second."""
NEEDED = ("darts", *PARTS_OF_CBO)


def by_seed(judged: Sequence[Record], name: str, figure: str) -> dict[int, float]:
    """One figure of a configuration."""
    return {
        r["seed"]: float(r[figure]) for r in judged if r["configuration"] == name and r[figure] is not None
    }


def sizes(judged: Sequence[Record]) -> list[Record]:
    """Parameters of what was found, paired over seeds."""
    made = []
    for name, other in SMALLER:
        first, second = (by_seed(judged, n, "params") for n in (name, other))
        test = paired(first, second)
        if test is not None:
            found = {"claim": f"{name} is smaller than {other}", "first": first, "second": second}
            made.append({**found, **attrs.asdict(test), "holds": test.mean < 0})
    return made


def spreads(judged: Sequence[Record]) -> list[Record]:
    """Deviations of the true metric with and without a part."""
    made = []
    for name, other in STEADIER:
        first, second = (list(by_seed(judged, n, "true").values()) for n in (name, other))
        if min(len(first), len(second)) < 2:
            continue
        made.append(
            {
                "claim": f"{name} varies less than {other}",
                "first": stdev(first),
                "second": stdev(second),
                "first_mean": mean(first),
                "second_mean": mean(second),
                "count": min(len(first), len(second)),
                "p": variances_differ(first, second),
                "holds": stdev(first) < stdev(second),
            }
        )
    return made


def text(small: Sequence[Record], steady: Sequence[Record]) -> str:
    """Both tables, with what their tests can tell."""
    parts = []
    if small:
        lines = [
            (
                r["claim"],
                str(r["count"]),
                f"{mean(r['first'].values()) / 1e6:.3f}",
                f"{mean(r['second'].values()) / 1e6:.3f}",
                f"{r['p']:.2f} (least {r['least']:.2f})",
                "yes" if r["holds"] else "no",
            )
            for r in small
        ]
        parts.append(table(("claim", "seeds", "params M", "of the other", "p", "so here"), lines))
    if steady:
        lines = [
            (
                r["claim"],
                str(r["count"]),
                f"{r['first']:.2f}",
                f"{r['second']:.2f}",
                "" if r["p"] is None else f"{r['p']:.2f}",
                "yes" if r["holds"] else "no",
            )
            for r in steady
        ]
        parts.append(table(("claim", "seeds", "sd of truth", "of the other", "p", "so here"), lines))
    parts.append(
        "p: of parameters, exact sign-flip test over seeds; of deviations, F test of equal variances, which assumes "
        "normal figures"
    )
    return "\n\n".join(parts)


def main() -> int:
    args = arguments(__doc__ or "").parse_args()
    found = evaluated(args, NEEDED, "directions")
    small, steady = sizes(found.judged), spreads(found.judged)
    print(text(small, steady))
    if args.json is not None:
        write_json(args.json, {**found.record, "sizes": small, "spreads": steady, "cells": found.judged})
    return 1 if found.missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
