"""Image folders that are decoded when they are used, for those larger than memory."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from nasdsl.runtime.standalone.augmentation import WHOLE, RandAugment, as_bytes, pillow_filter
from nasdsl.runtime.standalone.basics import Mistake, ensure_torchvision, stable_seed

MEMORY_SHARE = 0.4
"""`loader=auto` streams images that would take more than this part of the machine's memory."""

STATISTICS_IMAGES = 2048
"""Mean and deviation of streamed images are those of so many of the training set, always the same ones."""

EVALUATED_PART = 224 / 256
"""Evaluation sees the centre of an image whose shorter side is the network's over this."""

KEPT_BYTES = 2**29
"""Images decoded for evaluation stay in memory up to this size: searches look at the same ones again."""

Found = tuple[numpy.ndarray[Any, Any], Tensor, list[str]]
"""The files of an image folder, as bytes in one array (workers share it), their labels, the classes."""


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what a container is given."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
    except OSError:
        return size
    return min(size, int(limit)) if limit.isdecimal() else size


def find_images(path: Path) -> Found:
    """What torchvision's ImageFolder finds. Raises Mistake for a folder without classes or images."""
    ensure_torchvision()
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(path))
    except OSError as error:
        raise Mistake(f"--data imagefolder:{path}: {str(error).splitlines()[0]}") from None
    files = numpy.array([os.fsencode(name) for name, _ in found.samples])
    return files, torch.tensor(found.targets), list(found.classes)


def read_image(name: str, channels: int) -> Any:
    """A file as a PIL image of grey or colour. Raises Mistake naming a file that cannot be read."""
    from PIL import Image

    try:
        with Image.open(name) as image:
            return image.convert("L" if channels == 1 else "RGB")
    except OSError as error:
        raise Mistake(f"{name} cannot be read: {error}") from None


@dataclass(frozen=True)
class Pictures:
    """Image files that stand for bytes (N, C, H, W): a slice is decoded when it is asked for.

    As evaluation sees them: the shorter side scaled to 256/224 of the longer side of the input, the centre
    cut out (torchvision's Resize and CenterCrop).

    Attributes:
        interpolation: bilinear, bicubic or random; random is of training images, evaluation is bilinear.
        workers: threads that decode a slice, processes that decode the batches of a stream; 0 for none.
    """

    files: numpy.ndarray[Any, Any]
    size: tuple[int, int, int]
    interpolation: str
    workers: int
    _kept: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.files), *self.size))

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def dim(self) -> int:
        return 4

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: Tensor) -> Pictures:
        """The files of an index (M,), not decoded."""
        return replace(self, files=self.files[index.cpu().numpy()], _kept={})

    def __getitem__(self, chosen: slice) -> Tensor:
        """Images of a slice, as evaluation sees them: bytes (M, C, H, W)."""
        start, stop, _ = chosen.indices(len(self))
        if (start, stop) in self._kept:
            return self._kept[start, stop]
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            made = list(pool.map(self.centre, range(start, stop)))
        batch = torch.stack(made) if made else torch.empty(0, *self.size, dtype=torch.uint8)
        if sum(b.numel() for b in self._kept.values()) + batch.numel() <= KEPT_BYTES:
            self._kept[start, stop] = batch
        return batch

    def open(self, index: int) -> Any:
        """A file, decoded: a PIL image in its own size."""
        return read_image(os.fsdecode(self.files[index]), self.size[0])

    def centre(self, index: int) -> Tensor:
        """An image as evaluation sees it."""
        from torchvision.transforms.v2 import functional

        side = round(max(self.size[1:]) / EVALUATED_PART)
        image = functional.resize(self.open(index), [side], torchvision_filter(self.interpolation))
        return as_bytes(functional.center_crop(image, list(self.size[1:])))

    def sample(self) -> Tensor:
        """The images that mean and deviation are taken from, as evaluation sees them."""
        order = numpy.random.RandomState(0).permutation(len(self))[:STATISTICS_IMAGES]
        return self.take(torch.from_numpy(numpy.sort(order)))[:]


