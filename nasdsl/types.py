"""Sizes that stay readable: symbolic dimensions, tensor types, costs.

Takes integers, tables over decisions and names; returns canonical polynomials
whose coefficients are integers or tables (`Cases`). Invariant: two `Dim`s that are
equal as polynomials are equal as objects, whatever the order of the operations
that made them; `evaluate` agrees with Python's integers.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Union

import attrs

from nasdsl.cases import Cases, lift

Integer = Union[int, Cases]
"""An integer, or one for every combination of some decisions."""

Atom = Union[str, "Quotient"]


@attrs.frozen(order=False, cache_hash=True)
class Quotient:
    """`numerator // denominator` or `numerator % denominator`, kept whole inside a polynomial."""

    operator: str
    numerator: Dim
    denominator: Dim

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return f"{self.numerator.operand_text()} {self.operator} {self.denominator.operand_text()}"


Monomial = tuple[Atom, ...]


def _key(atom: Atom) -> str:
    return str(atom)


@attrs.frozen(order=False, repr=False, cache_hash=True)
class Dim:
    """A polynomial over named sizes, such as `4*C` or `H // 2 + 1`, with integers or tables as coefficients."""

    terms: tuple[tuple[Monomial, Integer], ...]

    @staticmethod
    def of(value: int | str | Dim | Cases) -> Dim:
        if isinstance(value, Dim):
            return value
        return Dim((((), value),)) if isinstance(value, Cases) else _dim(value)

    @staticmethod
    def _collect(pairs: list[tuple[Monomial, Integer]]) -> Dim:
        totals: dict[Monomial, Integer] = {}
        for monomial, factor in pairs:
            known = totals.get(monomial, 0)
            totals[monomial] = _apply(operator.add, known, factor)
        kept = [(m, f) for m, f in totals.items() if isinstance(f, Cases) or f]
        if len(kept) < 2:
            return Dim(tuple(kept))
        return Dim(tuple(sorted(kept, key=lambda t: (-len(t[0]), [_key(a) for a in t[0]]))))

    @property
    def constant(self) -> int | None:
        """The integer this is, or None when it depends on a name or a decision."""
        fixed = self.fixed
        return fixed if isinstance(fixed, int) else None

    @property
    def fixed(self) -> Integer | None:
        """What this is when it depends on no name: an integer, or a table over decisions."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and self.terms[0][0] == ():
            return self.terms[0][1]
        return None

    @cached_property
    def cases(self) -> frozenset[Cases]:
        """Every table in this."""
        found = {f for _, f in self.terms if isinstance(f, Cases)}
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, Quotient):
                    found |= atom.numerator.cases | atom.denominator.cases
        return frozenset(found)

    @property
    def names(self) -> frozenset[str]:
        """Every name this depends on."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, str):
                    found.add(atom)
                else:
                    found |= atom.numerator.names | atom.denominator.names
        return frozenset(found)

    def __add__(self, other: Dim | int) -> Dim:
        mine, theirs = self.constant, other if isinstance(other, int) else other.constant
        if mine is not None and theirs is not None:
            return _dim(mine + theirs)
        return Dim._collect([*self.terms, *Dim.of(other).terms])

    def __neg__(self) -> Dim:
        return Dim(tuple((m, _apply(operator.mul, f, -1)) for m, f in self.terms))

    def __sub__(self, other: Dim | int) -> Dim:
        return self + (-Dim.of(other))

    def __mul__(self, other: Dim | int) -> Dim:
        mine, theirs = self.constant, other if isinstance(other, int) else other.constant
        if theirs is not None:
            return self._scaled(theirs)
        if mine is not None:
            return Dim.of(other)._scaled(mine)
        products = [
            (tuple(sorted(a + b, key=_key)), _apply(operator.mul, f, g))
            for a, f in self.terms
            for b, g in Dim.of(other).terms
        ]
        return Dim._collect(products)

    def _scaled(self, number: int) -> Dim:
        """This times an integer: the monomials, and so their order, are the same."""
        if number == 1:
            return self
        if number == 0:
            return _dim(0)
        return Dim(tuple((m, _apply(operator.mul, f, number)) for m, f in self.terms))

    def __floordiv__(self, other: Dim | int) -> Dim:
        return self._quotient("//", Dim.of(other))

    def __mod__(self, other: Dim | int) -> Dim:
        return self._quotient("%", Dim.of(other))

    def _quotient(self, symbol: str, other: Dim) -> Dim:
        divisor, number = other.fixed, self.fixed
        if divisor == 0:
            raise ZeroDivisionError("division of a size by zero")
        if divisor is not None and number is not None:
            return Dim.of(_apply(_DIVISION[symbol], number, divisor))
        if isinstance(divisor, int) and divisor > 0 and all(_divides(divisor, f) for _, f in self.terms):
            exact = Dim(tuple((m, _apply(operator.floordiv, f, divisor)) for m, f in self.terms))
            return exact if symbol == "//" else Dim.of(0)
        return Dim((((Quotient(symbol, self, other),), 1),))

    def evaluate(self, names: Mapping[str, int]) -> int:
        """The integer for given sizes.

        Raises:
            KeyError: for a name that `names` lacks.
            TypeError: when it depends on a decision; `value` gives the table.
        """
        value = self.value(names)
        if isinstance(value, Cases):
            raise TypeError(f"{self} depends on the decisions {', '.join(value.decisions)}")
        return value

    def value(self, names: Mapping[str, Integer]) -> Integer:
        """The integer, or the table over decisions, for given sizes. Raises KeyError as `evaluate`."""
        total: Integer = 0
        for monomial, factor in self.terms:
            product = factor
            for atom in monomial:
                if isinstance(atom, str):
                    product = _apply(operator.mul, product, names[atom])
                else:
                    top, bottom = atom.numerator.value(names), atom.denominator.value(names)
                    product = _apply(operator.mul, product, _apply(_DIVISION[atom.operator], top, bottom))
            total = _apply(operator.add, total, product)
        return total

    def settle(self, choices: Mapping[str, str | tuple[str, ...]]) -> Dim:
        """This polynomial once decisions are made: tables become integers."""
        if not self.cases:
            return self
        total = Dim.of(0)
        for monomial, factor in self.terms:
            product = Dim.of(int(factor.at(choices)) if isinstance(factor, Cases) else factor)
            for atom in monomial:
                if isinstance(atom, str):
                    product = product * Dim.of(atom)
                else:
                    top, bottom = atom.numerator.settle(choices), atom.denominator.settle(choices)
                    product = product * (top // bottom if atom.operator == "//" else top % bottom)
            total = total + product
        return total

    def substitute(self, names: Mapping[str, Dim]) -> Dim:
        """This polynomial with names replaced by polynomials."""
        total = Dim.of(0)
        for monomial, factor in self.terms:
            product = Dim.of(factor)
            for atom in monomial:
                if isinstance(atom, str):
                    product = product * names.get(atom, Dim.of(atom))
                else:
                    top, bottom = atom.numerator.substitute(names), atom.denominator.substitute(names)
                    product = product * (top // bottom if atom.operator == "//" else top % bottom)
            total = total + product
        return total

    def operand_text(self) -> str:
        """The text as an operand of another operator: in parentheses when it needs them."""
        return self._text if re.fullmatch(r"[\w$]+", self._text) else f"({self._text})"

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        if not self.terms:
            return "0"
        text = ""
        for monomial, factor in self.terms:
            alone = len(monomial) == 1 and factor == 1
            names = [str(a) if isinstance(a, str) or alone else f"({a})" for a in monomial]
            if isinstance(factor, Cases):
                names, factor = [factor.name, *names], 1
            size = abs(factor)
            body = "*".join(([str(size)] if size != 1 or not names else []) + names)
            if not text:
                text = f"-{body}" if factor < 0 else body
            else:
                text += f" - {body}" if factor < 0 else f" + {body}"
        return text

    def __repr__(self) -> str:
        return f"Dim({self})"


_DIVISION: Mapping[str, Callable[[int, int], int]] = {"//": operator.floordiv, "%": operator.mod}


def _apply(function: Callable[[int, int], int], left: Integer, right: Integer) -> Integer:
    if isinstance(left, int) and isinstance(right, int):
        return function(left, right)
    found = lift(function, left, right)
    return found if isinstance(found, Cases) else int(found)


def _divides(divisor: int, factor: Integer) -> bool:
    return all(f % divisor == 0 for f in (factor.table if isinstance(factor, Cases) else (factor,)))


@lru_cache(maxsize=4096)
def _dim(value: int | str) -> Dim:
    if isinstance(value, str):
        return Dim((((value,), 1),))
    return Dim((((), value),)) if value else Dim(())


def parse_dim(text: str, cases: Mapping[str, Cases] | None = None) -> Dim:
    """Reads what `str(Dim)` writes, given the tables it names. Raises ValueError for anything else."""
    tokens = re.findall(r"\d+|[$A-Za-z_]\w*|//|[-+*%()]|\S", text)
    tables = cases or {}
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1] if position <= len(tokens) else ""

    def atom() -> Dim:
        token = take()
        if token == "(":
            inner = total()
            if take() != ")":
                raise ValueError(f"unbalanced size {text!r}")
            return inner
        if token == "-":
            return -atom()
        if token.isdigit():
            return Dim.of(int(token))
        if token in tables:
            return Dim.of(tables[token])
        if re.fullmatch(r"[A-Za-z_]\w*", token):
            return Dim.of(token)
        raise ValueError(f"not a size: {text!r}")

    def product() -> Dim:
        left = atom()
        while peek() in ("*", "//", "%"):
            operator, right = take(), atom()
            left = left * right if operator == "*" else left // right if operator == "//" else left % right
        return left

    def total() -> Dim:
        left = product()
        while peek() in ("+", "-"):
            left = left + product() if take() == "+" else left - product()
        return left

    result = total()
    if position != len(tokens):
        raise ValueError(f"not a size: {text!r}")
    return result


@attrs.frozen
class TensorType:
    """What one example looks like, without the batch axis.

    `image` is (channels, height, width); `tokens` is (features, length);
    `vector` is (features,).
    """

    layout: str
    dims: tuple[Dim, ...]

    @property
    def channels(self) -> Dim:
        return self.dims[0]

    def evaluate(self, names: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(d.evaluate(names) for d in self.dims)

    def value(self, names: Mapping[str, Integer]) -> tuple[Integer, ...]:
        """The shape, each size an integer or a table over decisions."""
        return tuple(d.value(names) for d in self.dims)

    def substitute(self, names: Mapping[str, Dim]) -> TensorType:
        return attrs.evolve(self, dims=tuple(d.substitute(names) for d in self.dims))

    @cached_property
    def elements(self) -> Dim:
        """Numbers in one example."""
        product = Dim.of(1)
        for dim in self.dims:
            product = product * dim
        return product

    def __str__(self) -> str:
        return f"{self.layout}[{', '.join(str(d) for d in self.dims)}]"


@attrs.frozen
class Cost:
    """What one execution of something costs, for one example.

    `params` counts learnable numbers; `macs` multiply-accumulates of convolutions
    and linear layers (biases, batch norm, pooling and sums are not counted);
    `activations` the numbers written to memory.
    """

    params: Dim = Dim(())
    macs: Dim = Dim(())
    activations: Dim = Dim(())

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs, self.activations + other.activations)
