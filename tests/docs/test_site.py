"""The documentation site: its pages say what is true, it builds without warnings, every link leads somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import attrs
import pytest

from nasdsl.api import Space
from nasdsl.cli.verbs import VERBS
from nasdsl.diagnostics import CODES, Source, render
from nasdsl.ops import PRIMITIVES
from nasdsl.resources import shipped_spaces
from nasdsl.space.checked import check_source
from nasdsl.syntax.format import format_text
from tests.docs.blocks import Block, blocks
from tests.docs.walk import HOWTO, PAGES, ROOT, TUTORIAL, file_of, steps, walk, write_file

MISSING = [name for name in ("sphinx", "myst_parser", "furo") if importlib.util.find_spec(name) is None]
SPACES = [b for page in PAGES for b in blocks(page, "nas")]
NOTES = {"error", "warning", "count", "picture"}


@pytest.mark.parametrize("block", SPACES, ids=str)
def test_a_space_does_what_its_fence_says(block: Block) -> None:
    assert set(block.info) - {file_of(block)} <= NOTES, "a fence may say error=, warning=, count=, picture"
    space, found = check_source(Source(file_of(block) or "my.nas", block.text))
    shown = render(found.items)
    assert {d.code for d in found.errors} == set(filter(None, block.info.get("error", "").split(","))), shown
    if not found.errors:
        assert {d.code for d in found.items} == set(filter(None, block.info.get("warning", "").split(",")))
        assert space is not None
        if "count" in block.info:
            assert Space(space).count() == int(block.info["count"])


@pytest.mark.parametrize("block", [b for b in SPACES if "error" not in b.info], ids=str)
def test_a_space_is_laid_out_as_fmt_does(block: Block) -> None:
    assert format_text(block.text, str(block)) == block.text


def _walked(page: Path, folder: Path, slow: bool) -> None:
    seen = list(walk(page, folder, slow))
    wrong = [f"{s.block}: $ {s.command}\n{s.printed}" for s in seen if not s.agrees]
    assert not wrong, f"run `python -m tests.docs.walk {page.relative_to(ROOT)}`\n" + "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_shows_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    _walked(page, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any("slow" in b.info for b in steps(p))], ids=lambda p: p.stem
)
def test_a_page_that_trains_shows_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    _walked(page, tmp_path, slow=True)


def test_the_walk_tells_true_output_from_false(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```text some.txt\nwords\n```\n"
        "```console\n$ cat some.txt\nwords\n$ cat some.txt\nother words\n```\n"
        "```console figures=vary\n$ echo loss 1.25\nloss 7.5\n$ echo loss\nloss 1\n```\n"
        "```console\n$ seq 4\n1\n...\n4\n$ seq 4\n...\n3\n```\n",
        "utf-8",
    )
    assert [s.agrees for s in walk(page, tmp_path, slow=False)] == [True, False, True, False, True, False]


def test_every_chapter_runs_something() -> None:
    assert len(TUTORIAL) >= 5
    for page in TUTORIAL:
        assert blocks(page, "console"), page.name


REGISTRATIONS = {
    "ops/__init__.py": ("_ALL = (", "from nasdsl.ops.unshuffle import UNSHUFFLE\n\n_ALL = (UNSHUFFLE,"),
    "passes/__init__.py": ("table={", 'table={"harden": "nasdsl.passes.harden:Harden",'),
    "compiler.py": ("SWITCHABLE = frozenset(\n    {", 'SWITCHABLE = frozenset(\n    {"harden",'),
    "methods/__init__.py": ("table={", 'table={"plain": "nasdsl.methods.plain:PLAIN",'),
}
TRIAL = """
import torch
import nasdsl

text = "space s { input image(3, SIZE) network { a: unshuffle(2) b: conv(3, 4) >> choose { swish, relu } "
text += "h: global_pool >> linear(2) } }"
for size in (8, 9):
    with open(f"size{size}.nas", "w") as file:
        file.write(text.replace("SIZE", str(size)))
try:
    nasdsl.load("size9.nas")
except nasdsl.UserError as error:
    assert "a resolution that 2 divides" in str(error)
else:
    raise AssertionError
