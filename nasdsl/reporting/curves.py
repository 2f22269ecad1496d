"""Numbers of a run over its epochs, as charts.

Takes a log, returns figures. Invariant: with `others`, every number of the log is in one of them; what a line of
the log does not have is a gap, not a zero; a figure says in words what its picture shows at every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from nasdsl.drawing.axes import drawable, plain, short
from nasdsl.drawing.colours import LIGHT
from nasdsl.drawing.epochs import DASHES, Chart, Line, draw_epochs
from nasdsl.drawing.pages import UNKNOWN, Table
from nasdsl.reporting.folder import number

COLOURS = (LIGHT["accent"], LIGHT["second"], LIGHT["option2"], LIGHT["option3"])


@attrs.frozen
class Key:
    """A line of a legend: its words, the name of its colour, how it is dashed."""

    words: str
    colour: str
    dash: str = ""


@attrs.frozen
class EpochFigure:
    """A chart over epochs.

    Attributes:
        texts: what it shows at every epoch, in the order of the log.
    """

    id: str
    title: str
    note: str
    legend: tuple[Key, ...]
    chart: Chart
    texts: tuple[str, ...]


@attrs.frozen
class Measure:
    """How numbers of the log are shown together.

    Attributes:
        fields: names in the log with the words for them, "" where the title says it.
        factor: what they are multiplied by.
        include: values that the axis holds, whatever the numbers.
        sparse: whether it is measured every few epochs, so that its points are joined.
    """

    title: str
    note: str
    fields: Mapping[str, str]
    factor: float = 1.0
    unit: str = ""
    include: tuple[float, ...] = ()
    sparse: bool = False


PERCENT = {"factor": 100.0, "unit": " %"}
LEARNING = (
    Measure(
        "Loss",
        "Mean over the steps of an epoch: cross-entropy with what the method adds to it.",
        {"train_loss": "of the weights, training data", "valid_loss": "of the variables, held-out data"},
    ),
    Measure(
        "Accuracy on held-out data",
        "Of the supernet as it runs; of the mixture and of its architecture alone, both with the statistics of "
        "the batches.",
        {
            "valid_accuracy": "supernet",
            "supernet_accuracy": "mixture",
            "projected_accuracy": "architecture alone",
        },
        **PERCENT,  # type: ignore[arg-type]
    ),
)
INSTRUMENTS = (
    Measure(
        "Discretisation gap",
        "Accuracy of the mixture less that of its architecture, in points of percent.",
        {"discretisation_gap": ""},
        include=(0.0,),
        **PERCENT,  # type: ignore[arg-type]
    ),
    Measure(
        "Dominant eigenvalue",
        "Of the Hessian of the validation loss in the variables: where it grows, what is derived tends to "
        "generalise badly (Zela et al., 2020).",
        {"hessian_eigenvalue": ""},
    ),
    Measure(
        "Entropy",
        "1 while nothing is decided, 0 once everything is.",
        {"entropy_operations": "operations", "entropy_topology": "topology"},
        include=(0.0, 1.0),
    ),
    Measure(
        "Share of skips",
        "Of the operations of the derived architecture: a search that collapses ends near 100 %.",
        {"skip_share": ""},
        include=(0.0,),
        **PERCENT,  # type: ignore[arg-type]
    ),
    Measure(
        "Steps of the variables",
        "For each step of the weights, as the schedule decided.",
        {"variable_rate": ""},
        include=(0.0,),
    ),
    Measure("Threshold of the schedule", "Of the informed schedule.", {"schedule_threshold": ""}),
    Measure("Fisher trace", "Running mean, of the informed schedule.", {"fisher_trace": ""}),
    Measure("Operations pruned", "Off for ever, out of all edges.", {"pruned": ""}, include=(0.0,)),
    Measure("Learning rate", "At the end of the epoch.", {"learning_rate": "", "lr": ""}),
    Measure("True value", "Of the epoch's architecture, from the table of results.", {"true_value": ""}),
    Measure("Regret", "How far the true value is from the best of the table.", {"true_regret": ""}),
    Measure("Rank", "Of the true value in the table; 1 is the best.", {"true_rank": ""}),
)
RETRAINING = (
    Measure("Loss", "Mean over the steps of an epoch.", {"loss": ""}),
    Measure(
        "Accuracy on the test set",
        "Measured every few epochs.",
        {"test_accuracy": "last step", "average_accuracy": "averaged weights"},
        sparse=True,
        **PERCENT,  # type: ignore[arg-type]
    ),
    Measure("Learning rate", "", {"lr": ""}, include=(0.0,)),
)


def curves(log: Sequence[Mapping[str, Any]], measures: Iterable[Measure], prefix: str) -> list[EpochFigure]:
    """A figure for each measure that the log has numbers of."""
    found = (_figure(log, m, f"{prefix}{i}") for i, m in enumerate(measures))
    return [f for f in found if f is not None]


def others(log: Sequence[Mapping[str, Any]], measures: Iterable[Measure]) -> list[Measure]:
    """Measures of the numbers that none of some measures has, such as those of a method from elsewhere."""
    named = {name for m in measures for name in m.fields} | {"epoch"}
    names = dict.fromkeys(
        name for e in log for name, v in e.items() if name not in named and number(v) is not None
    )
    return [Measure(name.replace("_", " "), "As the log has it.", {name: ""}) for name in names]


def _figure(log: Sequence[Mapping[str, Any]], measure: Measure, id_: str) -> EpochFigure | None:
    def value(entry: Mapping[str, Any], name: str) -> float | None:
        found = number(entry.get(name))
        return None if found is None else found * measure.factor

    lines = [
        Line(
            words, COLOURS[i % len(COLOURS)], tuple((e["epoch"], value(e, name)) for e in log), measure.sparse
        )
        for i, (name, words) in enumerate(measure.fields.items())
        if any(value(e, name) is not None for e in log)
    ]
    return figure_of(lines, measure, measure.title, [e["epoch"] for e in log], id_) if lines else None


def figure_of(
    lines: Sequence[Line], measure: Measure, title: str, epochs: Sequence[int], id_: str
) -> EpochFigure:
    """Lines as a figure."""
    shown = word(measure.unit)
    chart = draw_epochs(lines, f"{title} by epoch", epochs, shown, measure.include)
    return EpochFigure(id_, title, measure.note, legend_of(lines), chart, tuple(_texts(lines, shown, epochs)))


def legend_of(lines: Sequence[Line]) -> tuple[Key, ...]:
    """The legend of some lines; one by itself needs none."""
    if len(lines) == 1:
        return ()
    return tuple(
        Key(line.name, colour_name(line.colour), DASHES[i % len(DASHES)]) for i, line in enumerate(lines)
    )


def colour_name(colour: str) -> str:
    """The name of a colour of charts."""
    return next(name for name, light in LIGHT.items() if light == colour)


def word(unit: str) -> Callable[[float, int], str]:
    """How numbers with a unit are written on an axis."""

    def written(value: float, digits: int) -> str:
        text = short(value, digits) if abs(value) >= 10_000 else plain(value, digits)
        return f"{text}{unit}"

    return written


def _texts(lines: Sequence[Line], shown: Callable[[float, int], str], epochs: Sequence[int]) -> Iterable[str]:
    """The values at every epoch; of what is measured every few epochs the last one, with its epoch."""
    known = [(line, {e: v for e, v in line.points if v is not None and drawable(v)}) for line in lines]
    for epoch in epochs:
        said = []
        for line, points in known:
            last = max((e for e in points if e <= epoch), default=None) if line.sparse else epoch
            value = points.get(last) if last is not None else None
            text = UNKNOWN if value is None else shown(value, 4)
            when = f" (epoch {last})" if value is not None and last != epoch else ""
            said.append(f"{line.name} {text}{when}".strip())
        yield ", ".join(said)


def table_of(log: Sequence[Mapping[str, Any]], figures: Sequence[EpochFigure]) -> Table:
    """What the figures show, an epoch a row."""
    rows = [(f"{e['epoch']}", *(f.texts[i] for f in figures)) for i, e in enumerate(log)]
    return Table(("epoch", *(f.title for f in figures)), rows)


__all__ = [
    "INSTRUMENTS",
    "LEARNING",
    "RETRAINING",
    "EpochFigure",
    "Key",
    "Measure",
    "colour_name",
    "curves",
    "figure_of",
    "legend_of",
    "others",
    "table_of",
    "word",
]
