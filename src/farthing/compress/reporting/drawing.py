"""Drawing: SVG that stands alone, for light and dark pages; values in, elements out."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

COLOURS: Final = (("#b5622f", "#d98a55"), ("#2b7a84", "#55aab3"), ("#56639f", "#8b98d6"), ("#a9a59b", "#6d6f71"))
"""Of what is served, of stages, of controls, and of everything else; on light and on dark."""

SERVED, STAGE, CONTROL, OTHER = range(4)

MOST_TICKS = 6


class Frame(NamedTuple):
    """A drawing of so many units, and the margins around what is plotted in it."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


class Scale(NamedTuple):
    """From values to places along one side of a plot."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, kept within the plot."""
        bend = math.log if self.logarithmic else float
        part = (bend(value) - bend(self.low)) / (bend(self.high) - bend(self.low))
        return round(self.start + (self.end - self.start) * min(max(part, 0.0), 1.0), 1)

    def ticks(self) -> list[float]:
        """A few round values on it."""
        return _decades(self.low, self.high) if self.logarithmic else _steps(self.low, self.high)


def svg(frame: Frame, label: str, parts: Sequence[str]) -> str:
    """A whole drawing; `label` says what it shows to those who cannot see it."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fc" viewBox="0 0 {frame.width} {frame.height}" role="img" '
            f'aria-label="{escape(label)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{frame.width}" height="{frame.height}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def words(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    """Text at a place, escaped."""
    of = f' class="{kind}"' if kind else ""
    return f'<text{of} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "rule") -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def dot(x: float, y: float, radius: float, colour: int, title: str, kind: str = "") -> str:
    """A dot that says what it is when pointed at."""
    return (
        f'<circle class="{f"{kind} " if kind else ""}c{colour}" cx="{x:g}" cy="{y:g}" r="{radius:g}">'
        f"<title>{escape(title)}</title></circle>"
    )


def axes(
    frame: Frame, across: Scale, up: Scale, names: tuple[str, str], labels: tuple[Callable[[float], str], ...]
) -> list[str]:
    """Rules with their values, and what both sides are called; `labels` word the values of each side."""
    bottom, right = frame.height - frame.bottom, frame.width - frame.right
    parts = []
    for value in across.ticks():
        x = across.place(value)
        parts += [line(x, frame.top, x, bottom), words(x, bottom + 18, labels[0](value), "middle")]
    for value in up.ticks():
        y = up.place(value)
        parts += [line(frame.left, y, right, y), words(frame.left - 8, y + 4, labels[1](value), "end")]
    parts.append(words((frame.left + right) / 2, frame.height - 10, names[0], "middle"))
    parts.append(words(8, 16, names[1]))
    return parts


def shortened(text: str, most: int) -> str:
    """Text of no more than so many characters.

    >>> shortened("card delivery estimate", 12)
    'card deliv\N{HORIZONTAL ELLIPSIS}'
    """
    return text if len(text) <= most else f"{text[: most - 2].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= MOST_TICKS:
            return found
    return found[:: math.ceil(len(found) / MOST_TICKS)]


def _steps(low: float, high: float) -> list[float]:
    rough = (high - low) / (MOST_TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * size for size in (1, 2, 2.5, 5, 10) if unit * size >= rough * 0.999)
    return [step * count for count in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _style() -> str:
    def colours(shade: int) -> str:
        return "".join(
            f".fc .c{number}{{fill:{pair[shade]};stroke:{pair[shade]}}}" for number, pair in enumerate(COLOURS)
        )

    return (
        ".fc text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#63666a;stroke:none}"
        ".fc .strong{fill:#1d1f21;font-weight:600}.fc .paper{fill:#fff}.fc .rule{stroke:#e5e2da}"
        ".fc .base{stroke:#cfcac0}.fc .ideal{stroke:#a9a59b;stroke-dasharray:5 4}.fc polyline{fill:none!important}"
        ".fc .path{stroke-width:1.5;stroke-dasharray:2 4}.fc .span{stroke-width:1.5;stroke-opacity:.55}"
        ".fc .fall{stroke-width:3;stroke-opacity:.35}.fc .faint{fill-opacity:.45;stroke:none}"
        ".fc .ring{fill:none!important;stroke-width:2}.fc .hollow{fill:#fff!important;stroke-width:2}"
        f"{colours(0)}@media(prefers-color-scheme:dark){{.fc text{{fill:#a09e98}}.fc .strong{{fill:#eceae5}}"
        ".fc .paper{fill:#1b1c1e}.fc .rule{stroke:#2d2f31}.fc .base{stroke:#44474a}.fc .ideal{stroke:#6d6f71}"
        f".fc .hollow{{fill:#1b1c1e!important}}{colours(1)}}}"
    )


_STYLE: Final = _style()
