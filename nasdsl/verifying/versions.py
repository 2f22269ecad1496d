"""Versions then and now.

Takes two tables of versions, adds findings. Invariant: every version that differs is named, once, with what
follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasdsl.verifying.findings import Report

_COMPUTES = {
    "torch": "results may differ in the last bits, and so may architectures that are close to each other",
    "cuda": "results on a GPU may differ in the last bits",
    "cudnn": "results on a GPU may differ in the last bits",
    "torchvision": "image data may be read in another way",
    "pillow": "images may be decoded or resized in another way",
    "numpy": "data may be prepared with other last bits",
    "device": "another device adds in another order: results differ in the last bits",
    "platform": "another system: results may differ in the last bits",
    "threads": "sums are cut into other parts: results may differ in the last bits",
}
"""Whose versions results depend on."""


def compare_versions(
    then: Mapping[str, Any], now: Mapping[str, Any], report: Report, same: bool, replayed: bool = False
) -> None:
    """Adds what differs.

    Args:
        then, now: versions by name, None or absent for what is not there.
        same: whether all that a version of nasdsl, of Python, or of what compiles could change comes out the same.
        replayed: whether steps that were done again here are the same to the bit.
    """
    differing = [name for name in {**then, **now} if name in then and then[name] != now.get(name)]
    for name in differing:
        what = f"was {_shown(then[name])}, here it is {_shown(now.get(name))}"
        if name in _COMPUTES and replayed:
            report.add(name, f"{what}: the steps that were done again are the same to the bit", matters=False)
        elif name in _COMPUTES:
            report.add(name, f"{what}: {_COMPUTES[name]}", matters=True, cure=_cure(name, then[name]))
        elif same:
            report.add(name, f"{what}: all that depends on it comes out the same", matters=False)
        else:
            why = "what differs below or above may come from that"
            report.add(name, f"{what}: {why}", matters=True, cure=_cure(name, then[name]))
    if not differing:
        report.good.append("versions: " + ", ".join(f"{n} {_shown(v)}" for n, v in then.items() if v))


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _cure(name: str, version: Any) -> str | None:
    if version is None or name in ("device", "platform", "cuda", "cudnn", "python"):
        return None
    if name == "threads":
        return f"OMP_NUM_THREADS={version}"
    return f"to compute as then: pip install {name}=={version}"


__all__ = ["compare_versions"]
