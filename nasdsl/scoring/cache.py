"""Scores in a file of lines, one more the moment it is known.

Takes a path and what scores have in common, returns scores by identity. Invariant: a line is written
whole in one call, so a run that is killed loses no score but that of an unfinished architecture; a line
that was cut, or is of another source, plays no part; nothing in the file is ever changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from nasdsl.errors import UserError
from nasdsl.space.decisions import Choice


def hashed(identity: Mapping[str, Any]) -> str:
    """A short hash of what scores have in common."""
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def text_of(choices: Mapping[str, Choice]) -> str:
    """One text for the same choices."""
    return json.dumps(dict(choices), sort_keys=True)


class Cache:
    """Scores of one source.

    Attributes:
        scores: by the identity of an architecture.
        identities: those known already, by the text of the choices: computing one takes longer than reading it.
    """

    def __init__(self, path: Path | None, of: str) -> None:
        self.path, self.of = path, of
        self.scores: dict[str, float] = {}
        self.identities: dict[str, str] = {}
        self._cut = False
        if path is not None and path.exists():
            self._read(path)

    def put(self, identity: str, choices: Mapping[str, Choice], score: float) -> None:
        """Keeps a score. Raises UserError (NAS005) where the file cannot be written."""
        self.scores[identity] = score
        if self.path is None:
            return
        # JSON has no infinity: a text that float() reads.
        kept = score if abs(score) != float("inf") else str(score)
        line = json.dumps({"of": self.of, "id": identity, "choices": dict(choices), "score": kept}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Appended in one call: two runs with one file do not write into each other's lines.
            with self.path.open("ab", buffering=0) as file:
                file.write(("\n" * self._cut + line).encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise _trouble(self.path, "written", error) from None
        self._cut = False

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _trouble(path, "read", error) from None
        self._cut = bool(data) and not data.endswith(b"\n")
        lines = data.split(b"\n")[:-1]  # what stands behind the last end of a line was cut
        for line in lines:
            try:
                record = json.loads(line)
                if record["of"] == self.of:
                    self.scores[record["id"]] = float(record["score"])
                    self.identities[text_of(record["choices"])] = record["id"]
            except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
                continue  # cut short by a crash


def _trouble(path: Path, what: str, error: OSError) -> UserError:
    why = (error.strerror or type(error).__name__).lower()
    return UserError.plain("NAS005", f"{path} cannot be {what}: {why}", help="--cache names a file of scores")


__all__ = ["Cache", "hashed", "text_of"]
