"""Data sets in memory, converted to the declared input and augmented in batches."""

from __future__ import annotations

import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.standalone.basics import Mistake, Rule, WrongUse, ensure_torchvision, stable_seed

LARGEST_BYTES = 8 * 2**30
"""Image folders are decoded into memory, up to this size; there is no path for larger ones."""

DATA_RULES = {"name": Rule(str), "augment": Rule(bool), "pad": Rule(int, 0), "flip": Rule(bool)}
"""The table [data] of config.toml."""


@dataclass(frozen=True)
class Split:
    """Examples (N, ...) as uint8 or float32, labels (N,) as int64, on one device."""

    examples: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Split:
        return Split(self.examples.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> Split:
        """The examples of an index (M,), copied."""
        index = index.to(self.labels.device)
        return Split(self.examples[index], self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """Training and test examples in the declared input shape, with the statistics of the training set.

    Batches go to the device of `mean` and `std`; so do all examples, unless they would fill it.
    """

    train: Split
    test: Split
    mean: Tensor
    std: Tensor
    flips: bool
    notes: tuple[str, ...]

    def to(self, device: torch.device) -> Data:
        moved = replace(self, mean=self.mean.to(device), std=self.std.to(device))
        size = sum(s.examples.numel() * s.examples.element_size() for s in (self.train, self.test))
        if device.type == "cuda" and size > 0.4 * torch.cuda.mem_get_info(device)[0]:
            return replace(
                moved, notes=(*self.notes, "examples stay in main memory: they would fill the GPU")
            )
        return replace(moved, train=self.train.to(device), test=self.test.to(device))


def load_data(
    name: str, declared: tuple[Any, ...], classes: int, root: str = "data", workers: int = 2
) -> Data:
    """Loads a data set and converts it to the input that the network declares.

    Args:
        name: `digits` (bundled with scikit-learn), `cifar10` (torchvision, downloads to
            `root`), `imagefolder:PATH`, or `pkg:function`, a function that returns two
            map-style data sets (train, test) of (tensor, label).
        declared: ("image", channels, height, width) or ("vector", features).
        classes: number of classes that the network was compiled for.
        root: folder of downloads.
        workers: threads that decode images.

    Raises:
        Mistake: unknown name, missing files, another number of classes, an unfit shape.
    """
    notes: list[str] = []
    if name == "digits":
        train, test, flips = *_digits(), False
    elif name == "cifar10":
        train, test, flips = *_cifar10(root), True
    elif name.startswith("imagefolder:"):
        train, test, flips = *_image_folder(Path(name.partition(":")[2]), declared, workers, notes), True
    elif ":" in name:
        train, test, flips = *_function(name), True
    else:
        raise WrongUse(f"--data {name}: it is digits, cifar10, imagefolder:PATH or pkg:function")
    if len(train) == 0 or len(test) == 0:
        raise Mistake(f"--data {name}: there are {len(train)} training and {len(test)} test examples")
    labels = torch.cat([train.labels, test.labels])
    found = int(labels.max()) + 1
    if int(labels.min()) < 0:
        raise Mistake(f"--data {name}: labels count from 0, there is {int(labels.min())}")
    if found != classes:
        raise Mistake(
            f"--data {name} has {found} classes and the network was compiled for {classes}; "
            f"compile it for {found} (where the space has such a parameter: --param classes={found})"
        )
    train, test = (_convert(s, declared, notes) for s in (train, test))
    return Data(train, test, *_statistics(train.examples), flips, tuple(dict.fromkeys(notes)))


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


def _image_folder(
    path: Path, declared: tuple[Any, ...], workers: int, notes: list[str]
) -> tuple[Split, Split]:
    """`PATH/train/CLASS/*` and `PATH/test` or `PATH/val`; without one of these a fixed fifth is held out."""
    if not path.is_dir():
        raise Mistake(f"--data imagefolder:{path}: there is no such folder")
    if declared[0] != "image":
        raise Mistake(f"--data imagefolder:{path}: the network reads a {declared[0]}, not an image")
    folder = path / "train" if (path / "train").is_dir() else path
    train, names = _decode(folder, declared, workers, notes)
    held_out = next((path / n for n in ("test", "val", "valid") if (path / n).is_dir()), None)
    if folder == path or held_out is None:
        kept, held = _held_out(train.labels)
        notes.append(f"{folder} has no test set beside it: a fixed fifth of its images ({len(held)}) is one")
        return train.take(kept), train.take(held)
    test, other = _decode(held_out, declared, workers, notes)
    if names != other:
        raise Mistake(f"--data imagefolder:{path}: train and {held_out.name} have different classes")
    return train, test


def _decode(path: Path, declared: tuple[Any, ...], workers: int, notes: list[str]) -> tuple[Split, list[str]]:
    """Every image of a folder as one uint8 tensor of the declared size; other proportions are stretched."""
    ensure_torchvision()
    from PIL import Image
    from torchvision.datasets import ImageFolder

    _, channels, height, width = declared
    if channels not in (1, 3):
        raise Mistake(f"--data imagefolder:{path}: images have 1 or 3 channels, the network reads {channels}")
    try:
        found = ImageFolder(str(path))
    except OSError as error:
        raise Mistake(f"--data imagefolder:{path}: {str(error).splitlines()[0]}") from None
    count = len(found.samples)
    if count * channels * height * width > LARGEST_BYTES:
        raise Mistake(
            f"--data imagefolder:{path}: {count} images of {height} x {width} are more than "
            f"{LARGEST_BYTES >> 30} GiB; a pkg:function can return a part of them"
        )
    pixels = torch.empty(count, channels, height, width, dtype=torch.uint8)
    sizes: set[tuple[int, int]] = set()

    def read(index: int) -> None:
        name = found.samples[index][0]
        try:
            with Image.open(name) as image:
                loaded = image.convert("L" if channels == 1 else "RGB")
        except OSError as error:
            raise Mistake(f"{name} cannot be read: {error}") from None
        if loaded.size != (width, height):
            sizes.add(loaded.size)
            loaded = loaded.resize((width, height), Image.Resampling.BILINEAR)
        pixels[index] = torch.from_numpy(numpy.array(loaded)).view(height, width, channels).permute(2, 0, 1)

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(read, range(count)):
            pass
    if sizes:
        notes.append(f"images of {path} resized to {height} x {width}")
    return Split(pixels, torch.tensor(found.targets)), list(found.classes)


def _function(name: str) -> tuple[Split, Split]:
    """A user's own `pkg.module:function`, found beside the script or in the working directory."""
    package, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise Mistake(f"--data {name}: {error}") from None
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


def _convert(split: Split, declared: tuple[Any, ...], notes: list[str]) -> Split:
    """Grey to colour and another resolution are converted, and said; anything else is refused."""
    layout, shape = declared[0], tuple(declared[1:])
    examples = split.examples
    if layout == "vector" and examples.dim() > 2 and examples[0].numel() == shape[0]:
        notes.append(f"flattened {tuple(examples.shape[1:])} to a vector of {shape[0]}")
        examples = examples.flatten(1)
    if layout == "image" and examples.dim() == 4:
        if examples.shape[2:] != shape[1:]:
            old, new = " x ".join(map(str, examples.shape[2:])), " x ".join(map(str, shape[1:]))
            notes.append(f"images resized from {old} to {new}")
            examples = torch.cat([_resize(part, shape[1:]) for part in torch.split(examples, 2048)])
        if examples.shape[1] == 1 and shape[0] > 1:
            notes.append(f"grey images repeated to {shape[0]} channels")
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
    ) -> None:
        self.split, self.data = split, data
        self.size = min(batch_size, len(split))
        self.seed, self.name, self.position = seed, name, 0
        augment = augment and split.examples.dim() == 4
        self.pad = pad if augment else 0
        self.flip = flip and augment and data.flips
        self.cutout = cutout if augment else 0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def batches(self) -> int:
        """Steps of one pass; a last smaller batch is left out."""
        return len(self.split) // self.size

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch, on the network's device: examples ready for the network, and labels."""
        epoch, index = divmod(self.position, self.batches)
        if self._order[0] != epoch:
            order = torch.randperm(len(self.split), generator=self._generator("order", epoch))
            self._order = (epoch, order.to(self.split.labels.device))
        batch = self.split.take(self._order[1][index * self.size : (index + 1) * self.size])
        batch = batch.to(self.data.mean.device)
        generator = self._generator("augment", self.position)
        self.position += 1
        x = _crop(batch.examples, self.pad, generator) if self.pad else batch.examples
        x = _flip(x, generator) if self.flip else x
        x = prepare(x, self.data)
        return _cut_out(x, self.cutout, generator) if self.cutout else x, batch.labels

    def peek(self, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` of the split in its own order, not augmented; the position does not move."""
        chosen = slice(index * self.size, (index + 1) * self.size)
        return prepare(self.split.examples[chosen], self.data), self.split.labels[chosen].to(
            self.data.mean.device
        )

    def _generator(self, use: str, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(stable_seed(self.seed, self.name, use, index))


def _crop(x: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """A random window of every image (B, C, H, W) after padding with zeros, gathered at once."""
    count, _, height, width = x.shape
    offsets = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator).to(x.device)
    rows = offsets[0] + torch.arange(height, device=x.device)  # (B, H)
    columns = offsets[1] + torch.arange(width, device=x.device)  # (B, W)
    padded = F.pad(x, (pad,) * 4).permute(0, 2, 3, 1)  # (B, H + 2p, W + 2p, C)
    each = torch.arange(count, device=x.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images (B, C, H, W), left to right."""
    flipped = torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device) < 0.5
    return torch.where(flipped, x.flip(3), x)


def _cut_out(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square of zeros with a random centre in every image (B, C, H, W), cut off at the borders."""
    holes = []
    for length in x.shape[2:]:
        centre = torch.randint(0, length, (len(x), 1), generator=generator).to(x.device)
        away = torch.arange(length, device=x.device) - centre  # (B, length)
        holes.append((away >= -(side // 2)) & (away < side - side // 2))
    return x.masked_fill((holes[0][:, :, None] & holes[1][:, None, :])[:, None], 0.0)
