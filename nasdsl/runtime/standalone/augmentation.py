"""What changes training images: crops, flips, holes, and timm's RandAugment and random erasing."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.standalone.basics import Mistake, ensure_torchvision

WHOLE = slice(0, None, 1)
"""All rows of a batch."""


def random_crop(x: Tensor, pad: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
    """A random window of every image (B, C, H, W) after padding with zeros, gathered at once.

    Args:
        rows: which rows of a batch these images are (`r::w`); what is drawn is drawn for the whole batch.
    """
    count, _, height, width = x.shape
    drawn = torch.randint(0, 2 * pad + 1, (2, count * rows.step, 1), generator=generator)
    offsets = drawn[:, rows].to(x.device)
    down = offsets[0] + torch.arange(height, device=x.device)  # (B, H)
    along = offsets[1] + torch.arange(width, device=x.device)  # (B, W)
    padded = F.pad(x, (pad,) * 4).permute(0, 2, 3, 1)  # (B, H + 2p, W + 2p, C)
    each = torch.arange(count, device=x.device)[:, None, None]
    return padded[each, down[:, :, None], along[:, None, :]].permute(0, 3, 1, 2)


def random_flip(x: Tensor, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
    """Half of the images (B, C, H, W), left to right; `rows` as of `random_crop`."""
    flipped = torch.rand(len(x) * rows.step, 1, 1, 1, generator=generator)[rows].to(x.device) < 0.5
    return torch.where(flipped, x.flip(3), x)


def cut_out(x: Tensor, side: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
    """A square of zeros with a random centre in every image (B, C, H, W), cut off at the borders.

    `rows` as of `random_crop`.
    """
    holes = []
    for length in x.shape[2:]:
        drawn = torch.randint(0, length, (len(x) * rows.step, 1), generator=generator)
        centre = drawn[rows].to(x.device)
        away = torch.arange(length, device=x.device) - centre  # (B, length)
        holes.append((away >= -(side // 2)) & (away < side - side // 2))
    return x.masked_fill((holes[0][:, :, None] & holes[1][:, None, :])[:, None], 0.0)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Seeds what timm draws from (Python's, numpy's and torch's CPU generator), and restores it."""
    before = random.getstate(), numpy.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    numpy.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
    try:
        yield
    finally:
        random.setstate(before[0])
        numpy.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def _from_timm(setting: str, module: str, name: str) -> Any:
    ensure_torchvision()
    try:
        return getattr(importlib.import_module(f"timm.data.{module}"), name)
    except ImportError as error:
        raise Mistake(f"{setting} is timm's: pip install timm ({error})") from None


class RandAugment:
    """timm's RandAugment of images of bytes.

    RandAugment (Cubuk et al., 2020) and random erasing (Zhong et al., 2017) are timm's own code: published
    recipes mean that code, down to how a magnitude varies.

    Args:
        notation: timm's, such as `rand-m9-mstd0.5`.
        shape: (C, H, W) of the images; translations are .45 of the shorter side at most.
        mean: of each channel in [0, 1], the colour of what moves in from outside.
        interpolation: bilinear, bicubic, or random of both.

    Raises:
        Mistake: timm is not installed or does not know the notation; images with 2 channels or vectors.
    """

    def __init__(
        self, notation: str, shape: Sequence[int], mean: Sequence[float], interpolation: str
    ) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise Mistake(f"randaugment={notation} is of images with 1 or 3 channels, not of {tuple(shape)}")
        make = _from_timm(f"randaugment={notation}", "auto_augment", "rand_augment_transform")
        colour = tuple(min(255, round(255 * m)) for m in mean)
        drawn: dict[str, Any] = {
            "translate_const": int(min(shape[1:]) * 0.45),
            "img_mean": colour if shape[0] == 3 else colour[0],
        }
        if interpolation != "random":
            drawn["interpolation"] = pillow_filter(interpolation)
        try:
            self._change: Callable[[Any], Any] = make(notation, drawn)
        except (AssertionError, ValueError, KeyError) as error:
            said = f" ({error})" if str(error) else ""
            raise Mistake(
                f"randaugment={notation}: timm cannot read that{said}; write such as rand-m9-mstd0.5"
            ) from None

    def change(self, image: Any, seed: int) -> Any:
        """A PIL image, changed as the seed says."""
        with drawing_from(seed):
            return self._change(image)

    def __call__(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """A batch (B, C, H, W) of bytes, each image changed as its seed says."""
        from PIL import Image

        made = []
        for pixels, seed in zip(x.cpu().permute(0, 2, 3, 1).numpy(), seeds, strict=True):
            image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
            made.append(as_bytes(self.change(image, seed)))
        return torch.stack(made).to(x.device)


def as_bytes(image: Any) -> Tensor:
    """A PIL image of grey or colour as bytes (C, H, W)."""
    pixels = torch.from_numpy(numpy.array(image))
    return (pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)).contiguous()


def pillow_filter(interpolation: str) -> Any:
    """The filter of Pillow that an interpolation names; of `random`, bilinear."""
    from PIL import Image

    return Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR


class Erasing:
    """timm's random erasing in mode `pixel`: a rectangle of noise in some of the normalised images.

    Raises:
        Mistake: timm is not installed.
    """

    def __init__(self, probability: float) -> None:
        made = _from_timm(f"erasing={probability:g}", "random_erasing", "RandomErasing")
        # The noise is drawn on the CPU, so that it is the same whatever the device.
        self._erase: Callable[[Tensor], Tensor] = made(probability, mode="pixel", device="cpu")

    def __call__(self, x: Tensor, seed: int, rows: slice = WHOLE) -> Tensor:
        """Normalised images (B, C, H, W), changed in place as the seed says; `rows` as of `random_crop`."""
        whole = x
        if rows.step > 1:  # what is drawn for an image depends on those before it
            whole = x.new_zeros(len(x) * rows.step, *x.shape[1:])
            whole[rows] = x
        with drawing_from(seed):
            return self._erase(whole)[rows]
