"""Python text under construction.

Takes lines with their `.nas` places, returns `PythonCode`. Invariant: all text
that came from a `.nas` file passes through `literal` or `comment`, the only two
functions that let it into generated code.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping

import attrs

from nasdsl.ir.nodes import Loc

_TAKEN = """
ACTIVATION DECISIONS LIFTED OWNERS RESOLUTION SIZES SPARSE T_destination add_module alive apply
architecture_parameters auxiliary auxiliary_head bfloat16 bind buffers call_super_init children clear
compile cpu cuda derive double draws drop_path_prob dump_patches eval extra_repr fit float forward get_buffer
get_extra_state get_parameter get_submodule groups half ipu items keys lifted load_state_dict logits
mixing modules mtia named_buffers named_children named_modules named_parameters noise_temperature
owner parameters path pop prune pruned random register_backward_hook register_buffer
register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook
register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
register_state_dict_pre_hook requires_grad_ resolution set_architecture set_extra_state set_submodule
share_memory state_dict temperature to to_empty topology train training type update values
variables weight_parameters xpu zero_grad
"""
ATTRIBUTES = tuple(_TAKEN.split())
"""Attributes that `nn.Module`, `nn.ModuleDict` and the generated classes have already."""

CLASSES = (
    "Supernet",
    "SupernetBase",
    "Network",
    "At",
    "Weights",
    "F",
    "SqueezeExcite",
    "Attention",
    "ClassToken",
    "Position",
    "Channels",
    "Zeros",
    "BlendedConv",
    "BlendedFan",
    "Depthwise",
    "DepthwiseFan",
    "NormalisedMix",
    "PointwiseNorm",
    "StridedPointwise",
    "Path",
    "PathSupernet",
    "total",
    "ElasticAttention",
    "ElasticBatchNorm",
    "ElasticClassToken",
    "ElasticConv2d",
    "ElasticDepthwise",
    "ElasticLayerNorm",
    "ElasticLinear",
    "ElasticPosition",
    "ElasticSqueezeExcite",
)
"""Names that a generated file has at its top already."""


@attrs.frozen
class PythonCode:
    """A generated file: its text, and the `.nas` place of each of its lines (from 1)."""

    source: str
    line_map: Mapping[int, Loc]


class Writer:
    """Collects lines; `indent` counts levels of four spaces."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._map: dict[int, Loc] = {}

    def line(self, text: str = "", indent: int = 0, loc: Loc | None = None) -> None:
        """Adds a line; with a place, the place is named in a comment at its end."""
        shown = "    " * indent + text if text else ""
        if loc is not None:
            shown += f"  # {comment(f'{loc.file}:{loc.line}')}"
            self._map[len(self._lines) + 1] = loc
        self._lines.append(shown)

    def code(self) -> PythonCode:
        return PythonCode("\n".join(self._lines).rstrip() + "\n", dict(self._map))


def literal(value: object) -> str:
    """A Python literal for plain data that came from a `.nas` file."""
    return ascii(value)


def comment(text: str) -> str:
    """Text made safe for a comment or a docstring: one line, printable, no quotes that end a string."""
    flat = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return flat.replace("\\", "/").replace('"', "'")[:200]


class Namespace:
    """Makes identifiers: valid, no keyword, each only once."""

    def __init__(self, reserved: tuple[str, ...] = ()) -> None:
        self._taken = set(reserved)

    def fresh(self, hint: str) -> str:
        base = identifier(hint)
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name


def identifier(text: str) -> str:
    """`n[2].a.sep(3)` as `n2_a_sep_3`, `body1[2]` as `body1_2`."""
    name = re.sub(r"(?<=\d)\[(\w+)\]", r"_\1", text)
    name = re.sub(r"\[(\w+)\]", r"\1", name)
    name = re.sub(r"[^0-9A-Za-z_]+", "_", name).strip("_") or "v"
    if name[0].isdigit() or keyword.iskeyword(name):
        name = f"_{name}"
    return name


def class_name(text: str) -> str:
    """`normal__2` as `Normal2`."""
    return "".join(p[:1].upper() + p[1:] for p in identifier(text).split("_") if p) or "Cell"
