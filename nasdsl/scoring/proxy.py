"""Scores of networks that were never trained.

Takes the name of a proxy and of a data set, returns a source. Invariant: all architectures see one
minibatch, which is drawn once and goes to the workers as plain bytes, and weights of one seed; a score
does not depend on how many threads or processes there are.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.scoring.sources import Choices, Source, unscored
from nasdsl.space.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from nasdsl.api import Space

NAMES = ("synflow", "naswot", "jacov", "grad_norm")
WITHOUT_DATA = frozenset({"synflow"})
"""Those for which the examples do not matter."""


@attrs.frozen
class Minibatch:
    """Examples and labels as plain data, float32 in the shape `shape`."""

    examples: bytes
    shape: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def digest(self) -> str:
        """What tells one minibatch from another."""
        return sha256(repr((self.shape, self.labels)).encode() + self.examples).hexdigest()


@attrs.frozen
class ProxyScores:
    """A proxy of `nasdsl.runtime.search.proxies` on the stand-alone network with fresh weights.

    Attributes:
        data: as `--data` of `search.py`; None for a proxy that looks at no example.
        batch: examples of the minibatch.
        seed: of the weights and of the minibatch.
        minibatch: drawn by `prepared`.
    """

    proxy: str
    data: str | None = None
    data_dir: str = "data"
    batch: int = 64
    seed: int = 0
    device: str = "auto"
    minibatch: Minibatch | None = None

    def prepared(self, space: Space) -> ProxyScores:
        """Raises UserError (NAS608) for data that cannot be loaded."""
        if self.proxy in WITHOUT_DATA or self.minibatch is not None:
            return self
        from nasdsl.runtime.search.proxies import minibatch
        from nasdsl.runtime.standalone.basics import Mistake

        if self.data is None:
            raise unscored(
                f"{self.proxy} looks at data, and none are named", "name a data set: --data digits"
            )
        declared = (space.checked.input.layout, *_largest(space))
        try:
            x, y, _ = minibatch(
                self.data, declared, space.checked.classes, self.data_dir, self.batch, self.seed
            )
        except Mistake as mistake:
            raise unscored(str(mistake), "--data and --data-dir say where data are") from None
        plain = Minibatch(x.contiguous().numpy().tobytes(), tuple(x.shape), tuple(y.tolist()))
        return attrs.evolve(self, minibatch=plain)

    def open(self, space: Space) -> Source:
        return _Untrained(self.prepared(space), space)


class _Untrained:
    looked_up = False

    def __init__(self, kind: ProxyScores, space: Space) -> None:
        self.name = kind.proxy
        self._kind, self._space = kind, space
        self._ready: tuple[Tensor, Tensor] | None = None

    def identity(self) -> Mapping[str, Any]:
        drawn = self._kind.minibatch
        data = None if drawn is None else drawn.digest
        return {"proxy": self._kind.proxy, "seed": self._kind.seed, "minibatch": data}

    def score(self, choices: Choices) -> float:
        from nasdsl.runtime.search.proxies import PROXIES, fitted

        space = self._space.checked
        shape = tuple(int(d.settle(choices).evaluate({})) for d in space.input.dims)
        with _one_thread():
            x, y = self._examples()
            arch = Architecture(self._space.name, self._space.fingerprint, choices)
            net = self._space.network(arch, seed=self._kind.seed).to(x.device)
            try:
                return PROXIES[self._kind.proxy](net, fitted(x, shape), y)
            except ValueError as error:
                raise unscored(
                    f"{self._kind.proxy}: {error}", f"of this space take another proxy: {', '.join(NAMES)}"
                ) from None
            finally:
                _forget(type(net).__module__)

    def _examples(self) -> tuple[Tensor, Tensor]:
        """The minibatch on the device; for a proxy that looks at none, zeros of the largest shape."""
        if self._ready is None:
            import torch

            from nasdsl.runtime.standalone.basics import Mistake, pick_device

            try:
                device = pick_device(self._kind.device)
            except Mistake as mistake:
                raise unscored(str(mistake), "--device cpu is always there") from None
            drawn = self._kind.minibatch
            if drawn is None:
                x, y = torch.zeros(1, *_largest(self._space)), torch.zeros(1, dtype=torch.long)
            else:
                x = torch.frombuffer(bytearray(drawn.examples), dtype=torch.float32).view(drawn.shape)
                y = torch.tensor(drawn.labels)
            self._ready = x.to(device), y.to(device)
        return self._ready


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of floats depend on how they are divided among threads, and workers have several between them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _forget(module: str) -> None:
    """Drops the text of a network that is not needed again: there may be many thousands."""
    sys.modules.pop(module, None)
    linecache.cache.pop(f"<{module}>", None)


def _largest(space: Space) -> tuple[int, ...]:
    from nasdsl.codegen.sizes import largest

    return tuple(largest(d) for d in space.checked.input.dims)


__all__ = ["NAMES", "WITHOUT_DATA", "Minibatch", "ProxyScores"]
