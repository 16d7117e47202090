"""The frontier of cost against speed as one SVG that stands alone, for light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape

from farthing.dashboard.plan_charts import Axis, axis
from farthing.dashboard.plan_figures import dollars, rounded
from farthing.economics.scaling_laws import FrontierPoint
from farthing.errors import RequestError

WIDE, HIGH = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 68, 20, 40, 56

_COLOURS = (
    ("#b5622f", "#d98a55"),
    ("#2b7a84", "#55aab3"),
    ("#56639f", "#8b98d6"),
    ("#c19a2b", "#d9b857"),
    ("#7d4a76", "#b681ae"),
    ("#6c8b3c", "#9dbb6b"),
)
"""Of each series, on light and on dark."""


def frontier_svg(series: Mapping[str, Sequence[FrontierPoint]]) -> str:
    """A plot of dollars per million tokens against tokens per second and user, both logarithmic, a line per series.

    Raises RequestError when there is nothing to draw, or more series than colours.
    """
    points = [point for line in series.values() for point in line]
    if not points or not all(series.values()) or len(series) > len(_COLOURS):
        raise RequestError(
            f"A plot of {len(series)} frontiers with {len(points)} points cannot be drawn.",
            hint=f"Give 1 to {len(_COLOURS)}, each with a point or more.",
        )
    across = axis([point.tokens_per_s_per_user for point in points], rounded)
    up = axis([point.usd_per_million_tokens for point in points], dollars)
    parts = [_head(), *_grid(across, up)]
    for number, (name, line) in enumerate(series.items()):
        parts.extend(_line(number, name, line, across, up))
    return "\n".join([*parts, "</svg>", ""])


def _head() -> str:
    light = "".join(f".c{n}{{stroke:{pair[0]};fill:{pair[0]}}}" for n, pair in enumerate(_COLOURS))
    dark = "".join(f".c{n}{{stroke:{pair[1]};fill:{pair[1]}}}" for n, pair in enumerate(_COLOURS))
    style = (
        "text{font:12px system-ui,sans-serif;fill:#63666a;stroke:none}.r{stroke:#e5e2da}.p{fill:#fff}"
        f"polyline{{fill:none!important;stroke-width:2;stroke-linejoin:round}}{light}"
        "@media(prefers-color-scheme:dark){text{fill:#a09e98}.r{stroke:#2d2f31}.p{fill:#1b1c1e}" + dark + "}"
    )
    label = "Cost per million tokens against tokens per second and user; the lower right is better"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{label}">\n'
        f'<style>{style}</style>\n<rect class="p" width="{WIDE}" height="{HIGH}"/>'
    )


def _grid(across: Axis, up: Axis) -> list[str]:
    bottom, right = HIGH - BOTTOM, WIDE - RIGHT
    parts = []
    for tick in across.ticks:
        x = _x(tick.at)
        parts.append(f'<line class="r" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{escape(tick.label)}</text>')
    for tick in up.ticks:
        y = _y(tick.at)
        parts.append(f'<line class="r" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(tick.label)}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HIGH - 14}" text-anchor="middle">tokens per second and user</text>')
    parts.append(f'<text x="{LEFT - 52}" y="{TOP - 22}">$ per million tokens</text>')
    return parts


def _line(number: int, name: str, line: Sequence[FrontierPoint], across: Axis, up: Axis) -> list[str]:
    places = [
        (_x(across.place(point.tokens_per_s_per_user)), _y(up.place(point.usd_per_million_tokens))) for point in line
    ]
    parts = [f'<polyline class="c{number}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>']
    for (x, y), point in zip(places, line, strict=True):
        told = (
            f"{name}: {rounded(point.tokens_per_s_per_user)} tokens/s, {dollars(point.usd_per_million_tokens)} per "
            f"million; {point.devices} devices, batch {point.batch}"
        )
        parts.append(f'<circle class="c{number}" cx="{x}" cy="{y}" r="2.5"><title>{escape(told)}</title></circle>')
    y = TOP + 14 + 18 * number
    parts.append(f'<circle class="c{number}" cx="{LEFT + 14}" cy="{y - 4}" r="4"/>')
    parts.append(f'<text x="{LEFT + 24}" y="{y}">{escape(name)}</text>')
    return parts


def _x(percent: float) -> float:
    return round(LEFT + (WIDE - LEFT - RIGHT) * percent / 100, 1)


def _y(percent: float) -> float:
    return round(HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * percent / 100, 1)
