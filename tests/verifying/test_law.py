"""A law of every file that a directory and its runs hold.

However a file is damaged, or left out of a lock that was made to fit again, no verb is brought down, and `verify`
does not pass where results could be others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdsl.cli import main
from nasdsl.codegen.lock import LOCK
from nasdsl.runtime.standalone.checkpoint import seal
from tests.verifying.common import relock

DEEP = 3000
WORDS = ("README.md", "rewrites.md", "architecture.svg", "report.md", "report.html", "timeline.jsonl")
"""Files that nothing but people reads, or that a lock does not speak of."""
NEST: dict[str, str] = {
    ".json": "[" * DEEP,
    ".jsonl": "[" * DEEP + "\n",
    ".lock": '{"kind":' * DEEP,
    ".toml": "[compile]\nq = " + "[" * DEEP + "]" * DEEP,
    ".py": "x = " + "(" * DEEP + ")" * DEEP,
    ".nas": "space s { network { " + "choose { a: " * DEEP,
}
VALUES: tuple[Any, ...] = (None, [], {}, "x", -1, [[{}]])
TOML = (
    "[[compile]]\nq = 1\n",
    "compile = 3\ndata = 3\nsearch = 3\n",
    '[data]\nname = ["digits"]\n',
    f"[{'a.' * DEEP}a]\n",
)


def places(home: Path) -> Iterator[tuple[Path, Path]]:
    """Every file, with the folder whose lock speaks of it."""
    run = home / "runs/0"
    for path in sorted(home.rglob("*")):
        if path.is_file() and not {"__pycache__", "tensorboard"} & set(path.parts):
            holder = (
                run / "retrain" if run / "retrain" in path.parents else run if run in path.parents else home
            )
            yield path, holder


def flipped(path: Path, data: bytes) -> Iterator[bytes]:
    for place in (0.2, 0.6):
        at = int(len(data) * place)
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def deep(path: Path, data: bytes) -> Iterator[bytes]:
    if path.suffix in NEST:
        yield NEST[path.suffix].encode()
    if path.suffix == ".pt":
        found: list[Any] = []
        for _ in range(200):
            found = [found]
        yield sealed(path, data, lambda state: state["identity"].update(seed=found))


def wrong(path: Path, data: bytes) -> Iterator[bytes]:
    """Another kind of value at every first and second place."""
    yield b"\xff\x00"
    if path.suffix == ".toml":
        yield from (text.encode() for text in TOML)
    if path.suffix == ".pt":
        yield sealed(path, data, lambda state: state.update(log=[1, 2]))
        yield sealed(path, data, lambda state: state.update(identity=[]))
        for name in ("seed", "batch_size", "name", "space"):
            for value in (torch.zeros(3), ["digits"], "x", None):
                yield sealed(path, data, lambda state, n=name, v=value: state["identity"].update({n: v}))  # type: ignore[misc]
    if path.suffix in (".json", ".jsonl", ".lock"):
        lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
        for record in replaced(json.loads(lines[0])):
            yield "\n".join([json.dumps(record), *lines[1:], ""]).encode()


def replaced(record: Any) -> Iterator[Any]:
    yield from VALUES
    for key in record if isinstance(record, dict) else ():
        yield {name: value for name, value in record.items() if name != key}
        value = VALUES[len(key) % len(VALUES)]
        yield {**record, key: value}


def sealed(path: Path, data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A checkpoint that was changed and sealed again, as anybody can."""
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    seal(path)
    changed = path.read_bytes()
    path.write_bytes(data)
    return changed


def dropped(path: Path, holder: Path) -> bool:
    """Leaves a file out of its lock, where it is in it."""
    lock, name = json.loads((holder / LOCK).read_text()), path.relative_to(holder).as_posix()
    if name not in lock["files"]:
        return False
    relock(holder, lambda data: data["files"].pop(name))
    return True


HOW: dict[str, Callable[[Path, bytes], Iterator[bytes]]] = {
    "bit flipped": flipped,
    "deep": deep,
    "wrong": wrong,
}


def verbs(home: Path, tmp_path: Path) -> list[list[str]]:
    """What reads a directory or a run beside `verify`; judging takes no batches that matter."""
    run, few = str(home / "runs/0"), ["--data-dir", str(tmp_path)]
    trained = tmp_path / "trained.jsonl"
    lines = [{"architecture": {"stem.op": op}, "accuracy": 0.5} for op in ("a", "b")]
    trained.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [
        [
            "rank",
            str(home),
            "--trained",
            str(trained),
            "--judging-batches",
            "1",
            "-o",
            str(tmp_path / "r"),
            *few,
        ],
        ["score", str(tmp_path / "space.nas"), "--run", str(home), "-n", "2", *few],
        ["export", str(tmp_path / "space.nas"), "--run", run, "-o", str(tmp_path / "out.py")],
        ["report", run, "-o", str(tmp_path / "out.html")],
    ]


READ = (
    "config.toml",
    "space.nas",
    "supernet.py",
    LOCK,
    "checkpoint.pt",
    "supernet.safetensors",
    "architecture.json",
)
"""Files that those verbs read."""


@pytest.mark.parametrize("how", [*HOW, "left out"])
def test_no_damage_passes_or_brings_a_verb_down(
    how: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.nas").write_bytes((home / "space.nas").read_bytes())
    others = verbs(home, tmp_path)
    for path, holder in places(home):
        data, lock = path.read_bytes(), (holder / LOCK).read_bytes()
        for number, changed in enumerate([None] if how == "left out" else HOW[how](path, data)):
            if changed is None and not dropped(path, holder):
                continue
            if changed is not None:
                path.write_bytes(changed)
            called = [["verify", str(holder)]]
            if path.name in READ and number < 6:
                called += others[:3] if "retrain" not in path.parts else []
                called += others[3:] if holder != home else []
            for words in called:
                code = main(words)
                out, err = capsys.readouterr()
                place = f"{words[0]}: {path.relative_to(home)} {number} {out} {err}"
                assert code in (0, 1, 2), place
                assert "this is a bug" not in err, place
                if words[0] == "verify":
                    assert code == 1 or passes(path, holder == home, how, out), place
            path.write_bytes(data)
            (holder / LOCK).write_bytes(lock)


def passes(path: Path, of_directory: bool, how: str, out: str) -> bool:
    """Whether `verify` may pass: what it says is harmless, or nothing reads."""
    if path.name in WORDS:
        return True
    if path.suffix == ".pt":
        # Padding says nothing; checkpoints before the last one are known by their seal alone.
        return how == "bit flipped" or path.name != "checkpoint.pt"
    # What a bit changes in a comment is harmless, and said all the same.
    return how == "bit flipped" and of_directory and path.name in out
