"""A shrinking that a trained supernet drives: the search `shrink` of methods of single paths.

Takes the draw of a search, its space and its settings; asks for one path after the other as every finder
does. Invariant: what is asked depends on the seed and on the accuracies told, so a checkpoint keeps these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.runtime.paths.finding import Finder, Judged
from nasdsl.runtime.paths.sampling import Draw
from nasdsl.runtime.standalone.run import Run
from nasdsl.shrinking.page import page
from nasdsl.shrinking.record import record
from nasdsl.shrinking.rounds import Rules, Shrinking
from nasdsl.subspace.files import text_of

if TYPE_CHECKING:
    from nasdsl.api import Space

SOURCE = "accuracy with the weights of the supernet"


def rules_of(settings: Mapping[str, Any]) -> Rules:
    """The rules that the settings of a search say; bins are of its objective, of MACs where that is latency."""
    objective = settings["objective"]
    return Rules(
        samples=settings["shrink_samples"],
        fresh=settings["shrink_fresh"],
        top=settings["shrink_top"],
        bins=settings["shrink_bins"],
        radius=settings["shrink_radius"],
        predictor=settings["shrink_predictor"],
        least=settings["shrink_least"],
        evaluations=settings["evaluations"],
        cost=objective if objective in ("macs", "params") else "macs",
    )


class ShrinkFinder(Finder):
    """Asks for what a shrinking wants to know, and ends with a sub-space."""

    def __init__(self, draw: Draw, space: Space, settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(draw, settings["evaluations"])
        self.shrinking = Shrinking(space, rules_of(settings), seed)

    def propose(self) -> list[dict[str, Any]]:
        """What is asked for now."""
        return self.shrinking.ask()

    def tell(self, accuracy: float) -> None:
        """What the path reached that was asked for."""
        super().tell(accuracy)
        self.shrinking.tell([accuracy])

    def best(self) -> Judged:
        """The most accurate path of what is left, of equals the cheapest."""
        result = self.shrinking.result
        if result is None or result.subspace is None:
            return super().best()
        inside = [j for j in self.judged if result.subspace.contains(j.choices)]
        return max(inside, key=lambda j: (j.accuracy, -j.cost))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken: the shrinking is told again what it was told."""
        super().load_state_dict(state)
        for judged in self.judged:
            self.shrinking.tell([judged.accuracy])

    def write(self, run: Run, file: Path, version: str) -> list[str]:
        """Writes `subspace.json`, `shrinking.json` and `shrinking.html` of a run; returns what to tell.

        Args:
            file: of the space, for the command that goes on.
            version: of nasdsl.
        """
        shrunk = self.shrinking.result
        if shrunk is None:
            raise ValueError("the shrinking has not ended")
        found = record(self.shrinking, SOURCE) | {"file": str(file), "version": version, "command": None}
        found["scored"] = [
            s | {"score": s["score"] if math.isfinite(s["score"]) else None} for s in found["scored"]
        ]
        run.write("shrinking.json", json.dumps(found, indent=1) + "\n")
        report = run.write("shrinking.html", page(found))
        told = [f"shrunk: {shrunk.stopped}", f"shrinking: {report}"]
        if shrunk.subspace is None:
            (run.folder / "subspace.json").unlink(missing_ok=True)
            return [
                *told,
                "nothing was left out: the space is as it was",
            ]
        path = run.write("subspace.json", text_of(shrunk.subspace))
        size = self.shrinking.ground.tally.high / max(1, shrunk.size)
        told.append(f"sub-space: {path}, {shrunk.size:,} architectures, {size:,.3g} times smaller")
        return [*told, f"next: nasdsl compile {file} --within {path} --method toponas"]


__all__ = ["SOURCE", "ShrinkFinder", "rules_of"]
