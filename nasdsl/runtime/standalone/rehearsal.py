"""A dry day: everything that a run does, once and small, before a long one is queued."""

from __future__ import annotations

import argparse
import atexit
import gc
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.checkpoint import Checkpoints
from nasdsl.runtime.standalone.data import DATA_RULES, Data
from nasdsl.runtime.standalone.lock import refuse_directory
from nasdsl.runtime.standalone.meeting import LAUNCHED
from nasdsl.runtime.standalone.run import Run, folder_of, refuse_another

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

    Args:
        home: where the script lies.
        fraction: of the training set that the weights have; the variables, or what judges, have the rest.
        within: the folder in the run's that is written, "" for all of it.

    Attributes:
        few: examples of a split that are enough; None for all.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        settings: dict[str, Any],
        home: Path,
        fraction: float = 1.0,
        within: str = "",
    ) -> None:
        self.on: bool = args.dry_run
        self.args, self.fraction, self.epochs = args, fraction, settings["epochs"]
        self.limit: int | None = args.limit_batches
        self.few: int | None = None
        self.wanted, self.whole = folder_of(args, home) / within, dict(settings)
        if not self.on:
            return
        settings.update({k: min(settings[k], v) for k, v in _SMALL.items() if k in settings})
        if "judging_batches" in settings:
            settings["judging_batches"] = 1  # of which 0 would be all
        least = min(fraction, 1 - fraction) if fraction < 1 else 1.0
        self.few = math.ceil(4 * settings["batch_size"] / least)
        args.limit_batches = min(_BATCHES, self.limit or _BATCHES)
        args.out = tempfile.mkdtemp(prefix="dry-run-")
        atexit.register(shutil.rmtree, args.out, ignore_errors=True)
        print("dry run: everything once, small, in a folder that is thrown away")

    def end(self, run: Run, data: Data, device: torch.device) -> None:
        """Checks that the run would be found again and has a place, and says what a whole one takes.

        Raises:
            Mistake: its checkpoint is not what was saved; the folder of the real one cannot be used.
        """
        state = run.load()
        if state is None or state["counters"] != run.at:
            raise Mistake(f"the checkpoint in {run.folder} is not what was saved there")
        size, kept = run.checkpoints.path(0).stat().st_size, run.checkpoints.keep
        batch = self.whole["batch_size"]
        steps = int(data.whole * self.fraction) // batch
        steps = max(1, min(steps, self.limit or steps))
        each = run.step_seconds()
        print(f"dry run: {each:.3g} s a step (median of {len(run.steps)})")
        print(
            f"dry run: {self.epochs} epochs of {steps} steps would take about {_long(each * steps * self.epochs)}, "
            "without measuring, judging and evaluating"
        )
        print(f"dry run: a checkpoint has {size / 2**20:.1f} MiB, {kept} are kept")
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) / 2**30
            total = torch.cuda.get_device_properties(device).total_memory / 2**30
            print(f"dry run: {peak:.2f} of {total:.1f} GiB of the device were used at the peak")
        there = sum(path.stat().st_size for path in Checkpoints(self.wanted, kept).found())
        _refuse_full(self.wanted, max(size, size * (kept + 1) - there))
        self._look_at_wanted(run)

    def _look_at_wanted(self, run: Run) -> None:
        """Says whether the real run would begin or continue. Raises Mistake where its folder holds another one."""
        refuse_directory(self.wanted)
        found = Checkpoints(self.wanted, run.checkpoints.keep)
        if self.args.restart and found.found():
            print(f"dry run: --restart will throw away the run in {self.wanted}")
            return
        state = found.read(mends=False)
        if state is None:
            return
        # What was cut down is as the real run has it; of the data only a few examples were read.
        now = {**run.identity, **self.whole, "limit_batches": self.limit}
        unknown = {"data", "loader"} if self.whole["loader"] == "auto" else {"data"}
        was = {**state["identity"], **{name: now.get(name) for name in unknown}}
        refuse_another(self.wanted, was, now)
        at = state["counters"]
        print(
            f"dry run: the real one continues {self.wanted} at epoch {at['epoch'] + 1}, step {at['step'] + 1}"
        )

    def retrain(self, script: Path, run: Run) -> None:
        """Rehearses the retraining of what was found. Raises Mistake where that fails."""
        args = self.args
        line = [sys.executable, str(script), "--dry-run", "--model", str(run.folder / "model.py")]
        line += ["--out", str(run.folder / "rehearsed"), "--seed", str(args.seed)]
        line += ["--device", args.device, "--precision", args.precision, "--workers", str(args.workers)]
        line += ["--data-dir", args.data_dir, "--data", str(run.identity["name"])]
        of_data = [pair for pair in args.settings if pair.partition("=")[0] in DATA_RULES]
        line += [word for pair in of_data if not pair.startswith("name=") for word in ("--set", pair)]
        line += [
            f"--{name.replace('_', '-')}" for name in ("deterministic", "sync_bn") if getattr(args, name)
        ]
        _let_go(run)
        sys.stdout.flush()
        alone = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
        if subprocess.run(line, check=False, env=alone).returncode != 0:
            raise Mistake(
                f"the search can run, the retraining cannot: {script} ended with an error, see above"
            )
        print("dry run: all went well; nothing was kept")


def _let_go(run: Run) -> None:
    """Gives back what the search holds of a GPU, as far as that can be."""
    for part in run.parts.values():
        if isinstance(part, torch.nn.Module):
            part.to("cpu")
    run.parts.clear()
    gc.collect()
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved() / 2**30
    if held >= 0.05:
        print(
            f"dry run: the search still holds {held:.2f} GiB of the device while the retraining is rehearsed"
        )


def _refuse_full(folder: Path, size: int) -> None:
    """Raises Mistake where nothing, or less than so many bytes, can be written to a folder that may not be there."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise Mistake(
            f"{folder} cannot be written: {error.strerror}. Make it writable, or choose another folder with --out"
        ) from None
    if free < size:
        raise Mistake(
            f"the disk of {folder} has {free / 2**20:.0f} MiB, the checkpoints of this run need "
            f"{size / 2**20:.0f}: make room, or choose another folder with --out"
        )


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
