"""Generated code names the `.nas` lines it came from, and is the same text in the process and in files."""

from __future__ import annotations

import re
import traceback

import pytest
import torch

import nasdsl
from tests.laws.common import small


def test_a_traceback_shows_the_generated_line_and_names_the_nas_line() -> None:
    space = small("darts")
    net = space.compile("toponas").supernet()
    with pytest.raises(RuntimeError) as caught:
        net(torch.randn(2, 5, 16, 16))
    shown = "".join(traceback.format_exception(caught.value))
    found = re.search(r"stem = self\.stem\(x\)  # darts\.nas:(\d+)", shown)
    assert found is not None
    assert "stem:" in space.checked.source.line(int(found.group(1)))


def test_every_place_that_is_named_is_a_line_of_the_file() -> None:
    space = small("nasbench201")
    code = space.compile("darts").compilation.supernet
    lines = code.source.splitlines()
    assert len(code.line_map) > 30
    for number, loc in code.line_map.items():
        assert lines[number - 1].endswith(f"# {loc.file}:{loc.line}")
        assert space.checked.source.line(loc.line).strip()


def test_one_text_serves_the_process_and_the_files() -> None:
    import linecache
    import sys

    program = small("darts").compile("toponas")
    net = program.supernet()
    file = sys.modules[type(net).__module__].__file__
    assert file is not None
    assert "".join(linecache.getlines(file)) == program.files()["supernet.py"]


def test_cells_stay_cells() -> None:
    """Twenty cells are a few classes: one for each structure, not one for each use."""
    import nasdsl

    source = nasdsl.load("darts", layers=20).compile("toponas").files()["supernet.py"]
    cells = re.findall(r"^class (\w+)\(nn\.Module\)", source, re.MULTILINE)
    assert sorted(cells) == ["Normal", "Normal2", "NormalVariables", "Reduce", "ReduceVariables"]
    assert len(re.findall(r"self\.body\d_\d+ = Normal", source)) == 18


def test_no_zero_is_computed() -> None:
    source = small("nasbench201").compile("darts").files()["supernet.py"]
    assert "zeros_like" not in source
    assert "* 0" not in source


def test_ir_text_after_every_pass_reads_back() -> None:
    from nasdsl import opening

    space = nasdsl.load("nasbench201", N=1)
    text = opening.ir_text("nasbench201", {"N": 1}, method="toponas", after_all=True)
    passes = space.compile("toponas").compilation.passes
    assert text.count("# after ") == 1 + len(passes) > 5
    assert opening.read_ir(text) == text
    alone = opening.ir_text("darts", {"layers": 3})
    assert opening.read_ir(alone) == alone
