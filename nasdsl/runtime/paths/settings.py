"""What the settings of a search over single paths may be.

Takes nothing, returns rules by name. Invariant: the tables name every setting that a generated
`search.py` of these methods reads, so an unknown one is refused.
"""

from __future__ import annotations

from nasdsl.runtime.standalone.basics import Rule
from nasdsl.runtime.standalone.data import DATA_RULES

PATH_RULES = {
    **DATA_RULES,
    "epochs": Rule(int, 1),
    "batch_size": Rule(int, 2),
    "train_fraction": Rule(float, 0.05, 0.99),
    "weight_lr": Rule(float, 0),
    "weight_momentum": Rule(float, 0, 1),
    "weight_decay": Rule(float, 0),
    "decay_norms": Rule(bool),
    "nesterov": Rule(bool),
    "clip": Rule(float, 0),
    "smoothing": Rule(float, 0, 0.99),
    "sampler": Rule(str, words=("uniform", "bins", "fair", "sandwich")),
    "paths": Rule(int, 1),
    "bin_low": Rule(float, 0),
    "bin_high": Rule(float, 0),
    "bins": Rule(int, 1),
    "distillation": Rule(str, words=("off", "inplace", "board")),
    "board_size": Rule(int, 1),
    "board_margin": Rule(float, 0),
    "board_images": Rule(int, 1),
    "meta": Rule(str, words=("full", "first", "off")),
    "meta_start": Rule(int, 0),
    "meta_interval": Rule(int, 1),
    "meta_lr": Rule(float, 0),
    "meta_rate": Rule(str, words=("meta", "weights")),
    "legacy": Rule(bool),
    "search": Rule(str, words=("board", "random", "evolution", "aging", "nsga2", "shrink")),
    "evaluations": Rule(int, 1),
    "population": Rule(int, 2),
    "parents": Rule(int, 1),
    "mutation": Rule(float, 0, 1),
    "shrink_samples": Rule(int, 1),
    "shrink_fresh": Rule(int, 1),
    "shrink_top": Rule(float, 1e-6, 1),
    "shrink_bins": Rule(int, 1),
    "shrink_radius": Rule(int, 0),
    "shrink_predictor": Rule(bool),
    "shrink_least": Rule(int, 1),
    "objective": Rule(str, words=("macs", "params", "latency")),
    "latency_table": Rule(str),
    "calibration_batches": Rule(int, 0),
    "judging_batches": Rule(int, 0),
}
"""The tables [search] and [data] of every method of single paths."""
