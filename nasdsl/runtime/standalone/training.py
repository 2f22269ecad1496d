"""Training one network, from scratch or from given weights."""

from __future__ import annotations

import importlib.util
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.standalone.basics import (
    Mistake,
    Progress,
    Rule,
    autocast,
    channels_last,
    file_digest,
    seed_everything,
)
from nasdsl.runtime.standalone.checkpoint import whole
from nasdsl.runtime.standalone.data import DATA_RULES, Data, Stream, load_data, open_stream, prepare
from nasdsl.runtime.standalone.draws import Draws
from nasdsl.runtime.standalone.lock import read_lock, refuse_damaged
from nasdsl.runtime.standalone.recipe import (
    RECIPE_RULES,
    add_dropout,
    average_of,
    learning_rate,
    make_optimizer,
    refuse_idle,
)
from nasdsl.runtime.standalone.rehearsal import Rehearsal
from nasdsl.runtime.standalone.run import Run, folder_of, options_of
from nasdsl.runtime.standalone.synced import synchronise
from nasdsl.runtime.standalone.team import ALONE, Team

RETRAIN_RULES = {
    **DATA_RULES,
    "epochs": Rule(int, 1),
    "batch_size": Rule(int, 1),
    "lr": Rule(float, 0),
    "lr_min": Rule(float, 0),
    "momentum": Rule(float, 0, 1),
    "weight_decay": Rule(float, 0),
    "nesterov": Rule(bool),
    "clip": Rule(float, 0),
    "cutout": Rule(int, 0),
    "drop_path": Rule(float, 0, 0.99),
    "auxiliary": Rule(str, words=("auto", "on", "off")),
    "auxiliary_weight": Rule(float, 0),
    "label_smoothing": Rule(float, 0, 0.99),
    "randaugment": Rule(str),
    "erasing": Rule(float, 0, 1),
    **RECIPE_RULES,
}
"""The tables [retrain] and [data] of config.toml."""

RETRAIN = "retrain"
"""The folder of a retraining in that of its search."""

EVALUATED_EVERY = 10
"""Epochs between evaluations; the last epoch is always evaluated."""


OLDEST = 0.1
"""What averaged weights may keep of the first step before that is said."""


