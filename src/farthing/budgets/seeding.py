"""What an account starts with that no store has seen: what its ledger entries say was spent in its period."""

from collections import defaultdict
from collections.abc import Iterable

from farthing.budgets.accounts import subject as subject_of
from farthing.budgets.periods import slices
from farthing.schema import Caller, Entry, Limit


def matches(limit: Limit, subject: str, entry: Entry) -> bool:
    """Whether an entry counts in the account that a subject has under a limit, at whatever time."""
    caller = Caller(entry.tenant, entry.team, entry.key, entry.feature, entry.tags)
    return subject_of(limit, caller, entry.model) == subject


def seed(limit: Limit, subject: str, entries: Iterable[Entry], at: int) -> dict[int, int]:
    """What was spent of a budget (pico-dollars) by slice, as it counts at `at` (Unix ns).

    `entries` are those that arrived from `starts_at(limit, at)` on; of more, what is too old is left out. A correction
    counts when its entry did; an unknown cost adds nothing.
    """
    oldest = slices(limit, at)[1]
    spent: defaultdict[int, int] = defaultdict(int)
    for entry in entries:
        if entry.cost and matches(limit, subject, entry):
            slice_ = slices(limit, entry.at)[0]
            if slice_ >= oldest:
                spent[slice_] += entry.cost
    return dict(spent)
