"""One run: its arguments, its settings, its folder, its checkpoints, its log."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy
import torch

from nasdsl.runtime.standalone.basics import Mistake, Rule, WrongUse, close_to

Table = dict[str, Any]


class _Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help lists the options)\n")


def read_arguments(
    description: str, argv: list[str] | None = None, model: bool = False
) -> argparse.Namespace:
    """The command line of search, or with `model` of retraining; most of it they share."""
    parser = _Parser(description=description, allow_abbrev=False)
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
    add("--seed", type=int, default=0)
    add("--deterministic", action="store_true", help="deterministic algorithms, slower")
    add("--workers", type=_positive, default=2, metavar="N", help="threads that decode images (default: 2)")
    add("--set", action="append", default=[], metavar="K=V", dest="settings", help="a setting of config.toml")
    add("--restart", action="store_true", help="begin anew instead of continuing")
    if model:
        add(
            "--model",
            metavar="FILE",
            help="the model.py to train (default: that of the run)",
        )
        add("--weights", metavar="FILE", help="weights to start from, .safetensors or .pt (default: none)")
    else:
        add("--compile", action="store_true", help="torch.compile, once a class of cells (minutes at first)")
        add(
            "--benchmark",
            metavar="TABLE",
            help="look every epoch's architecture up (nasdsl benchmark --help)",
        )
        add("--metric", metavar="NAME", help="the column of the table, if it has several")
        add("--cuda-graph", action="store_true", help="record both steps once and replay them (CUDA)")
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        options = [o for action in parser._actions for o in action.option_strings]
        word = unknown[0].partition("=")[0]
        parser.error(f"unknown argument {unknown[0]}{close_to(word, options) if word[:1] == '-' else ''}")
    return args


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
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
            raise WrongUse(f"--set {text}: write --set NAME=VALUE")
        if name not in rules:
            raise WrongUse(f"--set {text}: there is no setting `{name}`{close_to(name, rules)}")
        try:
            settings[name] = rules[name].read(value)
        except ValueError as error:
            raise WrongUse(f"--set {text}: it must be {error}") from None
    if args.data is not None:
        settings["name"] = args.data
    if args.epochs is not None:
        settings["epochs"] = args.epochs
    return settings


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


def fresh_counters() -> Table:
    """Where a run begins."""
    return {"epoch": 0, "step": 0, "sums": {}}


class Run:
    """A folder that holds everything a run knows.

    `checkpoint.pt` is written beside itself and renamed, and the one before it is
    kept, so a crash while saving loses nothing. A run that is started again with
    the same folder continues exactly: modules, optimisers, streams, counters and
    random states are restored. SIGTERM saves after the step at hand.
    """

    def __init__(self, folder: Path, identity: Table, restart: bool, every_seconds: float = 60.0) -> None:
        self.folder = folder
        self.identity = identity
        self.every = every_seconds
        self._saved = time.monotonic()
        self._stopping = False
        folder.mkdir(parents=True, exist_ok=True)
        if restart:
            for name in ("checkpoint.pt", "checkpoint.previous.pt", "log.jsonl"):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, number: int, frame: object) -> None:
        self._stopping = True

    def load(self) -> Table | None:
        """The last checkpoint that can be read; None for a new run.

        Raises:
            Mistake: it belongs to another program, seed, data set or setting, or none can be read.
        """
        found = [p for n in ("checkpoint.pt", "checkpoint.previous.pt") if (p := self.folder / n).exists()]
        for path in found:
            try:
                state: Table = torch.load(path, map_location="cpu", weights_only=True)
                identity = state["identity"]
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the one before may be whole
                print(f"{path} cannot be read ({type(error).__name__})", file=sys.stderr)
                continue
            if path != found[0]:
                print(f"using the checkpoint before it, {path}", file=sys.stderr)
            changed = [k for k in {**self.identity, **identity} if identity.get(k) != self.identity.get(k)]
            if changed:
                was = ", ".join(f"{k} was {identity.get(k)}, is {self.identity.get(k)}" for k in changed)
                raise Mistake(
                    f"{self.folder} holds another run ({was}): "
                    "--out DIR makes a new folder, --restart begins anew"
                )
            return state
        if found:
            raise Mistake(f"no checkpoint in {self.folder} can be read: --restart begins anew")
        return None

    def resume(self, parts: Mapping[str, Any]) -> Table:
        """Restores `parts` (things with `load_state_dict`, or streams) and returns the counters."""
        state = self.load()
        if state is None:
            return fresh_counters()
        for name, part in parts.items():
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(state["parts"][name])
            else:
                part.position = state["parts"][name]
        _set_random_state(state["random"])
        counters: Table = state["counters"]
        self._cut_log(counters["epoch"])
        print(f"continuing {self.folder} at epoch {counters['epoch'] + 1}, step {counters['step'] + 1}")
        return counters

    def save(self, parts: Mapping[str, Any], counters: Table) -> None:
        """Writes a checkpoint: a new file, flushed to disk, then renamed over the old one."""
        state = {
            "identity": self.identity,
            "counters": counters,
            "parts": {
                name: part.state_dict() if hasattr(part, "state_dict") else part.position
                for name, part in parts.items()
            },
            "random": _random_state(),
        }
        new, path = self.folder / "checkpoint.new", self.folder / "checkpoint.pt"
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, self.folder / "checkpoint.previous.pt")
        os.replace(new, path)
        self._saved = time.monotonic()

    def tick(self, save: Callable[[], None]) -> None:
        """After a step: saves when it is time; after SIGTERM saves and leaves."""
        if self._stopping:
            save()
            print(f"stopped and saved; run the same command again to continue ({self.folder})", flush=True)
            raise SystemExit(143)
        if time.monotonic() - self._saved > self.every:
            save()

    def log(self, entry: Table) -> None:
        """Appends one line of JSON to `log.jsonl`."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _cut_log(self, epoch: int) -> None:
        """Drops lines of epochs that will be run again, and a line that a crash cut short."""
        path = self.folder / "log.jsonl"
        if path.exists():
            kept = []
            for line in path.read_text("utf-8").splitlines():
                try:
                    if json.loads(line)["epoch"] <= epoch:
                        kept.append(f"{line}\n")
                except (ValueError, KeyError, TypeError):
                    continue
            self.write("log.jsonl", "".join(kept))

    def write(self, name: str, text: str) -> Path:
        """Writes a text file of the run, whole or not at all."""
        path = self.folder / name
        new = path.with_name(path.name + ".new")
        new.write_text(text, "utf-8")
        os.replace(new, path)
        return path


def _random_state() -> Table:
    """The states of all generators, in types that `weights_only` loads."""
    kind, keys, *rest = numpy.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (str(kind), numpy.asarray(keys).tolist(), *rest),
    }


def _set_random_state(state: Table) -> None:
    torch.set_rng_state(state["torch"])
    # A run may move to a machine with another number of GPUs; the first keep their states.
    if torch.cuda.is_available():
        for index, each in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(each, index)
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), *rest))


def guarded(main: Callable[[], None]) -> None:
    """Runs a script's main: a Mistake is one line and its exit code, Ctrl-C exit code 130."""
    try:
        main()
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(mistake.exit_code) from None
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