def load_model(path: Path) -> Any:
    """The module of a `model.py`, from its text and not from bytecode beside it. Raises Mistake when there is none."""
    if not path.exists():
        raise Mistake(f"{path} does not exist: run search.py first, or name another with --model")
    spec = importlib.util.spec_from_file_location("model", path)
    if spec is None:
        raise Mistake(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        raise Mistake(f"{path} is no Python program: {error}") from None
    exec(code, module.__dict__)  # noqa: S102 - the network that the user trains
    return module


@torch.no_grad()
def evaluate(
    net: nn.Module,
    data: Data,
    precision: str,
    limit: int | None = None,
    batch: int = 500,
    team: Team = ALONE,
) -> tuple[float, int]:
    """Accuracy on the test set in evaluation mode, and on how many examples.

    Args:
        limit: largest number of batches, for trials; None for all.
        team: the processes among which the batches are divided.
    """
    training = net.training
    net.eval()
    device = data.mean.device
    right = torch.zeros((), dtype=torch.int64, device=device)
    count = min(len(data.test), limit * batch if limit else len(data.test))
    for start in range(0, count, batch)[team.rows]:
        chosen = slice(start, min(start + batch, count))
        with autocast(device, precision):
            guessed = net(prepare(data.test.examples[chosen], data)).argmax(1)
        right += (guessed == data.test.labels[chosen].to(device)).sum()
    net.train(training)
    (all_,) = team.total(int(right))
    return all_ / count, count


def build_network(module: Any, settings: dict[str, Any]) -> nn.Module:
    """The network of a `model.py`, with an auxiliary head if it is asked for or fits."""
    wanted = settings["auxiliary"] == "on" or (settings["auxiliary"] == "auto" and module.AUXILIARY)
    if settings["auxiliary"] == "auto" and not module.AUXILIARY:
        print("no auxiliary head: this network has no place for one")
    try:
        net: nn.Module = module.Network(auxiliary=wanted)
    except ValueError as error:
        raise Mistake(f"auxiliary=on: {error}") from None
    return net


def training_loss(output: Tensor | tuple[Tensor, Tensor], labels: Tensor, settings: dict[str, Any]) -> Tensor:
    """Cross-entropy with label smoothing, plus the weighted one of the auxiliary head where there is one."""
    smoothing = settings["label_smoothing"]
    if isinstance(output, tuple):
        main, auxiliary = (F.cross_entropy(o, labels, label_smoothing=smoothing) for o in output)
        weight: float = settings["auxiliary_weight"]
        return main + weight * auxiliary
    return F.cross_entropy(output, labels, label_smoothing=smoothing)


def save_weights(net: nn.Module, folder: Path, name: str = "weights") -> Path:
    """Weights as safetensors where that package is there, else as a torch file without code."""
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    try:
        from safetensors.torch import save
    except ImportError:
        path = folder / f"{name}.pt"
        with whole(path) as new:
            torch.save(state, new)
        return path
    path = folder / f"{name}.safetensors"
    with whole(path) as new:
        new.write_bytes(save(state))  # save_file leaves files of odd names behind where it is killed
    return path


def load_weights(net: nn.Module, path: Path) -> None:
    """Starts a network from the weights of a file, as `save_weights` or `torch.save` of a state dict wrote it.

    Every name and shape must fit. An auxiliary head alone may be missing in the file: supernets have
    none, and it begins as it was.

    Raises:
        Mistake: a file that is missing, unreadable, or of another network.
    """
    given = read_weights(path)
    own = net.state_dict()
    missing = [k for k in own if k not in given]
    if missing and all(k.startswith("auxiliary") for k in missing):
        print(f"weights: {path} has no auxiliary head; it begins untrained")
        missing = []
    unknown = [k for k in given if k not in own]
    unfit = [
        f"{k} is {_shape(given[k])} there and {_shape(own[k])} here"
        for k in own
        if k in given and given[k].shape != own[k].shape
    ]
    found = [f"it lacks {_first(missing)}"] if missing else []
    found += [f"this network has no {_first(unknown)}"] if unknown else []
    found += [_first(unfit)] if unfit else []
    if found:
        raise Mistake(f"--weights {path} is of another network: {'; '.join(found)}")
    net.load_state_dict({**own, **given})


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights, by name. Raises Mistake for one that is missing or holds none."""
    if not path.is_file():
        raise Mistake(f"--weights {path} does not exist")
    refuse_damaged(path, "Run the script that wrote it again, or take a copy elsewhere to use it as it is")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise Mistake(f"--weights {path} needs safetensors: pip install safetensors") from None
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it holds no weights
        raise Mistake(f"--weights {path} cannot be read ({type(error).__name__})") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise Mistake(f"--weights {path} holds no state dict: names with tensors")
    return state


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _first(names: list[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def retrain_stream(data: Data, settings: dict[str, Any], seed: int, team: Team = ALONE) -> Stream:
    """The whole training set, augmented as the settings say."""
    side = data.train.examples.shape[-1]
    cutout = min(settings["cutout"], side // 2)
    if settings["augment"] and cutout < settings["cutout"] and data.train.examples.dim() == 4:
        print(f"cutout of {cutout} instead of {settings['cutout']}: the images are {side} wide")
    names = ("augment", "pad", "flip", "randaugment", "erasing", "interpolation")
    flags = {name: settings[name] for name in names}
    size = settings["batch_size"]
    return open_stream(data.train, data, size, seed, "retrain", cutout=cutout, team=team, **flags)


def model_of(args: Any, home: Path) -> Path:
    """The `model.py` to train: the one that is named, or that of the search in the folder of the run.

    Raises:
        Mistake: the search has not ended, or what it left was changed.
    """
    if args.model:
        return Path(args.model)
    folder = folder_of(args, home)
    source, cure = folder / "model.py", "or train it as it is with --model"
    refuse_damaged(source, f"Run search.py again to write it anew, {cure}")
    lock = read_lock(folder)
    if source.exists() and lock is not None and source.name not in lock["files"]:
        raise Mistake(
            f"{source} is of a search that has not ended: run search.py again, which goes on and writes it, {cure}"
        )
    return source


def retrain(args: Any, settings: dict[str, Any], home: Path) -> None:
    """Trains a `model.py`, from scratch or from the weights given, evaluates it, writes its weights.

    Args:
        home: where the script lies, beside `runs`.
    """
    team = Team.start(args.device)
    source = team.each(lambda: model_of(args, home))
    rehearsal = Rehearsal(args, settings, home, within=RETRAIN)
    device = team.device
    seed_everything(args.seed, args.deterministic)
    module = team.each(lambda: load_model(source))
    how = args.data_dir, args.workers, settings["loader"], settings["interpolation"], rehearsal.few
    data = team.in_turn(lambda: load_data(settings["name"], module.INPUT, module.CLASSES, *how)).to(device)
    settings["loader"] = data.loader  # what auto came to is part of the run's identity
    refuse_idle(args.settings, settings, data.loader)
    for note in data.notes:
        print(f"data: {note}")
    net = build_network(module, settings)
    if args.weights:
        load_weights(net, Path(args.weights))
    net.to(device)
    channels_last(net)
    if args.sync_bn:
        synchronise(net, team)
    stream = team.each(lambda: retrain_stream(data, settings, args.seed, team))
    add_dropout(net, module.CLASSES, settings["dropout"])
    optimizer = make_optimizer(net, settings)
    average = average_of(net, settings["ema_decay"])
    known = data.digests()
    identity = _identity_of(args, settings, source) | {"data": known}
    options = options_of(args, device, known, team)
    run = Run(folder_of(args, home) / RETRAIN, identity, args.restart, **options)
    parts = {"net": net, "optimizer": optimizer, "stream": stream}
    parts |= {} if average is None else {"average": average}
    run.resume(parts)
    train(run, data, args, settings)
    if team.finish():
        finish(net, None if average is None else average.module, data, run, args)
    if team.first and rehearsal.on:
        rehearsal.end(run, data, device)


def _identity_of(args: Any, settings: dict[str, Any], source: Path) -> dict[str, Any]:
    """What makes it the same retraining, without its data."""
    identity = {"model": file_digest(source), "seed": args.seed, **settings}
    identity |= {"precision": args.precision, "limit_batches": args.limit_batches}
    identity["weights"] = file_digest(Path(args.weights)) if args.weights else None
    if args.sync_bn:
        identity["sync_bn"] = True
    return identity


def train(run: Run, data: Data, args: Any, settings: dict[str, Any]) -> None:
    """The epochs of a run that was resumed, of which `run.parts` has the network, its stream and its optimiser."""
    team, parts, at = run.team, run.parts, run.at
    net, stream, optimizer, average = parts["net"], parts["stream"], parts["optimizer"], parts.get("average")
    device, draws = team.device, Draws(team, args.seed)
    meter, progress = run.meter(device), Progress()
    steps, epochs = min(stream.batches, args.limit_batches or stream.batches), settings["epochs"]
    size = sum(p.numel() for p in net.parameters())
    print(f"{size:,} parameters, {epochs} epochs of {steps} steps on {device}, {args.precision}", flush=True)
    kept = settings["ema_decay"] ** (steps * epochs - 1)
    if kept > OLDEST:
        print(f"the averaged weights keep {kept:.0%} of the first step's: lower ema_decay for so few steps")

    for epoch in range(at["epoch"], epochs):
        rate = learning_rate(settings, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        net.drop_path_prob = settings["drop_path"] * epoch / epochs
        net.train()
        for step in range(at["step"], steps):
            cast = autocast(device, args.precision)
            with draws.own(epoch, step):
                loss = training_step(net, stream.next(), optimizer, settings, cast, team)
            if average is not None:
                average.update_parameters(net)
            meter.add("loss", loss, epoch * steps + step + 1)
            at["step"] = step + 1
            progress.step(f"epoch {epoch + 1}/{epochs} step {step + 1}/{steps} {meter}")
            run.tick()
        meter.flush()
        team.agree(list(net.state_dict()), list(net.state_dict().values()))
        entry = {"epoch": epoch + 1, "loss": meter.means()["loss"], "lr": rate}
        shown = f"epoch {epoch + 1}/{epochs}: loss {entry['loss']:.3f}"
        if (epoch + 1) % EVALUATED_EVERY == 0 and epoch + 1 < epochs:
            entry["test_accuracy"], _ = evaluate(net, data, args.precision, args.limit_batches, team=team)
            shown += f", test accuracy {entry['test_accuracy']:.2%}"
            if average is not None:
                entry["average_accuracy"], _ = evaluate(
                    average.module, data, args.precision, args.limit_batches, team=team
                )
                shown += f", of the average {entry['average_accuracy']:.2%}"
        progress.line(shown)
        run.end_epoch(entry)


def training_step(
    net: nn.Module,
    batch: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    settings: dict[str, Any],
    cast: AbstractContextManager[Any],
    team: Team = ALONE,
) -> Tensor:
    """One step on a batch, of which every process has its rows, its gradient clipped. Returns the loss, shape ()."""
    with cast:
        loss = training_loss(net(batch[0]), batch[1], settings)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    loss = team.reduced(net, net.parameters(), loss)
    if settings["clip"] > 0:
        nn.utils.clip_grad_norm_(net.parameters(), settings["clip"])
    optimizer.step()
    return loss.detach()


def finish(net: nn.Module, average: nn.Module | None, data: Data, run: Run, args: Any) -> None:
    """Evaluates a trained network, writes its weights and the result, and says where.

    The result also holds the mean and the deviation that inputs are scaled by, and what was done to them
    before. With an average that is the result, and the weights of the last step lie beside it.
    """
    reached, count = evaluate(net, data, args.precision, args.limit_batches)
    result: dict[str, Any] = {"test_accuracy": reached, "examples": count}
    if average is not None:
        result |= {"last_step_accuracy": reached}
        result["test_accuracy"], _ = evaluate(average, data, args.precision, args.limit_batches)
        last = save_weights(net, run.folder, "last_step")
        print(f"weights of the last step: test accuracy {reached:.2%}, {last}")
    path = save_weights(net if average is None else average, run.folder)
    result |= {
        "mean": data.mean.flatten().tolist(),
        "std": data.std.flatten().tolist(),
        "notes": list(data.done),
    }
    run.write("result.json", json.dumps(result) + "\n")
    of = "" if average is None else " of the averaged weights"
    shown = f"{result['test_accuracy']:.2%} ({count} of {len(data.test)} test examples)"
    run.finish()
    print(f"test accuracy{of} {shown}\nweights: {path}")
