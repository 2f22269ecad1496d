"""Choices that the path of a step settles.

Takes choices, writes the lines that follow the path. Invariant: what the path does not take does not run,
be it needed by one option alone or by several of which the path takes none.
"""

from __future__ import annotations

from collections.abc import Callable

from nasdsl.codegen.draft import Draft, Switch, axis_of, indented
from nasdsl.codegen.lowered import Line
from nasdsl.codegen.sizes import Sizes
from nasdsl.codegen.source import literal
from nasdsl.ir.homes import ALWAYS, required
from nasdsl.ir.nodes import AnyNode, Branch, Gather, Select


class Switches:
    """Lowers `Select`, `Branch` and `Gather`.

    Attributes:
        sizes: collects the conditions of branches.
    """

    def __init__(self, draft: Draft, sizes: Sizes) -> None:
        self.draft = draft
        self.graph = draft.graph
        self.sizes = sizes
        switched = any(isinstance(n, Switch) for n in draft.graph.nodes)
        self._needs = _Needs(draft, self._taken) if switched else None

    def need(self, name: str) -> str:
        """The variable that says whether a value is needed; "" where the lines around it say it."""
        return self._needs.of(name) if self._needs is not None else ""

    @property
    def needs(self) -> list[Line]:
        """The lines that set those variables; `forward` begins with them."""
        return self._needs.lines if self._needs is not None else []

    def switch(self, node: Select | Branch) -> None:
        """`if at[...] == "option":` and what makes it, for every operand; the last is the `else`."""
        name = self.draft.local(node)
        tests = self._tests(node)
        for index, (operand, test) in enumerate(tests):
            last = index + 1 == len(tests)
            word = "if" if index == 0 else "else" if last else "elif"
            if len(tests) > 1:
                self.draft.write(f"{word}:" if word == "else" else f"{word} {test}:")
            self._option(node, operand, f"{name} = {{}}", "" if len(tests) == 1 else "    ")
        self.draft.text[node.id] = name

    def gather(self, node: Gather) -> None:
        """The chosen operands in a list, each made where it is chosen; then their sum or concatenation."""
        draft = self.draft
        terms = draft.local(node, suffix="_terms")
        draft.write(f"{terms} = []", node.loc)
        for operand in dict.fromkeys(node.operands):
            lines = draft.only_for(node, operand) if node.operands.count(operand) > 1 else []
            if lines:  # one value under two names: made once, before either asks for it
                draft.write(f"if {self._taken(node, operand)}:")
                draft.forward.extend(indented(lines))
        for name, operand in zip(node.names, node.operands, strict=True):
            draft.write(f"if {literal(name)} in {self._at(node.decision)}:")
            self._option(node, operand, f"{terms}.append({{}})", "    ")
        name = draft.local(node)
        if node.merge == "sum":
            draft.runtime.add("nasdsl.runtime.paths.supernet:total")
            draft.write(f"{name} = total({terms})")
        else:
            draft.write(f"{name} = torch.cat({terms}, {axis_of(node)})")
        draft.text[node.id] = name

    def _option(self, node: AnyNode, operand: str, form: str, margin: str) -> None:
        """The lines that only an option needs, and what is done with its value."""
        self.draft.forward.extend(indented(self.draft.only_for(node, operand), margin))
        self.draft.write(margin + form.format(self.draft.text[operand]), self.graph.by_id[operand].loc)

    def _tests(self, node: Select | Branch) -> list[tuple[str, str]]:
        """Every operand, once, and the condition under which it is the value."""
        if isinstance(node, Branch):
            key = self.sizes.key(node.condition, f"{node.label} is there")
            return [(node.operands[0], f"self.path.sizes[{literal(key)}]"), (node.operands[1], "")]
        grouped: dict[str, list[str]] = {}
        for option, operand in zip(node.options, node.operands, strict=True):
            grouped.setdefault(operand, []).append(option)
        at = self._at(node.decision)
        return [
            (
                operand,
                f"{at} == {literal(names[0])}" if len(names) == 1 else f"{at} in {literal(tuple(names))}",
            )
            for operand, names in grouped.items()
        ]

    def _taken(self, node: Switch, operand: str) -> str:
        """The condition under which a choice takes an operand; "" for always."""
        if isinstance(node, Gather):
            named = [n for n, o in zip(node.names, node.operands, strict=True) if o == operand]
            return " or ".join(f"{literal(n)} in {self._at(node.decision)}" for n in named)
        if set(node.operands) == {operand}:
            return ""
        tests = dict(self._tests(node))
        return tests[operand] or f"not {tests[node.operands[0]]}"

    def _at(self, decision: str) -> str:
        """The value of a decision under the path."""
        if self.draft.root or decision.startswith("/"):
            return f"at[{literal(decision.removeprefix('/'))}]"
        return f"at[self.owner + {literal(decision)}]"


class _Needs:
    """When a value is needed that belongs to no one option, and yet not to every path.

    A node of a cell that other nodes may choose as an input is such a value: where none does, it must
    not run, though every reader of it may.

    Attributes:
        taken: the condition under which a choice takes an operand; "" for always.
        lines: the lines that set the variables, in the order in which they read each other.
    """

    def __init__(self, draft: Draft, taken: Callable[[Switch, str], str]) -> None:
        self.draft = draft
        self.taken = taken
        self.graph, self.homes = draft.graph, draft.homes
        self.position = {n.id: i for i, n in enumerate(self.graph.nodes)}
        self.required = required(self.graph)
        self.names: dict[str, str] = {}
        self.lines: list[Line] = []

    def of(self, name: str) -> str:
        """The variable that says whether a node is needed; "" where its surroundings say it."""
        home = self.homes[name]
        sink = self.graph.result if home == ALWAYS else home[1]
        if self.required[sink] >> self.position[name] & 1:
            return ""
        if name not in self.names:
            readers = (self.graph.by_id[r] for r in dict.fromkeys(self.graph.readers[name]))
            ways = dict.fromkeys(" and ".join(self._way(r, name)) for r in readers)
            found = " or ".join(ways)
            if found not in self.names.values():
                condition = found
                found = self.draft.local(self.graph.by_id[name], prefix="need_")
                self.lines.append((f"{found} = {condition}", None))
            self.names[name] = found
        return self.names[name]

    def _way(self, reader: AnyNode, name: str) -> list[str]:
        """The conditions that must all hold for a value to be needed by a reader."""
        found = [self._takes(reader, name)] if isinstance(reader, Switch) else []
        while True:
            found.append(self.of(reader.id))
            home = self.homes[reader.id]
            if found[-1] or home == ALWAYS:
                return [f for f in found if f] or ["True"]
            reader = self.graph.by_id[home[0]]
            found.append(self._takes(reader, home[1]))

    def _takes(self, choice: AnyNode, operand: str) -> str:
        if not isinstance(choice, Switch):
            raise TypeError(f"%{choice.id} is no choice that a path settles")
        condition = self.taken(choice, operand)
        return f"({condition})" if " or " in condition else condition
