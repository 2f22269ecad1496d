"""Folders of runs in the format of real ones, as long as wanted and without the hours that they take."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from nasdsl.codegen.lock import LOCK, checksum_of
from nasdsl.opening import load

DAY = 86_400.0
BEGUN = 1_800_000_000.0
HOSTILE = "</title><script>alert(\"1\")</script> & 'x' {{ 7 * 7 }}"


@lru_cache
def compiled_files(method: str = "toponas") -> dict[str, str]:
    """A compiled directory of DARTS, small enough to be made in a second or two."""
    space = load("darts", layers=3, C=4, resolution=8)
    return space.compile(method).files()


def write_compiled(folder: Path, method: str = "toponas") -> Path:
    folder.mkdir(parents=True)
    for name, text in compiled_files(method).items():
        (folder / name).write_text(text, "utf-8")
    return folder


def write_lock(folder: Path, lock: Mapping[str, Any]) -> None:
    """A lock as the scripts and `nasdsl compile` write it: what it says with the checksum of that."""
    plain = {k: v for k, v in lock.items() if k != "checksum"}
    (folder / LOCK).write_text(
        json.dumps({**plain, "checksum": checksum_of(plain)}, indent=1) + "\n", "utf-8"
    )


def read_lock(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / LOCK).read_text("utf-8"))
    return found


def digest_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(v) for v in logits]
    return [round(p / sum(powers), 4) for p in powers]


class Search:
    """A search of DARTS as its log has it: 28 edges of 8 entries, 8 nodes that take two inputs."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        table = load("darts", layers=3, C=4, resolution=8).checked.table
        self.decisions = table.decisions
        self.lean = {
            d.path: [self.rng.gauss(0, 1) for _ in range(len(d.options) + (d.kind == "op"))]
            for d in self.decisions
        }

    @property
    def entries(self) -> dict[str, list[str]]:
        return {d.path: [*d.options, *(["none"] if d.kind == "op" else [])] for d in self.decisions}

    def entry(self, epoch: int, epochs: int) -> dict[str, Any]:
        way = epoch / epochs
        shares, found = {}, {}
        for d in self.decisions:
            logits = [4 * way * way * v + self.rng.gauss(0, 0.05) for v in self.lean[d.path]]
            shares[d.path] = softmax(logits)
            if d.kind == "op":
                known = shares[d.path][: len(d.options)]
                found[d.path] = d.options[known.index(max(known))]
            else:
                shares[d.path] = [min(1.0, 2 * p) for p in shares[d.path]]
                order = sorted(range(len(d.options)), key=lambda i: -shares[d.path][i])
                found[d.path] = [d.options[i] for i in sorted(order[:2])]
        taken = {
            f"{p.rpartition('.')[0]}.op[{i}]" for p, c in found.items() if isinstance(c, list) for i in c
        }
        derived = {p: c for p, c in found.items() if isinstance(c, list) or p in taken}
        loss, noise = 2.3 * math.exp(-2.2 * way) + 0.15, self.rng.gauss(0, 0.02)
        return {
            "epoch": epoch,
            "train_loss": loss + noise,
            "valid_loss": loss + 0.08 + self.rng.gauss(0, 0.03),
            "valid_accuracy": 0.1 + 0.8 * way**0.6 + noise,
            "supernet_accuracy": 0.1 + 0.8 * way**0.6,
            "projected_accuracy": 0.1 + 0.55 * way**0.6 + self.rng.gauss(0, 0.03),
            "discretisation_gap": 0.25 * way**0.6 - noise,
            "entropy_operations": 1 - 0.7 * way**2,
            "entropy_topology": 1 - 0.5 * way**2,
            "skip_share": 0.1 + 0.3 * way,
            "hessian_eigenvalue": 0.2 + 0.4 * way**3 + noise,
            "variable_rate": 1.0,
            "architecture": derived,
            "probabilities": shares,
        }


def write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(e) + "\n" for e in entries), "utf-8")


