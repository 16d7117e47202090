"""Reading: what the ledger holds about one window, step by step."""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from farthing.dashboard.windows import Window
from farthing.ledger.tally import Accumulator, Tally
from farthing.ports import LedgerStore
from farthing.schema import Rollup, Sums

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
    tallies: defaultdict[int, Tally] = defaultdict(Tally)
    for rollup in ledger.rollups(over.since, over.until):
        start = over.step_of(rollup.hour)
        tallies[start].merge((msgspec.structs.replace(rollup, hour=start),))
    earlier = over.a_week_before()
    before = total(ledger.rollups(earlier.since, earlier.until)) if over.range != "30d" else Sums()
    return Reading(over, over.since, _steps(over, tallies), before.cost_per_1k)


def _read_entries(ledger: LedgerStore, over: Window) -> Reading:
    entries = list(ledger.entries(over.since, over.until, limit=MOST_ENTRIES, newest_first=True))
    since = entries[-1].at if len(entries) == MOST_ENTRIES else over.since
    tallies: defaultdict[int, Tally] = defaultdict(Tally)
    for entry in entries:
        tallies[over.step_of(entry.at)].add(entry)
    return Reading(over, since, _steps(over, tallies), None)


def _steps(over: Window, tallies: dict[int, Tally]) -> tuple[Step, ...]:
    return tuple(Step(start, tuple(tallies[start].rollups()) if start in tallies else ()) for start in over.starts)


def total(rollups: Iterable[Rollup]) -> Sums:
    """The sum of roll-ups."""
    sums = Accumulator()
    for rollup in rollups:
        sums.merge(rollup.sums)
    return sums.sums()
