"""`nasdsl verify`: whether a compiled directory, or a run, is still what its lock says.

Takes folders, prints what differs and whether it matters. Invariant: exit code 0 when nothing that matters
differs, 1 when something does; nothing in a folder is changed; nothing of it is run without
--replay, and no code that the user does not name (--data pkg:function, --allow-python).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nasdsl.cli.arguments import CommandLineError, Parser, json_argument
from nasdsl.cli.dispatch import FINE, WRONG_INPUT
from nasdsl.verifying.findings import printable

if TYPE_CHECKING:
    from nasdsl.verifying import Report


def configure(parser: Parser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("folder", metavar="DIR", help="a directory that `nasdsl compile` wrote, or the folder of a run")
    add("--replay", action="store_true", help="of a run: its first steps again, by running its script")
    add("--directory", metavar="D", help="of a run: the compiled directory, if it does not lie in it")
    add("--data", metavar="NAME", help="of a run: as of search.py (default: the run's own)")
    add("--data-dir", metavar="D", help="of a run: where the data are (default: where the run had them)")
    add("--model", metavar="FILE", help="of a retraining: what it trained (default: where the run had it)")
    add("--allow-python", action="store_true", help="let `use python` in the space import what it names")
    json_argument(parser)
    parser.example(
        "nasdsl verify build/darts-toponas",
        "nasdsl verify build/darts-toponas/runs/0 --replay",
    )


def run(args: argparse.Namespace) -> int:
    """Verifies."""
    from nasdsl.codegen.lock import kind_of

    folder = Path(args.folder)
    report = _run(folder, args) if kind_of(folder) == "run" else _directory(folder, args)
    if args.json:
        print(json.dumps({"folder": args.folder, **attrs.asdict(report), "matters": report.matters}))
    else:
        _print(report)
    return WRONG_INPUT if report.matters else FINE


def _directory(folder: Path, args: argparse.Namespace) -> Report:
    from nasdsl.codegen.lock import read_lock
    from nasdsl.verifying.directory import verify_directory

    read_lock(folder)  # what is no directory at all is told first
    for option in ("replay", "directory", "data", "data_dir", "model"):
        if getattr(args, option):
            raise CommandLineError(
                f"--{option.replace('_', '-')} is of a run, such as {folder / 'runs' / '0'}"
            )
    return verify_directory(folder, args.allow_python)


def _run(folder: Path, args: argparse.Namespace) -> Report:
    from nasdsl.verifying.data import verify_data
    from nasdsl.verifying.replay import replay
    from nasdsl.verifying.run import verify_environment, verify_run

    if args.allow_python:
        raise CommandLineError("--allow-python is of a directory: no space is read to verify a run")
    directory, model = (Path(path) if path else None for path in (args.directory, args.model))
    report, record, home = verify_run(folder, directory, model)
    if model is not None and record.script != "retrain.py":
        raise CommandLineError("--model is of a retraining; this is the run of a search")
    if args.replay and home is None:
        raise CommandLineError("--replay runs the script of the run's directory: name it with --directory")
    name, where = _absolute(args.data) or record.data_found, args.data_dir or record.data_dir
    at_hand = False
    if record.data_are_code and not args.data:
        why = f"the run names code as its data, which runs only if you name it, too: --data {printable(name)}"
        if args.replay:
            raise CommandLineError(why)
        report.unknown.append(f"data: {why}")
    elif home is not None:
        at_hand = verify_data(record, home, name, where, report)
    else:
        report.unknown.append("data: what they are converted to stands in the run's directory")
    replayed = False
    if args.replay and home is not None:
        if at_hand:
            replayed = replay(record, home, name, where, report)
        else:
            report.unknown.append("the first steps: the data that they need are not at hand")
    verify_environment(record, report, replayed)
    return report


def _absolute(data: str | None) -> str | None:
    """Data as they are named here, for a script that runs elsewhere."""
    kind, _, path = (data or "").partition(":")
    return f"{kind}:{Path(path).absolute()}" if kind == "imagefolder" else data


def _print(report: Report) -> None:
    print(report.title)
    for line in report.good:
        print(f"  same      {printable(line)}")
    for line in report.unknown:
        print(f"  not known {printable(line)}")
    for finding in sorted(report.findings, key=lambda f: not f.matters):
        print(f"  {'MATTERS' if finding.matters else 'harmless':<9} {finding.subject} {finding.what}")
        if finding.cure is not None:
            print(f"            {finding.cure}")
    count = sum(f.matters for f in report.findings)
    if not report.findings:
        print("nothing differs" + " of what could be looked at" * bool(report.unknown))
    else:
        some = f"{len(report.findings)} difference{'s' * (len(report.findings) > 1)}"
        print(f"{some}, {count or 'none'} of which matter{'s' * (count < 2)}")
