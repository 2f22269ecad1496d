"""The colours of charts, on light ground and on dark.

Takes nothing, returns names and a style sheet. Invariant: a picture by itself is the light one; inside a
page with the style sheet it follows the reader's choice, and on paper it is light; every name has both
colours, and no two names share a light one, since that is what an element is told by.
"""

from __future__ import annotations

PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#882255", "#8C6D31", "#332288", "#117733", "#44AA99", "#AA4499"),
)
"""Options and runs: Okabe and Ito's palette without black and yellow, then Tol's muted one; told apart with any
colour vision."""
_PALETTE_DARK = (
    *("#3D93D6", "#EC7A3D", "#2BB58A", "#DB93BA", "#F0B83C", "#8ED0F5"),
    *("#C75F86", "#BD9A5C", "#8F84DC", "#57A86C", "#74CFC0", "#D07CC3"),
)
LIGHT = {
    "ink": "#202124",
    "grey": "#5F6368",
    "grid": "#E8EAED",
    "ground": "#FFFFFF",
    "faint": "#9AA0A6",
    "accent": "#1A73E8",
    "second": "#C5570B",
    "panel": "#FAFAFA",
    "box": "#DADCE0",
    "node": "#E8F0FE",
    "result": "#F1F3F4",
    "gone": "#BDC1C6",
    **{f"option{i}": colour for i, colour in enumerate(PALETTE)},
}
DARK = {
    "ink": "#E8EAED",
    "grey": "#A4AAB0",
    "grid": "#34373B",
    "ground": "#17181A",
    "faint": "#858B92",
    "accent": "#8AB4F8",
    "second": "#F5A164",
    "panel": "#1F2123",
    "box": "#4A4E53",
    "node": "#22324D",
    "result": "#2E3134",
    "gone": "#5A5F65",
    **{f"option{i}": colour for i, colour in enumerate(_PALETTE_DARK)},
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
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{paints}\n"
    )
