"""Configurations are what they say, and everything in which a cell departs from its method is listed."""

from __future__ import annotations

import pytest
from configurations import (
    CONFIGURATIONS,
    METHODS_COMPARED,
    PARTS_OF_CBO,
    REDUCED_EPOCHS,
    REDUCED_SETTINGS,
    deviation_lines,
    deviations,
    published,
    settled,
)

import nasdsl
from nasdsl.methods import METHODS

SPACE = nasdsl.load("nasbench201")


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("epochs", [None, REDUCED_EPOCHS])
def test_every_configuration_fits_the_space(name: str, epochs: int | None) -> None:
    chosen = CONFIGURATIONS[name]
    method = METHODS.load(chosen.method)
    settings = settled(chosen, SPACE, REDUCED_SETTINGS, epochs)
    resolved = method.resolve(SPACE.checked, settings)
    method.fits(SPACE.checked, resolved)
    assert resolved["warmup_epochs"] <= resolved["epochs"] / 2, "the search itself would halve it"


@pytest.mark.parametrize("name", METHODS_COMPARED)
def test_the_full_protocol_is_the_methods_own(name: str) -> None:
    chosen = CONFIGURATIONS[name]
    assert deviations(chosen, SPACE, settled(chosen, SPACE, {}, None)) == {}


def test_parts_of_cbo_differ_from_darts_in_their_settings_alone() -> None:
    darts = METHODS.load("darts").resolve(SPACE.checked, {})
    for chosen in PARTS_OF_CBO.values():
        used = METHODS.load(chosen.method).resolve(SPACE.checked, chosen.settings)
        assert {n for n in darts if darts[n] != used[n]} == set(chosen.settings)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("pcdarts", "warmup_epochs", 6),
        ("toponas", "warmup_epochs", 6),
        ("toponas", "regulariser_ramp_epochs", 4),
        ("beta", "beta_decay", 2.5),
    ],
)
def test_a_shorter_search_keeps_shares(name: str, setting: str, value: float) -> None:
    chosen = CONFIGURATIONS[name]
    settings = settled(chosen, SPACE, {}, 20)
    assert settings[setting] == value
    assert setting in deviations(chosen, SPACE, settings)
    assert settled(chosen, SPACE, {setting: "1"}, 20)[setting] == "1", "what is given by name is not scaled"


def test_beta_ends_at_its_published_weight() -> None:
    own = METHODS.load("beta").resolve(SPACE.checked, {})
    used = settled(CONFIGURATIONS["beta"], SPACE, {}, 20)
    assert used["beta_decay"] * 20 == float(own["beta_decay"]) * int(own["epochs"])


def test_settings_that_a_method_lacks_are_not_given_to_it() -> None:
    assert "nothing" not in settled(CONFIGURATIONS["darts"], SPACE, {"nothing": "1"}, None)


def test_deviations_are_said_once() -> None:
    lines = deviation_lines({"a": {"epochs": (50, 20), "x": (1, 2)}, "b": {"epochs": (50, 20)}})
    assert lines == ["epochs 20 instead of 50: all", "x 2 instead of 1: a"]


def test_published_figures_belong_to_their_column() -> None:
    assert published("darts", "nasbench201", "cifar10_test_200") == (54.30, "DrNAS README")
    assert published("darts", "nasbench201", "cifar10_test_12") is None
    assert published("darts", None, "cifar10_test_200") is None
    assert published("gdas", "nasbench201", "cifar10_test_200") is None
