"""What training the network by itself has left.

Takes the folder `retrain` of a run, returns a `Retrained`. Invariant: a result is there only if it is of the
network that the run found.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from nasdsl.reporting.reading import (
    ENTRY,
    EVENT,
    Record,
    digest,
    in_order,
    left_by_it,
    lines,
    record,
    run_lock,
)

_RESULT = {"test_accuracy": float, "examples?": int, "last_step_accuracy?": float}
_PREFIX = 16
"""Digits that a run keeps of a digest."""


@attrs.frozen
class Retrained:
    """What retrain.py has left.

    Attributes:
        result: where it has ended, and of this run's network; None else.
        lock: what it was made from; None where that is not known.
        other: whether it is of another network than the run's.
    """

    log: tuple[Record, ...]
    result: Record | None
    lock: Record | None
    other: bool = False

    @property
    def began(self) -> str:
        """What it began from, in words; "" where that is not known."""
        if self.lock is None or "weights" not in self.lock["identity"]:
            return ""
        weights = self.lock["identity"]["weights"]
        if weights is None:
            return "from scratch"
        named = self.lock["arguments"].get("weights")
        return f"from weights of {named} ({weights})" if named else f"from weights ({weights})"


def retrained_of(folder: Path, lock: Record | None, ended: bool, problems: list[str]) -> Retrained | None:
    """What lies in the folder `retrain` of a run; None for nothing.

    Args:
        folder: of the run.
        lock: of the run.
        ended: whether the run has: of one that has not it cannot be.
    """
    home = folder / "retrain"
    if not any((home / name).exists() for name in ("log.jsonl", "checkpoint.pt", "result.json")):
        return None
    mine: list[str] = []
    log = in_order(lines(home / "log.jsonl", ENTRY, mine), mine)
    timeline = lines(home / "timeline.jsonl", EVENT, mine)
    own = run_lock(home, mine, "retrain.py of this version writes it; which network was trained is not known")
    result = None
    if left_by_it(home / "result.json", timeline, own, mine):
        result = record(home / "result.json", _RESULT, mine, False, "run retrain.py again to its end")
    model = digest(folder / "model.py") or (lock or {}).get("files", {}).get("model.py")
    trained = (own or {}).get("identity", {}).get("model")
    other = not ended or (trained is not None and model is not None and trained != model[:_PREFIX])
    if other:
        mine.append(
            "of another model.py than this run's, so its result is left out: run retrain.py for this one."
        )
    problems += [f"Retraining: {p}" for p in mine]
    return Retrained(log, None if other else result, own, other)


__all__ = ["Retrained", "retrained_of"]
