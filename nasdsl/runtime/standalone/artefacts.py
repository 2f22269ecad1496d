"""What a search and a retraining leave in the folder of a run, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SEARCHED = (
    *("log.jsonl", "model.py", "architecture.json", "architecture.svg", "report.md"),
    *("supernet.safetensors", "supernet.pt"),
    *("inherited/record.json", "inherited/weights.safetensors", "inherited/weights.pt"),
    *("judged.json", "front.json", "front.svg", "front/[0-9]*.json"),
    *("shrinking.json", "shrinking.html", "subspace.json"),
)
"""What a search writes whole, as patterns."""

RETRAINED = (
    *("log.jsonl", "result.json"),
    *("weights.safetensors", "weights.pt", "last_step.safetensors", "last_step.pt"),
)
"""The same of a retraining."""

ALIVE = ("nasdsl.lock", "timeline.jsonl", "report.html")
"""What a finished run still changes, or what is made anew at any time."""


def known_of(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """The patterns of a run: those of a search have a method, those of a retraining a model."""
    if "method" in identity:
        return SEARCHED
    return RETRAINED if "model" in identity else SEARCHED + RETRAINED


def left_in(folder: Path, known: tuple[str, ...] = SEARCHED + RETRAINED) -> Iterator[Path]:
    """The files of such names that there are, sorted."""
    yield from sorted({path for name in known for path in folder.glob(name) if path.is_file()})
