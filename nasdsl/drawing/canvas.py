"""SVG text.

Takes shapes and words, returns one SVG element. Invariant: no script, no font
and no address from outside; every text is escaped; only ASCII is written, so
the bytes do not depend on a locale; the same calls give the same bytes.
"""

from __future__ import annotations

from html import escape

INK, GREY, LINE, GROUND = "#202124", "#5F6368", "#9AA0A6", "#FAFAFA"
_FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
_LONGEST = 120


def shown(text: str) -> str:
    """A text as it is written: printable and not endless."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 3] + "..."


def text_width(text: str, size: float) -> float:
    """An estimate from above, in pixels: fonts differ from machine to machine."""
    return 0.62 * size * len(shown(text))


class Canvas:
    """Collects SVG elements."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._heads: dict[str, None] = {}

    def svg(self, width: float, height: float) -> str:
        """The picture."""
        w, h = f"{width:.0f}", f"{height:.0f}"
        heads = "".join(
            f'<marker id="head-{c[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" '
            f'markerWidth="9" markerHeight="9" orient="auto"><path d="M0 0.6 L8 4 L0 7.4 Z" fill="{c}"/></marker>'
            for c in self._heads
        )
        body = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
            f'font-family="{_FONT}">\n<defs>{heads}</defs>\n<rect width="{w}" height="{h}" fill="#FFFFFF"/>\n'
            f"{body}\n</svg>\n"
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        bold: bool = False,
        colour: str = INK,
        anchor: str = "middle",
    ) -> None:
        """Words on a base line; `anchor` is start, middle or end."""
        words = escape(shown(text)).encode("ascii", "xmlcharrefreplace").decode()
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{weight} fill="{colour}" '
            f'text-anchor="{anchor}">{words}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "#FFFFFF",
        stroke: str = "#DADCE0",
        radius: float = 8,
    ) -> None:
        """A rectangle with round corners."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" '
            f'fill="{fill}" stroke="{stroke}" stroke-width="1.2"/>'
        )

    def circle(self, x: float, y: float, radius: float, fill: str, stroke: str) -> None:
        """A vertex."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="1.4"/>'
        )

    def path(self, path: str, colour: str, *, dashed: bool = False, head: bool = True) -> None:
        """A line; `path` are SVG path commands made by us."""
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        if head:
            self._heads[colour] = None
        end = f' marker-end="url(#head-{colour[1:]})"' if head else ""
        self._parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.7"{dash}{end}/>')
