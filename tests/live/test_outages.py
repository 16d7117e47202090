"""Shared stores that go away under load, gateways that die or are cut off: no entry is lost, no hard budget overspent."""

import asyncio
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from tests.conftest import Gateway, serving, settings_for

from farthing.config import Budget, ExactCache, Shared

SECONDS = float(os.environ.get("FARTHING_OUTAGE_SECONDS", "4"))
CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}], "max_completion_tokens": 50}
HARD = {"x-farthing-tag-kind": "hard"}


class Load:
    """Callers that go on and on, half of them under a hard budget, and remember every answer."""

    def __init__(self, *gateways: Gateway) -> None:
        self.answers: list[tuple[float, bool, int, str]] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(gateway, hard), daemon=True)
            for gateway, hard in itertools.product(gateways, (True, False, True, False))
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, gateway: Gateway, hard: bool) -> None:
        while not self._stop.is_set():
            try:
                answer = gateway.post("/v1/chat/completions", CHAT, HARD if hard else {})
            except OSError:
                continue
            self.answers.append((time.monotonic(), hard, answer.status, answer.headers.get("x-farthing-call", "")))
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def statuses(self, hard: bool, since: float, until: float) -> Counter:
        return Counter(status for at, of, status, _ in self.answers if of is hard and since <= at < until)


def entered(gateway: Gateway, answered: set[str]) -> set[str]:
    """Of the calls answered, those that the ledger has, once it had time to take them."""
    deadline = time.monotonic() + 40
    while True:
        found = {entry.group for entry in gateway.running.ledger.entries()} & answered
        if found == answered or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("down", ["postgres", "redis"])
def test_a_shared_store_goes_away_and_comes_back(down, tmp_path, request, postgres_server, postgres_dsn, capsys):
    environ = {"PG": postgres_dsn}
    shared = Shared(postgres="env:PG")
    server = postgres_server
    if down == "redis":
        server = request.getfixturevalue("redis_server")
        environ["RD"] = request.getfixturevalue("redis_url")
        shared = Shared(postgres="env:PG", redis="env:RD")
    budgets = {"hard": Budget(usd="100", per="tag:kind", of="hard")}
    settings = settings_for(tmp_path, shared=shared, budgets=budgets, cache=ExactCache(enabled=False))
    with serving(settings, environ) as gateway:
        load = Load(gateway)
        time.sleep(2)
        begun = time.monotonic()
        server.stop()
        try:
            time.sleep(SECONDS)
        finally:
            ended = time.monotonic()
            server.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # until both kinds are answered again
            since = time.monotonic() - 1
            if set(load.statuses(True, since, 1e18)) == set(load.statuses(False, since, 1e18)) == {200}:
                break
            time.sleep(0.2)
        recovered = time.monotonic() - ended
        time.sleep(1)
        load.stop()
        hard, soft = (load.statuses(kind, begun + 1.5, ended) for kind in (True, False))
        answered = {call for _, _, status, call in load.answers if status == 200}
        lost = answered - entered(gateway, answered)
        with capsys.disabled():
            print(
                f"\n{down} stopped for {SECONDS:g} s: {len(answered)} calls answered, {len(lost)} lost; meanwhile without a "
                f"limit {dict(soft)}, under a hard budget {dict(hard)}; all answered again after {recovered:.1f} s"
            )
        assert not lost
        assert set(soft) == {200}
        assert set(hard) == {503}
        assert recovered < 60


class Link:
    """A TCP connection that can be cut: what a gateway is given as the address of a store."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[asyncio.Transport] = set()
        self._cut = False
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def serve() -> None:
            server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pump(reader, away), self._pump(there, writer), return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            while self._cut:  # a partition is silent: nothing is refused, nothing arrives
                await asyncio.sleep(0.05)
            sink.write(data)
            await sink.drain()
        sink.close()

    def cut(self) -> None:
        self._cut = True

    def heal(self) -> None:
        self._cut = False


@contextmanager
def three(tmp_path, redis_url: str, postgres_dsn: str, limit: str) -> Iterator[tuple[list[Gateway], Link]]:
    from urllib.parse import urlsplit

    port = urlsplit(redis_url).port
    link = Link(port)
    budgets = {"hard": Budget(usd=limit, per="tag:kind", of="hard")}
    with ExitStack() as stack:
        gateways = []
        for number in range(3):
            url = redis_url if number else redis_url.replace(f":{port}", f":{link.port}")
            settings = settings_for(
                tmp_path / str(number),
                shared=Shared(postgres="env:PG", redis="env:RD"),
                budgets=budgets,
                cache=ExactCache(enabled=False),
            )
            gateways.append(stack.enter_context(serving(settings, {"PG": postgres_dsn, "RD": url})))
        yield gateways, link
        link.heal()


@pytest.mark.timeout(300)
def test_three_gateways_of_which_one_is_cut_off(tmp_path, redis_url, postgres_dsn, capsys):
    with three(tmp_path, redis_url, postgres_dsn, "0.003") as (gateways, link):
        load = Load(*gateways)
        time.sleep(0.5)
        link.cut()
        cut = time.monotonic()
        time.sleep(max(SECONDS, 3))
        apart = {number: load.statuses(True, cut + 1.5, 1e18) for number in range(1)}[0]
        alone = gateways[0].post("/v1/chat/completions", CHAT, HARD).status
        free = gateways[0].post("/v1/chat/completions", CHAT).status
        link.heal()
        time.sleep(2)
        load.stop()
        answered = {call for _, _, status, call in load.answers if status == 200}
        lost = answered - entered(gateways[1], answered)
        entries = [entry for entry in gateways[1].running.ledger.entries() if ("kind", "hard") in entry.tags]
        spent = sum(entry.cost or 0 for entry in entries)
        (account,) = gateways[1].accounts()
        with capsys.disabled():
            print(
                f"\nthree gateways, one cut off from Redis: it answered {alone} under the hard budget and {free} without; "
                f"others {dict(apart)}; {len(answered)} answered, {len(lost)} lost; spent {spent} of "
                f"{account.limit.amount} pico-dollars, {account.balance.held} held"
            )
        assert (alone, free) == (503, 200)
        assert not lost
        assert spent == account.balance.spent <= account.limit.amount
        assert account.balance.held == 0
