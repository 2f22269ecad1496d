"""CSV files: the published figures, every way of writing a row, and everything that a file can have wrong."""

from __future__ import annotations

import gzip
import json
import time
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasdsl
from nasdsl.errors import UserError
from nasdsl.tabular import reading
from tests.tabular.tables import CONV, NONE, POOL, SKIP, SMALL, cell, told, written

SPACE = nasdsl.load("nasbench201")


def data(shared: Path, name: str) -> Path:
    path = shared / "data" / name
    if not path.is_file():
        pytest.skip(f"{name} is absent")
    return path


def test_the_published_accuracies(shared: Path) -> None:
    path = data(shared, "nasbench201.csv.gz")
    before = time.perf_counter()
    table = SPACE.table(path, "cifar10_test_acc_200ep")
    assert time.perf_counter() - before < 5  # 0.1 to 0.2 s where nobody else computes
    assert (len(table), table.digest) == (15625, sha256(path.read_bytes()).hexdigest())
    assert table.best().value == 94.37
    skip = table.standing(SPACE.parse(SKIP))
    assert (skip.value, skip.size, skip.better) == (54.3, 15625, "higher")
    assert skip.regret == pytest.approx(94.37 - 54.3)
    assert table.spread().known == 15625
    assert table.check() == 15625


def test_the_published_columns(shared: Path) -> None:
    table = SPACE.table(data(shared, "nasbench201_full.csv.gz"))
    assert len(table) == SPACE.count()
    assert table.notes == tuple(
        f"column `{n}` is left out: it numbers the rows" for n in ("index", "iso_index")
    )
    figures = {m: table.spread(m) for m in table.metrics}
    tops = [figures[f"{d}_test_200"].high for d in ("cifar10", "cifar100", "imagenet16")]
    assert tops == [94.3733, 73.5133, 47.3111]
    assert (figures["params"].low, figures["params"].high) == (73306, 1531546)
    assert (figures["flops"].better, figures["flops"].best.value) == ("lower", 7783050)  # type: ignore[union-attr]
    for arch in SPACE.sample(30, seed=3):
        counted = SPACE.stats(arch).conventions["nasbench201"]
        assert {k: table.look_up(arch)[k] for k in counted} == counted


def test_another_space_is_refused_at_its_first_row(shared: Path) -> None:
    with pytest.raises(UserError, match="declares `darts_genotype`") as caught:
        nasdsl.load("darts").table(data(shared, "nasbench201.csv.gz"))
    assert told(caught.value) == ("NAS601", 2)


def test_a_row_is_found_by_whatever_names_the_architecture(tmp_path: Path) -> None:
    table = SPACE.table(written(tmp_path, SMALL))
    arch = SPACE.parse(CONV)
    assert table.look_up(arch) == table.look_up(arch.choices) == table.look_up(dict(arch.choices))
    assert table.look_up(arch) == {"accuracy": 90, "latency_ms": 4}
    assert table.look_up(SPACE.parse(POOL)) == {"accuracy": 71.25, "latency_ms": None}
    unknown = table.standing(SPACE.parse(POOL), "latency_ms")
    assert (unknown.value, unknown.regret, unknown.rank, unknown.size) == (None, None, None, 2)
    assert (table.has(SPACE.parse(NONE)), table.has(arch)) == (False, True)
    assert table.look_up(SPACE.parse(NONE)) == {"accuracy": None, "latency_ms": None}
    assert table.standing(SPACE.parse(NONE), "accuracy").rank is None
    with pytest.raises(UserError, match="NAS401"):
        table.look_up({"infer.n[1].op[x]": "none"})


def test_other_parameters_of_the_space_change_nothing(tmp_path: Path) -> None:
    """A search space is often cut down in width and depth; the strings stay what they are."""
    small = nasdsl.load("nasbench201", C=4, N=1)
    assert small.table(written(tmp_path, SMALL), "accuracy").best().architecture == CONV


