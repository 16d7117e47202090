"""Holds: worst cases reserved before upstreams are asked, in batches, whatever becomes of the calls that asked."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from farthing.budgets import Limits, subject
from farthing.errors import StoreError
from farthing.ports import LEASE_SECONDS, BudgetStore
from farthing.schema import Account, Balance, Claim, Entry, Exchange, Hold, Limit, Resolution, Verdict, usd

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.25
"""How long until what could not be resolved is resolved again."""
CLOSING = 5.0
KNOWN = 4096
"""Accounts remembered for reports, and warnings for not being said twice."""

Seed = Callable[[Limit, str, int], Awaitable[dict[int, int]]]
"""What the ledger says was spent by slice: of a limit, a subject, at an instant (Unix ns)."""


class Holds:
    """Takes holds from a store and resolves them, every tick's together in one step.

    Whatever was taken is resolved: by its entry at settlement, or as never used when its caller left meanwhile.
    Resolutions wait in memory while the store is down; those of a process that dies are made up by its successor.
    """

    def __init__(self, store: BudgetStore, limits: Limits, seed: Seed) -> None:
        self._store = store
        self.limits = limits
        self._seed = seed
        self._wanted: deque[tuple[Hold, asyncio.Future[Verdict]]] = deque()
        self._resolved: deque[Resolution] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._seeding: dict[str, asyncio.Task[None]] = {}
        self._live: dict[str, list[str]] = {}
        self._beating: asyncio.Task[None] | None = None
        self._known: dict[str, tuple[Limit, str]] = {}
        self._seen: dict[str, tuple[int, Balance]] = {}
        self._warned: set[tuple[str, int, float]] = set()
        self.failure = ""

    async def take(self, exchange: Exchange, model: str, hold: Hold, limits: Sequence[Limit]) -> Verdict:
        """Reserve a hold for asking for `model`; `limits` are those of its claims, in order.

        Raises StoreError when the store cannot say whether it fits.
        """
        group = exchange.id
        self._live.setdefault(group, []).append(hold.id)
        try:
            verdict = await self._ask(hold)
            while verdict.unknown:
                for claim, limit in zip(hold.claims, limits, strict=True):
                    if claim.account in verdict.unknown:
                        await self._introduce(claim.account, limit, exchange, model)
                verdict = await self._ask(hold)
        except asyncio.CancelledError:
            self.resolve(group, Resolution(hold.id))
            raise
        except StoreError:
            self.resolve(group, Resolution(hold.id))  # it may have been granted, with only the answer lost
            raise
        for claim, limit, balance in zip(hold.claims, limits, verdict.balances, strict=True):
            self._note(claim, limit, balance, exchange, model)
        if not verdict.granted:
            self._forget(group, hold.id)
        return verdict

    def resolve(self, group: str, resolution: Resolution) -> None:
        """Post or void a hold, soon; once it is done the hold is no more."""
        self._forget(group, resolution.id)
        self._resolved.append(resolution)
        self._start()

    def settled(self, exchange: Exchange, entries: Iterable[Entry]) -> None:
        """Resolve every hold of a settled exchange by its entries; one without an entry posts what it held."""
        live = self._live.get(exchange.id)
        if live is None:
            return
        for entry in entries:
            if entry.id in live:
                self.resolve(exchange.id, resolution_of(entry))
        for lost in list(self._live.get(exchange.id, ())):
            self.resolve(exchange.id, Resolution(lost, None, None, 1))

    def accounts(self) -> list[Account]:
        """Every account that was held from, as last seen."""
        return [Account(*self._known[name], name, *seen) for name, seen in self._seen.items()]

    async def refreshed(self) -> list[Account]:
        """Every account that was held from, as it is now. Raises StoreError."""
        for name, (oldest, _) in list(self._seen.items()):
            self._seen[name] = oldest, await self._store.balance(name, oldest)
        return self.accounts()

    async def orphans(self) -> list[Hold]:
        """What the process before this one left unresolved. Raises StoreError."""
        live = {name for names in self._live.values() for name in names}
        return [hold for hold in await self._store.orphans() if hold.id not in live]

    def adopt(self, hold: Hold) -> None:
        """Take over an orphan, to be resolved by the entry of its exchange."""
        self._live.setdefault(hold.id.rpartition(".")[0], []).append(hold.id)

    def start(self) -> None:
        """Begin to give signs of life."""
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def close(self) -> None:
        """Resolve what can be resolved within `CLOSING` seconds, and let the store go."""
        if self._beating is not None:
            self._beating.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                while self._resolved or self._pump is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        if self._pump is not None:
            self._pump.cancel()
        await self._store.close()

    # -- the queue

    async def _ask(self, hold: Hold) -> Verdict:
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._wanted.append((hold, future))
        self._start()
        return await future

    def _start(self) -> None:
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Hand over everything queued, again and again, until nothing is."""
        try:
            while self._wanted or self._resolved:
                await self._step()
        finally:
            self._pump = None

    async def _step(self) -> None:
        """One batch: resolutions come first, so that what they free can be held."""
        resolutions = list(self._resolved)
        self._resolved.clear()
        wanted = [(hold, future) for hold, future in self._wanted if not future.done()]
        self._wanted.clear()
        if not (resolutions or wanted):
            return
        try:
            verdicts = await self._store.apply(resolutions, [hold for hold, _ in wanted])
        except StoreError as error:
            self.failure = error.message
            self._resolved.extendleft(reversed(resolutions))  # repeating them changes nothing
            for _, future in wanted:
                if not future.done():
                    future.set_exception(_unsaid(error))
            await asyncio.sleep(RETRY_SECONDS)
            return
        self.failure = ""
        for (_, future), verdict in zip(wanted, verdicts, strict=True):
            if not future.done():
                future.set_result(verdict)

    def _forget(self, group: str, hold: str) -> None:
        live = self._live.get(group)
        if live is not None and hold in live:
            live.remove(hold)
            if not live:
                del self._live[group]

    # -- accounts

    async def _introduce(self, account: str, limit: Limit, exchange: Exchange, model: str) -> None:
        """Tell the store what was spent already on an account that it has never seen."""
        task = self._seeding.get(account)
        if task is None:
            whose = subject(limit, exchange.caller, model) or ""
            task = asyncio.get_running_loop().create_task(self._plant(account, limit, whose, exchange.arrived))
            self._seeding[account] = task
        await asyncio.shield(task)

    async def _plant(self, account: str, limit: Limit, subject: str, at: int) -> None:
        try:
            await self._store.seed(account, await self._seed(limit, subject, at))
        finally:
            del self._seeding[account]

    def _note(self, claim: Claim, limit: Limit, balance: Balance, exchange: Exchange, model: str) -> None:
        """Remember how an account stands, and warn when the first share of its limit is passed."""
        if claim.account not in self._known:
            if len(self._known) >= KNOWN:
                forgotten = next(iter(self._known))
                del self._known[forgotten], self._seen[forgotten]
            self._known[claim.account] = limit, subject(limit, exchange.caller, model) or ""
        self._seen[claim.account] = claim.oldest, balance
        if limit.warn_at and balance.spent >= limit.warn_at[0] * limit.amount:
            self._warn(claim, limit, balance)

    def _warn(self, claim: Claim, limit: Limit, balance: Balance) -> None:
        """Say once for each share of a limit that it is passed."""
        for share in limit.warn_at:
            if balance.spent >= share * limit.amount and (claim.account, claim.slice, share) not in self._warned:
                if len(self._warned) >= KNOWN:
                    self._warned.clear()
                self._warned.add((claim.account, claim.slice, share))
                said = "The budget %s%s is %.0f %% spent: %s of %s."
                whose = self._known[claim.account][1]
                named = f" for {limit.per} {whose}" if whose else ""
                percent = 100 * balance.spent / max(limit.amount, 1)
                log.warning(said, limit.name, named, percent, usd(balance.spent), usd(limit.amount))

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(StoreError):  # its adapter says so, once
                await self._store.beat()
            await asyncio.sleep(LEASE_SECONDS / 4)


def resolution_of(entry: Entry) -> Resolution:
    """How the hold of an entry's attempt ended."""
    tokens = entry.usage.tokens if entry.usage is not None else 0 if entry.cost == 0 else None
    return Resolution(entry.id, entry.cost, tokens, 1)


def _unsaid(error: StoreError) -> StoreError:
    """A copy for each that waits: an exception carries the traceback of one."""
    return StoreError(error.message, hint=error.hint, facts=error.facts, retry_after=error.retry_after)
