"""Operations: a module in `__init__`, a call of it in `forward`.

Takes operations that follow each other in one place, returns the expression of their result. Invariant:
they are one `nn.Sequential`, named by that place; what their weights and states are called is known to
the draft; a module of the runtime is used only where the runtime may be.
"""

from __future__ import annotations

from collections.abc import Sequence

from nasdsl.codegen.draft import Draft
from nasdsl.codegen.sizes import Sizes, SizesAt
from nasdsl.ir.nodes import Op, WeightType
from nasdsl.ops import PRIMITIVES


class Operations:
    """Lowers operations on activations.

    Attributes:
        sizes: collects the sizes that a path settles.
        runtime: whether classes of the runtime may be used.
    """

    def __init__(self, draft: Draft, sizes: Sizes, runtime: bool) -> None:
        self.draft = draft
        self.graph = draft.graph
        self.sizes = sizes
        self.runtime = runtime

    def chain(self, ops: Sequence[Op]) -> str:
        """The expression of a chain, after adding its modules to `__init__`."""
        draft, first = self.draft, ops[0]
        source = draft.text[first.operands[0]]
        if len(ops) == 1 and len(first.operands) == 1:
            function = PRIMITIVES[first.op].function
            if function is not None:
                draft.drops |= first.op == "drop_path"
                return function(*draft.types(first), dict(first.values)).format(x=source)
        attribute = draft.attribute(first)
        texts = [(self._module(n), n) for n in ops]
        if self.graph.auxiliary and ops[-1].id == self.graph.auxiliary:
            attribute = "auxiliary_head"
            inner = ", ".join(t for t, _ in texts)
            draft.auxiliary = (f"nn.Sequential({inner})", source)
        elif len(texts) == 1:
            draft.build(f"self.{attribute} = {texts[0][0]}", first.loc)
        else:
            draft.build(f"self.{attribute} = nn.Sequential(", first.loc)
            for text, node in texts:
                draft.build(f"    {text},", node.loc)
            draft.build(")")
        for index, node in enumerate(ops):
            if len(node.operands) > 1:
                draft.house(node, attribute if len(ops) == 1 else f"{attribute}.{index}")
        return f"self.{attribute}({source})"

    def _module(self, node: Op) -> str:
        """The constructor of a module; notes what it needs."""
        primitive = PRIMITIVES[node.op]
        if primitive.module is None:
            raise TypeError(f"{node.op} has no module")
        if self._elastic(node):
            return self._elastic_module(node)
        make = primitive.module
        if self.runtime and primitive.runtime:
            make = primitive.runtime_module or make
        text = make(*self.draft.types(node), dict(node.values))
        if text.startswith(f"{primitive.runtime.rpartition(':')[2]}("):
            self.draft.runtime.add(primitive.runtime)
        self.draft.note_sizes(text)
        if primitive.helper:
            self.draft.helpers.add(primitive.helper)
        if primitive.opaque:
            self.draft.imports.add(primitive.opaque)
        return text

    def _elastic(self, node: Op) -> bool:
        """Whether a weight of an operation has a size that the path settles."""
        weights = (self.graph.by_id[o].type for o in node.operands[1:])
        return any(d.cases for w in weights if isinstance(w, WeightType) for d in w.shape)

    def _elastic_module(self, node: Op) -> str:
        """The constructor of a module that runs a part of its weights."""
        primitive = PRIMITIVES[node.op]
        if primitive.elastic is None:
            raise TypeError(f"{node.op} cannot take its size from a path")
        place = SizesAt(self.sizes, f"{node.label}.{node.op}")
        text = primitive.elastic(*self.draft.types(node), dict(node.values), place)
        self.draft.runtime.add(f"nasdsl.runtime.operators.elastic:{text.partition('(')[0]}")
        return text
