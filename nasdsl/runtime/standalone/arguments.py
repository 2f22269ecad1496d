"""The command line and the settings of a script."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from nasdsl.runtime.standalone.basics import Mistake, Rule, WrongUse, close_to, complain

Table = dict[str, Any]


class _Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        complain(f"error: {message} (--help lists the options)", shared=True)
        self.exit(2)


def read_arguments(
    description: str, argv: list[str] | None = None, model: bool = False
) -> argparse.Namespace:
    """The command line of search, or with `model` of retraining; most of it they share.

    With --deterministic the environment is told so, which must be before a GPU is used.
    """
    parser = _Parser(description=description, allow_abbrev=False)
    _add_shared(parser)
    (_add_retraining if model else _add_search)(parser)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        options = [o for action in parser._actions for o in action.option_strings]
        word = unknown[0].partition("=")[0]
        parser.error(f"unknown argument {unknown[0]}{close_to(word, options) if word[:1] == '-' else ''}")
    if args.sync_bn and getattr(args, "compile", False):
        parser.error(
            "--sync-bn sums over processes inside every batch norm, which --compile cannot: leave one out"
        )
    if args.deterministic:
        # cuBLAS reads it when the first GPU is used, which is after this and before anything is seeded.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if args.dry_run and args.stop_after:
        parser.error("--dry-run goes to the end, --stop-after does not: leave one of them out")
    return args


def _add_shared(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        metavar="NAME",
        help="digits, cifar10, imagefolder:PATH, pkg:function",
    )
    add("--data-dir", default="data", metavar="DIR", help="where downloads go (default: data)")
    add("--out", metavar="DIR", help="folder of the run (default: runs/SEED beside this script)")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--precision", choices=("fp32", "bf16"), default="fp32")
    add("--epochs", type=_positive, metavar="N", help="length, instead of the one in config.toml")
    add("--limit-batches", type=_positive, metavar="N", help="at most N steps an epoch, for trials")
    add("--seed", type=_seed, default=0)
    add("--deterministic", action="store_true", help="the same bits every time, on one device; slower")
    add("--workers", type=_positive, default=2, metavar="N", help="threads that decode images (default: 2)")
    add("--set", action="append", default=[], metavar="K=V", dest="settings", help="a setting of config.toml")
    add("--restart", action="store_true", help="begin anew instead of continuing")
    add("--keep", type=_two_or_more, default=2, metavar="N", help="checkpoints that are kept (default: 2)")
    add("--stop-after", type=_positive, metavar="N", help="save and leave after N steps; run again to go on")
    add("--dry-run", action="store_true", help="everything once, small, in a folder that is thrown away")
    add("--sync-bn", action="store_true", help="batch norm over the rows of all processes (torchrun)")


def _add_retraining(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        metavar="FILE",
        help="the model.py to train (default: that of the run)",
    )
    add("--weights", metavar="FILE", help="weights to start from, .safetensors or .pt (default: none)")


def _add_search(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--compile", action="store_true", help="torch.compile, once a class of cells (minutes at first)")
    add(
        "--benchmark",
        metavar="TABLE",
        help="look every epoch's architecture up (nasdsl benchmark --help)",
    )
    add("--metric", metavar="NAME", help="the column of the table, if it has several")
    add("--wandb", metavar="PROJECT", help="log to Weights & Biases, too; WANDB_MODE=offline to the disk")
    add("--cuda-graph", action="store_true", help="record both steps once and replay them (CUDA)")


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return number


def _two_or_more(text: str) -> int:
    number = _positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError("1 is not enough: one is whole while the other is written")
    return number


def _seed(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 20 else -1
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not an integer from 0 to 2**63 - 1")
    return number


def read_config(path: Path, table: str, args: argparse.Namespace, rules: Mapping[str, Rule]) -> Table:
    """The settings of a table and of [data], with what the command line changes.

    Raises:
        Mistake: an unreadable file; a setting in it that is unknown, missing or unfit.
        WrongUse: the same of the command line.
    """
    try:
        config = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Mistake(f"{path}: {error}") from None
    except RecursionError:
        raise Mistake(f"{path}: lists or tables in it are too deep to be read") from None
    given: Table = {**config.get("data", {}), **config.get(table, {})}
    settings = _read_table(path, given, rules)
    for name in rules:
        if name not in settings:
            raise Mistake(f"{path}: the setting `{name}` of [{table}] or [data] is missing")
    if "recipe" in rules:
        settings |= _recipe(path, config.get("recipes", {}), settings, args, rules)
    for text in args.settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise _wrong(f"--set {text}: write --set NAME=VALUE")
        if name not in rules:
            raise _wrong(f"--set {text}: there is no setting `{name}`{close_to(name, rules)}")
        try:
            settings[name] = rules[name].read(value)
        except ValueError as error:
            raise _wrong(f"--set {text}: it must be {error}") from None
    if args.data is not None:
        settings["name"] = args.data
    if args.epochs is not None:
        settings["epochs"] = args.epochs
    return settings


def _wrong(text: str) -> WrongUse:
    """What is wrong with the command line, which several processes have in common."""
    wrong = WrongUse(text)
    wrong.shared = True
    return wrong


def _read_table(path: Path, given: Table, rules: Mapping[str, Rule]) -> Table:
    settings: Table = {}
    for name, value in given.items():
        if name not in rules:
            raise Mistake(f"{path}: there is no setting `{name}`{close_to(name, rules)}")
        try:
            settings[name] = rules[name].read(value)
        except ValueError as error:
            raise Mistake(f"{path}: `{name}` is {value!r} and must be {error}") from None
    return settings


def _recipe(
    path: Path,
    recipes: Mapping[str, Table],
    settings: Table,
    args: argparse.Namespace,
    rules: Mapping[str, Rule],
) -> Table:
    """The values of the recipe that `--set recipe=NAME` names, {} without one; says what they are.

    Raises:
        Mistake: the file has none or an unfit one of that name, or its recipe was edited without its values.
    """
    named = [text.partition("=")[2] for text in args.settings if text.startswith("recipe=")]
    if not named:
        fitting = [word for word, values in recipes.items() if settings.items() >= values.items()]
        if fitting and settings["recipe"] not in fitting:
            raise Mistake(
                f"{path}: these are the values of {fitting[0]}, not of {settings['recipe']}: "
                f"--set recipe={settings['recipe']} takes those"
            )
        return {}
    word = named[-1]
    if word not in rules["recipe"].words:
        return {}  # which is said with the other settings that are unfit
    if word not in recipes:
        raise Mistake(f"{path}: there is no table [recipes.{word}]")
    own = {text.partition("=")[0] for text in args.settings} | ({"epochs"} if args.epochs else set())
    values = _read_table(path, recipes[word], rules)
    shown = ", ".join(f"{n}={str(v).lower()}" for n, v in values.items() if n not in own)
    print(f"recipe {word}: {shown}")
    return values
