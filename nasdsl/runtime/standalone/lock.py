"""What a run was made from, and what its first steps and its files come to: `nasdsl.lock` in its folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasdsl.runtime.standalone.artefacts import RETRAINED, SEARCHED, left_in
from nasdsl.runtime.standalone.basics import Mistake, raw, sha256_of

LOCK = "nasdsl.lock"
LOCK_FORMAT = 1
FIRST_STEPS = 3
"""Steps whose losses and weights a digest is kept of."""

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "nasdsl")


def environment(device: torch.device) -> dict[str, Any]:
    """What results depend on beside the program: versions, device, threads."""
    cuda = device.type == "cuda"
    cudnn = torch.backends.cudnn.version() if cuda else None  # type: ignore[no-untyped-call]
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": cudnn,
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over named tensors, to the bit."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(raw(tensor))
    return found.hexdigest()


def digests(folder: Path, known: tuple[str, ...] = SEARCHED + RETRAINED) -> dict[str, str]:
    """The files that a run has finished, by their path in its folder. Checkpoints have check sums inside."""
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in left_in(folder, known)}


def checksum_of(lock: Mapping[str, Any]) -> str:
    """SHA-256 of what a lock holds, as canonical JSON: what it says of itself."""
    text = json.dumps(lock, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def text_of_lock(lock: Mapping[str, Any]) -> str:
    """A lock as it is written, with its checksum."""
    return json.dumps({**lock, "checksum": checksum_of(lock)}, indent=1, default=str) + "\n"


def read_lock(folder: Path) -> dict[str, Any] | None:
    """The lock of a run; None where there is none, or one of a directory. Raises Mistake if it cannot be read."""
    path = folder / LOCK
    if not path.is_file():
        return None
    try:
        lock = dict(json.loads(path.read_text("utf-8")))
        if lock.get("kind") == "directory":
            return None
        if lock.pop("checksum") == checksum_of(lock) and isinstance(lock["files"], dict):
            return lock
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Mistake(f"{path} cannot be read: run the script that wrote the folder again, it is written anew")


def refuse_directory(folder: Path) -> None:
    """Raises Mistake for a folder that `nasdsl compile` wrote: a run would take the place of its lock."""
    try:
        kind = json.loads((folder / LOCK).read_text("utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    if kind == "directory":
        raise Mistake(f"{folder} is a compiled directory: name a folder of the run's own with --out DIR")


def refuse_damaged(path: Path, cure: str) -> None:
    """Refuses a file that is not what the run around it finished.

    Args:
        cure: what to do, for the message.

    Raises:
        Mistake: it, or the lock of its run, was changed or damaged.
    """
    full = path.resolve()
    for folder in (full.parent, full.parent.parent):
        lock = read_lock(folder)
        if lock is None:
            continue
        known = lock["files"].get(full.relative_to(folder).as_posix())
        if known is not None and path.is_file() and sha256_of(path) != known:
            raise Mistake(f"{path} is not what was written there: it was changed or damaged. {cure}")
        return
