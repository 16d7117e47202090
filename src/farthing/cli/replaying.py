"""Replay: the gateway's own pipeline under the settings in force, over recorded answers, in virtual time."""

from collections.abc import Iterable
from itertools import chain

import msgspec
from msgspec.structs import replace

from farthing.advisor import OpenRecords, Replayed, TallyingJournal, VirtualClock, VirtualLoop, moved_to, replay
from farthing.config import Settings, Upstream
from farthing.errors import TrafficError
from farthing.gateway import Source
from farthing.ledger.report import Figures
from farthing.providers.recorded import RecordedUpstream
from farthing.schema import Recorded
from farthing.stores.price_files import current_book
from farthing.stores.reply_cache import MemoryReplies
from farthing.wiring import pipeline_of, policy_of, sources_of

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
    records = iter(traffic)
    first = next(records, None)
    if first is None:
        raise TrafficError("The file holds no records.", hint="Name another, or see `farthing import --help`.")
    settings = settings if settings.upstreams else replace(settings, upstreams=ANY_MODEL)
    loop = VirtualLoop()  # type: ignore[abstract]  # what it leaves out, virtual time has no use for
    clock = VirtualClock(loop, moved_to(first.at, present))
    journal, open_records, policy = TallyingJournal(), OpenRecords(), policy_of(settings)
    pipeline = pipeline_of(
        policy,
        _sources(settings, open_records),
        current_book(settings.prices.overrides),
        journal,
        clock,
        [MemoryReplies(settings.cache.memory)] if settings.cache.memory else [],
        authenticated=bool(settings.keys),
    )
    try:
        done = loop.run_until_complete(replay(chain([first], records), pipeline.handle, open_records, clock))
    finally:
        loop.close()
    return Outcome(policy.version, done, Figures.of(journal.tally.totals()))


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
