"""Memory over a long life."""

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.load import send
from benchmarks.meter import failures, ledger_entries, wrong_count
from benchmarks.questions import CHAT_1K
from benchmarks.servers import scene

SAMPLES = 10


def rss(effort: Effort) -> list[Figure]:
    """Resident memory of the gateway after many calls, no two alike, and how much of it came in the second half."""
    step = effort.requests // SAMPLES
    sizes: list[float] = []
    failed = 0
    with scene() as servers:
        for _ in range(SAMPLES):
            failed += send(servers.gateway.port, CHAT_1K, step).failures
            sizes.append(servers.gateway.rss_bytes() / 1e6)
        due = step * SAMPLES
        problems = failures(failed) + wrong_count("ledger entries", ledger_entries(servers), due, due)
    series = f"every {step:,} calls: {', '.join(f'{size:.1f}' for size in sizes)} MB"
    middle = sizes[SAMPLES // 2 - 1]
    growth = (sizes[-1] - middle) / middle * 100
    return [
        Figure(f"RSS after {due:,} calls", Target(80, None, "MB"), (sizes[-1],), note=series, problems=problems),
        Figure("  growth in the second half (flat)", Target(2, None, "%"), (growth,)),
    ]
