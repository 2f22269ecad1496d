"""Mistakes, seeds, devices, schedules, meters: what every loop needs."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import math
import os
import random
import sys
import time
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn


class Mistake(Exception):
    """Something the user can put right; the script prints it in one line and stops.

    `shared`: of several processes that train together all have met it, so one of them says it.
    """

    exit_code = 1
    shared = False


class WrongUse(Mistake):
    """The same, where the command line itself is wrong."""

    exit_code = 2


def rank_here() -> int:
    """The number of this process among those that `torchrun` started; 0 without it."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return 0  # what else a shell or a queue calls RANK is not ours
    rank = os.environ.get("RANK", "0")
    return int(rank) if rank.isdecimal() else 0


def complain(text: str, shared: bool = False) -> None:
    """Says what went wrong; of several processes that have all met it (`shared`) the first one does."""
    if rank_here() == 0 or not shared:
        print(text if rank_here() == 0 else f"rank {rank_here()}: {text}", file=sys.stderr, flush=True)


def close_to(word: str, known: Iterable[str]) -> str:
    """What to say after an unknown word: the nearest known one, else all of them."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there is {', '.join(names)}"


@dataclass(frozen=True)
class Rule:
    """What a setting may be: a type, for numbers inclusive bounds, for words the words that there are."""

    kind: type
    low: float = float("-inf")
    high: float = float("inf")
    words: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """The value, given as text or as TOML gives it. Raises ValueError saying what it must be."""
        if isinstance(value, str) and self.kind is not str:
            value = self._parse(value)
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise ValueError(self._word())
        if self.words and value not in self.words:
            raise ValueError(f"one of {', '.join(self.words)}")
        if isinstance(value, (int, float)) and not self.low <= value <= self.high:
            bound = f"at most {self.high:g}" if value > self.high else f"at least {self.low:g}"
            raise ValueError(f"{self._word()}, {bound}")
        return value

    def _parse(self, text: str) -> Any:
        try:
            return {"true": True, "false": False}[text.lower()] if self.kind is bool else self.kind(text)
        except (ValueError, KeyError):
            raise ValueError(self._word()) from None

    def _word(self) -> str:
        return {bool: "true or false", int: "an integer", float: "a number"}.get(self.kind, "a word")


def stable_seed(*parts: object) -> int:
    """A seed that depends on its parts only, the same on every machine."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """A short fingerprint of a file's bytes."""
    return sha256_of(path)[:16]


