"""Figures, the targets they are held against, and how both are printed."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

Verdict = Literal["reached", "met", "MISSED", "FAILED", "not measured", ""]


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """A promise: at most (or at least) `limit`; `reach` is what we would rather have; no limit is shown for scale."""

    limit: float | None = None
    reach: float | None = None
    unit: str = ""
    at_least: bool = False

    def holds(self, value: float, bound: float) -> bool:
        """Whether a value is on the good side of a bound."""
        return value >= bound if self.at_least else value <= bound


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the table: repeated samples of one quantity; the median is the figure.

    `problems` are wrong answers found while measuring, which void the figure; `note` is anything a reader should know.
    """

    what: str
    target: Target
    samples: tuple[float, ...] = ()
    note: str = ""
    problems: tuple[str, ...] = ()

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def verdict(self) -> Verdict:
        """How the median compares with the target."""
        if self.problems:
            return "FAILED"
        if not self.samples:
            return "not measured"
        limit, reach = self.target.limit, self.target.reach
        if limit is None:
            return ""
        if not self.target.holds(self.median, limit):
            return "MISSED"
        return "reached" if reach is not None and self.target.holds(self.median, reach) else "met"


def table(figures: Sequence[tuple[str, Figure]]) -> str:
    """A plain table of (command, figure): what | target (reach) | measured | verdict | command."""
    header = ("what", "target (reach)", "median [lowest .. highest]", "", "command")
    rows = [header, *(_row(command, figure) for command, figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], *_remarks(figures)])


def document(machine: Mapping[str, str], figures: Sequence[tuple[str, Figure]]) -> bytes:
    """Everything measured, as JSON."""
    return msgspec.json.encode(
        {
            "machine": machine,
            "figures": [
                {"command": command, "verdict": figure.verdict, **msgspec.to_builtins(figure)}
                for command, figure in figures
            ],
        }
    )


def _row(command: str, figure: Figure) -> tuple[str, ...]:
    target = figure.target
    bound = "" if target.limit is None else f"{'>=' if target.at_least else '<='} {target.limit:,g} {target.unit}"
    reach = "" if target.reach is None else f" ({target.reach:,g})"
    return figure.what, bound + reach, _measured(figure), figure.verdict, command


def _measured(figure: Figure) -> str:
    if not figure.samples:
        return "-"
    middle = f"{_short(figure.median)} {figure.target.unit}"
    if len(figure.samples) == 1:
        return middle
    return f"{middle} [{_short(min(figure.samples))} .. {_short(max(figure.samples))}]"


def _short(value: float) -> str:
    """Three significant digits, or all of a larger whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _remarks(figures: Sequence[tuple[str, Figure]]) -> list[str]:
    remarks = [
        f"  {figure.what.strip()}: {remark}"
        for _, figure in figures
        for remark in (figure.note, *figure.problems)
        if remark
    ]
    return ["", *remarks] if remarks else []