def events(epochs: int, finished: bool = True) -> list[dict[str, Any]]:
    """A run that was away for a day after a third of it."""
    found: list[dict[str, Any]] = [{"event": "started", "time": BEGUN, "epoch": 0, "step": 0}]
    time = BEGUN
    for epoch in range(1, epochs + 1):
        time += 95.5 + epoch % 3
        found += [{"event": e, "time": time, "epoch": epoch, "step": 0} for e in ("epoch", "saved")]
        if epoch == max(1, epochs // 3) and epoch < epochs:
            found.append({"event": "stopped", "time": time + 5, "epoch": epoch, "step": 12})
            time += DAY
            found.append({"event": "continued", "time": time, "epoch": epoch, "step": 12})
    if finished:
        found.append({"event": "finished", "time": time + 2, "epoch": epochs, "step": 0})
    return found


def made_in(folder: Path) -> dict[str, str]:
    """What a run says of the directory around it, or of that of `write_compiled` where there is none."""
    home = folder.parent.parent
    texts = {n: (home / n).read_text("utf-8") for n in (LOCK, "supernet.py") if (home / n).exists()}
    texts = texts if len(texts) == 2 else compiled_files()
    lock = json.loads(texts[LOCK])
    digest = sha256(texts["supernet.py"].encode()).hexdigest()
    return {"space": lock["space"]["fingerprint"], "method": lock["method"], "supernet": digest[:16]}


def write_run(folder: Path, epochs: int, *, seed: int = 0, finished: bool = True, **identity: Any) -> Path:
    """The folder of a gradient search, with what a report reads of what a run of this version leaves."""
    folder.mkdir(parents=True)
    search = Search(seed)
    log = [search.entry(e, epochs) for e in range(1, epochs + 1)]
    write_lines(folder / "log.jsonl", log)
    write_lines(folder / "timeline.jsonl", events(epochs, finished))
    lock: dict[str, Any] = {
        "format": 1,
        "kind": "run",
        "identity": {
            **made_in(folder),
            "seed": seed,
            "epochs": epochs if finished else 2 * epochs,
            "name": "cifar10",
            "batch_size": 64,
            "clip": 5.0,
            **identity,
        },
        "arguments": {
            "data": "cifar10",
            "data_dir": "data",
            "device": "auto",
            "precision": "bf16",
            "epochs": epochs,
            "limit_batches": None,
            "seed": seed,
            "deterministic": True,
            "workers": 2,
            "settings": ["clip=3", "weight_lr=0.05"],
            "benchmark": None,
            "metric": None,
        },
        "environment": {
            "python": "3.11.9",
            "torch": "2.13.0",
            "cuda": "13.0",
            "device": "a large accelerator",
            "threads": 8,
        },
        "data": {"train": "1f" * 32, "test": "2e" * 32, "split": "3d" * 32},
        "decisions": search.entries,
        "first_steps": {"steps": 3, "losses": [], "digest": "4c" * 32},
        "files": {},
    }
    if finished:
        fingerprint = lock["identity"]["space"]
        found = {"space": "darts", "fingerprint": fingerprint, "choices": log[-1]["architecture"]}
        (folder / "architecture.json").write_text(json.dumps(found), "utf-8")
        (folder / "model.py").write_text(f"# {found}\n", "utf-8")
        lock["files"] = {name: digest_of(folder / name) for name in ("architecture.json", "model.py")}
    write_lock(folder, lock)
    return folder


def write_retrained(folder: Path, epochs: int = 40, weights: str | None = None) -> None:
    """What retrain.py leaves of the network of a run.

    Args:
        weights: the file that it began from.
    """
    where = folder / "retrain"
    where.mkdir()
    log: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        way = epoch / epochs
        lr = 0.0125 * (1 + math.cos(math.pi * way))
        log.append({"epoch": epoch, "loss": 2.2 * math.exp(-3 * way) + 0.05, "lr": lr})
        if epoch % 10 == 0:
            log[-1]["test_accuracy"] = 0.97 - 0.5 * math.exp(-4 * way)
    write_lines(where / "log.jsonl", log)
    write_lines(where / "timeline.jsonl", events(epochs))
    (where / "result.json").write_text(json.dumps({"test_accuracy": 0.9712, "examples": 10_000}), "utf-8")
    identity = {
        "model": digest_of(folder / "model.py")[:16],
        "seed": 0,
        "name": "cifar10",
        "epochs": epochs,
        "limit_batches": None,
        "weights": None if weights is None else "6d" * 8,
    }
    arguments = {
        "data": "cifar10",
        "seed": 0,
        "settings": [],
        "workers": 2,
        "model": None,
        "weights": weights,
    }
    lock = {
        "format": 1,
        "kind": "run",
        "identity": identity,
        "arguments": arguments,
        "environment": {"python": "3.11.9", "processes": 1},
        "data": {"train": "1f" * 32},
        "first_steps": None,
        "files": {"result.json": digest_of(where / "result.json")},
    }
    write_lock(where, lock)


def example(folder: Path, epochs: int = 100, **how: Any) -> Path:
    """A compiled directory with a run in it; returns the folder of the run."""
    write_compiled(folder)
    return write_run(folder / "runs" / "0", epochs, **how)
