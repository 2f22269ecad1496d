"""Runs scripts to their end, once undisturbed and once killed by SIGKILL at random moments again and again.

    python killer.py JOBS      JOBS: a JSON list of {folder, script, line, kills, seed}

Everything is imported once; every start is a fork. The undisturbed run writes to `whole`, the other one to
`killed` and saves after every step, so that many kills fall into a save. Some kills fall before the run has
found its checkpoint. Prints one JSON list: how many kills there were, where, and what both ended with.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import Any, TextIO

import sklearn.datasets  # noqa: F401
import tensorboard  # noqa: F401
import torch.utils.tensorboard

import nasdsl
from nasdsl.codegen import load  # noqa: F401
from nasdsl.runtime.search import engine  # noqa: F401
from nasdsl.runtime.standalone.run import Run
from nasdsl.shrinking import finder  # noqa: F401
from tests.runtime.forks import ended, fork, run

EARLY = 0.15
"""Part of the kills that come before the run knows where it is."""


def start(
    job: dict[str, Any], line: Sequence[str], out: TextIO, resumed: int | None, kills: bool = True
) -> int:
    """Starts the script; the number of its process. Tells `resumed`, a pipe, when it is in its loop."""

    def work() -> None:
        resume = Run.resume

        def told(self: Run, parts: dict[str, Any]) -> Any:
            if kills:
                self.every = 0.0
            at = resume(self, parts)
            if resumed is not None:
                os.write(resumed, b"x")
            return at

        Run.resume = told  # type: ignore[method-assign]
        run(job["folder"], job["script"], line)

    return fork(work, out)


def attempt(
    job: dict[str, Any], line: Sequence[str], out: TextIO, chance: random.Random, early: float, pause: float
) -> int:
    """Starts the run and kills it after a while; what it ended with: -9 where it was killed."""
    read, write = os.pipe()
    child = start(job, line, out, write)
    os.close(write)
    if chance.random() < EARLY:
        time.sleep(chance.uniform(0, early))
    else:
        select.select([read], [], [])  # it is in its loop, or over
        time.sleep(chance.uniform(0, pause))
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return ended(child)


def killed(job: dict[str, Any]) -> dict[str, Any]:
    """What a job ended with."""
    chance = random.Random(job["seed"])
    with TemporaryFile("w+") as out:
        read, write = os.pipe()
        began = time.monotonic()
        child = start(job, [*job["line"], "--out", "whole"], out, write, kills=False)
        os.close(write)
        select.select([read], [], [])
        begun = time.monotonic()
        codes = [ended(child)]
        os.close(read)
        early, loop = begun - began, time.monotonic() - begun
        line = [*job["line"], "--out", "killed"]
        kills = attempts = 0
        pause = min(8 / job["kills"], 0.8) * loop
        while kills < job["kills"] and attempts < 3 * job["kills"] + 20:
            attempts += 1
            if attempt(job, line, out, chance, early, pause) == -signal.SIGKILL:
                kills += 1
            else:
                pause /= 2  # it was over before: a run that has ended is run again sooner
        codes.append(ended(start(job, line, out, None)))
        out.seek(0)
        text = out.read()
    places = [piece.partition("\n")[0] for piece in text.split("continuing ")[1:]]
    return {"codes": codes, "kills": kills, "places": places, "text": text}


if __name__ == "__main__":
    assert torch.utils.tensorboard
    assert nasdsl.load
    print(json.dumps([killed(job) for job in json.loads(sys.argv[1])]))
