"""nasdsl: write a search space once, search it with any method, leave with plain PyTorch.

Takes nothing when imported: the public names are looked up when first used (PEP 562), so
`import nasdsl` costs milliseconds and never imports torch. Invariant: everything public is in
`__all__`; other modules are the library's own rooms and may be rebuilt between versions.

Example:
    >>> import nasdsl
    >>> space = nasdsl.load("darts", layers=8, C=16)
    >>> space.count(cell="normal")
    1037664180
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasdsl.api import Program as Program
    from nasdsl.api import Space as Space
    from nasdsl.errors import NasError as NasError
    from nasdsl.errors import UserError as UserError
    from nasdsl.exporting import export as export
    from nasdsl.opening import fit as fit
    from nasdsl.opening import load as load
    from nasdsl.opening import load_architecture as load_architecture
    from nasdsl.space.architecture import Architecture as Architecture

__version__ = "0.1.0"

__all__ = [
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

_HOMES = {
    "Architecture": "nasdsl.space.architecture",
    "NasError": "nasdsl.errors",
    "Program": "nasdsl.api",
    "Space": "nasdsl.api",
    "UserError": "nasdsl.errors",
    "export": "nasdsl.exporting",
    "fit": "nasdsl.opening",
    "load": "nasdsl.opening",
    "load_architecture": "nasdsl.opening",
}


def __getattr__(name: str) -> object:
    """Looks up a public name where it lives, once.

    Raises:
        AttributeError: the name is not public.
    """
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
