"""Five times what a gateway serves at once: what still gets answered, and whether anyone can look at it meanwhile."""

import asyncio
import contextlib
import http.client
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import uvloop

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.load import Answers
from benchmarks.process import Served, free_port, serving
from benchmarks.questions import STREAM_1K, fresh_serial
from benchmarks.servers import FARTHING, _upstream
from benchmarks.upstream import Pace

AT_ONCE = 100
TIMES = 5
PATIENCE = 0.2
"""Seconds after which a caller that was refused asks again: less than it was told to wait."""
LOOK_SECONDS = 0.05
CONFIG = """
[server]
port = {port}
max_in_flight = {at_once}

[ledger]
path = "{home}/ledger"

[cache]
enabled = false

[upstreams.bench]
provider = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
models = ["*"]
"""


def overload(effort: Effort) -> list[Figure]:
    """Goodput under five times the load, as a share of the peak; and the 99th percentile of `/metrics` meanwhile."""
    kept, looked = [], []
    shed: Counter[int] = Counter()
    with _servers() as gateway:
        for _ in range(effort.rounds):
            peak, _, _ = uvloop.run(_drive(gateway.port, AT_ONCE, effort.seconds))
            good, statuses, looks = uvloop.run(_drive(gateway.port, AT_ONCE * TIMES, effort.seconds))
            kept.append(100 * good / peak)
            looked.append(1000 * statistics.quantiles(looks, n=100)[98])
            shed += statuses
    strange = tuple(f"status {status}: {count}" for status, count in shed.items() if status not in (200, 503))
    note = f"{shed[503]:,} calls were refused with 503 and {shed[200]:,} answered"
    return [
        Figure("goodput at 5x overload, of the peak", Target(90, None, "%", at_least=True), tuple(kept), note, strange),
        Figure("p99 of /metrics meanwhile", Target(200, None, "ms"), tuple(looked)),
    ]


@contextlib.contextmanager
def _servers() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as directory:
        home = Path(directory)
        with _upstream(home, Pace(chunks=10, interval=0.02)) as provider:
            port = free_port()
            config = home / "farthing.toml"
            config.write_text(CONFIG.format(port=port, at_once=AT_ONCE, home=home, upstream=provider.port))
            clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
            command = [*FARTHING, "up", "--config", str(config)]
            with serving("the gateway", port, command, home / "gateway.log", clean) as gateway:
                yield gateway


async def _drive(port: int, callers: int, seconds: float) -> tuple[float, Counter[int], list[float]]:
    """Answers per second, how often each status came, and how long `/metrics` took each time it was asked for."""
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    asking = []
    for _ in range(callers):
        _, caller = await loop.create_connection(lambda: _Caller(until), "127.0.0.1", port)
        asking.append(caller)
    looks = await asyncio.to_thread(_look, port, until)
    await asyncio.gather(*(caller.ended for caller in asking))
    statuses: Counter[int] = Counter()
    for caller in asking:
        statuses += caller.statuses
    return statuses[200] / seconds, statuses, looks


class _Caller(Answers):
    """Asks again as soon as it is answered, and a moment later when it is refused."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until
        self._loop = asyncio.get_running_loop()
        self.statuses: Counter[int] = Counter()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._ask()

    def _ask(self) -> None:
        if time.monotonic() < self._until:
            self.write(STREAM_1K.numbered(fresh_serial()))
        else:
            self._transport.close()
            self.ended.set_result(None)

    def answer_ended(self, status: int) -> None:
        self.statuses[status] += 1
        if status == 200:
            self._ask()
        else:
            self._loop.call_later(PATIENCE, self._ask)


def _look(port: int, until: float) -> list[float]:
    took = []
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        before = time.perf_counter()
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        took.append(time.perf_counter() - before)
        connection.close()
        time.sleep(LOOK_SECONDS)
    return took
