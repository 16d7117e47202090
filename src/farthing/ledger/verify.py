"""What must be true of every ledger."""

from collections.abc import Iterable, Iterator

import msgspec

from farthing.schema import Entry


def verify(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a sentence for every rule that a ledger's entries, in the order taken, break.

    An id appears once. Costs are negative in corrections only. Token counts are never
    negative. What a call was saved, by lever, is what it would have cost less what it cost. The attempts of an exchange
    are 0, or 1 and those after it; exactly the last has not been superseded. A correction follows what it corrects.
    """
    attempts: dict[str, list[Entry]] = {}
    ids: set[str] = set()
    for entry in entries:
        if entry.id in ids:
            yield f"Entry {entry.id} is there twice."
        ids.add(entry.id)
        yield from _own(entry)
        if entry.corrects:
            if entry.corrects not in ids:
                yield f"Entry {entry.id} corrects {entry.corrects}, which is not there."
        else:
            attempts.setdefault(entry.group, []).append(entry)
    for group in attempts.values():
        yield from _exchange(group)


def _own(entry: Entry) -> Iterator[str]:
    """The rules that one entry can break."""
    if not entry.corrects:
        if entry.id != f"{entry.group}.{entry.attempt}":
            yield f"Entry {entry.id} should be {entry.group}.{entry.attempt}."
        if (entry.cost or 0) < 0 or (entry.list_cost or 0) < 0:
            yield f"Entry {entry.id} has a negative cost and corrects nothing."
    if entry.usage is not None and min(msgspec.structs.astuple(entry.usage)) < 0 and not entry.corrects:
        yield f"Entry {entry.id} has used less than nothing."
    if entry.cost is not None and entry.list_cost is not None:
        saved = sum(amount for _, amount in entry.saved)
        if entry.list_cost - entry.cost != saved:
            yield (
                f"Entry {entry.id} saved {entry.list_cost - entry.cost} pico-dollars, "
                f"of which its levers account for {saved}."
            )


def _exchange(entries: list[Entry]) -> Iterator[str]:
    """The rules that the attempts of one exchange can break."""
    entries = sorted(entries, key=lambda entry: entry.attempt)
    numbers = [entry.attempt for entry in entries]
    group = entries[0].group
    if numbers not in ([0], list(range(1, len(numbers) + 1))):
        yield f"Exchange {group} has attempts {', '.join(map(str, numbers))}."
    if [entry.superseded for entry in entries] != [True] * (len(entries) - 1) + [False]:
        yield f"Exchange {group} should have one answer, from its last attempt."
