"""`nasdsl export`: one network as files that need nothing of this package.

Takes a space and an architecture, perhaps weights; writes files and their card. Invariant: a file that holds
weights was run again and compared; source alone is written without importing torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.cli.arguments import CommandLineError, Parser, assignments, file_argument, within_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import architecture_argument, load_architecture
from nasdsl.errors import UserError

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.space.architecture import Architecture

_SUFFIXES = {"py": ".py", "onnx": ".onnx", "pt2": ".pt2"}


def configure(parser: Parser) -> None:
    """Declares the options."""
    add = parser.add_argument
    file_argument(parser)
    within_argument(parser)
    architecture_argument(parser, required=False)
    add(
        "--format",
        action="append",
        choices=tuple(_SUFFIXES),
        help="py: source, with weights as safetensors; onnx; pt2: a program of torch.export; may be repeated "
        "(default: py)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--weights", metavar="W", help="a file of weights, as retrain.py leaves one")
    where.add_argument(
        "--run",
        metavar="RUN",
        help="folder of a run whose search has ended: what its supernet has for the architecture "
        "(default of --arch: what the run found)",
    )
    where.add_argument("--seed", type=int, metavar="S", help="fresh weights of this seed")
    add("-o", "--output", metavar="FILE", help="(default: model.py, or with the suffix of the format)")
    card = parser.add_mutually_exclusive_group()
    card.add_argument(
        "--card", metavar="FILE", help="where the card goes (default: MODEL.md beside the file)"
    )
    card.add_argument("--no-card", action="store_true", help="write no card")
    add("--licence", metavar="NAME", help="the licence that the card states: yours to choose")
    parser.example(
        "nasdsl export nats_size --arch arch.json -o model.py",
        "nasdsl export build/small/space.nas --run build/small/runs/0 --format onnx -o found.onnx",
        "nasdsl export darts --arch arch.json --weights runs/0/retrain/weights.safetensors --format pt2",
    )


def run(args: argparse.Namespace) -> int:
    """Exports."""
    formats = list(dict.fromkeys(args.format or ["py"]))
    if args.arch is None and args.run is None:
        raise CommandLineError(
            "--arch A says which architecture; with --run it is the one that the run found"
        )
    weights = next((w for w in (args.weights, args.run, args.seed) if w is not None), None)
    if weights is None and formats != ["py"]:
        held = next(name for name in formats if name != "py")
        raise CommandLineError(
            f"--format {held} holds weights: --weights W, --run RUN, or --seed S for fresh ones"
        )
    from nasdsl.exporting import export

    space, architecture = load_architecture(args) if args.run is None else _of_run(args)
    target = Path(args.output or f"model{_SUFFIXES[formats[0]]}")
    card = None if args.no_card else Path(args.card).absolute() if args.card else "MODEL.md"
    made = export(
        space,
        architecture,
        target,
        format=formats,
        weights=weights,
        card=card,
        licence=args.licence,
        allow_python=args.allow_python,
    )
    for path in made.files:
        print(path)
    if made.card is not None:
        print(args.card or made.card)
    return FINE


def _of_run(args: argparse.Namespace) -> tuple[Space, Architecture]:
    """The space that a run searched, which FILE must be, and the architecture of --arch or of the run."""
    from nasdsl import opening
    from nasdsl.exporting.runs import program_of

    folder = Path(args.run)
    space = program_of(folder, args.allow_python).space
    given = {**space.checked.given, **assignments("--param", args.param)}
    if "allow_python" in given:
        raise CommandLineError(
            "a parameter called allow_python cannot be set: that is the option --allow-python"
        )
    named = opening.load(args.file, allow_python=args.allow_python, **given)
    if named.fingerprint != space.fingerprint:
        raise UserError.plain(
            "NAS802",
            f"{folder} searched `{space.name}` (fingerprint {space.fingerprint}), and {args.file} with its parameters "
            f"is another space ({named.fingerprint})",
            help="name the space.nas of the compiled directory; its parameters are then those of the run",
        )
    if args.within is not None:
        space = space.within(args.within)
    return space, space.parse(args.arch if args.arch is not None else str(folder / "architecture.json"))
