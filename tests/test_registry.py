"""Registries: names without imports, things on demand, unknown names with a suggestion."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nasdsl.errors import UserError
from nasdsl.registry import Registry

TABLE = {"ordered": "collections:OrderedDict", "broken": "no.such.module:thing"}


def test_listing_imports_nothing() -> None:
    assert Registry[object]("thing", "NAS503", TABLE).names() == ("ordered", "broken")


def test_a_name_is_loaded_once() -> None:
    registry = Registry[object]("thing", "NAS503", TABLE)
    assert registry.load("ordered") is registry.load("ordered") is sys.modules["collections"].OrderedDict


def test_an_unknown_name_is_a_users_mistake_with_a_suggestion() -> None:
    registry = Registry[object]("pass", "NAS503", TABLE, verb="passes")
    with pytest.raises(UserError, match="did you mean `ordered`") as caught:
        registry.load("orderd")
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.help) == ("NAS503", "`nasdsl passes` lists them")


def test_a_plugin_adds_names_and_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "someones-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nasdsl.testing]\nmine = collections:Counter\nordered = collections:Counter\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry[object]("thing", "NAS503", TABLE, group="nasdsl.testing")
    assert list(registry) == ["ordered", "broken", "mine"]
    assert "mine" in registry
    assert registry.load("mine") is sys.modules["collections"].Counter
    assert registry.load("ordered") is sys.modules["collections"].OrderedDict