def raw(tensor: Tensor) -> Any:
    """The bytes of a tensor, for a digest; not copied where they lie in main memory and in order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seeds Python, numpy and torch.

    Args:
        deterministic: asks torch for algorithms that give the same bits every time. cuBLAS has to be asked
            before it starts: `read_arguments` does.
    """
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises WrongUse for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise WrongUse(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast, or nothing for fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def channels_last(net: nn.Module) -> None:
    """Puts the weights of convolutions in the layout that is fastest, in place; numbers stay as they are.

    Not where a plain pointwise convolution over fewer than eight channels has a stride: on a processor
    without AVX-512 PyTorch (seen in 2.13) writes outside its memory in that one's backward pass.
    """
    if any(_narrow(m) for m in net.modules()):
        return
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _narrow(module: nn.Module) -> bool:
    if type(module) is not nn.Conv2d or module.kernel_size != (1, 1) or module.stride == (1, 1):
        return False
    return module.in_channels < 8


def cosine(start: float, end: float, position: float) -> float:
    """Cosine from `start` (position 0) to `end` (position 1)."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * position))


class Meter:
    """Sums of losses by name, read from the device in groups, since every read makes a GPU wait.

    `sums`, a total and a number of losses for each name, belongs to the caller, who saves it with the
    run. A loss that is not finite is found when its group is read, and `flush` comes before every save, so
    a run that has diverged never overwrites a good checkpoint. The message names the tensors of `net` that
    are not finite.

    Args:
        precision: that of the run, for the cure.
    """

    def __init__(
        self,
        sums: dict[str, list[float]],
        device: torch.device,
        net: nn.Module | None = None,
        precision: str = "",
    ) -> None:
        self.sums, self.net = sums, net
        self.shown: dict[str, float] = {}
        self._new: dict[str, float] = {}
        self._cure = "lower the learning rate"
        if precision == "bf16":
            self._cure += ", or use --precision fp32"
        self._group = 1 if device.type == "cpu" else 50
        self._waiting: list[tuple[str, int, Tensor]] = []

    def add(self, name: str, loss: Tensor, step: int) -> None:
        """Takes a loss, shape (), of a step. Raises Mistake as `flush` does."""
        self._waiting.append((name, step, loss.detach().float()))
        if len(self._waiting) >= self._group:
            self.flush()

    def flush(self) -> None:
        """Reads what was added. Raises Mistake naming the loss and the step that is not finite."""
        if not self._waiting:
            return
        values = torch.stack([loss for _, _, loss in self._waiting]).tolist()
        waiting, self._waiting = self._waiting, []
        for (name, step, _), value in zip(waiting, values, strict=True):
            if not math.isfinite(value):
                mistake = Mistake(
                    f"{name.replace('_', ' ')} is {value} at step {step}{not_finite(self.net)}: {self._cure}"
                )
                mistake.shared = True  # losses are those of the whole batch
                raise mistake
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, count + 1]
            self.shown[name] = self._new[name] = value

    def new(self) -> dict[str, float]:
        """What was read since this was asked last, by name."""
        found, self._new = self._new, {}
        return found

    def means(self) -> dict[str, float]:
        """The mean of what was read, by name."""
        return {name: total / count for name, (total, count) in self.sums.items()}

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in self.shown.items())


def not_finite(net: nn.Module | None, shown: int = 3) -> str:
    """Which parameters, gradients and buffers of a network hold nan or inf, in words; "" without a network."""
    if net is None:
        return ""
    tensors: list[tuple[str, Tensor]] = [(f"weight {name}", p) for name, p in net.named_parameters()]
    tensors += [(f"gradient of {n}", p.grad) for n, p in net.named_parameters() if p.grad is not None]
    tensors += [(f"statistic {name}", b) for name, b in net.named_buffers() if b.is_floating_point()]
    bad = [name for name, tensor in tensors if not bool(tensor.detach().isfinite().all())]
    if not bad:
        return " (all weights and statistics are finite: are the examples?)"
    more = f" and {len(bad) - shown} more of {len(tensors)} tensors" if len(bad) > shown else ""
    return f" (not finite: {', '.join(bad[:shown])}{more})"


class Progress:
    """One line that moves on a terminal; only the lines that stay elsewhere. It uses no colour."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and rank_here() == 0
        self._last = 0.0

    def step(self, text: str) -> None:
        """Shows where the loop is, at most ten times a second, on a terminal only."""
        if self._moving and time.monotonic() - self._last > 0.1:
            self._last = time.monotonic()
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Prints a line that stays."""
        if self._moving:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text, flush=True)


_OPERATORS: list[torch.library.Library] = []
"""Declared operators live as long as something holds their library."""


def ensure_torchvision() -> None:
    """Makes `import torchvision` work beside a torch build without its native operators.

    The wheel of torchvision from the registry is a CUDA build; beside a CPU build of
    torch its operators are not registered and its import fails with "operator
    torchvision::nms does not exist". Declaring the two schemas that the import asks
    for is enough for data sets, transforms and models. Where the operators exist
    nothing is declared.

    Raises:
        Mistake: torchvision is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except ImportError as error:
        raise Mistake(f"image data need torchvision: {error}") from None
    except RuntimeError:
        # The failed import has left half of the package behind.
        for module in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        _OPERATORS.append(library)
        importlib.import_module("torchvision")
