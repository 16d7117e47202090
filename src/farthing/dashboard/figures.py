"""Figures: each range summed up at most every few seconds, however many look at it."""

import msgspec

from farthing.dashboard.panel import Panel
from farthing.dashboard.reading import read
from farthing.dashboard.summary import series, summarize
from farthing.dashboard.views import Series, Summary
from farthing.dashboard.windows import Range, keep, window
from farthing.schema import Entry


class Figures(msgspec.Struct, frozen=True):
    """One range, summed up. Nothing is in flight in its summary: that changes faster than it is kept."""

    summary: Summary
    series: Series


class FiguresByRange:
    """Reads and remembers figures, so that open dashboards do not add up. Every method blocks; any thread may call."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._known: dict[Range, tuple[int, Figures]] = {}

    def of(self, span: Range) -> Figures:
        """A range as it was at most `keep(span)` ago. Raises `LedgerError`."""
        now = self._panel.clock.now()
        known = self._known.get(span)
        if known and now < known[0]:
            return known[1]
        reading = read(self._panel.ledger, window(span, now))
        figures = Figures(summarize(reading, self._panel.version, self._panel.policy), series(reading))
        self._known[span] = (now + keep(span), figures)
        return figures

    def usual_range(self) -> Range:
        """The hour while the ledger holds no more than that, and the day from then on. Raises `LedgerError`."""
        oldest: Entry | None = next(iter(self._panel.ledger.entries(limit=1)), None)
        return "1h" if oldest is None or oldest.at >= window("1h", self._panel.clock.now()).since else "24h"
