"""Data sets in memory, converted to the declared input and augmented in batches."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.standalone.basics import Mistake, stable_seed

LARGEST_BYTES = 8 * 2**30
"""Image folders are decoded into memory, up to this size."""


@dataclass
class Split:
    """Examples (N, ...) as uint8 or float, labels (N,) as int64."""

    examples: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Split:
        return Split(self.examples.to(device), self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Data:
    """Training and test examples in the declared input shape, with the statistics of the training set."""

    train: Split
    test: Split
    mean: Tensor
    std: Tensor
    flips: bool
    notes: list[str]

    def to(self, device: torch.device) -> Data:
        moved = (self.mean.to(device), self.std.to(device))
        return Data(self.train.to(device), self.test.to(device), *moved, self.flips, self.notes)


def load_data(name: str, declared: tuple[Any, ...], classes: int, root: str = "data", workers: int = 2) -> Data:
    """Loads a data set and converts it to the input that the network declares.

    Args:
        name: `digits` (bundled with scikit-learn), `cifar10` (torchvision, downloads to
            `root`), `imagefolder:PATH`, or `pkg:function`, a function that returns two
            map-style data sets (train, test) of (tensor, label).
        declared: ("image", channels, height, width) or ("vector", features).
        classes: number of classes that the network was compiled for.

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
        train, test, flips = *_function(name), declared[0] == "image"
    else:
        raise Mistake(f"--data {name}: it is digits, cifar10, imagefolder:PATH or pkg:function")
    if len(train) == 0 or len(test) == 0:
        raise Mistake(f"--data {name}: there are {len(train)} training and {len(test)} test examples")
    found = int(max(train.labels.max(), test.labels.max())) + 1
    if found != classes:
        raise Mistake(
            f"--data {name} has {found} classes and the network was compiled for {classes}; "
            f"compile it again with: nasdsl compile ... --param classes={found}"
        )
    train, test = (_convert(s, declared, notes) for s in (train, test))
    examples = train.examples.float() / (255.0 if train.examples.dtype == torch.uint8 else 1.0)
    axes = (0, 2, 3) if examples.dim() == 4 else (0,)
    mean, std = examples.mean(axes), examples.std(axes).clamp_min(1e-6)
    shape = (-1, 1, 1) if examples.dim() == 4 else (-1,)
    return Data(train, test, mean.view(shape), std.view(shape), flips, list(dict.fromkeys(notes)))


def _digits() -> tuple[Split, Split]:
    """1,797 grey images of 8 x 8; a stratified fifth is the test set, always the same."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(16.0).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    first, second = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=digits.target)
    return Split(images[first], labels[first]), Split(images[second], labels[second])


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


def _image_folder(path: Path, declared: tuple[Any, ...], workers: int, notes: list[str]) -> tuple[Split, Split]:
    """`PATH/train/CLASS/*` and `PATH/test` or `PATH/val`; else `PATH/CLASS/*` with a fixed fifth for testing."""
    if not path.is_dir():
        raise Mistake(f"--data imagefolder:{path}: there is no such folder")
    if declared[0] != "image":
        raise Mistake(f"--data imagefolder:{path}: the network reads a {declared[0]}, not an image")
    held_out = next((path / n for n in ("test", "val", "valid") if (path / n).is_dir()), None)
    if (path / "train").is_dir() and held_out is not None:
        train, names = _decode(path / "train", declared, workers)
        test, other = _decode(held_out, declared, workers)
        if names != other:
            raise Mistake(f"--data imagefolder:{path}: train and {held_out.name} have different classes")
        return train, test
    both, _ = _decode(path, declared, workers)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(both), generator=generator)
    cut = max(1, len(both) // 5)
    notes.append(f"no train/ and test/ folders: a fixed fifth of the images ({cut}) is the test set")
    parts = [Split(both.examples[i], both.labels[i]) for i in (order[cut:], order[:cut])]
    return parts[0], parts[1]


def _decode(path: Path, declared: tuple[Any, ...], workers: int) -> tuple[Split, list[str]]:
    """Every image of a folder as one uint8 tensor of the declared size."""
    ensure_torchvision()
    import numpy
    from PIL import Image, UnidentifiedImageError
    from torchvision.datasets import ImageFolder

    _, channels, height, width = declared
    try:
        found = ImageFolder(str(path))
    except (FileNotFoundError, OSError) as error:
        raise Mistake(f"--data imagefolder:{path}: {str(error).splitlines()[0]}") from None
    if len(found.samples) * channels * height * width > LARGEST_BYTES:
        raise Mistake(f"--data imagefolder:{path}: {len(found.samples)} images of this size do not fit in memory")

    def read(item: tuple[str, int]) -> Tensor:
        try:
            with Image.open(item[0]) as image:
                loaded = image.convert("L" if channels == 1 else "RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise Mistake(f"{item[0]} cannot be read: {error}") from None
        if loaded.size != (width, height):
            loaded = loaded.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(numpy.array(loaded))
        return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        images = list(pool.map(read, found.samples, chunksize=256))
    return Split(torch.stack(images), torch.tensor([label for _, label in found.samples])), found.classes


def _function(name: str) -> tuple[Split, Split]:
    """A user's own `pkg.module:function`."""
    package, _, attribute = name.partition(":")
    try:
        function: Callable[[], Any] = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError) as error:
        raise Mistake(f"--data {name}: {error}") from None
    made = function()
    try:
        train, test = made
        return _stack(train), _stack(test)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Mistake(f"--data {name} must return (train, test), each of (tensor, label): {error}") from None


def _stack(found: Any) -> Split:
    pairs = [found[i] for i in range(len(found))]
    return Split(torch.stack([torch.as_tensor(x) for x, _ in pairs]), torch.tensor([int(y) for _, y in pairs]))