space = nasdsl.load("size8.nas")
one = space.architecture({"b.op": "swish"})
program = space.compile("plain", passes="+harden")
told = [r for found in program.compilation.rewrites for r in found if r.rule.startswith("hswish")]
assert [(r.graph, len(r.gone)) for r in told] == [("network", 1)]
net = program.supernet(seed=0)
net(torch.zeros(2, 3, 8, 8)).sum().backward()
assert all(p.grad is not None for p in net.architecture_parameters())
assert "silu" not in program.files()["supernet.py"] and "hardswish" in program.files()["supernet.py"]
child = program.network(one)
assert child(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
assert sum(p.numel() for p in child.parameters()) == space.stats(one).params == 12 * 4 * 9 + 4 * 2 + 2
assert program.network(program.architecture(net.derive()))
cells = nasdsl.load("darts", C=4, layers=3, resolution=8).compile("plain")
assert cells.architecture(cells.supernet(seed=0).derive())
print("fine")
"""


def test_what_the_pages_add_to_nasdsl_works(tmp_path: Path) -> None:
    """A copy of the package with the three files of the pages and the lines that they ask for."""
    for folder in ("nasdsl", "grammar", "spaces"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for page in HOWTO:
        if page.stem.startswith("add-"):
            assert [write_file(block, tmp_path) for block in blocks(page, "python")] == [True]
    for name, (old, new) in REGISTRATIONS.items():
        text = (tmp_path / "nasdsl" / name).read_text("utf-8")
        assert text.count(old) == 1, f"{name} has another form now: see the pages"
        (tmp_path / "nasdsl" / name).write_text(text.replace(old, new), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", TRIAL]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_verbs_that_the_pages_name_are_there() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert (
        set(re.findall(r"(?:^\$ |`|\$\(|run: )nasdsl ([a-z]+)\b", text, re.MULTILINE)) - set(VERBS) == set()
    )


@attrs.define
class Page(HTMLParser):
    """What a built page links to, loads and offers as anchors."""

    links: set[str] = attrs.field(factory=set)
    loads: set[str] = attrs.field(factory=set)
    anchors: set[str] = attrs.field(factory=set)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value is not None}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag in {"a", "form"}:
            self.links.add(given.get("href") or given.get("action") or "")
        elif tag in {"script", "img", "link", "iframe", "object"}:
            self.loads.add(given.get("src") or given.get("href") or given.get("data") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """The built pages by path."""
    if MISSING:
        pytest.skip(f"the site needs {', '.join(MISSING)}: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = {}
    for path in folder.rglob("*.html"):
        found[path.relative_to(folder).as_posix()] = Page()
        found[path.relative_to(folder).as_posix()].feed(path.read_text("utf-8"))
    found["files"] = Page(
        anchors={p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    )
    return found


def _reached(page: str, link: str) -> tuple[str, str]:
    path, anchor = urldefrag(unquote(link))
    path = path.partition("?")[0]  # what a browser keeps is told apart by it
    parts: list[str] = page.split("/")[:-1] if path else page.split("/")
    for part in path.split("/") if path else []:
        if part == "..":
            parts.pop()
        elif part not in {".", ""}:
            parts.append(part)
    return "/".join(parts), anchor


def _remote(link: str) -> bool:
    return link.startswith(("http:", "https:", "mailto:", "//"))


def test_every_link_of_the_site_leads_somewhere(site: dict[str, Page]) -> None:
    files = site["files"].anchors
    broken = []
    for name, page in site.items():
        for link in page.links | page.loads:
            if not link or _remote(link) or link.startswith("data:"):
                continue
            path, anchor = _reached(name, link)
            if path not in files or (anchor and path in site and anchor not in site[path].anchors):
                broken.append(f"{name}: {link}")
    assert broken == []


def test_every_page_is_reached_from_the_index(site: dict[str, Page]) -> None:
    reached, waiting = set(), ["index.html"]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in site:
            continue
        reached.add(name)
        waiting.extend(_reached(name, link)[0] for link in site[name].links if link and not _remote(link))
    assert set(site) - reached == {"files"}


def test_the_site_loads_nothing_from_elsewhere(site: dict[str, Page]) -> None:
    assert [f"{name}: {link}" for name, page in site.items() for link in page.loads if _remote(link)] == []


def test_what_is_in_the_code_has_its_page(site: dict[str, Page]) -> None:
    for folder, names in {"commands": VERBS, "diagnostics": CODES, "spaces": shipped_spaces()}.items():
        assert {f"generated/{folder}/{name}.html" for name in names} <= set(site)
    shown = site["generated/primitives.html"].anchors
    assert {p.name.replace("_", "-") for p in PRIMITIVES.values() if not p.internal} <= shown
    assert {f"nasdsl.{name}" for name in ("Space", "Program", "load", "UserError", "Architecture")} <= (
        site["reference/python.html"].anchors
    )
