"""Streams passed on as they arrive."""

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.load import stats
from benchmarks.meter import ledger_entries, wrong_count
from benchmarks.questions import STREAM_1K
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
        _chunk_us(servers, effort.streams, problems)
        samples = tuple(_chunk_us(servers, effort.streams, problems) for _ in range(effort.rounds))
        sent = (effort.rounds + 1) * effort.streams
        problems.update(wrong_count("ledger entries", ledger_entries(servers), sent, sent))
    what = f"CPU per relayed chunk, {effort.streams} streams"
    return [Figure(what, Target(30, 20, "µs"), samples, problems=tuple(sorted(problems)))]


def _chunk_us(servers: Scene, streams: int, problems: set[str]) -> float:
    chunks = stats(servers.upstream.port).chunks
    before = servers.gateway.settled_cpu_ns()
    streamed = read_streams(servers.gateway.port, STREAM_1K, streams)
    spent = servers.gateway.settled_cpu_ns() - before
    problems.update(wrong_count("events", streamed.events, streams * EVENTS, streams * EVENTS))
    problems.update(wrong_count("broken streams", streamed.failures, 0, 0))
    return spent / 1000 / (stats(servers.upstream.port).chunks - chunks)
