"""A call answered from the exact cache."""

from benchmarks.effort import WARM_UP, Effort
from benchmarks.figures import Figure, Target
from benchmarks.load import stats
from benchmarks.meter import Meter, ledger_entries, wrong_count
from benchmarks.questions import CHAT_1K, CHAT_128K, Question
from benchmarks.servers import scene


def hit_1k(effort: Effort) -> list[Figure]:
    """CPU of the gateway per hit on a 1 KB chat call."""
    return [_hit("CPU per exact-cache hit, 1 KB chat", Target(80, 35, "µs"), CHAT_1K, effort)]


def hit_128k(effort: Effort) -> list[Figure]:
    """CPU of the gateway per hit on a 128 KB chat call."""
    return [_hit("CPU per exact-cache hit, 128 KB chat", Target(250, 150, "µs"), CHAT_128K, effort)]


def _hit(what: str, target: Target, question: Question, effort: Effort) -> Figure:
    with scene() as servers:
        gateway = Meter(servers.gateway)
        gateway.cpu_us(question, WARM_UP, unique=False)
        samples = tuple(gateway.cpu_us(question, effort.seconds, unique=False) for _ in range(effort.rounds))
        asked = stats(servers.upstream.port).requests
        problems = gateway.problems(ledger_entries(servers)) + wrong_count("questions to the provider", asked, 1, 1)
    return Figure(what, target, samples, problems=problems)
