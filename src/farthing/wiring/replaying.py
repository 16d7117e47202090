"""Replay: the gateway's own pipeline under the settings in force, over recorded answers, in virtual time."""

from asyncio import CancelledError
from collections.abc import Iterable
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from random import Random

import msgspec
from msgspec.structs import replace

from farthing.advisor import OpenRecords, Replayed, VirtualClock, VirtualLoop, moved_to, replay
from farthing.budgets import Limits
from farthing.config import Settings, Upstream
from farthing.errors import TrafficError
from farthing.gateway import Holds, ReplyCache, Source
from farthing.ledger.report import Figures
from farthing.ports import Journal
from farthing.providers.recorded import RecordedUpstream
from farthing.schema import Limit, Recorded, Sums
from farthing.stores.journal import FileJournal
from farthing.stores.live_totals import LiveTotals
from farthing.stores.memory_budgets import MemoryBudgets
from farthing.stores.price_files import PriceArchive, current_book
from farthing.stores.reply_cache import MemoryReplies
from farthing.stores.sqlite_ledger import SqliteLedger
from farthing.stores.tallying import TallyingJournal
from farthing.wiring.parts import Parts, pipeline_of, policy_of, sources_of
from farthing.wiring.shared import ledger_path

ANY_MODEL = {"recorded": Upstream(kind="recorded", models=("*",))}
"""Where calls go when no upstream is configured: every model is served, and priced by its name."""


class Outcome(msgspec.Struct, frozen=True):
    """What a replay came to, under which policy."""

    policy: str
    replayed: Replayed
    totals: Figures


def replay_traffic(settings: Settings, traffic: Iterable[Recorded], present: int) -> Outcome:
    """Replay recorded calls as if the first came at `present` (Unix ns); nothing is asked, kept or entered.

    Raises TrafficError when there is nothing to replay, or it cannot be read.
    """
    journal = TallyingJournal()
    done = _replay(settings, traffic, present, journal)
    return _outcome(settings, done, journal.tally.totals())


def replay_into_ledger(settings: Settings, traffic: Iterable[Recorded], present: int) -> Outcome:
    """Replay recorded calls as `replay_traffic` does, and enter them in the ledger: a past for a demonstration.

    Raises LedgerError when the ledger is in use.
    """
    totals = LiveTotals()
    PriceArchive(Path(settings.ledger.path) / "prices").keep(current_book(settings.prices.overrides))
    with (
        closing(SqliteLedger(ledger_path(settings))) as ledger,
        closing(FileJournal(Path(settings.ledger.path) / "journal", ledger, observe=totals.observe)) as journal,
    ):
        done = _replay(settings, traffic, present, journal)
    return _outcome(settings, done, totals.totals())


def _outcome(settings: Settings, done: Replayed, sums: Sums) -> Outcome:
    return Outcome(policy_of(_with_upstreams(settings)).version, done, Figures.of(sums))


def _replay(settings: Settings, traffic: Iterable[Recorded], present: int, journal: Journal) -> Replayed:
    records = iter(traffic)
    first = next(records, None)
    if first is None:
        raise TrafficError("The file holds no records.", hint="Name another, or see `farthing import --help`.")
    settings = _with_upstreams(settings)
    loop = VirtualLoop()  # type: ignore[abstract]  # what it leaves out, virtual time has no use for
    clock = VirtualClock(loop, moved_to(first.at, present))
    open_records = OpenRecords()
    policy = policy_of(settings)
    policy = replace(policy, fallback=replace(policy.fallback, attempts=1))  # what failed then had been tried enough
    levels = [MemoryReplies(settings.cache.memory)] if settings.cache.memory else []
    pipeline = pipeline_of(
        Parts(
            policy,
            _sources(settings, open_records),
            current_book(settings.prices.overrides),
            journal,
            clock,
            ReplyCache(levels, clock),
            Holds(MemoryBudgets(), Limits(policy.limits), _nothing_spent),
            Random(policy.version).random,  # noqa: S311 (weights and waits, the same in every replay)
            authenticated=lambda: bool(settings.keys),
        )
    )
    replaying = loop.create_task(replay(chain([first], records), pipeline.handle, open_records, clock))
    try:
        return loop.run_until_complete(replaying)
    except KeyboardInterrupt:
        replaying.cancel()
        with suppress(KeyboardInterrupt, CancelledError):
            loop.run_until_complete(replaying)  # enters what is open, as long as there is a journal to enter it in
        raise
    finally:
        loop.close()


async def _nothing_spent(limit: Limit, subject: str, at: int) -> dict[int, int]:
    """A replay begins with every budget untouched."""
    return {}


def _with_upstreams(settings: Settings) -> Settings:
    return settings if settings.upstreams else replace(settings, upstreams=ANY_MODEL)


def _sources(settings: Settings, records: OpenRecords) -> dict[str, Source]:
    """The terms of every configured upstream, with the recording in its place; no secret is needed and none is read."""
    bare = {
        name: replace(upstream, api_key="", kind="stub" if upstream.kind == "recorded" else upstream.kind)
        for name, upstream in settings.upstreams.items()
    }
    return {
        name: replace(source, upstream=RecordedUpstream(name, records.find), running_usage=False)
        for name, source in sources_of(replace(settings, upstreams=bare), {}).items()
    }
