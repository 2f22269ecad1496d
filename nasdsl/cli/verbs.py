"""The table of verbs.

Takes nothing, returns data. Invariant: a verb is one line here and one module beside this one with
`configure(parser)` and `run(args) -> exit code`.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Verb:
    """One word of the command line.

    Attributes:
        name: the word; also the module `nasdsl.cli.NAME`.
        summary: one line for `nasdsl --help`.
        group: the heading it stands under there.
    """

    name: str
    summary: str
    group: str


GROUPS = ("Read a space", "Search it", "Look inside", "What there is")

VERBS = {
    verb.name: verb
    for verb in (
        Verb("check", "find every mistake of a file, without torch", GROUPS[0]),
        Verb("fmt", "format .nas files, comments kept", GROUPS[0]),
        Verb("explain", "a diagnostic at length, with an example and its cure", GROUPS[0]),
        Verb("count", "the exact number of architectures", GROUPS[0]),
        Verb("sample", "uniform random architectures, one JSON object a line", GROUPS[0]),
        Verb("stats", "parameters, multiply-adds and memory of one architecture", GROUPS[0]),
        Verb("plan", "sizes, memory and time before any GPU hour is spent", GROUPS[0]),
        Verb("fit", "parameters of a space that meet a budget, step by step", GROUPS[0]),
        Verb("latency", "measure how long operations take here, look a network up", GROUPS[0]),
        Verb("benchmark", "what a table of results knows: values, ranks, regrets", GROUPS[0]),
        Verb("draw", "a picture of the space or of one architecture", GROUPS[0]),
        Verb("diff", "what an edit of a space adds or removes, and what still holds", GROUPS[0]),
        Verb("compile", "write the supernet, the search and the retraining of a method", GROUPS[1]),
        Verb("rank", "how well a trained supernet ranks architectures", GROUPS[1]),
        Verb("score", "architectures by a table, supernet, proxy, predictor or command", GROUPS[1]),
        Verb("locality", "how far neighbours' scores resemble each other", GROUPS[1]),
        Verb("shrink", "a large space into a small one of good architectures", GROUPS[1]),
        Verb("report", "what a run found and how, on one page", GROUPS[1]),
        Verb("compare", "runs beside each other: results, settings, curves, architectures", GROUPS[1]),
        Verb("export", "one network of a space as a file that needs torch only", GROUPS[1]),
        Verb("verify", "whether a compiled directory or a run is still what it claims", GROUPS[2]),
        Verb("ir", "the intermediate form as text, before or after passes", GROUPS[2]),
        Verb("lsp", "the language server for editors", GROUPS[3]),
        Verb("completion", "completion scripts for shells", GROUPS[3]),
        Verb("methods", "the search methods", GROUPS[3]),
        Verb("passes", "the passes over the intermediate form", GROUPS[3]),
        Verb("spaces", "the spaces that come with nasdsl", GROUPS[3]),
    )
}
