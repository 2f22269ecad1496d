"""One run: its folder, its checkpoints, its log, and how it ends."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy
import torch

from nasdsl.runtime.standalone.anew import begun_by_this_job, forget, job
from nasdsl.runtime.standalone.arguments import Table
from nasdsl.runtime.standalone.artefacts import known_of
from nasdsl.runtime.standalone.basics import Meter, Mistake
from nasdsl.runtime.standalone.checkpoint import Checkpoints, whole
from nasdsl.runtime.standalone.lock import (
    FIRST_STEPS,
    LOCK,
    LOCK_FORMAT,
    digest_of,
    digests,
    environment,
    read_lock,
    refuse_directory,
    text_of_lock,
)
from nasdsl.runtime.standalone.team import ALONE, Team

_SIGNALS = ("SIGTERM", "SIGUSR1")
"""What asks a run to save and leave; queues send the second one ahead of the first."""

_ENDED, _KILLED = 2, 3
"""What a process says after a step where it leaves; 1 is to save, 0 to go on."""


class Run:
    """A folder that holds everything a run knows.

    A run that is started again with the same folder continues exactly: modules, optimisers, streams,
    counters, random states and the log are those of its last checkpoint. SIGTERM and SIGUSR1 save after the
    step at hand and leave.

    Files: the checkpoints (see `Checkpoints`); `log.jsonl`, a line an epoch, without clock times, so that
    runs can be compared to the bit; `timeline.jsonl`, when what happened; `nasdsl.lock`, what the run was made
    from, its first steps as a digest, and at the end the digests of its files.

    Of several processes the first one reads and writes, the others are told what it read, and when to save
    and to leave is decided together. What is saved is the same on all of them, so any number can go on.

    Args:
        identity: what makes it the same run; another one in the folder is refused.
        keep: checkpoints that are kept.
        stop_after: steps of this process after which it saves and leaves; None for none.
        facts: what `nasdsl.lock` says beside the identity (`options_of`).
        every_seconds: between two saves within an epoch.
        team: the processes of the run.
    """

    latest: ClassVar[Run | None] = None
    """The run of this process, which `guarded` asks where it was when something went wrong."""

    def __init__(
        self,
        folder: Path,
        identity: Table,
        restart: bool = False,
        *,
        keep: int = 2,
        stop_after: int | None = None,
        facts: Table | None = None,
        every_seconds: float = 60.0,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self.folder, self.identity, self.every = folder, identity, every_seconds
        self.stop_after = stop_after
        self.checkpoints = Checkpoints(folder, keep)
        self.parts: dict[str, Any] = {}
        self.at: Table = {"epoch": 0, "step": 0, "sums": {}, "first": []}
        self.lock: Table = {"format": LOCK_FORMAT, "kind": "run", "identity": identity, **(facts or {})}
        self.lock |= {"first_steps": None, "files": {}}
        self.steps: list[float] = []
        self.taken = 0
        self._log: list[str] = []
        self._meter: Meter | None = None
        self._stopping = False
        self._saved = self._stepped = time.monotonic()
        Run.latest = self
        team.once(lambda: self._begin(restart and not team.restarted))
        for name in _SIGNALS:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._on_signal)

    def _begin(self, anew: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        refuse_directory(self.folder)
        if anew and begun_by_this_job(self.folder):
            print(f"--restart: {self.folder} was begun by this job, which was started again and goes on")
        elif anew:
            forget(self.folder, known_of(self.identity))

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True

    # --- where it continues ------------------------------------------------------

    def load(self) -> Table | None:
        """The last checkpoint that is whole; None for a new run.

        Raises:
            Mistake: it belongs to another program, seed, data set or setting, or none can be read.
        """
        found: Table | None = self.team.once(self._read)
        return found

    def _read(self) -> Table | None:
        state = self.checkpoints.read()
        if state is not None:
            refuse_another(self.folder, state["identity"], self.identity)
        return state

    def resume(self, parts: dict[str, Any]) -> Table:
        """Restores `parts` (things with `load_state_dict`, or streams) and returns the counters.

        Both are the run's from now on: what is added to `parts` is saved with them.
        """
        self.parts = parts
        self.team.alike(self.identity)
        state = self.load()
        self._mend_timeline()
        if state is None:
            self._event("started")
        else:
            for name, part in parts.items():
                if hasattr(part, "load_state_dict"):
                    part.load_state_dict(state["parts"][name])
                else:
                    part.position = state["parts"][name]
            _set_random_state(state["random"], self.team)
            self.at = state["counters"]
            self._log = list(state["log"])
            self._same_place(state["lock"])
            self._event("continued")
            print(f"continuing {self.folder} at epoch {self.at['epoch'] + 1}, step {self.at['step'] + 1}")
        self.lock["files"] = self._files_before()
        self.write("log.jsonl", "".join(self._log))
        self._write_lock()
        return self.at

    def _files_before(self) -> Table:
        """The digests that a run keeps which had ended before: it is at its end, and comes to the same files."""
        try:
            lock = read_lock(self.folder) if self.team.first else None
        except Mistake:
            lock = None
        files: Table = {} if lock is None else lock["files"]
        ended = hashlib.sha256("".join(self._log).encode()).hexdigest() == files.get("log.jsonl")
        return files if ended else {}

    def _same_place(self, before: Table) -> None:
        """Takes the lock that the run began with, and says where it goes on elsewhere."""
        environment = self.lock.get("environment") or {}
        then, now = _surroundings(before), _surroundings(self.lock)
        self.lock = before
        changed = [k for k in now if then.get(k) != now[k]]
        if changed:
            said = "; ".join(f"{k} was {then.get(k)}, is {now[k]}" for k in changed)
            print(f"continuing elsewhere ({said}): the last bits of what follows may differ")
            entry = {**self._place(), "environment": environment}
            entry |= {name: now[name] for name in changed if name not in environment}
            self.lock.setdefault("continued", []).append(entry)

    def _place(self) -> Table:
        return {"epoch": self.at["epoch"] + 1, "step": self.at["step"] + 1}

    # --- the loop ------------------------------------------------------------------

    def meter(self, device: torch.device) -> Meter:
        """The meter of the run's losses. It is read before every save: a run that has diverged saves nothing."""
        precision = str(self.identity.get("precision", ""))
        self._meter = Meter(self.at["sums"], device, self.parts.get("net"), precision)
        return self._meter

    def save(self) -> None:
        """Writes a checkpoint. Raises Mistake where the disk takes no more, or the run has diverged."""
        if self._meter is not None:
            self._meter.flush()
        self._saved = time.monotonic()
        if not self.team.first:
            return
        state = {
            "identity": self.identity,
            "counters": self.at,
            "parts": {
                name: part.state_dict() if hasattr(part, "state_dict") else part.position
                for name, part in self.parts.items()
            },
            "random": _random_state(self.team),
            "log": self._log,
            "lock": {**self.lock, "files": {}},
        }
        self.checkpoints.write(state)
        self._event("saved")
        self._saved = time.monotonic()

    def tick(self) -> None:
        """After a step: saves when it is time; saves and leaves where that is asked for."""
        now = time.monotonic()
        self.taken += 1
        if self.at["step"]:
            self.steps.append(now - self._stepped)
        if self.lock["first_steps"] is None and self.at["step"]:
            self._first_step()
        due = self.team.first and now - self._saved > self.every
        ends = _KILLED if self._stopping else _ENDED if self.taken == self.stop_after else int(due)
        ends = self.team.most(ends)
        if ends:
            self.save()
        if ends in (_KILLED, _ENDED):
            self._event("stopped")
            # A launcher that sees one leave may kill the others: not while the first one writes.
            self.team.most(0)
            print(f"stopped and saved; run the same command again to continue ({self.folder})", flush=True)
            raise SystemExit(143 if ends == _KILLED else 0)
        self._stepped = time.monotonic()

    def _first_step(self) -> None:
        """Keeps what the first steps came to; after the last of them their digest is in the lock."""
        first = self.at["first"]
        if self._meter is not None:
            self._meter.flush()
            first.append({name: float(value).hex() for name, value in self._meter.new().items()})
        if len(first) == FIRST_STEPS and "net" in self.parts:
            digest = hashlib.sha256(json.dumps(first).encode())
            digest.update(digest_of(self.parts["net"].state_dict()).encode())
            self.lock["first_steps"] = {"steps": len(first), "losses": first, "digest": digest.hexdigest()}
            self._write_lock()

    def end_epoch(self, entry: Table) -> None:
        """After an epoch: its line is in the log, its sums begin anew, and the run stands saved before the next."""
        self.log(entry)
        self.at["sums"].clear()
        self.at.update(epoch=self.at["epoch"] + 1, step=0)
        self.save()

    def step_seconds(self) -> float:
        """The median time of a step of this process, the first one left out."""
        return statistics.median(self.steps[1:] or self.steps or [0.0])

    # --- what it leaves --------------------------------------------------------------

    def log(self, entry: Table) -> None:
        """Adds one line of JSON to `log.jsonl`."""
        self._log.append(json.dumps(entry) + "\n")
        if not self.team.first:
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(self._log[-1])
        self._event("epoch", epoch=int(entry["epoch"]), step=0)

    def _event(self, name: str, **place: int) -> None:
        """Adds to `timeline.jsonl` that something happened now, in seconds since 1970."""
        if not self.team.first:
            return
        entry = {
            "event": name,
            "time": round(time.time(), 3),
            "epoch": self.at["epoch"],
            "step": self.at["step"],
        }
        with (self.folder / "timeline.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry | place) + "\n")

    def _mend_timeline(self) -> None:
        """Drops lines that a crash cut short: the next one would be written behind them."""
        path = self.folder / "timeline.jsonl"
        if not self.team.first or not path.exists():
            return
        text = path.read_text("utf-8", errors="replace")
        whole_lines = "".join(f"{line}\n" for line in text.split("\n") if _is_event(line))
        if whole_lines != text:
            self.write("timeline.jsonl", whole_lines)

    def write(self, name: str, text: str) -> Path:
        """Writes a text file of the run, whole or not at all; the first of several processes does."""
        path = self.folder / name
        if not self.team.first:
            return path
        with whole(path) as new:
            new.write_text(text, "utf-8")
        return path

    def _write_lock(self) -> None:
        self.write(LOCK, text_of_lock(self.lock))

    def finish(self) -> None:
        """The last thing that a run does, in one process: what it left is now known by its digests."""
        self.lock["files"] = digests(self.folder, known_of(self.identity))
        self._write_lock()
        self._event("finished")


def refuse_another(folder: Path, identity: Table, now: Table) -> None:
    """Raises Mistake where the run that a folder holds is not the one that is to go on there."""
    changed = [k for k in {**now, **identity} if identity.get(k) != now.get(k)]
    if changed:
        was = ", ".join(f"{k} was {identity.get(k)}, is {now.get(k)}" for k in changed)
        raise Mistake(
            f"{folder} holds another run ({was}): --out DIR makes a new folder, --restart begins anew"
        )


def _surroundings(lock: Table) -> Table:
    """What a run does not depend on, but its last bits may."""
    asked = bool((lock.get("arguments") or {}).get("deterministic", False))
    return {**(lock.get("environment") or {}), "deterministic": asked}


def _is_event(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def folder_of(args: argparse.Namespace, home: Path) -> Path:
    """Where a run lies: `--out`, or `runs/SEED` beside the script."""
    return Path(args.out) if args.out else home / "runs" / str(args.seed)


def options_of(
    args: argparse.Namespace, device: torch.device, data: Mapping[str, str], team: Team = ALONE
) -> dict[str, Any]:
    """What a command line says to a `Run`, and what its lock says of where it runs and what it trains on.

    Args:
        data: digests by name.
    """
    passing = ("restart", "keep", "stop_after", "dry_run", "out")
    given = {name: value for name, value in vars(args).items() if name not in passing}
    where = environment(device) | {"processes": team.world}
    facts = {"arguments": given, "environment": where, "data": dict(data), "cwd": os.getcwd(), "job": job()}
    return {"keep": args.keep, "stop_after": args.stop_after, "facts": facts, "team": team}


def _random_state(team: Team = ALONE) -> Table:
    """The states of all generators, in types that `weights_only` loads; those that all processes share."""
    devices = []
    if team.world > 1 and team.device.type == "cuda":
        devices = [torch.cuda.get_rng_state(team.device)]
    elif team.world == 1 and torch.cuda.is_available():
        devices = torch.cuda.get_rng_state_all()
    kind, keys, *rest = numpy.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": devices,
        "python": random.getstate(),
        "numpy": (str(kind), numpy.asarray(keys).tolist(), *rest),
    }


def _set_random_state(state: Table, team: Team = ALONE) -> None:
    torch.set_rng_state(state["torch"])
    # A run may move to a machine with another number of GPUs; the first keep their states.
    if team.world > 1 and state["cuda"] and team.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"][0], team.device)
    elif torch.cuda.is_available():
        for index, each in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(each, index)
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), *rest))
