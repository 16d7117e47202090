"""From settings to limits, and to the store that keeps what they count."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import msgspec

from farthing.budgets import Limits, account, seed, slices, starts_at
from farthing.config import Budget, RateLimit, Settings, resolve_secret
from farthing.errors import LedgerError, StoreError
from farthing.gateway import Holds
from farthing.gateway.holding import Seed, resolution_of
from farthing.ports import BudgetStore, LedgerStore
from farthing.schema import PICO_PER_USD, Account, Entry, Hold, Limit, LimitMeter, Period
from farthing.stores.journal import FileJournal
from farthing.stores.memory_budgets import MemoryBudgets

log = logging.getLogger(__name__)

RECOVERY_SECONDS = 1.0
"""How long between two looks at what a process before this one left."""


def pico(dollars: str) -> int:
    """Dollars as text, in pico-dollars."""
    return int(Decimal(dollars) * PICO_PER_USD)


def limits_of(settings: Settings) -> tuple[Limit, ...]:
    """Every budget and rate limit of the settings, budgets first."""
    budgets = [_budget(name, budget) for name, budget in settings.budgets.items()]
    return (*budgets, *(limit for name, rates in settings.limits.items() for limit in _rate_limits(name, rates)))


def _budget(name: str, budget: Budget) -> Limit:
    return Limit(
        name,
        "usd",
        pico(budget.usd),
        per=budget.per,
        of=budget.of,
        period=budget.period,
        rolling=budget.window == "rolling",
        time_zone=budget.time_zone,
        hard=budget.mode == "hard",
        warn_at=tuple(sorted(budget.warn_at)),
        clamp=budget.clamp,
        downgrade=tuple(budget.downgrade.items()),
    )


def _rate_limits(name: str, rates: RateLimit) -> list[Limit]:
    meters: list[tuple[str, LimitMeter, int, Period]] = [
        ("calls_per_minute", "calls", rates.calls_per_minute, "minute"),
        ("tokens_per_minute", "tokens", rates.tokens_per_minute, "minute"),
        ("concurrent", "concurrent", rates.concurrent, "lifetime"),
    ]
    return [
        Limit(f"{name}.{setting}", meter, amount, rates.per, rates.of, period, rolling=period == "minute")
        for setting, meter, amount, period in meters
        if amount
    ]


def budget_store_of(settings: Settings, environ: Mapping[str, str], owner: str) -> BudgetStore:
    """Where what limits count is kept: Redis, else PostgreSQL, else a file that the workers of this host share."""
    shared = settings.shared
    if redis := resolve_secret(shared.redis, environ):
        from farthing.stores.redis_budgets import RedisBudgets

        return RedisBudgets(redis, owner, shared.deadline)
    if postgres := resolve_secret(shared.postgres, environ):
        from farthing.stores.postgres_budgets import PostgresBudgets

        return PostgresBudgets(postgres, owner, shared.deadline)
    from farthing.stores.sqlite_budgets import SqliteBudgets

    return SqliteBudgets(Path(settings.ledger.path) / "budgets.sqlite", owner)


def seeding_from(journal: FileJournal, ledger: LedgerStore) -> Seed:
    """What the ledger says was spent, once it has all that was journalled, for accounts that a store has never seen."""

    def spent(limit: Limit, subject: str, at: int) -> dict[int, int]:
        if not journal.flush(RECOVERY_SECONDS):
            raise LedgerError(f"it has not taken the last {journal.backlog} entries yet.")
        return seed(limit, subject, ledger.entries(since=starts_at(limit, at)), at)

    async def seeded(limit: Limit, subject: str, at: int) -> dict[int, int]:
        try:
            return await asyncio.to_thread(spent, limit, subject, at)
        except LedgerError as error:
            raise StoreError(
                f"What was spent on the budget {limit.name} cannot be read from the ledger: {error.message}",
                hint=error.hint,
                retry_after=1.0,
            ) from error

    return seeded


async def accounts_of(
    settings: Settings, environ: Mapping[str, str], limits: Sequence[Limit], now: int
) -> list[Account]:
    """How every account of some limits stands at present, whichever process counts in it. Raises StoreError."""
    if not limits:
        return []
    store = budget_store_of(settings, environ, owner="farthing budget show")
    try:
        return await accounts_in(store, limits, now)
    finally:
        await store.close()


async def accounts_in(store: BudgetStore, limits: Sequence[Limit], now: int) -> list[Account]:
    """How every account of some limits stands that a store knows, by limit and subject. Raises StoreError."""
    names = sorted(await store.accounts())
    found = []
    for limit in limits:
        prefix = account(limit, "")
        oldest = slices(limit, now)[1]
        for name in names:
            if name.startswith(prefix):
                whose = unquote(name[len(prefix) :])
                found.append(Account(limit, whose, name, oldest, await store.balance(name, oldest)))
    return found


def start_holds(
    settings: Settings,
    environ: Mapping[str, str],
    owner: str,
    journal: FileJournal,
    ledger: LedgerStore,
    stack: AsyncExitStack,
) -> Holds:
    """What holds the worst case of calls, until `stack` is closed; where nothing is limited it needs no store."""
    limits, seeding = limits_of(settings), seeding_from(journal, ledger)
    if not limits:
        return Holds(MemoryBudgets(), Limits(()), seeding)
    holds = Holds(budget_store_of(settings, environ, owner), Limits(limits), seeding)
    stack.push_async_callback(holds.close)
    holds.start()
    recovery = asyncio.get_running_loop().create_task(recover(holds, journal, ledger))
    stack.callback(recovery.cancel)
    return holds


async def recover(holds: Holds, journal: FileJournal, ledger: LedgerStore) -> None:
    """Resolve what the process before this one left: by its entries where it wrote them, and in full where it did not.

    Those entries may still be on their way to the ledger, so it waits until the journal has handed them over.
    """
    while True:
        try:
            if await asyncio.to_thread(journal.flush, RECOVERY_SECONDS):
                for hold in await holds.orphans():
                    await _settle(hold, holds, journal, ledger)
                return
        except (StoreError, LedgerError) as error:
            log.warning("What was held when the last process died is not resolved yet: %s", error.message)
        await asyncio.sleep(RECOVERY_SECONDS)


async def _settle(hold: Hold, holds: Holds, journal: FileJournal, ledger: LedgerStore) -> None:
    group = hold.id.rpartition(".")[0]
    written = [entry for entry in await asyncio.to_thread(ledger.group, group) if entry.id == hold.id]
    entry = written[0] if written else msgspec.json.decode(hold.entry, type=Entry)
    if not written:
        journal.append([entry])
    journal.after_commit(lambda: holds.resolve(group, resolution_of(entry)))
