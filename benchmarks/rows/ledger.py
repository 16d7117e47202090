"""What writing an entry down costs, in this process: the journal on the event loop, and the store behind it."""

import asyncio
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.process import BenchmarkError
from farthing.schema import Decision, Entry, Usage
from farthing.stores.journal import FileJournal
from farthing.stores.sqlite_ledger import SqliteLedger

ENTRIES_PER_TICK = 8
"""About as many calls as a busy event loop finishes per tick at 64 connections; they share one write."""
DRAIN_SECONDS = 60
ENTRY = Entry(
    id="06423a1c8c2a00-1f2e3d001.1",
    group="06423a1c8c2a00-1f2e3d001",
    attempt=1,
    at=1_790_000_000_000_000_000,
    endpoint="chat",
    model="gpt-4o-mini",
    served="gpt-4o-mini-2024-07-18",
    upstream="openai",
    provider="openai",
    tier="default",
    tenant="acme",
    team="search",
    feature="summary",
    usage=Usage(input=212, cache_read=1024, output=118),
    usage_source="provider",
    cost=179_400_000,
    list_cost=256_200_000,
    saved=(("prompt_cache", 76_800_000),),
    price_version="2026-11-01.7d1f2a3c",
    policy="3f0c9a51",
    cache="miss",
    status=200,
    finish="stop",
    ttft=412_345,
    latency=633_120,
    overhead=118,
    decisions=(
        Decision("exact_cache", "miss"),
        Decision("route", "openai", {"model": "gpt-4o-mini"}),
    ),
)


def ledger_entry(effort: Effort) -> list[Figure]:
    """CPU of the event loop's thread per entry appended and committed, and of the drain's thread per entry stored."""
    samples = [_spend(effort.entries) for _ in range(effort.rounds)]
    return [
        Figure(
            "CPU per ledger entry, append and commit",
            Target(8, 5, "µs"),
            tuple(journal for journal, _ in samples),
            note=f"{ENTRIES_PER_TICK} entries per tick of the event loop",
        ),
        Figure("  drained to SQLite by its own thread", Target(unit="µs"), tuple(drain for _, drain in samples)),
    ]


def _spend(entries: int) -> tuple[float, float]:
    """CPU-microseconds per entry of the journal and of the drain."""
    made = [
        msgspec.structs.replace(ENTRY, id=f"{n:014x}-1f2e3d001.1", group=f"{n:014x}-1f2e3d001") for n in range(entries)
    ]
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as home:
        store = SqliteLedger(Path(home, "ledger.sqlite"))
        journal = FileJournal(Path(home, "journal"), store)
        all_before, own_before = time.process_time_ns(), time.thread_time_ns()
        uvloop.run(_append(journal, made))
        own = time.thread_time_ns() - own_before
        if not journal.flush(DRAIN_SECONDS):
            raise BenchmarkError(f"the ledger did not take {entries:,} entries in {DRAIN_SECONDS} s")
        others = time.process_time_ns() - all_before - (time.thread_time_ns() - own_before)
        stored = store.position()
        journal.close()
        store.close()
    if stored != entries:
        raise BenchmarkError(f"the ledger took {stored:,} of {entries:,} entries")
    return own / 1000 / entries, others / 1000 / entries


async def _append(journal: FileJournal, entries: list[Entry]) -> None:
    for start in range(0, len(entries), ENTRIES_PER_TICK):
        for entry in entries[start : start + ENTRIES_PER_TICK]:
            journal.append((entry,))
        await asyncio.sleep(0)
