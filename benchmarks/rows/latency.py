"""What a lone caller notices."""

import statistics

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.load import alternate
from benchmarks.meter import ledger_entries, wrong_count
from benchmarks.questions import CHAT_1K
from benchmarks.servers import Scene, scene


def added_p50(effort: Effort) -> list[Figure]:
    """Median of calls through the gateway less that of calls to the provider itself, one after the other."""
    with scene() as servers:
        _added_ms(servers, effort.pairs)
        samples = tuple(_added_ms(servers, effort.pairs) for _ in range(effort.rounds))
        sent = (effort.rounds + 1) * effort.pairs
        problems = wrong_count("ledger entries", ledger_entries(servers), sent, sent)
    return [Figure("added p50, 1 connection, 1 KB chat", Target(1, 0.5, "ms"), samples, problems=problems)]


def _added_ms(servers: Scene, pairs: int) -> float:
    direct, gateway = alternate(servers.upstream.port, servers.gateway.port, CHAT_1K, pairs)
    return (statistics.median(gateway) - statistics.median(direct)) * 1000
