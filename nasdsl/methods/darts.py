"""DARTS, first order."""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.methods.base import Method, Scalar, Setting
from nasdsl.methods.bilevel import (
    DATA,
    FORM,
    RETRAIN,
    SEARCH,
    edges_ranked,
    exact_passes,
    has_decisions,
    sums_only,
)
from nasdsl.passes.base import Pass
from nasdsl.passes.relax import Relax
from nasdsl.passes.search_form import SearchForm
from nasdsl.space.checked import CheckedSpace


def _pipeline(space: CheckedSpace, settings: Mapping[str, Scalar]) -> tuple[Pass, ...]:
    passes: list[Pass] = [
        Relax(topology="sum", none=bool(settings["none"])),
        SearchForm(
            affine=bool(settings["affine"]),
            pool_norm=bool(settings["pool_norm"]),
            conv_bias=bool(settings["conv_bias"]),
        ),
    ]
    return (*passes, *exact_passes(settings))


def _fits(space: CheckedSpace, settings: Mapping[str, Scalar]) -> None:
    has_decisions(space, "darts")
    sums_only(space, "darts")
    edges_ranked(space, "darts")


DARTS = Method(
    name="darts",
    title="DARTS (first order)",
    summary="softmax over operations, alternating steps of weights and variables",
    papers=("Liu, Simonyan, Yang: DARTS: Differentiable Architecture Search. ICLR 2019, arXiv 1806.09055.",),
    authors=(
        "the relaxation, the first-order alternation, the derivation and all defaults (paper and quark0/darts)",
        "on a space in NAS-Bench-201's notation the protocol of D-X-Y/AutoDL-Projects: no batch norm after pooling",
        "there too: Nesterov, weight decay 5e-4, weights before variables, `none` kept in the derivation",
    ),
    reconstructions=(),
    differences=(
        "batch norm in searched cells has no scale and shift (affine)",
        "pooling options have a batch norm without scale and shift (pool_norm)",
        "an edge that derivation may leave out has one more entry in its softmax that computes nothing (none)",
        "retraining adds drop-path on edges and an auxiliary head",
    ),
    settings=(
        Setting(
            "none",
            "compile",
            True,
            "an entry for no connection on edges that derivation may leave out",
            "paper, section 3.1.1",
        ),
        *FORM,
        *SEARCH,
        *RETRAIN,
        *DATA,
    ),
    pipeline=_pipeline,
    fits=_fits,
    presets={
        "nasbench201": {
            "pool_norm": False,
            "nesterov": True,
            "weight_decay": 5e-4,
            "order": "weights-first",
            "retrain_epochs": 200,
            "retrain_batch_size": 256,
            "lr": 0.1,
            "retrain_nesterov": True,
            "retrain_weight_decay": 5e-4,
            "retrain_clip": 0.0,
            "cutout": 0,
            "drop_path": 0.0,
            "auxiliary": "off",
        }
    },
)