def torchvision_filter(interpolation: str) -> Any:
    """The mode of torchvision that an interpolation names; of `random`, bilinear."""
    from torchvision.transforms.v2 import InterpolationMode

    return InterpolationMode.BICUBIC if interpolation == "bicubic" else InterpolationMode.BILINEAR


def random_window(size: tuple[int, int], draw: random.Random) -> tuple[int, int, int, int]:
    """Top, left, height and width of a window in an image of a size (width, height).

    It has .08 to 1 of the area and is 3/4 to 4/3 as wide as high. As torchvision's
    RandomResizedCrop: ten tries, then the largest window in the middle whose proportions are allowed.
    """
    width, height = size
    narrow, wide = math.log(3 / 4), math.log(4 / 3)
    for _ in range(10):
        area = width * height * draw.uniform(0.08, 1.0)
        ratio = math.exp(draw.uniform(narrow, wide))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return draw.randint(0, height - h), draw.randint(0, width - w), h, w
    w = min(width, round(height * 4 / 3))
    h = min(height, round(width * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class Batches:
    """All batches of a stream by position, for ever: a data set of torch's DataLoader.

    Invariant: a batch follows from (seed, name) and its position, whatever process makes it.

    Of several processes each has its `rows` of a batch and decodes no others.

    A batch is (bytes (B, C, H, W), labels (B,)), or text that says what is wrong with a file: an exception
    that crosses from one process to another would arrive as the text of a traceback.
    """

    pictures: Pictures
    labels: Tensor
    size: int
    seed: int
    name: str
    augment: bool
    flip: bool
    randaugment: RandAugment | None
    rows: slice = field(default_factory=lambda: WHOLE)
    _order: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor] | str:
        epoch, index = divmod(position, len(self.labels) // self.size)
        if epoch not in self._order:
            drawn = torch.Generator().manual_seed(stable_seed(self.seed, self.name, "order", epoch))
            self._order.clear()
            self._order[epoch] = torch.randperm(len(self.labels), generator=drawn)
        chosen = self._order[epoch][index * self.size : (index + 1) * self.size][self.rows]
        try:
            return torch.stack([self._image(epoch, i) for i in chosen.tolist()]), self.labels[chosen]
        except Mistake as mistake:
            return str(mistake)

    def _image(self, epoch: int, index: int) -> Tensor:
        """An image as epoch `epoch` sees it, whatever batch it is in."""
        from PIL import Image

        if not self.augment:
            return self.pictures.centre(index)
        draw = random.Random(stable_seed(self.seed, self.name, "image", epoch, index))
        image, (_, height, width) = self.pictures.open(index), self.pictures.size
        top, left, h, w = random_window(image.size, draw)
        mode = self.pictures.interpolation
        mode = draw.choice(("bilinear", "bicubic")) if mode == "random" else mode
        # Cut before it is scaled: the filter must not see what is outside.
        image = image.crop((left, top, left + w, top + h)).resize((width, height), pillow_filter(mode))
        if self.flip and draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.randaugment is not None:
            seed = stable_seed(self.seed, self.name, "randaugment", epoch, index)
            image = self.randaugment.change(image, seed)
        return as_bytes(image)

    def start(self, position: int, workers: int, pinned: bool) -> Iterator[Any]:
        """Batches from a position on, made ahead by `workers` processes (0: when they are asked for)."""
        loader: Any = torch.utils.data.DataLoader(
            self,  # type: ignore[arg-type]
            batch_size=None,
            sampler=_CountingFrom(position),
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pinned,
            worker_init_fn=_begin_worker,
            prefetch_factor=4 if workers else None,
            generator=torch.Generator(),  # else it would draw from that of the run, on resuming once more
        )
        return iter(loader)


@dataclass(frozen=True)
class _CountingFrom:
    """Positions without an end, so that workers live as long as the stream does and work across epochs."""

    start: int

    def __iter__(self) -> Iterator[int]:
        position = self.start
        while True:
            yield position
            position += 1


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin_worker(index: int) -> None:
    """What is sent to the process that trains and its group does not reach the workers: it saves first.

    A worker must not ignore SIGTERM instead: Python ends the workers that are left at its exit by that.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
