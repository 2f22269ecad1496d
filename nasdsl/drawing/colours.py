"""The colours of charts, on light ground and on dark.

Takes nothing, returns names and a style sheet. Invariant: a picture by itself is the light one; inside a
page with the style sheet it follows the reader's choice; every name has both colours, and no two names share
a light one, since that is what an element is told by.
"""

from __future__ import annotations

LIGHT = {
    "ink": "#202124",
    "grey": "#5F6368",
    "grid": "#E8EAED",
    "ground": "#FFFFFF",
    "faint": "#9AA0A6",
    "accent": "#1A73E8",
    "second": "#C5570B",
}
DARK = {
    "ink": "#E8EAED",
    "grey": "#A4AAB0",
    "grid": "#34373B",
    "ground": "#17181A",
    "faint": "#858B92",
    "accent": "#8AB4F8",
    "second": "#F5A164",
}
NAMES = {colour: name for name, colour in LIGHT.items()}
"""What a canvas is given to write classes."""


def style_sheet() -> str:
    """The rules of both grounds: variables `--NAME`, and what the classes of pictures are painted with."""
    light = " ".join(f"--{name}: {colour};" for name, colour in LIGHT.items())
    dark = " ".join(f"--{name}: {colour};" for name, colour in DARK.items())
    paints = "\n".join(
        f".fill-{name} {{ fill: var(--{name}); }} .stroke-{name} {{ stroke: var(--{name}); }}"
        for name in LIGHT
    )
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{paints}\n"
    )
