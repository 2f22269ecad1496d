"""Checkpoints in a folder: whole or not there, and checked when they are read."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nasdsl.runtime.standalone.basics import Mistake

FORMAT = 2
"""Of what a checkpoint holds; a file of another format is refused, never guessed at."""

_NEW, _DAMAGED = "checkpoint.new", ".damaged"
_AGE = re.compile(r"checkpoint\.previous(\d*)\.pt")
_KEYS = frozenset({"format", "identity", "counters", "parts", "random", "log", "lock"})


class Checkpoints:
    """The last few states of a run: `checkpoint.pt`, `checkpoint.previous.pt`, `checkpoint.previous2.pt` ...

    A state is written beside them, flushed to the disk and renamed, so that a crash at any moment leaves the
    one before. A file is what `torch.save` writes, with the SHA-256 of all its bytes as the comment that its
    archive may end with: `torch.load` reads it as any other. Reading compares that, and loads tensors and
    plain data only, never code.

    Args:
        keep: how many are kept; never fewer than two, of which one is whole while the other is written.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, max(2, keep)

    def path(self, age: int) -> Path:
        """Where the state lies that `age` later ones followed."""
        return self.folder / f"checkpoint{'' if age == 0 else '.previous' + (str(age) if age > 1 else '')}.pt"

    def found(self) -> list[Path]:
        """Those that there are, the last one first.

        At the end one that was written whole and not yet renamed: nothing else may be readable.
        """
        known = [p for age in range(self.keep) if (p := self.path(age)).exists()]
        new = self.folder / _NEW
        return [*known, *self._beyond(), *([new] if _is_whole(new) else [])]

    def _beyond(self) -> list[Path]:
        """Those of a run that kept more, the last one first."""
        names = {p: _AGE.fullmatch(p.name) for p in self.folder.glob("checkpoint.previous*.pt")}
        ages = {p: int(match[1] or 1) for p, match in names.items() if match}
        return sorted((p for p, age in ages.items() if age >= self.keep), key=ages.__getitem__)

    def remove(self) -> None:
        """Forgets all of them."""
        damaged = self.folder.glob(f"checkpoint*{_DAMAGED}")
        for path in (*self.found(), *damaged, self.folder / _NEW):
            path.unlink(missing_ok=True)

    def write(self, state: dict[str, Any]) -> None:
        """Adds a state. Raises Mistake where the disk takes no more; what was there stays whole."""
        new = self.folder / _NEW
        try:
            with new.open("wb") as file:
                torch.save({"format": FORMAT, **state}, file)
            seal(new)
            for age in range(self.keep - 1, 0, -1):
                if self.path(age - 1).exists():
                    os.replace(self.path(age - 1), self.path(age))
            os.replace(new, self.path(0))
            sync_folder(self.folder)
            for path in self._beyond():
                path.unlink()
        except (OSError, RuntimeError) as error:
            new.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else _cause(error)
            if reason is None:
                raise
            whole = self.found()
            kept = f"{whole[0].name} before it is whole" if whole else "there is none before it"
            raise Mistake(
                f"a checkpoint cannot be written to {self.folder}: {reason}; {kept}. "
                "Make room or mend the folder, then run the same command again"
            ) from None

    def read(self, mends: bool = True) -> dict[str, Any] | None:
        """The last state that is whole; None where there is no checkpoint.

        Args:
            mends: puts those aside that cannot be read, as `*.damaged`, where a later save would rename them
                over the one that is whole.

        Raises:
            Mistake: none is whole, or it has another format than this version writes.
        """
        damaged: list[Path] = []
        for path in self.found():
            try:
                state = _read(path)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the one before may be whole
                print(f"{path} cannot be read ({_said(error)})", file=sys.stderr)
                damaged.append(path)
                continue
            if damaged:
                print(f"using the checkpoint before it, {path}", file=sys.stderr)
            _refuse_other(path, state["format"])
            if mends:
                self._put_aside(damaged, path)
            return state
        if damaged:
            raise Mistake(f"no checkpoint in {self.folder} can be read: --restart begins anew")
        return None

    def _put_aside(self, damaged: list[Path], path: Path) -> None:
        for each in damaged:
            os.replace(each, each.with_name(each.name + _DAMAGED))
        if path.name == _NEW:
            os.replace(path, self.path(0))


_SEAL = b"sha256 "
_SEAL_LENGTH = len(_SEAL) + 64


def seal(path: Path) -> None:
    """Adds the digest of an archive to its end, and sees that all of it is on the disk."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)  # how long the comment is, which is the last field where there is none
        file.write(_SEAL_LENGTH.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, os.SEEK_END)
        file.write(_SEAL + digest.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def is_sealed(path: Path) -> bool:
    """Whether a file ends with its digest. Raises ValueError where that is of something else."""
    left, found = path.stat().st_size - _SEAL_LENGTH, hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (part := file.read(min(left, 2**20))):
            found.update(part)
            left -= len(part)
        seal = file.read()
    if not seal.startswith(_SEAL):
        return False
    if seal != _SEAL + found.hexdigest().encode("ascii"):
        raise ValueError("it is damaged")
    return True


def _is_whole(path: Path) -> bool:
    try:
        return path.is_file() and is_sealed(path)
    except (OSError, ValueError):
        return False


def _said(error: Exception) -> str:
    """What is wrong with a file; of pickle's words none: they tell how it would run code after all."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors and plain data; nothing of it was run"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _read(path: Path) -> dict[str, Any]:
    sealed = is_sealed(path)
    if not sealed and not zipfile.is_zipfile(path):
        raise ValueError("it is damaged, or no checkpoint of a run")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it is no checkpoint of a run")
    version = state.setdefault("format", 1)
    if type(version) is not int or (version == FORMAT and not (sealed and state.keys() >= _KEYS)):
        raise ValueError("it is no checkpoint of a run")
    return state


def _refuse_other(path: Path, version: int) -> None:
    if version > FORMAT:
        raise Mistake(
            f"{path} was written by a newer version of nasdsl (format {version}, this one reads {FORMAT}): "
            "update nasdsl and compile again, or begin anew with --restart"
        )
    if version < FORMAT:
        raise Mistake(
            f"{path} was written by an older version of nasdsl (format {version}, this one reads {FORMAT}): "
            "end the run with that version, or begin anew with --restart"
        )


def _cause(error: RuntimeError) -> str | None:
    """What the system said, where `torch.save` wraps it."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError):
        return cause.strerror
    return "the file cannot be written whole" if "PytorchStreamWriter" in str(error) else None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which becomes `path` once all went well and vanishes if not."""
    new = path.with_name(path.name + ".new")
    try:
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder last through a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
