"""Images that were decoded once, for all cells of an evaluation.

Takes the file that the variable EVALUATION_DATA names, returns what `--data decoded:splits` asks for. The
pixels are those that `search.py --data imagefolder:PATH` would make for itself, half a minute a run.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from nasdsl.runtime.standalone.basics import file_digest
from nasdsl.runtime.standalone.data import load_data

FILE = "EVALUATION_DATA"
NAME = "decoded:splits"
Pairs = list[tuple[Any, int]]


def decode(data: str, declared: tuple[Any, ...], classes: int, folder: Path) -> tuple[Path, str]:
    """Decodes `imagefolder:PATH` into a file, once; returns the file and its digest."""
    size = "x".join(map(str, declared[1:]))
    source = sha256(str(Path(data.partition(":")[2]).resolve()).encode()).hexdigest()[:8]
    path = folder / f"images_{size}_{source}.pt"
    if not path.exists():
        print(f"decoding {data} once for all cells", flush=True)
        found = load_data(data, declared, classes, "data", 1)
        for note in found.notes:
            print(f"data: {note}")
        folder.mkdir(parents=True, exist_ok=True)
        parts = {n: (s.examples, s.labels) for n, s in (("train", found.train), ("test", found.test))}
        new = path.with_suffix(".new")
        torch.save(parts, new)
        new.replace(path)
    return path, file_digest(path)


def splits() -> tuple[Pairs, Pairs]:
    """Training and test examples, as (image, label)."""
    parts = torch.load(os.environ[FILE], weights_only=True)
    train, test = (list(zip(x.unbind(), y.tolist(), strict=True)) for x, y in (parts["train"], parts["test"]))
    return train, test
