"""A call passed on to a provider, every body unlike all others, with ledger, cache and metrics on."""

from benchmarks.effort import WARM_UP, Effort
from benchmarks.figures import Figure, Target
from benchmarks.meter import Meter, ledger_entries
from benchmarks.questions import CHAT_1K, CHAT_128K
from benchmarks.servers import scene

MICROSECONDS = "µs"
NO_NGINX = "nginx is not on PATH"


def proxied_1k(effort: Effort) -> list[Figure]:
    """CPU of the gateway per 1 KB chat call, and as a multiple of nginx's in turns with it."""
    with scene() as servers:
        gateway = Meter(servers.gateway)
        nginx = Meter(servers.nginx) if servers.nginx else None
        gateway.cpu_us(CHAT_1K, WARM_UP)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(effort.rounds):
            ours.append(gateway.cpu_us(CHAT_1K, effort.seconds))
            if nginx:
                theirs.append(nginx.cpu_us(CHAT_1K, effort.seconds))
        problems = gateway.problems(ledger_entries(servers))
    ratios = tuple(mine / yours for mine, yours in zip(ours, theirs, strict=False))
    note = "" if nginx else NO_NGINX
    return [
        Figure("CPU per proxied 1 KB chat", Target(200, 130, MICROSECONDS), tuple(ours), problems=problems),
        Figure("  as a multiple of nginx proxy_pass", Target(5, 3.5, "x"), ratios, note=note),
        Figure("  nginx proxy_pass, for scale", Target(unit=MICROSECONDS), tuple(theirs)),
    ]


def proxied_128k(effort: Effort) -> list[Figure]:
    """CPU of the gateway per 128 KB chat call of 62 messages."""
    with scene() as servers:
        gateway = Meter(servers.gateway)
        gateway.cpu_us(CHAT_128K, WARM_UP)
        samples = tuple(gateway.cpu_us(CHAT_128K, effort.seconds) for _ in range(effort.rounds))
        problems = gateway.problems(ledger_entries(servers))
    return [Figure("CPU per proxied 128 KB chat", Target(600, 450, MICROSECONDS), samples, problems=problems)]
