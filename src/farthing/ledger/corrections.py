"""Corrections: entries are never changed; what they come to is the entry and every correction of it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec

from farthing.schema import Charge, Decision, Entry


class Settled(msgspec.Struct, frozen=True):
    """An entry with its corrections, and what they come to, in pico-dollars; `None` where that is unknown."""

    entry: Entry
    corrections: tuple[Entry, ...]
    cost: int | None
    list_cost: int | None
    saved: tuple[tuple[str, int], ...]

    @property
    def price_version(self) -> str:
        """The edition of the price book that the amounts are from."""
        return (self.corrections or (self.entry,))[-1].price_version


def settle(entries: Iterable[Entry]) -> Iterator[Settled]:
    """Each entry, by arrival, with the corrections that follow it; they share its arrival.

    Corrections of what is not among the entries are left out.
    """
    for _, instant in groupby(entries, key=lambda entry: entry.at):
        originals: dict[str, Entry] = {}
        corrections: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in instant:
            if entry.corrects:
                corrections[entry.corrects].append(entry)
            else:
                originals[entry.id] = entry
        for entry in originals.values():
            yield _settled(entry, tuple(corrections[entry.id]))


def _settled(entry: Entry, corrections: tuple[Entry, ...]) -> Settled:
    parts = (entry, *corrections)
    saved: defaultdict[str, int] = defaultdict(int)
    for part in parts:
        for lever, amount in part.saved:
            saved[lever] += amount
    return Settled(
        entry,
        corrections,
        _sum(part.cost for part in parts),
        _sum(part.list_cost for part in parts),
        tuple((lever, amount) for lever, amount in saved.items() if amount),
    )


def _sum(amounts: Iterable[int | None]) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def correct(settled: Settled, charge: Charge, reason: str) -> Entry:
    """The entry that makes the amounts of another come to `charge`, whose amount is known.

    It lands in the roll-up of what it corrects. Its `id` counts the corrections, so that one made twice is found out.
    """
    assert charge.amount is not None
    entry = settled.entry
    before = settled.cost
    listed = None if charge.list_amount is None else charge.list_amount - (settled.list_cost or 0)
    return msgspec.structs.replace(
        entry,
        id=f"{entry.id}~{len(settled.corrections) + 1}",
        usage=None,
        usage_source="none",
        unknown_usage=(),
        cost=charge.amount - (before or 0),
        list_cost=listed,
        saved=_saved(settled, charge),
        missing_prices=(),
        price_version=charge.price_version,
        ttft=None,
        latency=0,
        overhead=0,
        decisions=(Decision("rerate", reason, {"before": before, "after": charge.amount}),),
        corrects=entry.id,
    )


def _saved(settled: Settled, charge: Charge) -> tuple[tuple[str, int], ...]:
    """What a correction changes in the savings; a list price that became unknown stays as it was."""
    assert charge.amount is not None
    if charge.list_amount is None:
        if settled.list_cost is None:
            return ()
        change = settled.list_cost - charge.amount - sum(amount for _, amount in settled.saved)
        return (("rerate", change),) if change else ()
    saved = dict(charge.saved)
    for lever, amount in settled.saved:
        saved[lever] = saved.get(lever, 0) - amount
    return tuple((lever, amount) for lever, amount in saved.items() if amount)