def test_what_a_supernet_derives_is_looked_up(tmp_path: Path) -> None:
    small = nasdsl.load("nasbench201", C=4, N=1)
    net = small.compile("darts").supernet(seed=0)
    net.set_architecture(small.parse(POOL))
    assert small.table(written(tmp_path, SMALL)).standing(net.derive(), "accuracy").value == 71.25


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_same_table_in_other_clothes(tmp_path: Path, end: str, packed: bool, mark: str) -> None:
    raw = (mark + SMALL.replace("\n", end) + end).encode()
    raw = gzip.compress(raw) if packed else raw
    table = SPACE.table(written(tmp_path, raw))
    assert (table.metrics, len(table)) == (("accuracy", "latency_ms"), 3)
    assert table.digest == sha256(raw).hexdigest()


def test_rows_may_be_json(tmp_path: Path) -> None:
    text = f"name,arch,loss\nfirst,{cell(SPACE.parse(SKIP).to_json())},2\nsecond, {CONV} ,1e0\n"
    table = SPACE.table(written(tmp_path, text))
    assert table.notes == ("column `name` is left out: it has no numbers",)
    assert (table.metrics, table.metric) == (("loss",), "loss")
    assert [b.architecture for b in table.top(5)] == [CONV, SKIP]
    assert table.check(SPACE.architecture) == 2


def test_columns_that_are_no_figures_are_left_out_and_said(tmp_path: Path) -> None:
    text = f"index,arch,,id,mac_index,hash,empty,acc\n0,{SKIP},x,7,8,1e3,,1\n1,{CONV},y,8,9,zz,,2\n"
    with pytest.raises(UserError, match="`zz` in column `hash` is not a number"):
        SPACE.table(written(tmp_path, text))
    table = SPACE.table(written(tmp_path, text.replace("1e3", "aa")))
    assert table.metrics == ("acc",)
    assert [n.split()[1] for n in table.notes] == ["`index`", "3", "`id`", "`mac_index`", "`hash`", "`empty`"]


BROKEN = {
    "empty": ("", None, "is empty"),
    "blank lines": ("\n \n", None, "is empty"),
    "heading alone": ("arch,acc\n", None, "no rows"),
    "no column of architectures": (f"\narchitecture,acc\n{SKIP},1\n", 2, "no column `arch`"),
    "no metric": (f"arch\n{SKIP}\n", None, "no column of numbers"),
    "words alone": (f"arch,who\n{SKIP},me\n", None, "`who` is left out"),
    "a column twice": (f"arch,acc,acc\n{SKIP},1,2\n", 1, "`acc` is there twice"),
    "too many cells": (f"arch,acc\n{SKIP},1\n{CONV},1,2\n", 3, "3 cells"),
    "no comma": (f"arch,acc\n{SKIP}\n", 2, "1 cells"),
    "a word for a number": (f"arch,acc\n{SKIP},1\n{CONV},high\n", 3, "`high` in column `acc`"),
    "a decimal comma": (f'arch,acc\n{SKIP},1\n{CONV},"93,4"\n', 3, "not a number"),
    "digits in groups": (f"arch,acc\n{SKIP},1_000\n", 2, "not a number"),
    "nan": (f"arch,acc\n{SKIP},nan\n", 2, "not a finite"),
    "inf": (f"arch,acc\n{SKIP},1\n\n{CONV},-inf\n", 4, "not a finite"),
    "too large": (f"arch,acc\n{SKIP},1e999\n", 2, "not a finite"),
    "the same string": (f"arch,acc\n{SKIP},1\n{CONV},1\n{SKIP},1\n", 4, "a row already"),
    "the same otherwise": (
        f"arch,acc\n{SKIP},1\n{cell(SPACE.parse(SKIP).to_json())},1\n",
        3,
        "a row already",
    ),
    "no such operation": (
        f"arch,acc\n{SKIP},1\n{CONV.replace('nor_conv_1x1', 'conv')},1\n",
        3,
        "no option `conv`",
    ),
    "a node too many": (f"arch,acc\n{SKIP},1\n{SKIP}+|none~0|,1\n", 3, "4 nodes"),
    "a node in the place of another": (
        f"arch,acc\n{SKIP},1\n{'+'.join(SKIP.split('+')[::-1])},1\n",
        3,
        "edges",
    ),
    "no architecture": (f"arch,acc\n{SKIP},1\n,1\n", 3, "not an architecture"),
    "a number": (f"arch,acc\n{SKIP},1\n17,1\n", 3, "not an architecture"),
    "half an object": (f"arch,acc\n{SKIP},1\n{cell('{')},1\n", 3, "not an architecture"),
    "a genotype": ('arch,acc\n"Genotype(normal=[])",1\n', 2, "declares `nasbench201`"),
    "a quotation mark left open": (f'arch,acc\n{SKIP},1\n"{CONV},1\n', 3, "not CSV"),
    "text behind a quotation mark": (f'arch,acc\n{SKIP},1\n"{CONV}"x,1\n', 3, "not CSV"),
    "zeros": ("\0\0\0\0", 1, "no column `arch`"),
}


