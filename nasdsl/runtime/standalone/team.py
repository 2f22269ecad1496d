"""Several processes that train one network together: who they are, and what they tell each other."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nasdsl.runtime.standalone.basics import Mistake, WrongUse, pick_device, rank_here, raw
from nasdsl.runtime.standalone.meeting import connect, device_among, processes_here, started_again

BUCKET = 2**25
"""Bytes that are averaged at once: a call costs time of its own."""

STATISTICS = ("running_mean", "running_var")
"""Buffers that follow from the rows of a process."""


class Team:
    """The processes that `torchrun` started, as one of them sees them.

    What comes back from it is the same on every process, to the bit; a process that is alone starts nothing
    and gets everything back as it is.

    A batch belongs to all: of its rows process r of w has r, r + w, r + 2 w and so on, so that parts of a
    batch (micro-batches of one size, the first few images) are parts of the same rows whatever the number of
    processes.

    Gradients are averaged after a backward pass and not by DistributedDataParallel: that watches the backward
    pass of a fixed network, and a search differentiates through steps, switches parameters off, draws paths.

    Attributes:
        rank: the number of this process, from 0.
        world: how many there are.
        local: the number of this process on its machine.
        device: what it computes on.
        restarted: whether `torchrun` started the processes again after one failed, or SLURM the job.
        joint: whether synchronised batch norms see the rows of all processes (`separate`).
    """

    def __init__(
        self, rank: int = 0, world: int = 1, local: int = 0, device: torch.device | None = None
    ) -> None:
        self.rank, self.world, self.local = rank, world, local
        self.device = device or torch.device("cpu")
        self.restarted = started_again()
        self.joint = True
        self._host: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Team:
        """A copy of a network belongs to the same processes."""
        return self

    @classmethod
    def start(cls, device: str) -> Team:
        """The processes of `torchrun`, each on a device of its own; alone without it.

        Args:
            device: `auto`, `cpu` or `cuda`; a process that is alone may name one (`cuda:1`).

        Raises:
            WrongUse: a device that is not there, or fewer than there are processes; an environment in which some
                other launcher has said only half of it.
        """
        world, local = processes_here()
        if world == 1:
            return cls(device=pick_device(device))
        found = device_among(device, local)
        team = cls(rank_here(), world, local, found)
        team._host = team._call(lambda: connect(found, team.rank, world))
        if not team.first:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process
        return team

    def close(self) -> None:
        """Ends the connection."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def finish(self) -> bool:
        """All that processes do together is done: the first one is alone from now on.

        Returns:
            Whether this is the first one; the others have nothing left to do.
        """
        self.close()
        self.world = 1
        return self.first

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def _call(self, work: Callable[[], Any]) -> Any:
        """What all processes do at once. Raises Mistake where one of them is gone."""
        try:
            return work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            said = str(error).splitlines()[0][:200]
            raise Mistake(
                f"process {self.rank} of {self.world} lost the others ({said}): "
                "the one that failed first says why; the same command again continues"
            ) from None

    # --- batches -------------------------------------------------------------

    @property
    def rows(self) -> slice:
        """The rows of a batch that this process has."""
        return slice(self.rank, None, self.world)

    def refuse_uneven(self, size: int) -> None:
        """Raises WrongUse for a batch that cannot be divided among the processes."""
        if size % self.world:
            less = max(size - size % self.world, self.world)
            raise WrongUse(
                f"a batch of {size} cannot be divided among {self.world} processes: --set batch_size={less}"
            )

    def gather(self, tensor: Tensor) -> Tensor:
        """The rows (n, ...) of all processes, (n * world, ...), as they are in the batch."""
        if self.world == 1:
            return tensor
        own = tensor.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world)]
        group = self._host if own.device.type == "cpu" else None
        self._call(lambda: dist.all_gather(parts, own, group=group))
        return torch.stack(parts, 1).flatten(0, 1)

    def head(self, tensor: Tensor, count: int) -> Tensor:
        """The first `count` rows of the batch of which this process has `tensor`."""
        return self.gather(tensor[: -(-count // self.world)])[:count]

    # --- sums ----------------------------------------------------------------

    @torch.no_grad()
    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over all processes of a contiguous tensor, in place."""
        if self.world > 1:
            group = self._host if tensor.device.type == "cpu" else None
            self._call(lambda: dist.all_reduce(tensor, group=group))
        return tensor

    @torch.no_grad()
    def means(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The means over all processes, summed in buckets of one format.

        Raises:
            Mistake: the processes have tensors of other shapes, so they are not at the same step.
        """
        found = list(tensors)
        if self.world == 1:
            return found
        self._compare(str([(tuple(t.shape), str(t.dtype)) for t in found]), f"{len(found)} tensors")
        made: dict[int, Tensor] = {}
        for bucket in _buckets(found):
            flat = torch.cat([found[i].reshape(-1) for i in bucket])
            flat = self.sum_(flat) / self.world
            parts = torch.split(flat, [found[i].numel() for i in bucket])
            made |= {i: part.view(found[i].shape) for i, part in zip(bucket, parts, strict=True)}
        return [made[i] for i in range(len(found))]

    @torch.no_grad()
    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """`means`, in place."""
        found = list(tensors)
        for tensor, mean in zip(found, self.means(found), strict=True):
            if mean is not tensor:
                tensor.copy_(mean)

    def reduced(self, net: nn.Module, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """After a backward pass: gradients and running statistics become those of the whole batch.

        Statistics that a process took from its own rows are averaged; those of synchronised batch norms are
        the same everywhere already.

        Args:
            loss: of this process, shape ().

        Returns:
            The loss of the whole batch, shape ().
        """
        if self.world == 1:
            return loss
        loss = loss.detach().clone()
        self.mean_([loss, *(p.grad for p in parameters if p.grad is not None)])
        self.average_statistics(net)
        return loss

    @torch.no_grad()
    def average_statistics(self, net: nn.Module) -> None:
        """Running statistics that each process took from its own rows become their means."""
        if self.world == 1:
            return
        norms = [m for m in net.modules() if synced(m) is None]
        found = [b for m in norms for n, b in m.named_buffers(recurse=False) if n in STATISTICS]
        # In double precision the mean of equal numbers is that number: what did not move stays as it is.
        for buffer, mean in zip(found, self.means([b.double() for b in found]), strict=True):
            buffer.copy_(mean)

    # --- agreement -----------------------------------------------------------

    def most(self, value: int) -> int:
        """The largest of the values that the processes have."""
        if self.world == 1:
            return value
        found = torch.tensor([value])
        self._call(lambda: dist.all_reduce(found, dist.ReduceOp.MAX, group=self._host))
        return int(found)

    def total(self, *values: int) -> tuple[int, ...]:
        """The sums of integers over the processes."""
        if self.world == 1:
            return values
        found = torch.tensor(values)
        self._call(lambda: dist.all_reduce(found, group=self._host))
        return tuple(found.tolist())

    def decide(self, value: Any) -> Any:
        """The value of the first process, for all."""
        if self.world == 1:
            return value
        told = [value if self.first else None]
        self._call(lambda: dist.broadcast_object_list(told, src=0, group=self._host))
        return told[0]

    def once(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, for all; a Mistake that it meets is one of all."""
        if self.world == 1:
            return make()
        made, mistake = None, None
        if self.first:
            try:
                made = make()
            except Mistake as found:
                mistake = found
        made, mistake = self.decide((made, mistake))
        if mistake is not None:
            mistake.shared = True
            raise mistake
        return made

    def each(self, make: Callable[[], Any]) -> Any:
        """What every process makes for itself.

        Raises:
            Mistake: on every process where one of them meets one: its own, or that others have.
        """
        if self.world == 1:
            return make()
        made: Any = None
        mistake: Mistake | None = None
        try:
            made = make()
        except Mistake as found:
            mistake = found
        (failed,) = self.total(int(mistake is not None))
        if mistake is not None:
            mistake.shared = failed == self.world
            raise mistake
        if failed:
            raise _of_all(f"{failed} of {self.world} processes cannot begin, and say why")
        return made

    def in_turn(self, make: Callable[[], Any]) -> Any:
        """What each process makes, the first of every machine before the others: it may write files."""
        if self.world == 1 or self.local == 0:
            made = make()
            self.most(0)
            return made
        self.most(0)
        return make()

    def agree(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """Compares tensors to the last bit.

        Raises:
            Mistake: on every process, naming the process that differs and the tensor.
        """
        if self.world == 1:
            return
        own = [hashlib.blake2b(_bytes(t), digest_size=8).hexdigest() for t in tensors]
        everyone = self._everyone(dict(zip(names, own, strict=True)))
        for name in dict.fromkeys(n for known in everyone for n in known):
            digests = [known.get(name) for known in everyone]
            if len(set(digests)) == 1:
                continue
            # Most have what is right; of two, the first process.
            usual, _ = Counter(digests).most_common(1)[0]
            odd = [rank for rank, digest in enumerate(digests) if digest != usual]
            differing = sum(any(k.get(n) != everyone[0].get(n) for k in everyone) for n in everyone[0])
            more = f" (and {differing - 1} more)" if differing > 1 else ""
            raise _of_all(
                f"rank {odd[0]} has another value of `{name}`{more} than the other processes: their searches have "
                "parted; the same command again continues from the last checkpoint, the same for all"
            )

    def alike(self, facts: Mapping[str, Any]) -> None:
        """Raises Mistake on every process where one of them knows another run than the first one."""
        if self.world == 1:
            return
        everyone = self._everyone(dict(facts))
        for rank, known in enumerate(everyone):
            for name in {**everyone[0], **known}:
                if known.get(name) != everyone[0].get(name):
                    raise _of_all(
                        f"rank {rank} has another `{name}` than rank 0 ({known.get(name)}, {everyone[0].get(name)}): "
                        "all machines must have the same directory, data and versions"
                    )

    def _everyone(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.world
        self._call(lambda: dist.all_gather_object(found, value, group=self._host))
        return found

    def _compare(self, what: str, words: str) -> None:
        """Raises Mistake on every process where they are about to average different things."""
        digest = zlib.crc32(what.encode())
        ends = torch.tensor([digest, -digest])
        self._call(lambda: dist.all_reduce(ends, dist.ReduceOp.MAX, group=self._host))
        if int(ends[0]) == -int(ends[1]):
            return
        everyone = self._everyone((digest, words))
        usual = Counter(d for d, _ in everyone).most_common(1)[0][0]
        rank = next(r for r, (d, _) in enumerate(everyone) if d != usual)
        raise _of_all(
            f"rank {rank} has gradients of {everyone[rank][1]} where others have those of "
            f"{next(w for d, w in everyone if d == usual)}, not all of the same shapes: their searches have parted; "
            "the same command again continues from the last checkpoint, the same for all"
        )

    @contextmanager
    def separate(self) -> Iterator[None]:
        """Inside, batch norm sees what its own process computes and nothing else."""
        before, self.joint = self.joint, False
        try:
            yield
        finally:
            self.joint = before


ALONE = Team()
"""One process, on the CPU or wherever its tensors are."""


def synced(module: nn.Module) -> Team | None:
    """The team whose rows a batch norm sees at the moment; None where it sees those of its own process."""
    team = getattr(module, "team", None)
    return team if isinstance(team, Team) and team.joint and team.world > 1 else None


def _of_all(text: str) -> Mistake:
    mistake = Mistake(text)
    mistake.shared = True
    return mistake


def _bytes(tensor: Tensor) -> bytes:
    kind = json.dumps([list(tensor.shape), str(tensor.dtype)]).encode()
    return kind + bytes(raw(tensor))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """The indices of tensors of one format and device, as many as fit into a bucket."""
    for kind in dict.fromkeys((t.dtype, t.device) for t in tensors):
        bucket: list[int] = []
        size = 0
        for index, tensor in enumerate(tensors):
            if (tensor.dtype, tensor.device) != kind:
                continue
            bytes_of = tensor.numel() * tensor.element_size()
            if bucket and size + bytes_of > BUCKET:
                yield bucket
                bucket, size = [], 0
            bucket.append(index)
            size += bytes_of
        if bucket:
            yield bucket
