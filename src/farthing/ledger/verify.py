"""What must be true of every ledger."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec

from farthing.ledger.corrections import Settled, settle
from farthing.ledger.drift import is_audit
from farthing.ledger.tally import Tally
from farthing.schema import Entry, Rollup


def verify(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a sentence for every rule that a ledger's entries, by arrival, break.

    An id appears once. Costs are negative in corrections only; token counts never are. With its corrections, what an
    entry saved by lever is its list cost less its cost. The attempts of an exchange are 0, or 1 and those after it;
    exactly the last has not been superseded, but for audits, which come after it. A correction comes after what it
    corrects. The entries of an exchange share their arrival, so no more than one instant's are held in memory.
    """
    for _, instant in groupby(entries, key=lambda entry: entry.at):
        yield from _instant(list(instant))


def verify_rollups(entries: Iterable[Entry], rollups: Iterable[Rollup]) -> Iterator[str]:
    """Yield a sentence for every roll-up that differs from the sums of its hour's entries, all of which are given."""
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    stored = Tally()
    stored.merge(rollups)
    expected = {rollup.cell: rollup.sums for rollup in tally.rollups()}
    found = {rollup.cell: rollup.sums for rollup in stored.rollups()}
    for cell in sorted(expected.keys() | found.keys()):
        if expected.get(cell) != found.get(cell):
            yield f"The roll-up of {', '.join(map(str, cell))} is not the sum of its entries."


def _instant(entries: list[Entry]) -> Iterator[str]:
    """The rules that entries of one instant can break."""
    exchanges: dict[str, list[Entry]] = {}
    ids: set[str] = set()
    for entry in entries:
        if entry.id in ids:
            yield f"Entry {entry.id} is there twice."
            continue
        ids.add(entry.id)
        yield from _own(entry)
        if not entry.corrects:
            exchanges.setdefault(entry.group, []).append(entry)
        elif entry.corrects not in ids:
            yield f"Entry {entry.id} corrects {entry.corrects}, which does not come before it."
    for settled in settle(entries):
        yield from _savings(settled)
    for attempts in exchanges.values():
        yield from _exchange(attempts)


def _own(entry: Entry) -> Iterator[str]:
    """The rules that one entry can break."""
    if entry.usage is not None and min(msgspec.structs.astuple(entry.usage)) < 0:
        yield f"Entry {entry.id} has used less than nothing."
    if entry.corrects:
        return
    if entry.id != f"{entry.group}.{entry.attempt}":
        yield f"Entry {entry.id} should be {entry.group}.{entry.attempt}."
    if (entry.cost or 0) < 0 or (entry.list_cost or 0) < 0:
        yield f"Entry {entry.id} has a negative cost and corrects nothing."


def _savings(settled: Settled) -> Iterator[str]:
    """Whether what the levers saved is the difference between list cost and cost, where both are known."""
    if settled.cost is None or settled.list_cost is None:
        return
    difference = settled.list_cost - settled.cost
    saved = sum(amount for _, amount in settled.saved)
    if difference != saved:
        yield f"Entry {settled.entry.id} saved {difference} pico-dollars, of which its levers account for {saved}."


def _exchange(entries: list[Entry]) -> Iterator[str]:
    """The rules that the attempts of one exchange can break."""
    entries = sorted(entries, key=lambda entry: entry.attempt)
    numbers = [entry.attempt for entry in entries]
    group = entries[0].group
    if numbers not in ([0], list(range(1, len(numbers) + 1))):
        yield f"Exchange {group} has attempts {', '.join(map(str, numbers))}."
    while entries and is_audit(entries[-1]):
        entries.pop()
    if [entry.superseded for entry in entries] != [True] * (len(entries) - 1) + [False]:
        yield f"Exchange {group} should have one answer, from its last attempt."
