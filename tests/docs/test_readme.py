from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks
from tests.docs.tour import README, commands, lay_out, run, tour


@pytest.mark.parametrize("block", tour(), ids=str)
def test_the_output_shown_is_the_output(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    shown = commands(block.text)
    assert shown
    for command, output in shown:
        printed = [line.rstrip() for line in run(command).splitlines()]
        assert printed == [line.rstrip() for line in output.splitlines()], "run `python -m tests.docs.tour`"


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(README, "python")
    scope: dict[str, object] = {}
    exec(compile(block.text, "README.md", "exec"), scope)
    assert (tmp_path / "build" / "darts-toponas" / "search.py").is_file()
    assert set(re.findall(r"^(?:import|from) (\w+)", str(scope["text"]), re.MULTILINE)) == {"torch"}
