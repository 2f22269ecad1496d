"""Sub-spaces as files: they read back as themselves, and whatever is wrong with one is NAS404."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl.subspace.files import balls, members, read_subspace, read_text, restriction, text_of
from nasdsl.subspace.value import Subspace
from tests.subspace.common import TEXTS, check, checked, every, inside, listed, subspaces


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_file_reads_back_as_itself(name: str, data: st.DataObject) -> None:
    sub = data.draw(subspaces(name))
    assume(sub.tally().high)
    back = read_text(text_of(sub), checked(name))
    assert back == sub
    assert type(back) is type(sub)
    assert listed(back) == listed(sub)
    assert text_of(back) == text_of(sub)


def examples(name: str = "chosen inputs") -> dict[str, Subspace]:
    space, some = checked(name), every(name)[3:6]
    decision = space.table.decisions[0]
    narrow = restriction(space, {decision.path: decision.values[:2]})
    near = balls(space, some, 1)
    return {"members": members(space, some), "balls": near, "restriction": narrow, "both": near & narrow}


def holes(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every key of an object inside."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        if isinstance(data, dict):
            yield (*at, name)
        yield from holes(value, (*at, name))


def without(data: Any, place: tuple[Any, ...]) -> Any:
    copy = json.loads(json.dumps(data))
    inner = copy
    for step in place[:-1]:
        inner = inner[step]
    del inner[place[-1]]
    return copy


@pytest.mark.parametrize("kind", ["members", "balls", "both"])
def test_each_key_is_needed(kind: str) -> None:
    data = json.loads(text_of(examples()[kind]))
    for place in holes(data):
        if place[0] == "params" and len(place) > 1:
            continue  # they say how to load the space
        if place[-2:-1] == ("allowed",):
            continue  # a decision that is not restricted is free
        with pytest.raises(nasdsl.UserError, match="NAS404"):
            read_text(json.dumps(without(data, place)), checked("chosen inputs"))


@pytest.mark.parametrize("kind", ["members", "balls", "restriction", "both"])
def test_a_file_that_is_cut_short_is_refused(kind: str) -> None:
    text = text_of(examples()[kind]).rstrip()
    for end in range(0, len(text), 7):
        with pytest.raises(nasdsl.UserError, match="NAS404"):
            read_text(text[:end], checked("chosen inputs"))


def put(*place: Any) -> Callable[[Any], None]:
    *way, last, value = place

    def change(data: Any) -> None:
        for step in way:
            data = data[step]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("subspace", "kind", "pickle"), "kind"),
        (put("subspace", "kind", ["members"]), "kind"),
        (put("subspace", "rows", []), "empty"),
        (put("subspace", "rows", [[0]]), "rows of 4 integers"),
        (put("subspace", "rows", [["0", "0", "0", "0"]]), "rows of 4 integers"),
        (put("subspace", "rows", [[0.5, 0, 0, 0]]), "rows of 4 integers"),
        (put("subspace", "rows", [[True, 0, 0, 0]]), "rows of 4 integers"),
        (put("subspace", "rows", [[10**30, 0, 0, 0]]), "rows of 4 integers"),
        (put("subspace", "rows", [[99, 0, 0, 0]]), r"names value 99 of `body\[1\].op`"),
        (put("subspace", "rows", [[-2, 0, 0, 0]]), "names value -2"),
        (
            put("subspace", "rows", [[-1, 0, 0, 0]]),
            r"`subspace.rows\[0\]`: decision `body\[1\].op` is not made",
        ),
        (put("subspace", "rows", "nonsense"), "no list of encodings"),
        (put("subspace", "decisions", []), "no object of decisions"),
        (put("subspace", "decisions", "body[1].op", ["nonsense"]), "no option `nonsense`"),
        (put("subspace", "decisions", "body[1].op", "id"), "no list of values"),
        (put("subspace", "decisions", "body[1].op", [1.5]), "no value"),
        (put("subspace", "decisions", "body[1].op", ["id", "id"]), "twice"),
        (put("subspace", "decisions", "body[9].op", ["id"]), r"no decision `body\[9\].op`"),
        (put("subspace", {"kind": "both", "parts": []}), "no list of 2"),
        (put("subspace", {"kind": "both", "parts": [{"kind": "both"}] * 2}), "intersection"),
        (put("subspace", {"kind": "balls", "radius": -1}), "radius"),
        (put("subspace", {"kind": "restriction", "allowed": {"body[1].op": []}}), "no member"),
        (put("subspace", {"kind": "restriction", "allowed": [1]}), "allowed"),
        (put("subspace", 7), "no `subspace`"),
    ],
)
def test_what_is_wrong_is_said(change: Callable[[Any], None], says: str) -> None:
    data = json.loads(text_of(members(checked("plain"), every("plain")[:3])))
    change(data)
    with pytest.raises(nasdsl.UserError, match=f"NAS404.*{says}"):
        read_text(json.dumps(data), checked("plain"))


WORDS = ("kind", "rows", "seeds", "radius", "allowed", "decisions", "parts", "body[1].op")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@given(junk=JUNK, kind=st.sampled_from(["members", "balls", "restriction", "both"]))
@settings(max_examples=150, deadline=None)
def test_junk_is_refused_without_a_traceback(junk: Any, kind: str) -> None:
    record = {**junk, "kind": kind} if isinstance(junk, dict) else junk
    text = json.dumps({"space": "p", "fingerprint": "x", "params": {}, "subspace": record})
    found = outcome(text)
    assert found == "NAS404" or (isinstance(found, Subspace) and found.tally().high > 0)


def outcome(text: str) -> Subspace | str:
    """The sub-space, or the code of what is wrong."""
    try:
        return read_text(text, checked("plain"))
    except nasdsl.UserError as error:
        return error.diagnostics[0].code


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(nasdsl.UserError, match="NAS404"):
        read_text("[" * 100_000, checked("plain"))


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(nasdsl.UserError, match="NAS005"):
        read_subspace(tmp_path / "nowhere.json", checked("plain"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(nasdsl.UserError, match="NAS404"):
        read_subspace(tmp_path / "bytes", checked("plain"))
    with pytest.raises(nasdsl.UserError, match="NAS005"):
        examples()["balls"].write(tmp_path / "no" / "folder.json")


def test_options_that_change_places_keep_their_names(tmp_path: Path) -> None:
    """The same set, whatever the order in which the file of the space names its options."""
    one = members(checked("plain"), every("plain")[:7])
    one.write(tmp_path / "one.json")
    turned = check(TEXTS["plain"].replace("id, conv(3), conv(1)", "conv(1), id, conv(3)"))
    assert turned.fingerprint != checked("plain").fingerprint
    back = read_subspace(tmp_path / "one.json", turned)
    assert {frozenset(back.codes.choices(r).items()) for r in back.rows()} == inside("plain", one)


def test_another_space_is_named(tmp_path: Path) -> None:
    examples("plain")["members"].write(tmp_path / "one.json")
    with pytest.raises(nasdsl.UserError, match=r"NAS404.*no decision.*made for `p` \("):
        read_subspace(tmp_path / "one.json", checked("depths"))
    fewer = check(TEXTS["plain"].replace("conv(3), conv(1)", "conv(3)"))
    with pytest.raises(nasdsl.UserError, match=r"NAS404.*as it is now"):
        read_text(text_of(members(checked("plain"), every("plain"))), fewer)


def test_nothing_to_begin_with_is_refused() -> None:
    space = checked("plain")
    for call in (
        lambda: members(space, []),
        lambda: balls(space, [], 1),
        lambda: balls(space, every("plain")[:1], -1),
    ):
        with pytest.raises(nasdsl.UserError, match="NAS404"):
            call()
    with pytest.raises(nasdsl.UserError, match=r"NAS404.*did you mean"):
        restriction(space, {"body[1].o": ["id"]})
