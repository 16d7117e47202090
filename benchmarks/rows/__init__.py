"""One function per line or two of the table, by the name it is asked for with."""

from collections.abc import Callable

from benchmarks.effort import Effort
from benchmarks.figures import Figure
from benchmarks.rows.admission import admission, admission_redis
from benchmarks.rows.engine import engine
from benchmarks.rows.hits import hit_1k, hit_128k
from benchmarks.rows.installing import install
from benchmarks.rows.latency import added_p50
from benchmarks.rows.ledger import ledger_entry
from benchmarks.rows.memory import rss
from benchmarks.rows.overload import overload
from benchmarks.rows.planning import plan_accuracy, plan_speed, plan_terms
from benchmarks.rows.proxied import proxied_1k, proxied_128k
from benchmarks.rows.ready import ready
from benchmarks.rows.relay import stream_chunk
from benchmarks.rows.replaying import replay
from benchmarks.rows.simulating import simulate_day, simulate_speed
from benchmarks.rows.starting import start

ROWS: dict[str, Callable[[Effort], list[Figure]]] = {
    "proxied-1k": proxied_1k,
    "proxied-128k": proxied_128k,
    "hit-1k": hit_1k,
    "hit-128k": hit_128k,
    "admission": admission,
    "admission-redis": admission_redis,
    "overload": overload,
    "ready": ready,
    "added-p50": added_p50,
    "stream-chunk": stream_chunk,
    "ledger-entry": ledger_entry,
    "start": start,
    "rss": rss,
    "replay": replay,
    "install": install,
    "engine": engine,
    "plan-accuracy": plan_accuracy,
    "plan-terms": plan_terms,
    "plan-speed": plan_speed,
    "simulate": simulate_speed,
    "simulate-day": simulate_day,
}
