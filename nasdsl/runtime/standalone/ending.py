"""How a script ends: what a user can put right is one message and an exit code."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from pathlib import Path

import torch

from nasdsl.runtime.standalone.basics import Mistake, complain, rank_here
from nasdsl.runtime.standalone.run import Run

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WRITING = _FULL | {errno.EROFS}
"""What only writing meets; reading meets the rest of `_DISK`, too."""
_DISK = _WRITING | {
    *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG),
}


def guarded(main: Callable[[], None], memory: Callable[[], str] | None = None) -> None:
    """Runs a script's main: what a user can put right is one message and an exit code.

    A Mistake has its own exit code, Ctrl-C 130, a full memory or a disk that takes no more 1.

    Args:
        memory: what to say of the memory that this run needs.
    """
    try:
        main()
    except Mistake as mistake:
        said = str(mistake)
        complain(said if said.startswith("error") else f"error: {said}", mistake.shared)
        raise SystemExit(mistake.exit_code) from None
    except KeyboardInterrupt:
        complain("interrupted; run the same command again to continue from the last checkpoint", shared=True)
        raise SystemExit(130) from None
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        # What the loop held is held by the traceback; the advice may need that memory.
        error.__traceback__ = None
    except OSError as error:
        if error.errno not in _DISK:
            raise
        complain(f"error: {_of_the_disk(error)}")
        raise SystemExit(1) from None
    else:
        return
    _say_memory(said, memory)
    raise SystemExit(1)


def _of_the_disk(error: OSError) -> str:
    """What of the disk went wrong, and what to do."""
    file = str(error.filename) if error.filename else ""
    if error.errno not in _WRITING and not _of_the_run(file):
        return f"{file or 'a file'} cannot be used: {error.strerror}"
    what = f"{file or 'a file'} cannot be written: {error.strerror}."
    if error.errno in _FULL:
        return f"{what} Make room, then run the same command again"
    return f"{what} Make it writable and run the same command again, or choose another folder with --out"


def _of_the_run(file: str) -> bool:
    """Whether a path lies in the folder of this process's run, or that in it."""
    if Run.latest is None or not file:
        return False
    folder, path = Run.latest.folder.resolve(), Path(file).resolve()
    return path == folder or folder in path.parents or path in folder.parents


def _out_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    words = ("can't allocate memory", "not enough memory", "CUDA out of memory")
    return isinstance(error, kinds) or any(word in str(error) for word in words)


def _say_memory(said: str, memory: Callable[[], str] | None) -> None:
    run = Run.latest
    place = f" at epoch {run.at['epoch'] + 1}, step {run.at['step'] + 1}" if run is not None else ""
    if run is not None:
        run.parts.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    complain(f"error: out of memory{place}: {said}")
    if memory is not None and rank_here() == 0:
        try:
            complain(memory(), shared=True)
        except (Mistake, RuntimeError, MemoryError):
            complain("Make batch_size smaller, or use --precision bf16", shared=True)