@pytest.mark.parametrize(("text", "line", "words"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_wrong_is_said_with_its_line_and_a_cure(
    tmp_path: Path, text: str, line: int | None, words: str, packed: bool
) -> None:
    path = written(tmp_path, gzip.compress(text.encode()) if packed else text)
    with pytest.raises(UserError) as caught:
        SPACE.table(path)
    assert told(caught.value) == ("NAS601", line)
    (diagnostic,) = caught.value.diagnostics
    assert words in diagnostic.message
    assert diagnostic.help
    assert f"{path}:{line}:" in str(caught.value) if line else path in str(caught.value)


def test_a_row_over_several_lines_is_told_by_its_first(tmp_path: Path) -> None:
    tall = json.dumps(json.loads(SPACE.parse(CONV).to_json()), indent=1)
    good = f"arch,acc\n{SKIP},1\n{cell(tall)},2\n"
    assert SPACE.table(written(tmp_path, good)).best().value == 2
    with pytest.raises(UserError) as caught:
        SPACE.table(written(tmp_path, f"{good}{POOL},x\n"))
    assert told(caught.value) == ("NAS601", 3 + tall.count("\n") + 1)


def test_a_duplicate_names_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        SPACE.table(written(tmp_path, f"arch,acc\n{CONV},2\n{SKIP},1\n{CONV},2\n"))
    (first,) = caught.value.diagnostics[0].secondary
    assert first.span.line == 2


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_diagnostic(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for content in (raw, b"\x1f\x8b" + raw, gzip.compress(raw), b"arch,acc\n" + raw):
        with pytest.raises(UserError, match="NAS601"):
            SPACE.table(written(folder, content))


@given(st.data())
def test_a_cut_or_damaged_gzip_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = bytearray(gzip.compress(SMALL.encode()))
    folder = tmp_path_factory.mktemp("gzip")
    cut = data.draw(st.integers(2, len(raw) - 1))
    with pytest.raises(UserError, match="damaged gzip"):
        SPACE.table(written(folder, bytes(raw[:cut])))
    raw[data.draw(st.integers(10, len(raw) - 9))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(UserError, match="NAS601"):
        SPACE.table(written(folder, bytes(raw)))


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", len(SMALL))
    raw = SMALL.encode()
    SPACE.table(written(tmp_path, gzip.compress(raw) if packed else raw))
    with pytest.raises(UserError, match="larger than"):
        SPACE.table(written(tmp_path, gzip.compress(raw + b"\n") if packed else raw + b"\n"))


@pytest.mark.parametrize("name", ["missing.csv", ".", "a\0b"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="NAS005"):
        SPACE.table(f"{tmp_path}/{name}")


def test_a_checksum_is_kept_or_the_file_refused(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    digest = sha256(SMALL.encode()).hexdigest()
    table = SPACE.table(f"{path}#sha256={digest.upper()}")
    assert (table.digest, table.name) == (digest, path)
    with pytest.raises(UserError, match=digest) as caught:
        SPACE.table(f"{path}#sha256={'0' * 64}")
    assert told(caught.value)[0] == "NAS602"
    for bad in ("", digest[1:], "g" * 64, f"{digest}#sha256={digest}"):
        with pytest.raises(UserError, match="is not a SHA-256"):
            SPACE.table(f"{path}#sha256={bad}")
    # What is in a file with another checksum is not even looked at.
    with pytest.raises(UserError, match="NAS602"):
        SPACE.table(f"{written(tmp_path, b'junk')}#sha256={digest}")
