"""Networks as words: a chain of parts, each a letter.

Takes a form whose one input is its first vertex, returns its letters. Invariant: a
form is its letters one after another, and two forms are the same exactly when
their words are; the letters of a composition are those of its parts.

A chain is cut wherever everything behind reads one value of what lies before, by
itself or as a term of a sum: then what lies before is a function whose result is
all that the rest can see. So `x + f(x)` followed by `y + g(y)` has two letters,
although their sums flatten into one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from nasdsl.identity.canonical import Form, Value, Vertex, certificate

Word = tuple[Hashable, ...]

ZERO: Word = ("zero",)
"""The word of a part that gives zeros whatever it reads."""


def word(form: Form) -> Word:
    """The letters of a form with one input; the empty word for the identity."""
    if not form.result:
        return ZERO
    reads = [*(v.reads for v in form.vertices), (form.result,)]
    letters = []
    start: tuple[int, Value] = (0, (0,))
    for last in range(1, len(form.vertices)):
        cut = _cut(reads, last)
        if cut is not None:
            letters.append(_letter(form, start, last, cut))
            start = (last, cut)
    if form.result != start[1]:
        letters.append(_letter(form, start, len(form.vertices) - 1, form.result))
    return tuple(letters)


def _cut(reads: list[tuple[Value, ...]], last: int) -> Value | None:
    """The one value of the vertices up to `last` that everything behind reads; None when there is none."""
    seen: set[Value] = set()
    for values in reads[last + 1 :]:
        for value in values:
            old = tuple(v for v in value if v <= last)
            if old:
                seen.add(old)
                if len(seen) > 1:
                    return None
    if len(seen) != 1:
        return None
    cut = seen.pop()
    # A cut value may not be the bare input of an earlier part with everything since unread.
    return cut if last in cut or _reaches(reads, last, cut) else None


def _reaches(reads: list[tuple[Value, ...]], last: int, cut: Value) -> bool:
    """Whether the last vertex takes part in the cut value, by whatever way."""
    alive = set(cut)
    for index in range(last, -1, -1):
        if index in alive:
            alive.update(v for value in reads[index] for v in value)
    return last in alive


def _letter(form: Form, start: tuple[int, Value], last: int, result: Value) -> Hashable:
    """The part between two cuts as a form of its own, whose input stands for the value at the first."""
    before, entry = start
    part = Form([Vertex(("in",), ())])

    def moved(value: Value) -> Value:
        old = Counter(v for v in value if v <= before)
        new = [v - before for v in value if v > before]
        times = min((old[v] // n for v, n in Counter(entry).items()), default=0) if old else 0
        return tuple(sorted([0] * times + new))

    for vertex in form.vertices[before + 1 : last + 1]:
        part.vertices.append(Vertex(vertex.label, tuple(sorted(moved(r) for r in vertex.reads))))
    part.result = moved(result)
    if len(part.vertices) == 2 and part.vertices[1].reads == ((0,),) and part.result == (1,):
        return part.vertices[1].label
    return certificate(part)
