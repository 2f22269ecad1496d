"""SVG text.

Takes shapes and words, returns one SVG element. Invariant: no script, no font
and no address from outside; every text is escaped; only ASCII is written, so
the bytes do not depend on a locale; the same calls give the same bytes.

A page that is light or dark may repaint a picture within it: a canvas that is given
names of colours writes a class beside each of them (`nasdsl.drawing.colours`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def fitted(text: str, size: float, width: float) -> str:
    """A text cut to a width in pixels."""
    room = max(4, int(width / (0.62 * size)))
    text = shown(text)
    return text if len(text) <= room else text[: room - 3] + "..."


class Canvas:
    """Collects SVG elements.

    Args:
        names: of colours that a style sheet may replace; every use of one has the class `fill-NAME` or
            `stroke-NAME`.
        ids: begins the names of the picture's own parts, which must differ between pictures of one page.
    """

    def __init__(self, names: Mapping[str, str] | None = None, ids: str = "") -> None:
        self._names = names or {}
        self._ids = ids
        self._parts: list[str] = []
        self._heads: dict[str, None] = {}

    def _classes(self, **paints: str) -> str:
        """The attribute that names what an element is painted with, where that has names."""
        names = [f"{how}-{self._names[c]}" for how, c in paints.items() if c in self._names]
        return f' class="{" ".join(names)}"' if names else ""

    def svg(self, width: float, height: float, title: str = "") -> str:
        """The picture; `title` is read to who cannot see it."""
        w, h = f"{width:.0f}", f"{height:.0f}"
        heads = "".join(
            f'<marker id="{self._ids}head-{c[1:]}" viewBox="0 0 8 8" refX="7" refY="4" '
            f'markerUnits="userSpaceOnUse" markerWidth="9" markerHeight="9" orient="auto">'
            f'<path d="M0 0.6 L8 4 L0 7.4 Z" fill="{c}"{self._classes(fill=c)}/></marker>'
            for c in self._heads
        )
        body = "\n".join(self._parts)
        role = ' role="img"' if title else ""
        words = f"<title>{_ascii(title)}</title>\n" if title else ""
        ground = self._classes(fill="#FFFFFF")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
            f'font-family="{_FONT}"{role}>\n{words}<defs>{heads}</defs>\n'
            f'<rect width="{w}" height="{h}" fill="#FFFFFF"{ground}/>\n'
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
        words = _ascii(shown(text))
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{weight} fill="{colour}" '
            f'text-anchor="{anchor}"{self._classes(fill=colour)}>{words}</text>'
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
            f'fill="{fill}" stroke="{stroke}" stroke-width="1.2"{self._classes(fill=fill, stroke=stroke)}/>'
        )

    def circle(self, x: float, y: float, radius: float, fill: str, stroke: str) -> None:
        """A vertex."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="1.4"{self._classes(fill=fill, stroke=stroke)}/>'
        )

    def path(
        self,
        path: str,
        colour: str,
        *,
        dashed: bool | str = False,
        head: bool = True,
        width: float = 1.7,
    ) -> None:
        """A line; `path` are SVG path commands made by us, `dashed` may say how: "5 3"."""
        dash = f' stroke-dasharray="{dashed if isinstance(dashed, str) else "5 3"}"' if dashed else ""
        if head:
            self._heads[colour] = None
        end = f' marker-end="url(#{self._ids}head-{colour[1:]})"' if head else ""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}{end}'
            f"{self._classes(stroke=colour)}/>"
        )

    def area(self, path: str, colour: str, opacity: float) -> None:
        """What a path encloses."""
        self._parts.append(
            f'<path d="{path}" fill="{colour}" fill-opacity="{opacity:g}"{self._classes(fill=colour)}/>'
        )

    def dots(self, places: Sequence[tuple[float, float]], size: float, colour: str, opacity: float) -> None:
        """Many points as one path, each of them a line of no length with round ends.

        Places are rounded to a tenth of a pixel, and what falls on the same is drawn once.
        """
        tenths = sorted({(round(10 * x), round(10 * y)) for x, y in places})
        if not tenths:
            return
        path = "".join(f"M{x / 10:g} {y / 10:g}h0" for x, y in tenths)
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{size:g}" stroke-linecap="round" '
            f'stroke-opacity="{opacity:g}"{self._classes(stroke=colour)}/>'
        )


def _ascii(text: str) -> str:
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()
