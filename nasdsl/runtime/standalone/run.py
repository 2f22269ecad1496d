"""One run: its arguments, its folder, its checkpoints, its log."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from nasdsl.runtime.standalone.basics import Mistake

Table = dict[str, Any]


def read_arguments(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """The command line that search and retraining share."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--data", help="digits, cifar10, imagefolder:PATH or pkg:function")
    add("--data-dir", default="data", help="where downloads go")
    add("--out", help="folder of the run (default: runs/SEED beside this script)")
    add("--device", default="auto", help="auto, cpu, cuda")
    add("--precision", choices=("fp32", "bf16"), default="fp32")
    add("--epochs", type=int, help="length, instead of the one in config.toml")
    add("--limit-batches", type=int, metavar="N", help="at most N steps an epoch, for trials")
    add("--seed", type=int, default=0)
    add("--deterministic", action="store_true", help="deterministic algorithms, slower")
    add("--workers", type=int, default=2, help="threads that decode images")
    add("--set", action="append", default=[], metavar="K=V", dest="settings", help="a setting of config.toml")
    add("--restart", action="store_true", help="begin anew instead of continuing")
    add("--model", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name in ("epochs", "limit_batches"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def read_config(path: Path, table: str, args: argparse.Namespace) -> Table:
    """The settings of a table and of [data], with what the command line changes.

    Raises:
        Mistake: unreadable file, unknown setting, a value of another type.
    """
    try:
        config = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Mistake(f"{path}: {error}") from None
    settings: Table = {**config["data"], **config[table]}
    for text in args.settings:
        name, equals, value = text.partition("=")
        if not equals or name not in settings:
            close = difflib.get_close_matches(name, settings, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there is {', '.join(settings)}"
            raise Mistake(f"--set {text}: there is no setting `{name}`{hint}")
        settings[name] = _typed(name, value, settings[name])
    if args.data is not None:
        settings["name"] = args.data
    if args.epochs is not None:
        settings["epochs"] = args.epochs
    return settings


def _typed(name: str, text: str, old: Any) -> Any:
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(old)(text)
    except (ValueError, KeyError):
        word = {bool: "true or false", int: "an integer", float: "a number"}.get(type(old), "a word")
        raise Mistake(f"--set {name}={text}: it is {word}") from None


class Run:
    """A folder that holds everything a run knows.

    `checkpoint.pt` is written beside itself and renamed, and the one before it is
    kept, so a crash while saving loses nothing. A run that is started again with
    the same folder continues exactly: modules, optimisers, streams, counters and
    torch's random state are restored.
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
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, number: int, frame: object) -> None:
        self._stopping = True

    def load(self) -> Table | None:
        """The last checkpoint that can be read, or None.

        Raises:
            Mistake: it belongs to another program, seed or data set.
        """
        for name in ("checkpoint.pt", "checkpoint.previous.pt"):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                state: Table = torch.load(path, map_location="cpu", weights_only=True)
                identity = state["identity"]
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the one before may be whole
                print(f"{path} cannot be read ({type(error).__name__}); trying the one before", file=sys.stderr)
                continue
            wrong = [k for k, v in self.identity.items() if identity.get(k) != v]
            if wrong:
                was = ", ".join(f"{k} was {identity.get(k)!r}, is {self.identity[k]!r}" for k in wrong)
                raise Mistake(f"{self.folder} holds another run ({was}): use --out for a new folder, or --restart")
            return state
        return None

    def resume(self, parts: Mapping[str, Any]) -> Table:
        """Restores `parts` (things with `load_state_dict`, or streams) and returns the counters."""
        state = self.load()
        if state is None:
            return {"epoch": 0, "step": 0, "sums": {}, "seconds": 0.0}
        for name, part in parts.items():
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(state["parts"][name])
            else:
                part.position = state["parts"][name]
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and state["random_cuda"] is not None:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self._cut_log(state["counters"]["epoch"])
        counters: Table = state["counters"]
        print(f"continuing {self.folder} at epoch {counters['epoch'] + 1}, step {counters['step']}")
        return counters

    def save(self, parts: Mapping[str, Any], counters: Table) -> None:
        """Writes a checkpoint: a new file, flushed to disk, then renamed over the old one."""
        state = {
            "identity": self.identity,
            "counters": counters,
            "parts": {n: p.state_dict() if hasattr(p, "state_dict") else p.position for n, p in parts.items()},
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None,
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
        """Drops lines of epochs that will be run again."""
        path = self.folder / "log.jsonl"
        if path.exists():
            lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
            kept = [line for line in lines if json.loads(line).get("epoch", 0) <= epoch]
            path.write_text("".join(f"{line}\n" for line in kept), "utf-8")

    def write(self, name: str, text: str) -> Path:
        """Writes a text file of the run, whole or not at all."""
        path = self.folder / name
        new = path.with_name(path.name + ".new")
        new.write_text(text, "utf-8")
        os.replace(new, path)
        return path


def guarded(main: Callable[[], None]) -> None:
    """Runs a script's main: a Mistake is one line and exit code 1, Ctrl-C exit code 130."""
    try:
        main()
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
