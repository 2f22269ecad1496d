"""Training one network from scratch."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.runtime.standalone.basics import (
    Mistake,
    Progress,
    autocast,
    cosine,
    pick_device,
    require_finite,
    seed_everything,
)
from nasdsl.runtime.standalone.data import Data, Stream, load_data, prepare
from nasdsl.runtime.standalone.run import Run


def load_model(path: Path) -> Any:
    """The module of a `model.py`. Raises Mistake when there is none."""
    if not path.exists():
        raise Mistake(f"{path} does not exist: run search.py first, or name another with --out")
    spec = importlib.util.spec_from_file_location("model", path)
    if spec is None or spec.loader is None:
        raise Mistake(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def evaluate(net: nn.Module, data: Data, device: torch.device, precision: str, batch: int = 500) -> float:
    """Accuracy on the test set, in evaluation mode."""
    net.eval()
    right = 0
    for start in range(0, len(data.test), batch):
        x = prepare(data.test.examples[start : start + batch], data)
        with autocast(device, precision):
            right += int((net(x).argmax(1) == data.test.labels[start : start + batch]).sum())
    return right / len(data.test)


def build_network(module: Any, settings: dict[str, Any]) -> nn.Module:
    """The network of a `model.py`, with an auxiliary head if it is asked for or fits."""
    wanted = settings["auxiliary"] == "on" or (settings["auxiliary"] == "auto" and module.AUXILIARY)
    if settings["auxiliary"] == "auto" and not module.AUXILIARY:
        print("no auxiliary head: it does not fit this resolution")
    try:
        net: nn.Module = module.Network(auxiliary=wanted)
    except ValueError as error:
        raise Mistake(f"auxiliary=on: {error}") from None
    return net


def save_weights(net: nn.Module, folder: Path) -> Path:
    """Weights as safetensors where that package is there, else as a torch file without code."""
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    try:
        from safetensors.torch import save_file
    except ImportError:
        path = folder / "weights.pt"
        torch.save(state, path)
        return path
    path = folder / "weights.safetensors"
    save_file(state, path)
    return path


def retrain(args: Any, settings: dict[str, Any], folder: Path) -> None:
    """Trains `folder/model.py` from scratch, evaluates it, and writes its weights."""
    device = pick_device(args.device)
    seed_everything(args.seed, args.deterministic)
    module = load_model(Path(args.model) if args.model else folder / "model.py")
    data = load_data(settings["name"], module.INPUT, module.CLASSES, args.data_dir, args.workers).to(device)
    for note in data.notes:
        print(f"data: {note}")
    net = build_network(module, settings).to(device, memory_format=torch.channels_last)
    stream = Stream(
        data.train,
        data,
        settings["batch_size"],
        args.seed,
        "retrain",
        augment=settings["augment"],
        pad=settings["pad"],
        flip=settings["flip"],
        cutout=min(settings["cutout"], data.train.examples.shape[-1] // 2),
    )
    optimizer = torch.optim.SGD(
        net.parameters(),
        settings["lr"],
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
        nesterov=settings["nesterov"],
    )
    identity = {"model": repr(module.ARCHITECTURE), "seed": args.seed, "data": settings["name"]}
    identity["settings"] = repr(sorted(settings.items()))
    run = Run(folder / "retrain", identity, args.restart)
    parts = {"net": net, "optimizer": optimizer, "stream": stream}
    at = run.resume(parts)
    steps = min(stream.batches, args.limit_batches or stream.batches)
    epochs, progress, began = settings["epochs"], Progress(), time.monotonic() - at["seconds"]
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {epochs} epochs of {steps} steps on {device}")

    def save() -> None:
        at["seconds"] = time.monotonic() - began
        run.save(parts, at)

    for epoch in range(at["epoch"], epochs):
        rate = cosine(settings["lr"], settings["lr_min"], epoch / epochs)
        optimizer.param_groups[0]["lr"] = rate
        net.drop_path_prob = settings["drop_path"] * epoch / epochs
        net.train()
        for step in range(at["step"], steps):
            x, y = stream.next()
            with autocast(device, args.precision):
                loss = _loss(net(x), y, settings)
            require_finite(loss, "the training loss", epoch * steps + step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings["clip"] > 0:
                nn.utils.clip_grad_norm_(net.parameters(), settings["clip"])
            optimizer.step()
            at["step"] = step + 1
            at["sums"]["loss"] = at["sums"].get("loss", 0.0) + float(loss.detach())
            progress.step(f"epoch {epoch + 1}/{epochs} step {step + 1}/{steps} loss {float(loss.detach()):.3f}")
            run.tick(save)
        mean = at["sums"]["loss"] / steps
        last = epoch + 1 == epochs
        reached = evaluate(net, data, device, args.precision) if last or (epoch + 1) % 10 == 0 else None
        shown = f", test accuracy {reached:.2%}" if reached is not None else ""
        progress.line(f"epoch {epoch + 1}/{epochs}: loss {mean:.3f}{shown}")
        run.log({"epoch": epoch + 1, "loss": mean, "lr": rate, "test_accuracy": reached})
        at.update(epoch=epoch + 1, step=0, sums={})
        save()
    reached = evaluate(net, data, device, args.precision)
    path = save_weights(net, run.folder)
    print(f"test accuracy {reached:.2%} ({len(data.test)} examples)\nweights: {path}")


def _loss(output: Any, labels: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
    """Cross-entropy, with the auxiliary head's where there is one."""
    smoothing = settings["label_smoothing"]
    if isinstance(output, tuple):
        main, auxiliary = (F.cross_entropy(o, labels, label_smoothing=smoothing) for o in output)
        return main + settings["auxiliary_weight"] * auxiliary
    return F.cross_entropy(output, labels, label_smoothing=smoothing)
