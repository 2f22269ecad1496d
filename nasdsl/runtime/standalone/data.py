"""Data sets in memory or in a folder, converted to the declared input and augmented in batches."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.standalone.augmentation import (
    Erasing,
    RandAugment,
    cut_out,
    pillow_filter,
    random_crop,
    random_flip,
)
from nasdsl.runtime.standalone.basics import Mistake, Rule, WrongUse, ensure_torchvision, raw, stable_seed
from nasdsl.runtime.standalone.pictures import (
    MEMORY_SHARE,
    Batches,
    Found,
    Pictures,
    find_images,
    machine_memory,
    read_image,
)
from nasdsl.runtime.standalone.team import ALONE, Team

DATA_RULES = {
    "name": Rule(str),
    "augment": Rule(bool),
    "pad": Rule(int, 0),
    "flip": Rule(bool),
    "loader": Rule(str, words=("auto", "memory", "stream")),
    "interpolation": Rule(str, words=("bilinear", "bicubic", "random")),
}
"""The table [data] of config.toml."""


@dataclass(frozen=True)
class Split:
    """Examples (N, ...) as uint8 or float32, labels (N,) as int64, on one device.

    Examples are a tensor, or files that are decoded by the slice.
    """

    examples: Tensor | Pictures
    labels: Tensor

    def to(self, device: torch.device) -> Split:
        if isinstance(self.examples, Pictures):
            return self
        return Split(self.examples.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> Split:
        """The examples of an index (M,), copied."""
        index = index.to(self.labels.device)
        if isinstance(self.examples, Pictures):
            return Split(self.examples.take(index), self.labels[index])
        return Split(self.examples[index], self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """sha256 of examples and labels; of image files that are decoded when they are used, of their names."""
        found = hashlib.sha256(f"{tuple(self.examples.shape)} {self.examples.dtype}\n".encode())
        if isinstance(self.examples, Pictures):
            for name in self.examples.files:  # class and file: the folder may be moved
                found.update(b"/".join(os.fsencode(name).replace(b"\\", b"/").split(b"/")[-2:]) + b"\n")
        else:
            found.update(raw(self.examples))
        found.update(raw(self.labels))
        return found.hexdigest()


@dataclass(frozen=True)
class Data:
    """Training and test examples in the declared input shape, with the statistics of the training set.

    Batches go to the device of `mean` and `std`; so do all examples, unless they would fill it or are
    decoded when they are used.

    Attributes:
        loader: `memory` or `stream`, what `auto` came to.
        whole: training examples that there are, of which `train` may be a few.
        done: of the notes what was done to the inputs; nothing in it is of this machine.
    """

    train: Split
    test: Split
    mean: Tensor
    std: Tensor
    flips: bool
    notes: tuple[str, ...]
    loader: str = "memory"
    whole: int = 0
    done: tuple[str, ...] = ()

    def digests(self) -> dict[str, str]:
        """What both parts come to, for the identity of a run."""
        return {"train": self.train.digest, "test": self.test.digest}

    def to(self, device: torch.device) -> Data:
        moved = replace(self, mean=self.mean.to(device), std=self.std.to(device))
        examples = [s.examples for s in (self.train, self.test) if isinstance(s.examples, Tensor)]
        size = sum(e.numel() * e.element_size() for e in examples)
        if device.type == "cuda" and size > 0.4 * torch.cuda.mem_get_info(device)[0]:
            return replace(
                moved, notes=(*self.notes, "examples stay in main memory: they would fill the GPU")
            )
        return replace(moved, train=self.train.to(device), test=self.test.to(device))


def load_data(
    name: str,
    declared: tuple[Any, ...],
    classes: int,
    root: str = "data",
    workers: int = 2,
    loader: str = "auto",
    interpolation: str = "bilinear",
    few: int | None = None,
) -> Data:
    """Loads a data set and converts it to the input that the network declares.

    Args:
        name: `digits` (bundled with scikit-learn), `cifar10` (torchvision, downloads to
            `root`), `imagefolder:PATH`, or `pkg:function`, a function that returns two
            map-style data sets (train, test) of (tensor, label).
        declared: ("image", channels, height, width) or ("vector", features).
        classes: number of classes that the network was compiled for.
        root: folder of downloads.
        workers: threads or processes that decode images.
        loader: `memory` decodes an image folder before the run, `stream` while it runs, `auto` streams one
            that would take more than `MEMORY_SHARE` of the machine's memory.
        interpolation: how images of a folder are scaled; `random` (of the other two) is for streamed ones.
        few: examples of either part that are enough, of every class as many; None for all.

    Raises:
        Mistake: unknown name, missing files, another number of classes, an unfit shape, numbers that are
            not finite.
    """
    notes: list[str] = []
    done: list[str] = []
    if name == "digits":
        train, test, flips = *_digits(), False
    elif name == "cifar10":
        train, test, flips = *_cifar10(root), True
    elif name.startswith("imagefolder:"):
        how = _Folder(declared, workers, loader, interpolation, notes, done, few)
        try:
            train, test, flips = *how.load(Path(name.partition(":")[2])), True
        except OSError as error:  # of a file that cannot be read, which is none of the run's
            raise Mistake(f"--data {name}: {error}") from None
        whole = how.whole
    elif ":" in name:
        train, test, flips = *_function(name), True
    else:
        raise WrongUse(f"--data {name}: it is digits, cifar10, imagefolder:PATH or pkg:function")
    if not name.startswith("imagefolder:"):
        whole = len(train)
        train, test = (s if few is None else s.take(_few(s.labels, few)) for s in (train, test))
    streams = isinstance(train.examples, Pictures)
    if loader == "stream" and not streams:
        raise Mistake(f"loader=stream is for imagefolder:PATH; {name} is in memory")
    if len(train) == 0 or len(test) == 0:
        raise Mistake(f"--data {name}: there are {len(train)} training and {len(test)} test examples")
    _refuse_labels(name, torch.cat([train.labels, test.labels]), classes)
    _refuse_unfinite(name, train, test)
    train, test = (_convert(s, declared, done, notes) for s in (train, test))
    seen = train.examples.sample() if isinstance(train.examples, Pictures) else train.examples
    used = "stream" if streams else "memory"
    if len(seen) < len(train):
        notes.append(f"mean and deviation are those of {len(seen)} of the {len(train):,} training images")
    said, did = (tuple(dict.fromkeys(each)) for each in (notes, done))
    return Data(train, test, *_statistics(seen), flips, said, used, whole, did)


def _refuse_labels(name: str, labels: Tensor, classes: int) -> None:
    found = int(labels.max()) + 1
    if int(labels.min()) < 0:
        raise Mistake(f"--data {name}: labels count from 0, there is {int(labels.min())}")
    if found != classes:
        raise Mistake(
            f"--data {name} has {found} classes and the network was compiled for {classes}; "
            f"compile it for {found} (where the space has such a parameter: --param classes={found})"
        )


def _few(labels: Tensor, count: int) -> Tensor:
    """Indices of the first examples of every class, `count` or a few more together, or all there are."""
    classes = int(labels.max()) + 1
    each = -(-count // classes)
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(classes):
        taken[(labels == label).nonzero().flatten()[:each]] = True
    # Where classes are small others stand in for them.
    taken[(~taken).nonzero().flatten()[: max(0, count - int(taken.sum()))]] = True
    return taken.nonzero().flatten()


def _refuse_unfinite(name: str, *splits: Split) -> None:
    for split, which in zip(splits, ("training", "test"), strict=True):
        if isinstance(split.examples, Tensor) and split.examples.is_floating_point():
            bad = (~split.examples.isfinite()).flatten(1).any(1).nonzero().flatten()
            if len(bad):
                raise Mistake(
                    f"--data {name}: {len(bad)} {which} examples hold nan or inf, the first is number {int(bad[0])}"
                )


def _statistics(examples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel (C, 1, 1) or feature (F,); a constant one has deviation 1."""
    axes = (0, 2, 3) if examples.dim() == 4 else (0,)
    total = squares = torch.zeros((), dtype=torch.float64)
    for part in torch.split(examples, 2048):  # in parts: a copy of all as floats may not fit
        x = _unit(part).double()
        total, squares = total + x.sum(axes), squares + (x * x).sum(axes)
    count = examples.numel() // total.numel()
    mean = total / count
    std = (squares / count - mean * mean).clamp_min(0).sqrt()
    std = torch.where(std < 1e-5, torch.ones_like(std), std)
    shape = (-1, 1, 1) if examples.dim() == 4 else examples.shape[1:]
    return mean.float().view(shape), std.float().view(shape)


