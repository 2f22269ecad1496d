"""Command lines, settings, checkpoints: what is refused, what is restored."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from nasdsl.methods import METHODS
from nasdsl.runtime.paths.settings import PATH_RULES
from nasdsl.runtime.search import bilevel
from nasdsl.runtime.search.settings import SEARCH_RULES
from nasdsl.runtime.standalone.arguments import read_arguments, read_config
from nasdsl.runtime.standalone.basics import (
    Meter,
    Mistake,
    Rule,
    WrongUse,
    autocast,
    cosine,
    pick_device,
    seed_everything,
)
from nasdsl.runtime.standalone.checkpoint import Checkpoints
from nasdsl.runtime.standalone.data import Data, Split, Stream, load_data
from nasdsl.runtime.standalone.ending import guarded
from nasdsl.runtime.standalone.run import Run
from nasdsl.runtime.standalone.training import RETRAIN_RULES
from tests.runtime.toy import ToySupernet

CPU = torch.device("cpu")


# --- the command line --------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--epoch", "3"], "did you mean --epochs?"),
        (["--epochs", "0"], "0 is not a positive integer"),
        (["--limit-batches", "x"], "x is not a positive integer"),
        (["--precision", "fp16"], "fp16"),
        (["something"], "unknown argument something"),
        (["--model", "m.py"], "--model"),
        (["--keep", "1"], "1 is not enough: one is whole while the other is written"),
        (["--seed", "-1"], "-1 is not an integer from 0 to 2**63 - 1"),
        (["--seed", str(2**63)], "not an integer from 0"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_arguments("test", line)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert words in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_what_only_retraining_takes() -> None:
    assert read_arguments("test", ["--model", "m.py"], model=True).model == "m.py"


def test_an_absent_device_is_a_wrong_command_line() -> None:
    for name in ("gpu", "cuda:99"):
        with pytest.raises(WrongUse, match=f"--device {name}"):
            pick_device(name)
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize(
    ("mistake", "code"), [(Mistake("m"), 1), (WrongUse("m"), 2), (KeyboardInterrupt(), 130)]
)
def test_mistakes_are_one_line_and_an_exit_code(
    mistake: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise mistake

    with pytest.raises(SystemExit) as exit_:
        guarded(main)
    assert exit_.value.code == code
    assert capsys.readouterr().err.count("\n") == 1


# --- settings ------------------------------------------------------------------------

RULES = {
    "name": Rule(str),
    "epochs": Rule(int, 1),
    "lr": Rule(float, 0),
    "flip": Rule(bool),
    "order": Rule(str, words=("up", "down")),
}
CONFIG = (
    '[data]\nname = "digits"\nflip = true\n[search]\nepochs = 5\nlr = 1\norder = "up"\n[other]\nlr = "no"\n'
)


def settings(tmp_path: Path, *line: str, text: str = CONFIG) -> dict[str, Any]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return read_config(path, "search", read_arguments("test", list(line)), RULES)


def test_settings_come_from_the_file_and_then_from_the_command_line(tmp_path: Path) -> None:
    assert settings(tmp_path) == {"name": "digits", "flip": True, "epochs": 5, "lr": 1.0, "order": "up"}
    changed = settings(
        tmp_path,
        "--set",
        "lr=1e-2",
        "--set",
        "flip=False",
        "--set",
        "order=down",
        "--epochs",
        "2",
        "--data",
        "a:b",
    )
    assert changed == {"name": "a:b", "flip": False, "epochs": 2, "lr": 0.01, "order": "down"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lrr=1", "did you mean lr?"),
        ("zzzz=1", "there is name"),
        ("lr", "NAME=VALUE"),
        ("lr=-1", "a number, at least 0"),
        ("lr=nan", "a number"),
        ("lr=big", "a number"),
        ("epochs=2.5", "an integer"),
        ("epochs=0", "an integer, at least 1"),
        ("flip=maybe", "true or false"),
        ("order=sideways", "one of up, down"),
    ],
)
def test_an_unfit_setting_is_refused(tmp_path: Path, change: str, words: str) -> None:
    with pytest.raises(WrongUse, match=words.replace("?", r"\?")):
        settings(tmp_path, "--set", change)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lr = 1\n", "", "`lr` of .* is missing"),
        ("lr = 1\n", "lr = true\n", "`lr` is True and must be a number"),
        ("epochs = 5", "epochs = 5.0", "must be an integer"),
        ('"up"', '"north"', "one of up, down"),
        ("lr = 1\n", "lr = 1\nlearning = 2\n", "no setting `learning`"),
        ("lr = 1\n", "lr = = 1\n", "config.toml"),
        ("lr = 1\n", f"lr = {'[' * 3000}\n", "too deep to be read"),
    ],
)
def test_a_file_that_was_edited_wrongly_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        settings(tmp_path, text=CONFIG.replace(old, new))


@pytest.mark.parametrize("method", METHODS.names())
def test_the_rules_of_the_scripts_are_those_of_the_methods(method: str) -> None:
    """What `config.toml` names, the scripts know; what a method accepts, they accept, and nothing else."""
    search = PATH_RULES if METHODS.load(method).template == "paths.py.j2" else SEARCH_RULES
    data = {"name", "augment", "pad", "flip", "loader", "interpolation"}
    declared: dict[str, set[str]] = {"search": set(), "retrain": set(), "data": set()}
    for setting in METHODS.load(method).settings:
        if setting.table == "compile":
            continue
        name = {"data": "name"}.get(setting.name, setting.name.removeprefix("retrain_"))
        declared[setting.table].add(name)
        rule = (RETRAIN_RULES if setting.table == "retrain" else search)[name]
        assert rule.kind is type(setting.default), name
        assert rule.read(setting.default) == setting.default, name
        assert rule.words == setting.choices, name
        if rule.kind in (int, float):
            assert rule.low == (float("-inf") if setting.low is None else setting.low), name
            assert rule.high == (float("inf") if setting.high is None else setting.high), name
    assert declared["data"] == data
    assert declared["search"] | data == set(search)
    assert declared["retrain"] | data == set(RETRAIN_RULES)


# --- meters and schedules ------------------------------------------------------------


def test_a_meter_sums_by_name_and_names_the_step_that_diverges() -> None:
    sums: dict[str, list[float]] = {}
    meter = Meter(sums, CPU)
    for step in range(1, 4):
        meter.add("train_loss", torch.tensor(float(step)), step)
    meter.add("valid_loss", torch.tensor(0.5), 3)
    meter.flush()
    assert sums == {"train_loss": [6.0, 3], "valid_loss": [0.5, 1]}
    assert meter.means() == {"train_loss": 2.0, "valid_loss": 0.5}
    assert str(meter) == "train loss 3.000, valid loss 0.500"
    for bad in ("nan", "inf"):
        with pytest.raises(Mistake, match=f"train loss is {bad} at step 7"):
            meter.add("train_loss", torch.tensor(float(bad)), 7)


def test_a_meter_on_another_device_reads_groups_and_the_right_step() -> None:
    sums: dict[str, list[float]] = {}
    meter = Meter(sums, torch.device("cuda"))  # only its type is looked at
    for step in range(1, 20):
        meter.add("loss", torch.tensor(1.0 if step != 12 else float("nan")), step)
    assert sums == {}
    with pytest.raises(Mistake, match="step 12"):
        meter.flush()


def test_the_cosine_ends_where_it_should() -> None:
    assert cosine(0.1, 0.01, 0.0) == pytest.approx(0.1)
    assert cosine(0.1, 0.01, 0.5) == pytest.approx(0.055)
    assert cosine(0.1, 0.01, 1.0) == pytest.approx(0.01)


def test_precision() -> None:
    x = torch.ones(2, 2)
    with autocast(CPU, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (x @ x).dtype == torch.float32


def test_seeds_reach_every_generator() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(numpy.random.rand()), float(torch.rand(()))

    seed_everything(3, deterministic=False)
    first = draw()
    seed_everything(3, deterministic=False)
    assert draw() == first
    seed_everything(4, deterministic=False)
    assert all(a != b for a, b in zip(draw(), first, strict=True))
    seed_everything(4, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    seed_everything(4, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()


# --- checkpoints -----------------------------------------------------------------------


def toy_data() -> Data:
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(40, 5, generator=generator), torch.randint(0, 3, (40,), generator=generator))
    return Data(split, split, torch.zeros(5), torch.ones(5), False, ())


def search(
    folder: Path, until: int, *, stop: Callable[[int], bool] = lambda _: False, restart: bool = False
) -> Any:
    """A small bilevel search with dropout: the loop of the generated script."""
    seed_everything(1, deterministic=False)
    net, data = ToySupernet(), toy_data()
    weights = torch.optim.SGD(net.weight_parameters(), 0.1, momentum=0.9)
    variables = torch.optim.Adam(net.architecture_parameters(), 0.05)
    train, valid = (Stream(data.train, data, 8, 1, name) for name in ("train", "valid"))
    run = Run(folder, {"seed": 1, "lr": 0.1}, restart)
    parts = {"net": net, "weights": weights, "variables": variables, "train": train, "valid": valid}
    at = run.resume(parts)
    meter = run.meter(CPU)
    for epoch in range(at["epoch"], until):
        net.train()
        for step in range(at["step"], 5):
            meter.add("valid_loss", bilevel.architecture_step(net, valid.next(), variables), step)
            meter.add("train_loss", bilevel.weight_step(net, train.next(), weights), step)
            at["step"] = step + 1
            if stop(epoch * 5 + step):
                os.kill(os.getpid(), signal.SIGTERM)
            run.tick()
        run.end_epoch({"epoch": epoch + 1, **at["sums"]})
    return run.load()


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("at", [2, 4, 9])
def test_a_run_that_is_terminated_and_run_again_ends_in_the_same_checkpoint(tmp_path: Path, at: int) -> None:
    whole = search(tmp_path / "whole", 3)
    with pytest.raises(SystemExit) as exit_:
        search(tmp_path / "cut", 3, stop=lambda n: n == at)
    assert exit_.value.code == 143
    continued = search(tmp_path / "cut", 3)
    assert equal(whole, continued)
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "cut" / "log.jsonl").read_text()


def test_a_run_that_was_killed_between_checkpoints_repeats_the_lost_steps(tmp_path: Path) -> None:
    class Kill(Exception):
        pass

    def kill(step: int) -> bool:
        if step == 8:
            raise Kill
        return False

    whole = search(tmp_path / "whole", 3)
    with pytest.raises(Kill):
        search(tmp_path / "cut", 3, stop=kill)
    assert equal(whole, search(tmp_path / "cut", 3))
    assert equal(whole, search(tmp_path / "cut", 3))  # a finished run stays as it is


def test_all_generators_are_restored(tmp_path: Path) -> None:
    run = Run(tmp_path, {}, restart=False)
    seed_everything(5, deterministic=False)
    numpy.random.randn()  # leaves half a pair behind
    run.save()
    expected = (random.random(), numpy.random.randn(3).tolist(), torch.rand(3).tolist())
    seed_everything(6, deterministic=False)
    run.resume({})
    assert (random.random(), numpy.random.randn(3).tolist(), torch.rand(3).tolist()) == expected


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "another object"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = search(tmp_path / "whole", 4)
    search(tmp_path / "cut", 3)
    path = tmp_path / "cut" / "checkpoint.pt"
    if damage == "another object":
        torch.save([1, 2], path)
    else:
        content = path.read_bytes()
        path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage])
    assert equal(whole, search(tmp_path / "cut", 4))
    error = capsys.readouterr().err
    assert "checkpoint.pt cannot be read" in error
    assert "checkpoint.previous.pt" in error


def test_without_a_readable_checkpoint_nothing_is_begun_silently(tmp_path: Path) -> None:
    search(tmp_path, 2)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Mistake, match="--restart"):
        search(tmp_path, 2)
    assert search(tmp_path, 1, restart=True)["counters"]["epoch"] == 1


def test_a_crash_while_saving_leaves_a_checkpoint(tmp_path: Path) -> None:
    search(tmp_path, 2)
    (tmp_path / "checkpoint.new").write_bytes(b"half of it")
    os.replace(tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt")
    assert search(tmp_path, 2)["counters"]["epoch"] == 2


def test_restart_begins_anew(tmp_path: Path) -> None:
    first = search(tmp_path, 1)
    (tmp_path / "tensorboard").mkdir()
    search(tmp_path, 3)
    assert equal(search(tmp_path, 1, restart=True), first)
    assert not (tmp_path / "tensorboard").exists()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_folder_of_another_run_is_refused_naming_what_differs(tmp_path: Path) -> None:
    Run(tmp_path, {"seed": 1, "lr": 0.1}, restart=False).save()
    with pytest.raises(Mistake, match=r"\(lr was 0.1, is 0.2\).*--out.*--restart"):
        Run(tmp_path, {"seed": 1, "lr": 0.2}, restart=False).load()
    with pytest.raises(Mistake, match=r"new was None, is 3"):
        Run(tmp_path, {"seed": 1, "lr": 0.1, "new": 3}, restart=False).load()


def test_a_log_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    search(tmp_path, 2)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train')
    search(tmp_path, 3)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        1,
        2,
        3,
    ]


def test_a_run_saves_when_it_is_time(tmp_path: Path) -> None:
    run = Run(tmp_path, {}, restart=False, every_seconds=1000)
    run.tick()
    assert not (tmp_path / "checkpoint.pt").exists()
    run.every = 0.0
    run.tick()
    assert (tmp_path / "checkpoint.pt").exists()


# --- what goes wrong on the disk ---------------------------------------------------------


def damaged(content: bytes, how: str) -> bytes:
    if how == "flipped":
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return content[: len(content) // 2] if how == "truncated" else b""


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped"])
@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "checkpoint.previous.pt", "log.jsonl", "nasdsl.lock", "timeline.jsonl"]
)
def test_each_file_of_a_run_may_be_damaged_and_the_end_is_the_same(
    tmp_path: Path, name: str, how: str
) -> None:
    whole = search(tmp_path / "whole", 4)
    with pytest.raises(SystemExit):
        search(tmp_path / "cut", 4, stop=lambda n: n == 13)
    path = tmp_path / "cut" / name
    path.write_bytes(damaged(path.read_bytes(), how))
    assert equal(whole, search(tmp_path / "cut", 4))
    for file in ("log.jsonl", "nasdsl.lock"):
        assert (tmp_path / "cut" / file).read_text() == (tmp_path / "whole" / file).read_text()


def test_a_bit_that_flips_anywhere_in_a_checkpoint_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = search(tmp_path, 2)
    path, content = tmp_path / "checkpoint.pt", (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.previous.pt").unlink()
    chance = random.Random(0)
    for _ in range(300):
        where = chance.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[where // 8] ^= 1 << where % 8
        path.write_bytes(flipped)
        with pytest.raises(Mistake, match="--restart"):
            Checkpoints(tmp_path).read()
    assert capsys.readouterr().err.count("cannot be read") == 300
    path.write_bytes(content)
    assert equal(Checkpoints(tmp_path).read(), whole)


@pytest.mark.parametrize(("version", "words"), [(99, "newer version"), (1, "older version")])
def test_a_checkpoint_of_another_version_is_refused_with_a_cure(
    tmp_path: Path, version: int, words: str
) -> None:
    state = search(tmp_path, 1)
    torch.save({**state, "format": version}, tmp_path / "checkpoint.pt")
    with pytest.raises(Mistake, match=rf"{words} of nasdsl \(format {version}, .*--restart"):
        search(tmp_path, 1)


def test_a_disk_that_is_full_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", 3)
    folder = tmp_path / "cut"
    before = search(folder, 2)
    (folder / "checkpoint.new").symlink_to("/dev/full")  # whose every write fails as a full disk's does
    with pytest.raises(
        Mistake, match=r"No space left on device; checkpoint\.pt before it is whole. Make room"
    ):
        search(folder, 3)
    assert equal(Checkpoints(folder).read(), before)
    assert equal(search(folder, 3), whole)


def test_a_folder_that_cannot_be_written_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        guarded(lambda: Run(Path("/sys/kernel/run"), {}).save())
    error = capsys.readouterr().err
    assert exit_.value.code == 1
    assert "/sys/kernel/run cannot be written" in error
    assert "choose another folder with --out" in error
    assert error.count("\n") == 1


def test_as_many_checkpoints_are_kept_as_are_asked_for(tmp_path: Path) -> None:
    run = Run(tmp_path, {}, keep=4)
    for epoch in range(6):
        run.at["epoch"] = epoch
        run.save()
    kept = [torch.load(p, weights_only=True)["counters"]["epoch"] for p in run.checkpoints.found()]
    assert kept == [5, 4, 3, 2]
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    (tmp_path / "checkpoint.previous.pt").write_bytes(b"")
    state = run.load()
    assert state is not None
    assert state["counters"]["epoch"] == 3


def test_a_signal_that_queues_send_saves_and_leaves(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(SystemExit) as exit_:
        run.tick()
    assert exit_.value.code == 143
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_run_leaves_after_as_many_steps_as_it_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path, {}, stop_after=2)
    run.tick()
    with pytest.raises(SystemExit) as exit_:
        run.tick()
    assert exit_.value.code == 0


def test_the_timeline_says_when_what_happened(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        search(tmp_path, 2, stop=lambda n: n == 6)
    search(tmp_path, 2)
    events = [json.loads(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
    names = [e["event"] for e in events]
    assert names == ["started", "epoch", "saved", "saved", "stopped", "continued", "epoch", "saved"]
    times = [e["time"] for e in events]
    assert times == sorted(times)
    assert (events[3]["epoch"], events[3]["step"]) == (1, 2)


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"environment": {"torch": "1"}}
    first = Run(tmp_path, {}, facts=facts)
    first.resume({})
    first.save()
    again = Run(tmp_path, {}, facts={"environment": {"torch": "2"}})
    again.resume({})
    assert "continuing elsewhere (torch was 1, is 2)" in capsys.readouterr().out
    lock = json.loads((tmp_path / "nasdsl.lock").read_text())
    assert lock["environment"] == {"torch": "1"}
    assert lock["continued"] == [{"epoch": 1, "step": 1, "environment": {"torch": "2"}}]


# --- what diverges -----------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_the_tensors() -> None:
    net = ToySupernet()
    meter = Meter({}, CPU, net)
    with pytest.raises(
        Mistake, match=r"loss is nan at step 3 \(all weights and statistics are finite: are the"
    ):
        meter.add("loss", torch.tensor(float("nan")), 3)
    names = [name for name, _ in net.named_parameters()]
    with torch.no_grad():
        net.weight_parameters()[0].fill_(float("inf"))
    meter = Meter({}, CPU, net)
    with pytest.raises(Mistake, match=rf"\(not finite: weight ({'|'.join(map(re.escape, names))})\): lower"):
        meter.add("loss", torch.tensor(float("nan")), 4)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_does_not_help_is_not_advised(tmp_path: Path, precision: str) -> None:
    meter = Run(tmp_path, {"precision": precision}).meter(CPU)
    with pytest.raises(Mistake, match="lower the learning rate") as met:
        meter.add("loss", torch.tensor(float("nan")), 1)
    assert ("--precision fp32" in str(met.value)) == (precision == "bf16")


def test_data_that_cannot_be_read_are_not_called_unwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> None:
        Run(tmp_path / "run", {})
        raise PermissionError(errno.EACCES, "Permission denied", "/data/x.png")

    with pytest.raises(SystemExit):
        guarded(read)
    assert capsys.readouterr().err == "error: /data/x.png cannot be used: Permission denied\n"
    with pytest.raises(Mistake, match=r"--data imagefolder:xxx.*too long"):
        load_data(f"imagefolder:{'x' * 300}", ("image", 3, 8, 8), 10)


def test_a_file_in_the_place_of_the_folder_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(SystemExit) as exit_:
        guarded(lambda: Run(tmp_path / "runs", {}).save())
    assert exit_.value.code == 1
    assert "choose another folder with --out" in capsys.readouterr().err


def test_a_dry_run_goes_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_arguments("test", ["--dry-run", "--stop-after", "2"])
    assert "leave one of them out" in capsys.readouterr().err
