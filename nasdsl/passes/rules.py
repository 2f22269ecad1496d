"""The rules of topological simplification, on the chains of one edge.

Takes chains, returns chains or bundles and what was done. Invariant: every application lowers the
modelled cost and the number of modules, so the rules end, and what they leave they leave again.

TopoNAS (2024). The rules' names are the paper's partial and floating module sharing; their
definitions are a reconstruction (its text was not available).

- R1, prefix sharing: chains that begin alike, a weight included, compute that beginning once, its
  weights tied. A beginning without weights is shared exactly, by the pass `share`.
- R2, suffix sharing: chains that end alike in linear modules and batch norm share that end:
  `s * end(sum_g (s_g / s) head_g)`, the group's mass `s` outside, because batch norm would cancel it.
- R3, kernel merging: chains that are alike but for the size of their filters become one, its filter
  `sum_k (p_k / s) pad(K_k / |K_k|)`; what else they hold is tied.
- R4, floating sharing: R2 where the shared module stands at different depths.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from nasdsl.passes.edges import Bundle, Chain, Edge, Stone

LINEAR = frozenset({"conv", "dwconv", "bn"})
"""What a shared end may hold."""


@attrs.frozen
class Applied:
    """One application of a rule: its name, and the entries of the distribution it joined."""

    rule: str
    entries: tuple[int, ...]


def simplified(edge: Edge, suffixes: bool) -> tuple[list[Bundle], list[Applied]]:
    """All rules to a fixpoint."""
    chains, done = edge.chains(), list[Applied]()
    while True:
        merged, third = merge_kernels(edge, chains)
        chains, first = share_prefixes(edge, merged)
        done += [*third, *first]
        if not first:
            break
    if not suffixes:
        return [Bundle((c,)) for c in chains], done
    bundles, second = share_suffixes(edge, chains)
    return bundles, [*done, *second]


def merge_kernels(edge: Edge, chains: Sequence[Chain]) -> tuple[list[Chain], list[Applied]]:
    """R3."""
    groups: dict[object, list[Chain]] = {}
    for chain in chains:
        key = (chain.source, chain.prefix, tuple(edge.signature(s) for s in chain.stones))
        groups.setdefault(key if chain.stones and not _blended(chain.stones) else chain, []).append(chain)
    found: list[Chain] = []
    done: list[Applied] = []
    for group in groups.values():
        joined = _joined(group)
        if len(group) > 1 and edge.cost(joined.stones) < sum(edge.cost(c.stones) for c in group):
            done.append(Applied("R3 kernel merging", joined.entries))
            found.append(joined)
        else:
            found.extend(group)
    return found, done


def share_prefixes(edge: Edge, chains: Sequence[Chain]) -> tuple[list[Chain], list[Applied]]:
    """R1, for the chains that have the longest beginning in common."""
    best: tuple[int, list[int]] = (0, [])
    for index, chain in enumerate(chains):
        for length in range(len(chain.stones), best[0], -1):
            alike = [i for i, other in enumerate(chains) if _begins(edge, other, chain, length)]
            if len(alike) > 1 and alike[0] == index and edge.weighs(chain.stones[:length]):
                best = (length, alike)
                break
    length, alike = best
    if not alike:
        return list(chains), []
    members = [chains[i] for i in alike]
    shared = members[0].prefix + tuple(
        _tied(column) for column in zip(*(c.stones[:length] for c in members), strict=True)
    )
    found = [
        attrs.evolve(c, prefix=shared, stones=c.stones[length:]) if i in alike else c
        for i, c in enumerate(chains)
    ]
    return found, [Applied("R1 prefix sharing", tuple(e for c in members for e in c.entries))]


def share_suffixes(edge: Edge, chains: Sequence[Chain]) -> tuple[list[Bundle], list[Applied]]:
    """R2 and R4: the longest common end first."""
    bundles = [Bundle((c,)) for c in chains]
    done: list[Applied] = []
    while True:
        best: tuple[int, int, int] | None = None
        for i, left in enumerate(bundles):
            for j in range(i):
                length = _common_end(edge, left, bundles[j])
                if length and (best is None or length > best[0]) and _pays(edge, left, bundles[j], length):
                    best = (length, j, i)
        if best is None:
            return bundles, done
        length, j, i = best
        both = (bundles[j], bundles[i])
        joined = _with_common_end(both, length)
        depths = {len(c.prefix) + len(c.stones) for c in joined.chains}
        rule = "R4 floating sharing" if len(depths) > 1 else "R2 suffix sharing"
        done.append(Applied(rule, joined.entries))
        bundles = [b for b in bundles if b not in both] + [joined]


def _blended(stones: Sequence[Stone]) -> bool:
    return any(s.blended for s in stones)


def _tied(column: Sequence[Stone]) -> Stone:
    return Stone(column[0].op, tuple(m for s in column for m in s.members))


def _joined(group: Sequence[Chain]) -> Chain:
    """Candidates of one signature as one chain."""
    stones = []
    for column in zip(*(c.stones for c in group), strict=True):
        members = tuple(m for stone in column for m in stone.members)
        kernels = {dict(m.values).get("k") for m in members}
        blended = members[0].op in ("conv", "dwconv") and len(kernels) > 1
        largest = max(members, key=lambda m: int(str(dict(m.values).get("k", 0)))) if blended else members[0]
        stones.append(Stone(largest, members, blended))
    return attrs.evolve(
        group[0],
        entries=tuple(e for c in group for e in c.entries),
        choices=tuple(x for c in group for x in c.choices),
        stones=tuple(stones),
    )


def _begins(edge: Edge, chain: Chain, like: Chain, length: int) -> bool:
    """Whether a chain begins with the first modules of another one, none of them blended."""
    mine, other = chain.stones[:length], like.stones[:length]
    if (chain.source, chain.prefix, len(mine)) != (like.source, like.prefix, length):
        return False
    if _blended(mine) or _blended(other):
        return False
    return all(edge.exact(a) == edge.exact(b) for a, b in zip(mine, other, strict=True))


def _common_end(edge: Edge, left: Bundle, right: Bundle) -> int:
    """Modules at the end that both have, with a weight among them; a bundle keeps its whole end."""
    mine, other = (b.end or b.chains[0].stones for b in (left, right))
    length = 0
    limit = min(len(b.end) if b.end else len(b.chains[0].stones) - 1 for b in (left, right))
    while length < limit:
        a, b = mine[-1 - length], other[-1 - length]
        if a.op.op not in LINEAR or a.blended or b.blended or edge.exact(a) != edge.exact(b):
            break
        length += 1
    if any(b.end and length != len(b.end) for b in (left, right)):
        return 0
    weighs = any(s.op.op != "bn" for s in mine[len(mine) - length :])
    return length if weighs else 0


def _pays(edge: Edge, left: Bundle, right: Bundle, length: int) -> bool:
    mine = (left.end or left.chains[0].stones)[-length:]
    return edge.cost(mine) > edge.adding(mine[-1], len(left.chains) + len(right.chains))


def _with_common_end(both: Sequence[Bundle], length: int) -> Bundle:
    ends = [(b.end or b.chains[0].stones)[-length:] for b in both]
    chains: list[Chain] = []
    for bundle in both:
        if bundle.end:
            chains.extend(bundle.chains)
        else:
            chain = bundle.chains[0]
            chains.append(attrs.evolve(chain, stones=chain.stones[:-length]))
    return Bundle(tuple(chains), tuple(_tied(column) for column in zip(*ends, strict=True)))