def _unit(examples: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]; floats as they are."""
    return examples.float() / 255.0 if examples.dtype == torch.uint8 else examples


def _held_out(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the rest and of a fifth of every class, at least one; always the same ones."""
    random = numpy.random.RandomState(0)  # its stream is frozen for ever, torch's is not
    kept, held = [], []
    for label in range(int(labels.max()) + 1):
        members = random.permutation((labels == label).nonzero().flatten().numpy())
        cut = max(min(1, len(members)), len(members) // 5)
        held.append(members[:cut])
        kept.append(members[cut:])
    first, second = (torch.from_numpy(numpy.sort(numpy.concatenate(part))) for part in (kept, held))
    return first, second


def _digits() -> tuple[Split, Split]:
    """1,797 grey images of 8 x 8; a stratified fifth is the test set, always the same."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise Mistake(f"--data digits needs scikit-learn: {error}") from None
    digits = load_digits()
    both = Split(
        torch.from_numpy(digits.images).float().div(16.0).unsqueeze(1), torch.from_numpy(digits.target).long()
    )
    kept, held = _held_out(both.labels)
    return both.take(kept), both.take(held)


def _cifar10(root: str) -> tuple[Split, Split]:
    ensure_torchvision()
    from torchvision.datasets import CIFAR10

    splits = []
    for train in (True, False):
        try:
            found = CIFAR10(root, train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise Mistake(f"--data cifar10: {error} (looked in {root}; --data-dir sets the folder)") from None
        splits.append(Split(torch.from_numpy(found.data).permute(0, 3, 1, 2), torch.tensor(found.targets)))
    return splits[0], splits[1]


@dataclass
class _Folder:
    """How an image folder is loaded; the arguments are those of `load_data`."""

    declared: tuple[Any, ...]
    workers: int
    loader: str
    interpolation: str
    notes: list[str]
    done: list[str]
    few: int | None = None
    whole: int = 0
    """Training images that there are, once they were found."""

    def load(self, path: Path) -> tuple[Split, Split]:
        """`PATH/train/CLASS/*` and `PATH/test` or `PATH/val`; without one of these a fixed fifth is held out."""
        if not path.is_dir():
            raise Mistake(f"--data imagefolder:{path}: there is no such folder")
        if self.declared[0] != "image":
            raise Mistake(f"--data imagefolder:{path}: the network reads a {self.declared[0]}, not an image")
        if self.declared[1] not in (1, 3):
            channels = self.declared[1]
            raise Mistake(
                f"--data imagefolder:{path}: images have 1 or 3 channels, the network reads {channels}"
            )
        folder = path / "train" if (path / "train").is_dir() else path
        held_out = next((path / n for n in ("test", "val", "valid") if (path / n).is_dir()), None)
        found = {folder: find_images(folder)}
        if folder != path and held_out is not None:
            found[held_out] = find_images(held_out)
            if found[folder][2] != found[held_out][2]:
                raise Mistake(f"--data imagefolder:{path}: train and {held_out.name} have different classes")
        self.whole = len(found[folder][1])
        if self.few is not None:
            found = {f: self._some(*images) for f, images in found.items()}
        made = list(self._splits(path, found))
        if len(made) == 2:
            return made[0], made[1]
        kept, held = _held_out(made[0].labels)
        self.whole = self.whole * len(kept) // len(made[0])
        self.notes.append(
            f"{folder} has no test set beside it: a fixed fifth of its images ({len(held)}) is one"
        )
        return made[0].take(kept), made[0].take(held)

    def _some(self, files: Any, labels: Tensor, classes: list[str]) -> Found:
        index = _few(labels, self.few or len(labels))
        return files[index.numpy()], labels[index], classes

    def _splits(self, path: Path, found: Mapping[Path, Found]) -> Iterator[Split]:
        """The images of every folder found, all in memory or all as files."""
        _, channels, height, width = self.declared
        count = sum(len(files) for files, _, _ in found.values())
        size, memory = count * channels * height * width, machine_memory()
        streams = self.loader == "stream" or (self.loader == "auto" and size > MEMORY_SHARE * memory)
        said = f"{count} images of {height} x {width} ({size / 2**30:.1f} GiB)"
        if streams:
            why = "" if self.loader == "stream" else f" are more than {MEMORY_SHARE:.0%} of the memory and"
            self.notes.append(f"{said}{why} are decoded while they are used; training sees random windows")
            self.done.append(f"random windows of images, resized to {height} x {width}")
        elif size > memory:
            raise Mistake(
                f"--data imagefolder:{path}: {said} are more than the memory there is ({memory / 2**30:.1f} "
                "GiB): --set loader=stream decodes them while they are used"
            )
        elif self.interpolation == "random":
            raise Mistake("interpolation=random is of streamed images: --set loader=stream")
        for folder, (files, labels, _) in found.items():
            if streams:
                pictures = Pictures(files, (channels, height, width), self.interpolation, self.workers)
                yield Split(pictures, labels)
            else:
                yield Split(self._decode(folder, files), labels)

    def _decode(self, path: Path, files: Any) -> Tensor:
        """Images as one uint8 tensor of the declared size; other proportions are stretched."""
        _, channels, height, width = self.declared
        pixels = torch.empty(len(files), channels, height, width, dtype=torch.uint8)
        sizes: set[tuple[int, int]] = set()

        def read(index: int) -> None:
            loaded = read_image(os.fsdecode(files[index]), channels)
            if loaded.size != (width, height):
                sizes.add(loaded.size)
                loaded = loaded.resize((width, height), pillow_filter(self.interpolation))
            pixels[index] = (
                torch.from_numpy(numpy.array(loaded)).view(height, width, channels).permute(2, 0, 1)
            )

        with ThreadPoolExecutor(self.workers) as pool:
            for _ in pool.map(read, range(len(files))):
                pass
        if sizes:
            self.notes.append(f"images of {path} resized to {height} x {width}")
            self.done.append(f"images resized to {height} x {width}")
        return pixels


def _function(name: str) -> tuple[Split, Split]:
    """A user's own `pkg.module:function`, found beside the script or in the working directory."""
    package, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise Mistake(f"--data {name}: {error}") from None
    if not callable(function):
        raise Mistake(f"--data {name}: this is a {type(function).__name__}, not a function")
    made = function()  # what goes wrong inside is the user's own program: its traceback is what helps
    try:
        train, test = (_stack(part) for part in made)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Mistake(f"--data {name} must return (train, test), each of (tensor, label): {error}") from None
    return train, test


def _stack(found: Any) -> Split:
    pairs = [found[i] for i in range(len(found))]
    examples = torch.stack([torch.as_tensor(x) for x, _ in pairs]) if pairs else torch.zeros(0, 1)
    return Split(
        examples if examples.dtype == torch.uint8 else examples.float(),
        torch.tensor([int(y) for _, y in pairs], dtype=torch.int64),
    )


def _convert(split: Split, declared: tuple[Any, ...], *said: list[str]) -> Split:
    """Grey to colour and another resolution are converted, and said; anything else is refused."""

    def say(text: str) -> None:
        for each in said:
            each.append(text)

    layout, shape = declared[0], tuple(declared[1:])
    examples = split.examples
    if isinstance(examples, Pictures):
        return split
    if layout == "vector" and examples.dim() > 2 and examples[0].numel() == shape[0]:
        say(f"flattened {tuple(examples.shape[1:])} to a vector of {shape[0]}")
        examples = examples.flatten(1)
    if layout == "image" and examples.dim() == 4:
        if examples.shape[2:] != shape[1:]:
            old, new = " x ".join(map(str, examples.shape[2:])), " x ".join(map(str, shape[1:]))
            say(f"images resized from {old} to {new}")
            examples = torch.cat([_resize(part, shape[1:]) for part in torch.split(examples, 2048)])
        if examples.shape[1] == 1 and shape[0] > 1:
            say(f"grey images repeated to {shape[0]} channels")
            examples = examples.expand(-1, shape[0], -1, -1)
    if tuple(examples.shape[1:]) != shape:
        raise Mistake(
            f"the data have the shape {tuple(examples.shape[1:])}, the network reads {layout} {shape}"
        )
    return Split(examples.contiguous(), split.labels.long())


def _resize(examples: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, antialiased, (B, C, H, W) to (B, C, *size); bytes stay bytes."""
    made = F.interpolate(examples.float(), size, mode="bilinear", antialias=True)
    return made.round().clamp(0, 255).byte() if examples.dtype == torch.uint8 else made


def divide(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Two parts of a training set: `fraction` of it, and the rest; the same for the same seed."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(stable_seed(seed, "split")))
    cut = round(len(split) * fraction)
    if not 0 < cut < len(split):
        raise Mistake(f"a training set of {len(split)} cannot be divided at {fraction}")
    return split.take(order[:cut]), split.take(order[cut:])


def prepare(examples: Tensor, data: Data) -> Tensor:
    """Examples as the network reads them: on its device, float, normalised; images channels-last."""
    x = (_unit(examples.to(data.mean.device)) - data.mean) / data.std
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


class Stream:
    """Batches of a split, for ever, from a counter alone.

    The order of epoch e and the augmentation of step t follow from (seed, name, e)
    and (seed, name, t), so the state of a stream is one integer and a run that is
    resumed sees exactly the batches it would have seen. As in the reference code,
    crops pad with black before normalisation and cutout puts the mean after it.

    Of several processes each has its rows of a batch: the batch, and what is drawn for it, is the same for
    any number of them.

    Args:
        batch_size: of all processes together.
        team: the processes.
        pad: of images in memory; streamed ones are cropped as `PictureStream` says.
        randaugment: timm's notation, or off.
        erasing: probability of timm's random erasing.
        interpolation: how RandAugment turns and shears.

    Raises:
        Mistake: what timm does cannot be done: it is missing, images are floats or not augmented.
        WrongUse: the batch cannot be divided among the processes.
    """

    def __init__(
        self,
        split: Split,
        data: Data,
        batch_size: int,
        seed: int,
        name: str,
        *,
        augment: bool = True,
        pad: int = 4,
        flip: bool = True,
        cutout: int = 0,
        randaugment: str = "off",
        erasing: float = 0.0,
        interpolation: str = "bilinear",
        team: Team = ALONE,
    ) -> None:
        self.split, self.data, self.rows = split, data, team.rows
        self.size = min(batch_size, len(split))
        team.refuse_uneven(self.size)
        self.seed, self.name, self.position = seed, name, 0
        given = [f"randaugment={randaugment}"] * (randaugment != "off") + [f"erasing={erasing:g}"] * (
            erasing > 0
        )
        if given and split.examples.dim() != 4:
            raise Mistake(f"{given[0]} is of images; these are vectors")
        if given and not augment:
            raise Mistake(f"{given[0]} augments and augment=false does not: take one of them out")
        augment = augment and split.examples.dim() == 4
        self.augment = augment
        self.pad = pad if augment else 0
        self.flip = flip and augment and data.flips
        self.cutout = cutout if augment else 0
        self.randaugment = self._randaugment(randaugment, interpolation)
        self.erasing = Erasing(erasing) if erasing > 0 else None
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def _randaugment(self, notation: str, interpolation: str) -> RandAugment | None:
        if notation == "off":
            return None
        if self.split.examples.dtype != torch.uint8:
            raise Mistake(f"randaugment={notation} is of images of bytes; these are floats")
        return RandAugment(
            notation, self.split.examples.shape[1:], self.data.mean.flatten().tolist(), interpolation
        )

    @property
    def batches(self) -> int:
        """Steps of one pass; a last smaller batch is left out."""
        return len(self.split) // self.size

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch, on the network's device: examples ready for the network, and labels."""
        generator = self._generator("augment", self.position)
        x, labels = self._read(generator)
        erased = stable_seed(self.seed, self.name, "erasing", self.position)
        self.position += 1
        x = prepare(x, self.data)
        x = cut_out(x, self.cutout, generator, self.rows) if self.cutout else x
        return x if self.erasing is None else self.erasing(x, erased, self.rows), labels

    def _read(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The examples of the next batch before they are normalised, and labels: the rows of this process."""
        epoch, index = divmod(self.position, self.batches)
        if self._order[0] != epoch:
            order = torch.randperm(len(self.split), generator=self._generator("order", epoch))
            self._order = (epoch, order.to(self.split.labels.device))
        batch = self.split.take(self._order[1][index * self.size : (index + 1) * self.size][self.rows])
        batch = batch.to(self.data.mean.device)
        x = cast(Tensor, batch.examples)
        x = random_crop(x, self.pad, generator, self.rows) if self.pad else x
        x = random_flip(x, generator, self.rows) if self.flip else x
        if self.randaugment is not None:
            parts = (self.seed, self.name, "randaugment", self.position)
            x = self.randaugment(x, [stable_seed(*parts, i) for i in range(self.size)[self.rows]])
        return x, batch.labels

    def peek(self, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` of the split in its own order, whole and not augmented; the position does not move."""
        chosen = slice(index * self.size, (index + 1) * self.size)
        return prepare(self.split.examples[chosen], self.data), self.split.labels[chosen].to(
            self.data.mean.device
        )

    def _generator(self, use: str, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(stable_seed(self.seed, self.name, use, index))


class PictureStream(Stream):
    """The same of image files, decoded and augmented by processes ahead of the step that needs them.

    The augmentation of an image follows from (seed, name, epoch, index in the split): a random window
    (RandomResizedCrop) instead of `pad`, a flip, RandAugment; cutout and erasing follow from the step as
    they do in memory. Without augmentation training sees what evaluation sees.
    """

    _running: tuple[int, Iterator[Any]] | None = None

    def _read(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = self.data.mean.device
        if self._running is None or self._running[0] != self.position:
            pictures = cast(Pictures, self.split.examples)
            batches = Batches(
                pictures,
                self.split.labels,
                self.size,
                self.seed,
                self.name,
                self.augment,
                self.flip,
                self.randaugment,
                self.rows,
            )
            self._running = (
                self.position,
                batches.start(self.position, pictures.workers, device.type == "cuda"),
            )
        ahead = self._running[1]
        batch = next(ahead)
        if isinstance(batch, str):
            raise Mistake(batch)
        self._running = (self.position + 1, ahead)
        x, labels = (part.to(device, non_blocking=True) for part in batch)
        return x, labels


def open_stream(split: Split, data: Data, batch_size: int, seed: int, name: str, **settings: Any) -> Stream:
    """The stream of a split, in memory or of files. Arguments are those of `Stream`."""
    kind = PictureStream if isinstance(split.examples, Pictures) else Stream
    return kind(split, data, batch_size, seed, name, **settings)
