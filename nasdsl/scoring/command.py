"""Scores of a user's own command.

Takes words, returns a source. Invariant: no shell reads the words; the command runs once an architecture,
reads its JSON from standard input, and the last line of its standard output is the score; a command that
takes too long is stopped with everything that it started.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.scoring.sources import Choices, Source, digest_of_file, unscored
from nasdsl.space.architecture import Architecture

if TYPE_CHECKING:
    from nasdsl.api import Space

_LINES = 3
"""Lines of standard error that a message quotes."""
_RUNNING: set[subprocess.Popen[str]] = set()


@attrs.frozen
class CommandScores:
    """A command.

    Attributes:
        words: the program and its arguments.
        timeout: seconds that one architecture may take; None for any.
    """

    words: tuple[str, ...]
    timeout: float | None = None

    def prepared(self, space: Space) -> CommandScores:
        return self

    def open(self, space: Space) -> Source:
        return _Command(self, space)


class _Command:
    looked_up = False

    def __init__(self, kind: CommandScores, space: Space) -> None:
        self._kind, self._space = kind, space
        self.name = f"`{' '.join(kind.words)}`"

    def identity(self) -> Mapping[str, Any]:
        """The words, and the checksums of those that are files: a script that is edited is another one."""
        files = {word: digest_of_file(word) for word in self._kind.words}
        return {"command": self._kind.words, "files": {w: d for w, d in files.items() if d is not None}}

    def score(self, choices: Choices) -> float:
        arch = Architecture(self._space.name, self._space.fingerprint, choices)
        code, out, err = self._run(arch.to_json() + "\n")
        if code != 0:
            how = f"was ended by signal {-code}" if code < 0 else f"left with code {code}"
            raise unscored(
                f"{self.name} {how}{_tail(err)}", "run it by hand with the architecture's JSON as input"
            )
        last = (out.strip().splitlines() or [""])[-1].strip()
        try:
            score = float(last)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            said = f"`{last[:80]}`" if last else "nothing"
            raise unscored(
                f"{self.name} printed {said}, which is no number{_tail(err)}",
                "the last line of its standard output is the score, higher is better: print(0.93)",
            )
        return score

    def _run(self, given: str) -> tuple[int, str, str]:
        try:
            # A session of its own, so that what the command starts can be stopped with it.
            process = subprocess.Popen(
                self._kind.words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise unscored(
                f"{self.name} cannot be run: {reason.lower()}", "--command takes PROGRAM ARGUMENTS"
            ) from None
        _RUNNING.add(process)
        try:
            out, err = process.communicate(given, timeout=self._kind.timeout)
        except subprocess.TimeoutExpired:
            raise unscored(
                f"{self.name} took more than {self._kind.timeout:g} seconds", "--timeout gives it more"
            ) from None
        finally:
            if process.poll() is None:
                _end(process)
            _RUNNING.discard(process)
        return process.returncode, out, err


def stop_running() -> None:
    """Ends the commands that this process waits for."""
    for process in list(_RUNNING):
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _tail(err: str) -> str:
    lines = err.strip().splitlines()[-_LINES:]
    return ": " + " / ".join(line.strip()[:200] for line in lines) if lines else ""


__all__ = ["CommandScores", "stop_running"]
