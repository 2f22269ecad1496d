"""Spaces of a few lines, and their IR in a form that fits a test.

Takes texts and modules, returns spaces and lines. Invariant: what is left out of a line are places,
labels, types and parameters at their defaults.
"""

from __future__ import annotations

import re

import attrs

import nasdsl
from nasdsl import Space
from nasdsl.ir.graph import Module
from nasdsl.ir.nodes import AnyNode, Dist, Input, Op, State, Var, Weight
from nasdsl.ir.text import print_node
from nasdsl.ops import PRIMITIVES
from tests.laws.common import small
from tests.strategies import checked

HEADER = """
  input image(3, 8, 8)
  op sep(k; stride=1) = relu >> dwconv(k, stride=stride) >> conv(1, cin) >> bn
                     >> relu >> dwconv(k) >> conv(1, cin) >> bn
  op dil(k; stride=1) = relu >> dwconv(k, stride=stride, dilation=2) >> conv(1, cin) >> bn
  op dw(k)  = relu >> dwconv(k) >> conv(1, cin) >> bn
  op rcb(k) = relu >> conv(k, cin) >> bn
"""


def cell(options: str, nodes: int = 2, gather: str = "sum of all") -> Space:
    """A space of one cell `c` whose edges all hold the same options."""
    edges = f"n[1..{nodes}] = {gather} from (x, earlier) via choose {{ {options} }}"
    return space(f"  cell c(x) {{\n    {edges}\n    return n[{nodes}]\n  }}\n")


def named(name: str) -> Space:
    """A shipped space at small size, or `cells`: every kind of candidate in a cell of three nodes."""
    if name == "cells":
        return cell("sep(3), sep(5), dil(5), rcb(1), rcb(3), pool: avg_pool(3), id", 3)
    return nasdsl.load("darts", layers=3, C=4, resolution=8) if name == "darts" else small(name)


def space(cells: str) -> Space:
    """A space around a cell `c`."""
    network = "network { stem: conv(3, 4) >> bn  body: c  head: global_pool >> linear(10) }"
    return Space(checked(f"space tiny {{{HEADER}{cells}  {network}\n}}\n"))


def lines(module: Module, part: str = "") -> str:
    """The nodes of cell `c` that compute something, one a line; only lines that hold the pattern `part`."""
    nodes = (n for n in module.by_name["c"].nodes if not isinstance(n, (Input, Weight, State, Var, Dist)))
    return "\n".join(line for line in map(_short, nodes) if re.search(part, line))


def around(made: Space, method: str, passes: str, name: str) -> tuple[Module, Module]:
    """The module before and after a pass."""
    stages = made.compile(method, passes=passes).compilation.stages
    index = [n for n, _ in stages].index(name)
    return stages[index - 1][1], stages[index][1]


def _short(node: AnyNode) -> str:
    text = print_node(attrs.evolve(node, label=""), places=False).rpartition(" : ")[0]
    if isinstance(node, Op):
        given = {p.name: p.default for p in PRIMITIVES[node.op].parameters}
        kept = {n: v for n, v in node.values if given.get(n) != v}
        shown = "".join(f" {n}={v if isinstance(v, int) else str(v)}" for n, v in kept.items())
        operands = ", ".join(f"%{o}" for o in node.operands)
        return f"%{node.id} = {node.op}({operands}){shown}"
    return re.sub(r", \[\[.*?\]\]\]", "]", text)  # the decisions behind the terms of a mix


def expected(text: str) -> str:
    """An indented text without its indentation."""
    return "\n".join(line.strip() for line in text.strip().splitlines())
