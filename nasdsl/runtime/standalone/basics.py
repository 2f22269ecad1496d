"""Mistakes, seeds, devices, schedules: what every loop needs."""

from __future__ import annotations

import math
import os
import random
import sys
import time
import zlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


class Mistake(Exception):
    """Something the user can put right; the script prints it and stops with exit code 1."""


def stable_seed(*parts: object) -> int:
    """A seed that depends on its parts only, the same on every machine."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seeds Python and torch; `deterministic` also asks torch for deterministic algorithms."""
    random.seed(seed)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    else:
        torch.backends.cudnn.benchmark = True


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises Mistake for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise Mistake(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast, or nothing for fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def cosine(start: float, end: float, position: float) -> float:
    """Cosine from `start` (position 0) to `end` (position 1)."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * position))


def require_finite(loss: Tensor, what: str, step: int) -> None:
    """Raises Mistake naming the step when a loss is not a number."""
    if not bool(torch.isfinite(loss)):
        raise Mistake(f"{what} is {float(loss)} at step {step}: lower the learning rate, or use --precision fp32")


class Progress:
    """One line that moves on a terminal; one line an epoch elsewhere."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._last = 0.0

    def step(self, text: str) -> None:
        """Shows where the loop is, at most ten times a second, on a terminal only."""
        if self._tty and time.monotonic() - self._last > 0.1:
            self._last = time.monotonic()
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Prints a line that stays."""
        if self._tty:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text, flush=True)
