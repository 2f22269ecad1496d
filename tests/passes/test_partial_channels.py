"""PC-DARTS: a compiled mixed edge is what a few lines by hand say; what cannot be divided is refused."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nasdsl
from nasdsl import Program, Space, UserError
from nasdsl.diagnostics import Source, render
from nasdsl.space.checked import check_source
from tests.laws.common import float64
from tests.passes.short import around, cell, expected, lines
from tests.passes.twins import only

K, C = 4, 8
EDGES = """
space edges {
  input image(3, 8, 8)
  op rcb(k; stride=1) = relu >> conv(k, cin, stride=stride) >> bn
  op largest(; stride=1) = max_pool(3, stride=stride)
  op mean(; stride=1) = avg_pool(3, stride=stride)
  cell c(a; s=1) {
    x = a >> conv(1, 8)
    y = a >> conv(3, 8)
    n[1..1] = sum of all from (x with stride=s, y with stride=s)
              via choose { small: rcb(1), large: rcb(3), top: largest }
    return n[1]
  }
  network { stem: conv(3, 8)  body: c(s=STRIDE)  head: global_pool >> linear(10) }
}
"""


def load(text: str) -> Space:
    found, messages = check_source(Source("edges.nas", text))
    assert found is not None, render(messages.items)
    return Space(found)


class ByHand(nn.Module):
    """One mixed edge: candidates on the first C/K channels, the rest beside them, both shuffled."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        part = C // K

        def convolution(k: int) -> nn.Module:
            conv = nn.Conv2d(part, part, k, stride=stride, padding=k // 2, bias=False)
            return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(part, affine=False))

        pool = nn.MaxPool2d(3, stride=stride, padding=1)
        self.stride = stride
        self.ops = nn.ModuleList(
            [convolution(1), convolution(3), nn.Sequential(pool, nn.BatchNorm2d(part, affine=False))]
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        seen, rest = x[:, : C // K], x[:, C // K :]
        total = sum(w * op(seen) for w, op in zip(weights, self.ops, strict=True))
        if self.stride == 2:
            rest = F.max_pool2d(rest, 2)
        joined = torch.cat((total, rest), 1)
        b, _, h, w = joined.shape
        # (B, K, C/K, H, W) -> (B, C/K, K, H, W): channel i of every part, one after the other
        return joined.reshape(b, K, C // K, h, w).transpose(1, 2).reshape(b, C, h, w)


def by_hand(cell: nn.Module, source: str, stride: int) -> ByHand:
    """With the weights and statistics of an edge of a compiled cell."""
    hand = ByHand(stride)
    for op, name in zip(hand.ops, ("small", "large", "top"), strict=True):
        op.load_state_dict(cell.get_submodule(f"n1_{source}_{name}").state_dict())
    return hand


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_mixed_edge_is_what_it_is_by_hand(stride: int, training: bool) -> None:
    """Output, gradients and statistics of a node of two edges; weights of edges are over all channels."""
    with float64():
        program = load(EDGES.replace("STRIDE", str(stride))).compile("pcdarts", passes=only())
        settings = program.compilation.settings
        assert (settings["partial_channels"], settings["topology"]) == (K, "softmax")
        net = program.supernet(seed=0)
        cell = net.get_submodule("body")
        variables = dict(net.variables["c"].named_parameters())
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in variables.values():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        hand = nn.ModuleDict({source: by_hand(cell, source, stride) for source in "xy"})
        other = {n: p.detach().clone().requires_grad_() for n, p in variables.items()}
        a = torch.randn(4, 8, 8, 8, generator=generator).requires_grad_()
        b = a.detach().clone().requires_grad_()
        for module in (net, hand):
            module.train(training)
        ours = cell(a, net.mixing())
        op, edges = torch.softmax(other["op"], -1), torch.softmax(other["n1_edges"], -1)
        inputs = (cell.get_submodule("x")(b), cell.get_submodule("y")(b))
        pairs = zip(inputs, "xy", op, edges, strict=True)
        theirs = sum(share * hand[source](x, weights) for x, source, weights, share in pairs)
        assert isinstance(theirs, Tensor)
        assert (ours - theirs).abs().max() < 1e-12
        torch.manual_seed(0)
        wanted = torch.randn_like(ours)
        (ours * wanted).sum().backward()
        (theirs * wanted).sum().backward()
        assert a.grad is not None
        assert (a.grad - b.grad).abs().max() < 1e-12  # type: ignore[operator]
        for name, parameter in variables.items():
            assert (parameter.grad - other[name].grad).abs().max() < 1e-12  # type: ignore[operator]
        for source in "xy":
            for op_, name in zip(hand[source].ops, ("small", "large", "top"), strict=True):
                mine = cell.get_submodule(f"n1_{source}_{name}")
                for (path, p), q in zip(op_.named_parameters(), mine.parameters(), strict=True):
                    assert (p.grad - q.grad).abs().max() < 1e-12, path  # type: ignore[operator]
                for (path, p), q in zip(op_.named_buffers(), mine.buffers(), strict=True):
                    assert torch.equal(p, q) or (p - q).abs().max() < 1e-12, path


def test_the_pass_in_text() -> None:
    space = cell("rcb(3), id", 1)
    _, after = around(space, "pcdarts", "-simplify", "partial_channels")
    assert lines(after, r"^%n1") == expected(
        """
        %n1.x.part = channels(%x) count=c_x // 4 start=0
        %n1.x.rcb_3.relu = relu(%n1.x.part)
        %n1.x.rcb_3.conv = conv(%n1.x.rcb_3.relu, %n1.x.rcb_3.conv.weight) k=3 out=c_x // 4
        %n1.x.rcb_3.bn = bn(%n1.x.rcb_3.conv, %n1.x.rcb_3.bn.weight, %n1.x.rcb_3.bn.bias, %n1.x.rcb_3.bn.running)
        %n1.x = mix(%n1.opx.dist, %n1.x.rcb_3.bn, %n1.x.part) {vectors=1, terms=[[0, 0], [0, 1]]}
        %n1.x.rest = channels(%x) count=c_x - (c_x // 4) start=c_x // 4
        %n1.x.joined = merge(%n1.x, %n1.x.rest) {merge="concat"}
        %n1.x.shuffled = shuffle(%n1.x.joined) groups=4
        %n1 = mix(%n1.edges.edges.dist, %n1.x.shuffled) {vectors=1, terms=[[0, 0, []]]}
        """
    )


def test_the_network_has_all_channels() -> None:
    space = nasdsl.load("nasbench201", N=1, C=8, resolution=8)
    arch = space.sample(1)[0]
    divided, whole = (space.compile("pcdarts", settings={"partial_channels": k}) for k in (4, 1))
    assert divided.model_source(arch) == whole.model_source(arch)
    sizes = [sum(p.numel() for p in p.supernet().weight_parameters()) for p in (divided, whole)]
    assert sizes[0] < sizes[1] / 3


# --- what cannot be divided -------------------------------------------------------------------

REFUSED = {
    "channels that do not divide": (
        "n = x >> choose { conv(3), id }",
        6,
        "6 channels are no multiple of 4",
    ),
    "a candidate that changes channels": (
        "n = x >> choose { conv(3, 16), conv(1, 16) }",
        8,
        "a candidate changes their number",
    ),
    "a candidate that is a cell": (
        "n = x >> choose { inner, conv(3) }",
        8,
        "a candidate is a cell or holds a choice",
    ),
    "a candidate that holds a choice": (
        "n = x >> choose { relu >> choose { conv(3), conv(1) }, p: conv(3) }",
        8,
        "a candidate is a cell or holds a choice",
    ),
    "stride three": (
        "n = x >> choose { conv(3, stride=3), conv(5, stride=3) }",
        8,
        "its stride is neither 1 nor 2",
    ),
    "no image": (
        "n = x >> global_pool >> choose { linear(8), relu }",
        8,
        "it is no image",
    ),
}


@pytest.mark.parametrize("title", REFUSED)
def test_what_cannot_be_divided_is_refused_with_place_and_cure(title: str) -> None:
    line, channels, reason = REFUSED[title]
    head = "linear(10)" if "no image" in title else "global_pool >> linear(10)"
    text = (
        "space odd {\n  input image(3, 8, 8)\n"
        "  cell inner(a) { m = a >> conv(3)  return m }\n"
        f"  cell c(x) {{\n    {line}\n    return n\n  }}\n"
        f"  network {{ stem: conv(3, {channels})  body: c  head: {head} }}\n}}\n"
    )
    space = load(text)
    space.compile("darts")  # the space is one
    with pytest.raises(UserError) as caught:
        space.compile("darts", settings={"partial_channels": 4})
    (found,) = caught.value.diagnostics
    assert found.code == "NAS504"
    assert re.search(r"\bn\b.*\(edges\.nas:5\)", found.message), found.message
    assert reason in found.message
    assert found.help == "partial_channels=1 gives candidates all channels"


def test_an_odd_resolution_cannot_be_pooled() -> None:
    space = load(EDGES.replace("STRIDE", "2").replace("image(3, 8, 8)", "image(3, 7, 7)"))
    space.compile("darts", settings={"topology": "softmax"})
    with pytest.raises(UserError, match="the resolution is odd"):
        space.compile("pcdarts")


# --- a single reader ----------------------------------------------------------------------------


def test_what_leads_to_a_choice_of_one_is_no_candidate() -> None:
    """Nothing else reads `x`, so only the one candidate needs what makes it; it keeps all channels."""
    text = EDGES.replace("small: rcb(1), large: rcb(3), top: largest", "only: mean").replace("STRIDE", "2")
    program = load(text).compile("darts", settings={"partial_channels": 4})
    cell = program.supernet().get_submodule("body")
    assert cell.get_submodule("x").weight.shape[0] == 8


# --- batch norm of nodes -----------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["sum", "softmax", "subsets"])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_one_batch_norm_stands_behind_every_node(name: str, parts: int, topology: str) -> None:
    """Of all channels of a node, whatever its candidates see; none behind an edge."""
    sizes = {
        "darts": {"layers": 3, "C": 8, "resolution": 8},
        "nasbench201": {"N": 1, "C": 8, "resolution": 8},
    }
    space = nasdsl.load(name, **sizes[name])
    settings = {"topology": topology, "partial_channels": parts}
    with_norm, without = (
        space.compile("darts", settings={**settings, "node_norm": norm}, passes="-simplify,-share")
        for norm in (True, False)
    )
    more = norms(with_norm) - norms(without)
    cells = {"darts": 3 * 4, "nasbench201": 3 * 3}[name]
    assert sum(more.values()) == cells
    channels = {"darts": {8: 4, 16: 4, 32: 4}, "nasbench201": {8: 3, 16: 3, 32: 3}}[name]
    assert dict(more) == channels


def norms(program: Program) -> Counter[int]:
    """Batch norms by their number of channels, those in fused operations too."""
    net = program.supernet()
    return Counter(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_a_batch_norm_that_does_not_fit_is_refused_with_place_and_cure() -> None:
    text = """space words { input image(3, 8, 8)
      network { patch: conv(4, 8, stride=4, pad=0) >> tokens
                body: choose { linear(8), gelu }
                head: layer_norm >> take_token(1) >> linear(10) } }"""
    space = load(text)
    space.compile("darts")
    with pytest.raises(UserError) as caught:
        space.compile("darts", settings={"node_norm": True})
    (found,) = caught.value.diagnostics
    assert (found.code, found.help) == ("NAS504", "node_norm=false leaves it out")
    assert found.message == "a batch norm behind body (edges.nas:3) does not fit tokens"
