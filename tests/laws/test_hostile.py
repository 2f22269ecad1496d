"""Nothing of a `.nas` file reaches generated code unescaped, and nothing brings the compiler down."""

from __future__ import annotations

import ast as python
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl import Space
from nasdsl.diagnostics import Source
from nasdsl.resources import shipped_spaces
from nasdsl.space.checked import check_source
from tests.thinned import thinned

TEXT = """
space {space} {{
  doc {doc}
  param {param} = 4
  input image(3, 8, 8)
  cell {cell}({value}; C) {{
    {node}[1..2] = sum of all from ({value}, earlier) via choose {{ {option}: relu >> conv(3, C) >> bn, b: id }}
    return {node}[2]
  }}
  network {{ {step}: conv(3, {param})  body: {cell}(C={param})  head: global_pool >> linear(10) }}
}}
"""
NAMES = [
    "__import__",
    "__class__",
    "os",
    "self",
    "torch",
    "nn",
    "F",
    "super",
    "lambda",
    "def",
    "None",
    "mix",
    "own",
    "w",
    "forward",
    "train",
    "Supernet",
    "Network",
    "SupernetBase",
    "variables",
    "temperature",
    "noise_temperature",
    "random",
    "alive",
    "prune",
    "pruned",
    "groups",
    "ACTIVATION",
    "SPARSE",
    "at",
    "weights",
    "running",
    "clipped",
    "gumbel",
    "op_alive",
    "op_runs",
    "mix_running",
    "make_a",
    "make_n2_x_a",
    "register_forward_hook",
    "__init__",
    "_",
    "exec",
    "OWNERS",
]
FORMS: dict[str, tuple[str, dict[str, object]]] = {
    "subsets, filters blended": ("toponas", {}),
    "pruned, channels divided, edges weighed": ("cbo", {"topology": "softmax", "partial_channels": 4}),
    "drawn, bare weights": ("gdas", {"bare_weights": True}),
}
"""Methods whose supernets use every name that generated code has of its own."""
DOCS = [
    r'"\"\"\"; import os; os.abort() #"',
    r'"{{ 7 * 7 }} {% for i in x %} {# #}"',
    r'"\n\nimport os\n"',
    r'"\\"',
    '"\u202e\u2028 \x85"',
    '"' + "a" * 5000 + '"',
]


def compiled(text: str) -> None:
    """A diagnostic, or files in which only literals and comments hold the file's own text."""
    space, diagnostics = check_source(Source("hostile.nas", text))
    if space is None:
        assert diagnostics.errors
        return
    program = Space(space).compile("toponas")
    for name, content in program.files().items():
        if name.endswith(".py"):
            tree = python.parse(content)
            imported = {
                a.name.split(".")[0]
                for n in python.walk(tree)
                if isinstance(n, (python.Import, python.ImportFrom))
                for a in n.names
                if isinstance(n, python.Import)
            }
            assert "antigravity" not in imported
            if name == "supernet.py":
                assert imported == {"torch"}
                calls = {
                    n.func.id
                    for n in python.walk(tree)
                    if isinstance(n, python.Call) and isinstance(n.func, python.Name)
                }
                assert not calls & {"exec", "eval", "__import__", "open", "compile"}
    arch = Space(space).sample(1)[0]
    assert {
        n.name for n in python.walk(python.parse(program.model_source(arch))) if isinstance(n, python.alias)
    } <= {
        "torch",
        "nn",
        "torch.nn.functional",
    }


@pytest.mark.parametrize("doc", DOCS)
def test_documentation_stays_text(doc: str) -> None:
    compiled(
        TEXT.format(space="s", doc=doc, param="P", cell="c", value="x", node="n", option="a", step="stem")
    )


PLACES = ("space", "param", "cell", "value", "node", "option", "step")


# One of six at seven places: every name stands somewhere, now here, now there.
@pytest.mark.parametrize(("name", "place"), thinned(product(NAMES, PLACES), 6))
def test_any_name_anywhere(name: str, place: str) -> None:
    names = {
        "space": "s",
        "param": "P",
        "cell": "c",
        "value": "x",
        "node": "n",
        "option": "a",
        "step": "stem",
    }
    text = TEXT.format(doc='""', **{**names, place: name})
    compiled(text)
    checked, _ = check_source(Source("hostile.nas", text))
    if checked is not None:
        space = Space(checked)
        import torch

        for method, chosen in FORMS.values():
            net = space.compile(method, settings=chosen).supernet()
            assert net(torch.randn(2, 3, 8, 8)).shape == (2, 10)
            assert set(net.architecture_parameters()) | set(net.weight_parameters()) == set(net.parameters())
            assert net.prune() == 0
            space.architecture(net.derive())
        arch = space.sample(1, seed=1)[0]
        assert space.compile("darts").network(arch)(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_every_attribute_that_classes_have_is_reserved() -> None:
    """A place of a space that had the name of one would take its place."""
    from torch import nn

    from nasdsl.codegen.source import ATTRIBUTES
    from nasdsl.runtime.supernet import SupernetBase

    found: set[str] = set()
    for kind in (nn.Module, nn.ModuleDict, SupernetBase):
        found |= {*dir(kind), *getattr(kind, "__annotations__", {})}
    found |= vars(nn.ModuleDict()).keys()
    assert {name for name in found if not name.startswith("_")} <= set(ATTRIBUTES)


def test_every_name_at_the_top_of_a_supernet_is_reserved_for_classes() -> None:
    """A cell of that name would be a class of that name."""
    from nasdsl.codegen.source import CLASSES

    for method, chosen in FORMS.values():
        for name in ("darts", "nasbench201"):
            sizes = {"layers": 3, "C": 4} if name == "darts" else {"N": 1, "C": 4}
            source = nasdsl.load(name, **sizes).compile(method, settings=chosen).compilation.supernet.source
            imported = {
                a.asname or a.name
                for n in python.parse(source).body
                if isinstance(n, python.ImportFrom)
                for a in n.names
            }
            assert {n for n in imported if n[0].isupper()} <= set(CLASSES)


PIECES = ["(", "}", "choose 9", "10**9", "9" * 20, "earlier", ">>", "0", "-1"]


@settings(max_examples=150)
@given(st.text(max_size=200), st.integers(0, 10**9), st.sampled_from(["darts", "nasbench201"]))
def test_mutated_files_give_a_diagnostic_or_compile(noise: str, seed: int, name: str) -> None:
    rng = random.Random(seed)
    text = shipped_spaces()[name].read_text("utf-8")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text))
        cut = rng.choice((0, 1, 3, 20))
        piece = rng.choice((noise[:10], "", rng.choice(PIECES)))
        text = text[:at] + piece + text[at + cut :]
    space, diagnostics = check_source(Source("mutated.nas", text), {"layers": 3} if name == "darts" else None)
    assert (space is None) == bool(diagnostics.errors)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(10**30, "NAS207"), (-1, "NAS206"), (0, "NAS206"), (2.5, "NAS206"), ("x", "NAS109"), ([1], "NAS201")],
)
def test_parameters_out_of_range(value: object, shown: str) -> None:
    with pytest.raises(nasdsl.UserError) as caught:
        nasdsl.load("darts", C=value)
    assert shown in {d.code for d in caught.value.diagnostics}
