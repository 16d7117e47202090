"""Streams passed on as they arrive."""

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.load import stats
from benchmarks.meter import ledger_entries, wrong_count
from benchmarks.process import Served
from benchmarks.questions import STREAM_1K
from benchmarks.rows.proxied import NO_NGINX
from benchmarks.servers import Scene, scene
from benchmarks.streams import read_streams
from benchmarks.upstream import Pace

PACE = Pace(chunks=100, interval=0.02)
EVENTS = PACE.chunks + 2
"""What a caller who did not ask for usage is due: the text, the finish, and `[DONE]`."""


def stream_chunk(effort: Effort) -> list[Figure]:
    """CPU of the gateway per chunk written by the provider, with everything else that a stream costs spread over it."""
    problems: set[str] = set()
    with scene(PACE) as servers:
        _chunk_us(servers, servers.gateway, effort.streams, problems)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(effort.rounds):
            ours.append(_chunk_us(servers, servers.gateway, effort.streams, problems))
            if servers.nginx:
                theirs.append(_chunk_us(servers, servers.nginx, effort.streams, problems))
        sent = (effort.rounds + 1) * effort.streams
        problems.update(wrong_count("ledger entries", ledger_entries(servers), sent, sent))
    what = f"CPU per relayed chunk, {effort.streams} streams"
    return [
        Figure(what, Target(30, 20, "µs"), tuple(ours), problems=tuple(sorted(problems))),
        Figure("  nginx proxy_pass, for scale", Target(unit="µs"), tuple(theirs), note="" if theirs else NO_NGINX),
    ]


def _chunk_us(servers: Scene, served: Served, streams: int, problems: set[str]) -> float:
    chunks = stats(servers.upstream.port).chunks
    before = served.cpu_ns()
    streamed = read_streams(served.port, STREAM_1K, streams)
    spent = served.settled_cpu_ns() - before
    problems.update(wrong_count("events", streamed.events, streams * EVENTS, streams * EVENTS))
    problems.update(wrong_count("broken streams", streamed.failures, 0, 0))
    return spent / 1000 / (stats(servers.upstream.port).chunks - chunks)
