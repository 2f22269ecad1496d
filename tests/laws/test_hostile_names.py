"""Comments, documentation and names of files and folders that would be code, TOML or HTML if they were not escaped."""

from __future__ import annotations

import ast
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nasdsl
from nasdsl.cli import main
from nasdsl.verifying.directory import verify_directory
from tests.verifying.common import script

TEXT = """
# {comment}
space small {{
  doc {doc}
  input image(1, 8, 8)  # {comment}
  network {{ stem: choose {{ a: conv(3, 4), b: conv(5, 4) }} head: global_pool >> linear(10) }}
}}
"""
WORDS = [
    '"""\nimport antigravity\n"""',
    "'; import antigravity; '",
    "{{ 7 * 7 }}{% import x %}",
    "\\\nimport antigravity",
    "]]]\n[compile]\nepochs = 7",
    "<script>alert(1)<",
    "\x1b[2J\r",
]


def imports(text: str) -> set[str]:
    return {
        a.name
        for n in ast.walk(ast.parse(text))
        if isinstance(n, (ast.Import, ast.ImportFrom))
        for a in n.names
    }


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_names_of_files_and_comments_stay_text(word: str, tmp_path: Path) -> None:
    path = tmp_path / f"{word}.nas".replace("/", "")
    flat = " ".join(word.split()).replace("\x1b", "")
    doc = '"' + flat.replace("\\", "\\\\").replace('"', '\\"') + '"'
    path.write_text(TEXT.format(comment=flat, doc=doc))
    for method in ("darts", "spos"):
        program = nasdsl.load(path).compile(method)
        files = program.files()
        for name, text in files.items():
            if name.endswith(".py"):
                assert "antigravity" not in imports(text), name
        assert set(tomllib.loads(files["config.toml"])) >= {"compile", "search", "retrain", "data"}
        program.write(tmp_path / method)
        assert verify_directory(tmp_path / method).findings == []


class Tags(HTMLParser):
    """The tags of a page, and attributes that would run something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.events: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.events += [name for name, _ in attrs if name.startswith("onerror")]


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("<img src=x onerror=alert(1)>", marks=pytest.mark.slow, id="html"),
        pytest.param("'\";\n${x}`id`$(touch executed)", id="shell"),
    ],
)
def test_a_run_in_a_folder_of_such_a_name(
    word: str, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.nas").write_text(TEXT.format(comment="x", doc='"<img src=x onerror=alert(2)>"'))
    nasdsl.load(tmp_path / "small.nas").compile("darts", settings={"epochs": 1}).write(tmp_path / word)
    line = ("--data", "digits", "--device", "cpu", "--limit-batches", "3", "--set", "batch_size=8")
    out = tmp_path / word / "runs" / word
    done = script(tmp_path / word / "search.py", *line, "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = Tags()
    page.feed((out / "report.html").read_text("utf-8"))
    assert page.tags
    assert page.events == []
    assert main(["verify", str(out), "--replay"]) == 0
    assert "the same to the bit" in capsys.readouterr().out
    assert not (tmp_path / "executed").exists()
