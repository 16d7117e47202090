"""Reading: what the ledger holds about one window, step by step."""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from farthing.dashboard.windows import Range, Window, keep, window
from farthing.ledger.tally import Accumulator, Tally
from farthing.ports import Clock, LedgerStore
from farthing.schema import Entry, Rollup, Sums

MOST_ENTRIES = 10_000
"""How many entries are read one by one, at most, where hourly roll-ups are too coarse."""


class Step(msgspec.Struct, frozen=True):
    """The roll-ups of one step of a window, which starts at `start` (Unix ns)."""

    start: int
    rollups: tuple[Rollup, ...]


class Reading(msgspec.Struct, frozen=True):
    """The steps of `window`, from `since` (Unix ns) on: later than its start where there was too much to read.

    `before` is what a thousand calls cost in the same hours a week earlier, in pico-dollars, where that is known.
    """

    window: Window
    since: int
    steps: tuple[Step, ...]
    before: int | None

    @property
    def partial(self) -> bool:
        """Whether the start of the window was left out."""
        return self.since > self.window.since

    @property
    def rollups(self) -> Iterable[Rollup]:
        """Every roll-up of every step."""
        return (rollup for step in self.steps for rollup in step.rollups)


def read(ledger: LedgerStore, over: Window) -> Reading:
    """Read one window. Blocks; raises `LedgerError`."""
    if not over.hourly:
        return _read_entries(ledger, over)
    cells: defaultdict[int, list[Rollup]] = defaultdict(list)
    for rollup in ledger.rollups(over.since, over.until):
        cells[_step(over, rollup.hour)].append(rollup)
    earlier = over.a_week_before()
    before = total(ledger.rollups(earlier.since, earlier.until)) if over.range != "30d" else Sums()
    return Reading(over, over.since, _steps(over, cells), before.cost_per_1k)


def _read_entries(ledger: LedgerStore, over: Window) -> Reading:
    entries = list(ledger.entries(over.since, over.until, limit=MOST_ENTRIES, newest_first=True))
    since = entries[-1].at if len(entries) == MOST_ENTRIES else over.since
    tallies: defaultdict[int, Tally] = defaultdict(Tally)
    for entry in entries:
        tallies[_step(over, entry.at)].add(entry)
    return Reading(over, since, _steps(over, {at: tally.rollups() for at, tally in tallies.items()}), None)


def _step(over: Window, instant: int) -> int:
    return instant - (instant - over.since) % over.step


def _steps(over: Window, cells: dict[int, list[Rollup]]) -> tuple[Step, ...]:
    return tuple(Step(start, tuple(cells.get(start, ()))) for start in over.starts)


def total(rollups: Iterable[Rollup]) -> Sums:
    """The sum of roll-ups."""
    sums = Accumulator()
    for rollup in rollups:
        sums.merge(rollup.sums)
    return sums.sums()


class Reader:
    """Reads windows, and remembers each for a few seconds, so that open dashboards do not add up. Thread-safe."""

    def __init__(self, ledger: LedgerStore, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._readings: dict[Range, tuple[int, Reading]] = {}

    def read(self, span: Range) -> Reading:
        """A range as it was at most `keep(span)` ago. Blocks; raises `LedgerError`."""
        now = self._clock.now()
        known = self._readings.get(span)
        if known and now < known[0]:
            return known[1]
        reading = read(self._ledger, window(span, now))
        self._readings[span] = (now + keep(span), reading)
        return reading

    def usual_range(self) -> Range:
        """The hour while the ledger holds no more than that, and the day from then on."""
        oldest: Entry | None = next(iter(self._ledger.entries(limit=1)), None)
        return "1h" if oldest is None or oldest.at >= window("1h", self._clock.now()).since else "24h"
