"""The node kinds of the IR.

Takes plain data, returns frozen nodes. Three sorts of value: activations
(`TensorType`), weights (`WeightType`) and architecture vectors (`ArchType`).
Invariant: operands are node ids of the same graph; a node says everything about
itself, and where it came from (`loc`) never takes part in equality.

Candidates are ordinary chains of `Op` nodes in their cell's graph. A rewrite
may change the operands of a `Mix`, never a `Var`: the shape of the variables,
their optimiser and their derivation belong to the method.

A `Select`, `Branch` or `Gather` of a RELAXED graph is a run-time switch: the path of the
step settles it. So everything that is known of choices in a space (what they cost, what
belongs to which option, what an architecture takes) holds for supernets of single paths.
"""

from __future__ import annotations

from typing import ClassVar, Union, get_args

import attrs

from nasdsl.cases import Cases
from nasdsl.ops import Value
from nasdsl.types import Dim, TensorType


@attrs.frozen
class Loc:
    """A place in the source: file, line and column, counted from one."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@attrs.frozen
class WeightType:
    """A learnable tensor (`weight`) or running statistics (`state`)."""

    shape: tuple[Dim, ...]
    state: bool = False

    def __str__(self) -> str:
        return f"{'state' if self.state else 'weight'}[{', '.join(map(str, self.shape))}]"


@attrs.frozen
class ArchType:
    """A vector of architecture variables or of weights made from them."""

    length: int

    def __str__(self) -> str:
        return f"arch[{self.length}]"


Type = Union[TensorType, WeightType, ArchType]

ACTIVATIONS = ("softmax", "clipped", "gumbel", "concrete", "dirichlet")
"""How variables become weights; `nasdsl.runtime.activation` has the mathematics."""


@attrs.frozen(kw_only=True)
class Node:
    """What every node has.

    Attributes:
        id: unique in its graph.
        operands: ids of the values it reads, in order.
        type: of the value it makes.
        label: the readable path of the place it was written in, such as
            `n[2].a.sep_conv_3x3`; it names modules and checkpoints.
        loc: the `.nas` place.
    """

    kind: ClassVar[str] = ""
    id: str
    operands: tuple[str, ...] = ()
    type: Type
    label: str = ""
    loc: Loc | None = attrs.field(default=None, eq=False)


@attrs.frozen(kw_only=True)
class Input(Node):
    """An input of the graph."""

    kind: ClassVar[str] = "input"


@attrs.frozen(kw_only=True)
class Weight(Node):
    """A learnable tensor. Two readers of one `Weight` are tied; `aliases` name what it stands for as well."""

    kind: ClassVar[str] = "weight"
    name: str
    init: str = "default"
    aliases: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class State(Node):
    """Running statistics of a normalisation; `aliases` are names whose statistics are the same."""

    kind: ClassVar[str] = "state"
    name: str
    aliases: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Stack(Node):
    """Weights, or statistics, one behind the other along the first axis. RELAXED only."""

    kind: ClassVar[str] = "stack"


@attrs.frozen(kw_only=True)
class Blend(Node):
    """A weighted sum of filters. RELAXED only.

    Operands: an architecture vector, one weight an entry of it, and then one bias an entry if
    there are any; smaller filters are padded to the size of the type. `normalise` is `filter`
    (each output channel over its norm), `kernel` (each filter over its norm) or `none`.
    """

    kind: ClassVar[str] = "blend"
    normalise: str = "filter"


@attrs.frozen(kw_only=True)
class Op(Node):
    """A primitive. Operands: one activation, then its weights, then its state."""

    kind: ClassVar[str] = "op"
    op: str
    values: tuple[tuple[str, Value], ...] = ()


@attrs.frozen(kw_only=True)
class Merge(Node):
    """`sum` or `concat` of activations.

    `decision` and `names` remember the choice of inputs that a method resolved by
    taking all of them (DARTS), so that an architecture can still be cut out of it.
    """

    kind: ClassVar[str] = "merge"
    merge: str
    decision: str | None = None
    names: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Call(Node):
    """A use of another graph.

    `owner` is the path of the decisions it uses; `independent` owners are relative
    to the owner of the caller. `recompute` keeps its operands only and runs it again in
    the backward pass (RELAXED only).
    """

    kind: ClassVar[str] = "call"
    graph: str
    sizes: tuple[tuple[str, Dim], ...] = ()
    owner: str = ""
    independent: bool = False
    recompute: bool = False


@attrs.frozen(kw_only=True)
class Select(Node):
    """The choice of one operand."""

    kind: ClassVar[str] = "select"
    decision: str
    options: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Branch(Node):
    """Operand 0 where the condition over decisions holds, else operand 1.

    An `if` whose condition depends on decisions, and a repetition that is there or not.
    """

    kind: ClassVar[str] = "branch"
    condition: Cases


@attrs.frozen(kw_only=True)
class Gather(Node):
    """The merge of `low..high` of the operands.

    `widths` are the sizes that a concatenation `into split(...)` gives its members,
    one name an operand: they are solved once the members are chosen.
    """

    kind: ClassVar[str] = "gather"
    merge: str
    decision: str
    names: tuple[str, ...]
    low: int
    high: int
    widths: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Var(Node):
    """The architecture variables of a decision: one number an entry of `entries`. RELAXED only.

    `role` is `op` (one entry a candidate), `inputs` (one a subset of inputs) or `edges` (one an
    input, for the weights of edges, which may stand where the space makes no decision).
    """

    kind: ClassVar[str] = "var"
    decision: str
    role: str
    entries: tuple[str, ...]
    init: str = "zeros"


@attrs.frozen(kw_only=True)
class Dist(Node):
    """The weights of the entries of a `Var`. `temperature` names a run-time setting. RELAXED only.

    `form` is one of `ACTIVATIONS`; all but `clipped` are distributions. `bare` adds the weights of
    candidates that do not run to the sum, whose value is zero and whose gradient is not.
    """

    kind: ClassVar[str] = "dist"
    form: str = "softmax"
    temperature: bool = False
    bare: bool = False


@attrs.frozen(kw_only=True)
class Marginal(Node):
    """The weight of each source: the sum over the subsets that hold it. RELAXED only.

    `rows` is the 0/1 incidence, one string a subset, one digit a source.
    """

    kind: ClassVar[str] = "marginal"
    rows: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Arith(Node):
    """Arithmetic on architecture vectors. RELAXED only.

    `scale` multiplies a vector (operand 0) by one entry (`index`) of another (operand 1).
    `groups` sums the entries of each of `groups`; `shares` divides that by the sum of the entries
    `over`, of all groups if that is empty (by a tiny number where that is zero, so that what is
    switched off stays finite).
    """

    kind: ClassVar[str] = "arith"
    form: str
    index: int = 0
    groups: tuple[tuple[int, ...], ...] = ()
    over: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class Mix(Node):
    """A weighted sum of activations. RELAXED only.

    Operands: architecture vectors, then activations. `terms[i]` says which entry of
    which vector weighs activation `i`, and which decision and option that is. An
    option that computes nothing (`none`) has no term.

    `inside` are the terms, by number, that are accumulated without being formed: each is
    a `pointwise_norm` that nothing else reads. In a `sparse` one a term is computed only
    where its weight says that it runs.
    """

    kind: ClassVar[str] = "mix"
    vectors: int
    terms: tuple[MixTerm, ...]
    inside: tuple[int, ...] = ()
    sparse: bool = False


@attrs.frozen
class MixTerm:
    """One term of a `Mix`.

    `choices` are the (decision, option) pairs that must all hold for the term to be
    in the network: one for a plain mix, two when an operation's weight and its
    edge's weight have been multiplied.
    """

    vector: int
    entry: int
    choices: tuple[tuple[str, str], ...]


AnyNode = Union[
    Input,
    Weight,
    State,
    Stack,
    Blend,
    Op,
    Merge,
    Call,
    Select,
    Branch,
    Gather,
    Var,
    Dist,
    Marginal,
    Arith,
    Mix,
]

KINDS: dict[str, type[Node]] = {k.kind: k for k in get_args(AnyNode)}
"""Every kind of node by its word in the text form."""
