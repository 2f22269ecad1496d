"""The public names are few and pinned: adding or losing one is a decision, not an accident."""

from __future__ import annotations

import importlib.resources

import pytest

import nasdsl

PUBLIC = [
    "Architecture",
    "NasError",
    "Program",
    "Space",
    "UserError",
    "__version__",
    "export",
    "fit",
    "load",
    "load_architecture",
]


def test_public_names_are_pinned() -> None:
    assert sorted(nasdsl.__all__) == sorted(PUBLIC)
    assert len(PUBLIC) <= 10


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(nasdsl, name) is getattr(nasdsl, name)
    assert name in dir(nasdsl)


def test_a_public_name_is_the_thing_where_it_lives() -> None:
    for name, module in nasdsl._HOMES.items():
        assert getattr(nasdsl, name) is getattr(importlib.import_module(module), name)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        _ = nasdsl.nothing_of_the_kind


def test_user_errors_are_nas_errors() -> None:
    assert issubclass(nasdsl.UserError, nasdsl.NasError)
    with pytest.raises(nasdsl.NasError, match="NAS005"):
        nasdsl.load("no/such/file.nas")


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files("nasdsl").joinpath("py.typed").is_file()
