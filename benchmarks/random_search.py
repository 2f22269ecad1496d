"""Random search at equal cost: architectures drawn uniformly, each trained briefly, the best by held-out data.

    python random_search.py TASK.json

A cell of `evaluation.py`, which writes the task. Every architecture is trained alone, in the form that
`retrain.py` trains, on the part of the data that a search gives to the weights, with a search's optimiser;
the other part chooses. It goes on until the seconds of the task are spent, start and loading included, and
at least once. What was trained is in `tried.jsonl`: a run that is continued trains none of it again.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import torch

import nasdsl
from nasdsl.runtime.search import bilevel
from nasdsl.runtime.standalone import basics
from nasdsl.runtime.standalone.data import Data, load_data
from nasdsl.runtime.standalone.recipe import make_sgd

HELD_OUT = 40
"""Batches that choose."""


def clock(task: dict[str, Any]) -> float:
    """Processor seconds of this process; on a GPU seconds."""
    return time.perf_counter() if task["device"].startswith("cuda") else time.process_time()


def train_one(
    space: nasdsl.Space, arch: nasdsl.Architecture, data: Data, task: dict[str, Any], number: int
) -> float:
    """The held-out accuracy of one architecture after its training from scratch."""
    s, device = task["settings"], basics.pick_device(task["device"])
    train, valid = bilevel.search_streams(data, s, task["seed"])
    net = space.network(arch, seed=basics.stable_seed(task["seed"], "random", number) % 2**31).to(device)
    basics.channels_last(net)
    optimizer = make_sgd(
        net.parameters(), s["weight_lr"], s["weight_momentum"], s["weight_decay"], s["nesterov"]
    )
    steps = min(train.batches, task["limit_batches"] or train.batches)
    train.position = number * task["epochs"] * steps  # each sees images of its own
    for epoch in range(task["epochs"]):
        optimizer.param_groups[0]["lr"] = basics.cosine(
            s["weight_lr"], s["weight_lr_min"], epoch / task["epochs"]
        )
        net.train()
        for _ in range(steps):
            x, y = train.next()
            with basics.autocast(device, task["precision"]):
                loss = torch.nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if s["clip"] > 0:
                torch.nn.utils.clip_grad_norm_(net.parameters(), s["clip"])
            optimizer.step()
    held_out = [valid.peek(i) for i in range(min(valid.batches, HELD_OUT))]
    return bilevel.accuracy(net, held_out, lambda: basics.autocast(device, task["precision"]))


def main() -> int:
    begun = time.perf_counter()
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    on_gpu = task["device"].startswith("cuda")
    zero = begun if on_gpu else 0.0  # processor time counts from the start of the process
    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "tried.jsonl"
    tried = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    before = max((t["spent_s"] for t in tried), default=0.0)
    space = nasdsl.load(Path(task["space"]), **task["parameters"])
    declared = (space.checked.input.layout, *space.checked.input.evaluate({}))
    data = load_data(task["data"], declared, space.checked.classes, task["data_dir"], 1)
    data = data.to(basics.pick_device(task["device"]))
    basics.seed_everything(task["seed"], False)
    for number in count(len(tried)):
        spent = before + clock(task) - zero
        if tried and spent >= task["budget_s"]:
            break
        arch = space.sample(number + 1, seed=task["seed"])[-1]
        accuracy = train_one(space, arch, data, task, number)
        entry = {"valid_accuracy": accuracy, "choices": dict(arch.choices)}
        tried.append({**entry, "spent_s": before + clock(task) - zero})
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(tried[-1]) + "\n")
    best = max(tried, key=lambda t: t["valid_accuracy"])
    found = {"choices": best["choices"], "valid_accuracy": best["valid_accuracy"], "trained": len(tried)}
    found["budget_s"] = task["budget_s"]
    new = folder / "found.json.new"
    new.write_text(json.dumps(found) + "\n", "utf-8")
    new.replace(folder / "found.json")
    print(f"{len(tried)} architectures trained, the best at {best['valid_accuracy']:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
