"""Panel: everything the dashboard reads."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from farthing.ports import Clock, LedgerStore
from farthing.pricing import PriceBook
from farthing.routing import Standing
from farthing.schema import Account, Exchange, Rollup
from farthing.stores.worker_totals import Totals


class Panel(msgspec.Struct, frozen=True):
    """What the control plane shows. Everything but `ledger` is called on the event loop, and must be quick.

    `edition` finds a price book by its version (`None` when it is gone), for the unit prices on receipts;
    `tally` gives the sums since the process started, and `journal_lag` the records that the ledger has not taken yet,
    for metrics; `elsewhere` is what other workers of this gateway have added up, and are busy with; `accounts` are
    those of limits that were held from; `shed` counts calls refused because too many were under way; `not_ready` says
    in sentences why the gateway should get no traffic, and nothing when it should. `allowed_hosts` are the names that a
    browser may know it by: a page elsewhere that makes its own name point here is refused. `rungs` are the small models
    whose answers were audited; `stale` says of every embedded model that is not as new as its folder why that is so.
    """

    ledger: LedgerStore
    edition: Callable[[str], PriceBook | None]
    tally: Callable[[], Iterable[Rollup]]
    in_flight: Callable[[], Sequence[Exchange]]
    journal_lag: Callable[[], int]
    accounts: Callable[[], Sequence[Account]]
    shed: Callable[[], int]
    elsewhere: Callable[[], Totals]
    not_ready: Callable[[], Sequence[str]]
    clock: Clock
    version: str
    policy: str
    allowed_hosts: tuple[str, ...]
    rungs: Callable[[], Sequence[Standing]] = tuple
    stale: Callable[[], Sequence[str]] = tuple