def _convert(split: Split, declared: tuple[Any, ...], notes: list[str]) -> Split:
    """Grey to colour and another resolution are converted, and said; anything else is refused."""
    layout, shape = declared[0], tuple(declared[1:])
    examples = split.examples
    if layout == "vector" and examples.dim() > 2 and examples[0].numel() == shape[0]:
        notes.append(f"flattened {tuple(examples.shape[1:])} to a vector of {shape[0]}")
        examples = examples.flatten(1)
    if layout == "image" and examples.dim() == 4:
        if examples.shape[1] == 1 and shape[0] > 1:
            notes.append(f"grey images repeated to {shape[0]} channels")
            examples = examples.expand(-1, shape[0], -1, -1)
        if examples.shape[2:] != shape[1:]:
            old, new = " x ".join(map(str, examples.shape[2:])), " x ".join(map(str, shape[1:]))
            notes.append(f"images resized from {old} to {new}")
            scale = 255.0 if examples.dtype == torch.uint8 else 1.0
            resized = F.interpolate(examples.float() / scale, shape[1:], mode="bilinear", antialias=True)
            examples = resized.clamp(0, 1)
    if tuple(examples.shape[1:]) != shape:
        raise Mistake(f"the data have the shape {tuple(examples.shape[1:])}, the network reads {layout} {shape}")
    return Split(examples.contiguous(), split.labels.long())


def divide(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Two parts of a training set: `fraction` of it, and the rest; the same for the same seed."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(stable_seed(seed, "split")))
    cut = round(len(split) * fraction)
    if not 0 < cut < len(split):
        raise Mistake(f"a training set of {len(split)} cannot be divided at {fraction}")
    first, second = order[:cut].to(split.labels.device), order[cut:].to(split.labels.device)
    return (
        Split(split.examples[first], split.labels[first]),
        Split(split.examples[second], split.labels[second]),
    )


def prepare(examples: Tensor, data: Data) -> Tensor:
    """Examples as the network reads them: float, normalised; (B, C, H, W) channels-last for images."""
    x = examples.float()
    if examples.dtype == torch.uint8:
        x = x / 255.0
    x = (x - data.mean) / data.std
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


class Stream:
    """Batches of a split, for ever, from a counter alone.

    The order of epoch e and the augmentation of step t follow from (seed, name, e)
    and (seed, name, t), so the state of a stream is one integer and a run that is
    resumed sees exactly the batches it would have seen.
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
        image = split.examples.dim() == 4
        self.pad = pad if augment and image else 0
        self.flip = flip and augment and image and data.flips
        self.cutout = cutout if augment and image else 0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def batches(self) -> int:
        """Steps of one pass; a last smaller batch is left out."""
        return len(self.split) // self.size

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch: examples ready for the network, and labels."""
        epoch, index = divmod(self.position, self.batches)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(stable_seed(self.seed, self.name, "order", epoch))
            order = torch.randperm(len(self.split), generator=generator)
            self._order = (epoch, order.to(self.split.labels.device))
        chosen = self._order[1][index * self.size : (index + 1) * self.size]
        x = prepare(self.split.examples[chosen], self.data)
        generator = torch.Generator().manual_seed(stable_seed(self.seed, self.name, "augment", self.position))
        self.position += 1
        return self._augment(x, generator), self.split.labels[chosen]

    def peek(self, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` of the split in its own order, not augmented; the position does not move."""
        chosen = slice(index * self.size, (index + 1) * self.size)
        return prepare(self.split.examples[chosen], self.data), self.split.labels[chosen]

    def _augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Random crops, flips and cutouts of a whole batch (B, C, H, W)."""
        if not (self.pad or self.flip or self.cutout):
            return x
        count, _, height, width = x.shape
        device = x.device
        if self.pad:
            offsets = torch.randint(0, 2 * self.pad + 1, (2, count), generator=generator).to(device)
            rows = offsets[0][:, None] + torch.arange(height, device=device)  # (B, H)
            columns = offsets[1][:, None] + torch.arange(width, device=device)  # (B, W)
            padded = F.pad(x, (self.pad,) * 4).permute(0, 2, 3, 1)  # (B, H + 2p, W + 2p, C)
            each = torch.arange(count, device=device)[:, None, None]
            x = padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        if self.flip:
            flipped = (torch.rand(count, generator=generator) < 0.5).to(device)
            x = torch.where(flipped[:, None, None, None], x.flip(3), x)
        if self.cutout:
            centres = torch.stack(
                [torch.randint(0, n, (count,), generator=generator) for n in (height, width)]
            ).to(device)
            half = self.cutout // 2
            row = torch.arange(height, device=device)[None, :] - centres[0][:, None]  # (B, H)
            column = torch.arange(width, device=device)[None, :] - centres[1][:, None]  # (B, W)
            hole = ((row >= -half) & (row < half))[:, :, None] & ((column >= -half) & (column < half))[:, None, :]
            x = x.masked_fill(hole[:, None], 0.0)
        return x.contiguous(memory_format=torch.channels_last)


def ensure_torchvision() -> None:
    """Makes `import torchvision` work beside a torch build without its native operators.

    The wheel of torchvision from the registry is a CUDA build; beside a CPU build of
    torch its operators are not registered and its import fails with "operator
    torchvision::nms does not exist". Declaring the two schemas that the import asks
    for is enough for transforms, data sets and models. Nothing is done where the
    operators exist.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        import sys

        for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        import torchvision  # noqa: F401
    except ImportError as error:
        raise Mistake(f"image data need torchvision: {error}") from None


_KEPT: list[Any] = []
"""Libraries of operators live as long as something holds them."""
