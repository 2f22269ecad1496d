"""`nasdsl diff`: what an edit of a space adds or removes, and what still holds.

Takes two files, prints a list. Invariant: exit code 0 when every level holds (or no sample
breaks it), 1 when one does not.
"""

from __future__ import annotations

import argparse
import json

from nasdsl.cli.arguments import Parser, assignments, json_argument, param_argument
from nasdsl.cli.dispatch import FINE, WRONG_INPUT
from nasdsl.cli.space import load

_WORDS = {True: "hold", False: "DO NOT hold", None: "seem to hold"}
_MEANING = {
    "architectures": "architecture files",
    "checkpoints": "checkpoints of the supernet",
    "lookups": "benchmark look-ups",
}


def configure(parser: Parser) -> None:
    """Declares the options."""
    parser.add_argument("old", metavar="OLD", help="a .nas file or the name of a shipped space")
    parser.add_argument("new", metavar="NEW", help="the same, after the edit")
    param_argument(parser)
    parser.add_argument(
        "--level",
        choices=tuple(_MEANING),
        help="the exit code asks for this level and those before it only (default: all)",
    )
    json_argument(parser)
    parser.example("nasdsl diff darts my_darts.nas", "nasdsl diff old.nas new.nas --level checkpoints")


def run(args: argparse.Namespace) -> int:
    """Compares."""
    from nasdsl.identity.compare import LEVELS, compare

    params = assignments("--param", args.param)
    found = compare(
        load(args.old, params, args.allow_python).checked, load(args.new, params, args.allow_python).checked
    )
    asked = LEVELS[: LEVELS.index(args.level) + 1] if args.level else LEVELS
    good = all(level.holds is not False for level in found.levels if level.name in asked)
    if args.json:
        levels = {level.name: {"holds": level.holds, "why": level.why} for level in found.levels}
        print(json.dumps({"changes": list(found.changes), "levels": levels}))
        return FINE if good else WRONG_INPUT
    for change in found.changes:
        print(change)
    if found.changes:
        print()
    for level in found.levels:
        print(f"{_MEANING[level.name]} {_WORDS[level.holds]}: {level.why}")
    return FINE if good else WRONG_INPUT
