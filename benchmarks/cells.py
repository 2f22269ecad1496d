"""Cells of an evaluation: one configuration and one seed, a folder, a subprocess.

Takes what a cell is and how it is run, returns what it found. Invariant: a folder belongs to one identity;
a cell that is finished is never run again, one that was killed is continued, one that still runs elsewhere
is left alone (the lock is held by the process itself, so it ends with it, whatever happened to this one).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs

import nasdsl

HERE = Path(__file__).resolve().parent
SOURCES = Path(nasdsl.__file__).resolve().parent
Found = dict[str, Any]


@attrs.frozen
class Cell:
    """One configuration and one seed.

    Attributes:
        identity: everything that the result depends on; JSON types only.
        files: written into `folder/compiled` before it is run.
        command: what runs it; it continues by itself what it finds in `folder/run`.
        collect: reads `folder/run` when the command has ended well.
        more: kept beside the identity when the cell begins, and not compared.
    """

    name: str
    seed: int
    folder: Path
    identity: Mapping[str, Any]
    files: Mapping[str, str]
    command: Sequence[str]
    collect: Callable[[Path], Found]
    more: Mapping[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"

    @property
    def begun(self) -> Found | None:
        """What was written when it began; None for a new folder."""
        return _read(self.folder / "cell.json")

    @property
    def changed(self) -> list[str]:
        """What of its identity is another than in its folder, in words."""
        begun = self.begun
        if begun is None:
            return []
        was, now = (flat(i) for i in (begun["identity"], json.loads(json.dumps(self.identity))))
        return [f"{k} was {was.get(k)}, is {now.get(k)}" for k in {**was, **now} if was.get(k) != now.get(k)]

    @property
    def result(self) -> Found | None:
        """What it found; None where it is not finished, or its folder is that of another configuration."""
        return None if self.changed else _read(self.folder / "result.json")


def flat(identity: Mapping[str, Any]) -> Found:
    """Parts of parts beside the others, so that a difference is one word."""
    found: Found = {}
    for name, value in identity.items():
        inner = flat(value) if isinstance(value, dict) else {"": value}
        found |= {f"{name}.{k}".rstrip("."): v for k, v in inner.items()}
    return found


def _read(path: Path) -> Found | None:
    if not path.exists():
        return None
    found: Found = json.loads(path.read_text("utf-8"))
    return found


def write_whole(path: Path, data: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    os.replace(new, path)


def slug(name: str) -> str:
    """A folder's name for a configuration's."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@attrs.frozen
class Outcome:
    """How a cell went: `finished`, `done` (it was before), `failed`, `refused`, `busy` or `stopped`."""

    cell: Cell
    status: str
    note: str = ""


