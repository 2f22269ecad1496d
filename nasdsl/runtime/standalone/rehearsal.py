"""A dry day: everything that a run does, once and small, before a long one is queued."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.data import Data
from nasdsl.runtime.standalone.meeting import LAUNCHED
from nasdsl.runtime.standalone.run import Run

_SMALL = {
    "epochs": 2,
    "hessian_iterations": 1,
    "evaluations": 8,
    "population": 4,
    "parents": 2,
    "shrink_samples": 6,
    "shrink_fresh": 2,
    "shrink_least": 1,
    "calibration_batches": 1,
    "judging_batches": 1,
}
"""The most of what only takes time. What takes memory, such as the batch, stays as it is."""
_BATCHES = 3
"""Steps an epoch."""


class Rehearsal:
    """Cuts a run down if `--dry-run` is given, and tells at its end how it went; else it changes nothing.

    Attributes:
        few: examples of a split that are enough; None for all.
    """

    def __init__(self, args: argparse.Namespace, settings: dict[str, Any]) -> None:
        self.on: bool = args.dry_run
        self.args, self.epochs = args, settings["epochs"]
        self.limit: int | None = args.limit_batches
        self.few: int | None = None
        if not self.on:
            return
        settings.update({k: min(settings[k], v) for k, v in _SMALL.items() if k in settings})
        if "judging_batches" in settings:
            settings["judging_batches"] = 1  # of which 0 would be all
        self.few = 4 * settings["batch_size"]
        args.limit_batches = min(_BATCHES, self.limit or _BATCHES)
        args.out = tempfile.mkdtemp(prefix="dry-run-")
        atexit.register(shutil.rmtree, args.out, ignore_errors=True)
        print("dry run: everything once, small, in a folder that is thrown away")

    def end(self, run: Run, data: Data, settings: dict[str, Any], device: torch.device) -> None:
        """Checks that the run would be found again, and says what a whole one takes.

        Raises:
            Mistake: its checkpoint is not what was saved.
        """
        state = run.load()
        if state is None or state["counters"] != run.at:
            raise Mistake(f"the checkpoint in {run.folder} is not what was saved there")
        size = run.checkpoints.path(0).stat().st_size
        steps = int(data.whole * settings.get("train_fraction", 1.0)) // settings["batch_size"]
        steps = max(1, min(steps, self.limit or steps))
        each = run.step_seconds()
        print(f"dry run: {each:.3g} s a step (median of {len(run.steps)})")
        print(
            f"dry run: {self.epochs} epochs of {steps} steps would take about {_long(each * steps * self.epochs)}, "
            "without measuring, judging and evaluating"
        )
        print(f"dry run: a checkpoint has {size / 2**20:.1f} MiB, {run.checkpoints.keep} are kept")
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) / 2**30
            total = torch.cuda.get_device_properties(device).total_memory / 2**30
            print(f"dry run: {peak:.2f} of {total:.1f} GiB of the device were used at the peak")

    def retrain(self, script: Path, run: Run) -> None:
        """Rehearses the retraining of what was found. Raises Mistake where that fails."""
        args = self.args
        line = [sys.executable, str(script), "--dry-run", "--model", str(run.folder / "model.py")]
        line += ["--device", args.device, "--precision", args.precision, "--workers", str(args.workers)]
        line += ["--data-dir", args.data_dir, "--data", str(run.identity["name"])]
        sys.stdout.flush()
        alone = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
        if subprocess.run(line, check=False, env=alone).returncode != 0:
            raise Mistake(
                f"the search can run, the retraining cannot: {script} ended with an error, see above"
            )
        print("dry run: all went well; nothing was kept")


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