class Runner:
    """Runs cells, several at once, and stops them when it is told to stop.

    Args:
        threads: of each cell.
        restart: cells whose configuration has changed are begun anew instead of being refused.
        environment: beside this process's own.
    """

    def __init__(self, jobs: int, threads: int, restart: bool, environment: Mapping[str, str]) -> None:
        self.jobs, self.restart = jobs, restart
        self.environment = {**os.environ, **environment, "OMP_NUM_THREADS": str(threads)}
        self.stopped = threading.Event()
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def run(self, cells: Sequence[Cell]) -> list[Outcome]:
        """Runs what is missing; SIGTERM and Ctrl-C let every cell save what it has."""
        handlers = {s: signal.signal(s, self._stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            with ThreadPoolExecutor(self.jobs) as pool:
                return list(pool.map(self._said, cells))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def code(self) -> str:
        """A fingerprint of nasdsl's own sources, which a cell imports while it runs."""
        found = sha256()
        for path in sorted(SOURCES.rglob("*")):
            if path.suffix in (".py", ".j2", ".nas", ".json"):
                found.update(str(path.relative_to(SOURCES)).encode() + path.read_bytes())
        return found.hexdigest()[:16]

    def _stop(self, number: int, frame: object) -> None:
        self.stopped.set()
        for process in list(self._running.values()):
            process.send_signal(signal.SIGTERM)

    def _said(self, cell: Cell) -> Outcome:
        outcome = self._run(cell)
        if outcome.status != "done":
            print(f"{time.strftime('%H:%M:%S')} {cell}: {outcome.status} {outcome.note}".rstrip(), flush=True)
        return outcome

    def _run(self, cell: Cell) -> Outcome:
        if self.stopped.is_set():
            return Outcome(cell, "stopped", "before it began")
        cell.folder.mkdir(parents=True, exist_ok=True)
        with (cell.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return Outcome(cell, "busy", "another process runs it; run this command again later")
            changed = cell.changed
            if changed and not self.restart:
                return Outcome(
                    cell,
                    "refused",
                    f"its folder holds another run ({'; '.join(changed)}): --restart redoes it",
                )
            if changed:
                print(f"{cell}: redone, because {'; '.join(changed)}", flush=True)
                _empty(cell.folder)
            if cell.result is not None:
                return Outcome(cell, "done")
            return self._attempt(cell, lock.fileno())

    def _attempt(self, cell: Cell, lock: int) -> Outcome:
        if cell.begun is None:
            begun = {"configuration": cell.name, "seed": cell.seed, "identity": cell.identity, **cell.more}
            write_whole(cell.folder / "cell.json", begun)
        else:
            print(f"{cell}: continued", flush=True)
        compiled = cell.folder / "compiled"
        compiled.mkdir(exist_ok=True)
        for name, text in cell.files.items():
            (compiled / name).write_bytes(text.encode())
        started, code = time.monotonic(), self.code()
        with (cell.folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                cell.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=HERE,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C reaches this process only, which asks the others to save
            )
            self._running[process.pid] = process
            if self.stopped.is_set():
                process.send_signal(signal.SIGTERM)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            del self._running[process.pid]
        attempt = {
            "code": code,
            "processor_s": usage.ru_utime + usage.ru_stime,
            "wall_s": time.monotonic() - started,
            "exit_code": process.returncode,
        }
        with (cell.folder / "attempts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(attempt) + "\n")
        if process.returncode != 0:
            status_word = "stopped" if self.stopped.is_set() else "failed"
            return Outcome(cell, status_word, f"(exit code {process.returncode}) {last_line(cell.folder)}")
        attempts = [
            json.loads(line) for line in (cell.folder / "attempts.jsonl").read_text("utf-8").splitlines()
        ]
        spent = {key: sum(a[key] for a in attempts) for key in ("processor_s", "wall_s")}
        write_whole(
            cell.folder / "result.json",
            {
                "configuration": cell.name,
                "seed": cell.seed,
                **spent,
                "attempts": len(attempts),
                "code": sorted({a["code"] for a in attempts}),
                **cell.collect(cell.folder / "run"),
            },
        )
        return Outcome(cell, "finished", f"{spent['processor_s']:.0f} s of processor time")


def _empty(folder: Path) -> None:
    """Everything but the lock, which is held."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def last_line(folder: Path) -> str:
    """The last words of a cell's output."""
    text = (folder / "output.txt").read_text("utf-8", errors="replace").strip()
    return text.splitlines()[-1] if text else ""


def search_found(run: Path) -> Found:
    """What `search.py` leaves of a run."""
    lines = (run / "log.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    kept = ("valid_accuracy", "skip_share", "entropy_operations", "variable_rate", "pruned")
    found = json.loads((run / "architecture.json").read_text("utf-8"))
    return {
        "choices": found["choices"],
        "epochs": len(lines),
        **{name: last[name] for name in kept if name in last},
    }


def random_found(run: Path) -> Found:
    """What `random_search.py` leaves of a run."""
    found: Found = json.loads((run / "found.json").read_text("utf-8"))
    return found


def python(script: Path, *arguments: str) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, str(script), *arguments]
