"""A budget worth a tenth of what is asked, at once, of eight processes that are killed meanwhile: nothing is overspent.

The upstream keeps its own account of what it charged, so that no claim of the gateways about themselves is believed.
"""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from farthing.budgets import Limits, slices
from farthing.config import load
from farthing.ports import LedgerStore
from farthing.pricing import charge
from farthing.schema import Balance, Caller, Usage, usd
from farthing.stores.price_files import current_book
from farthing.stores.sqlite_ledger import SqliteLedger
from farthing.wiring.limiting import budget_store_of, limits_of

CALLS = int(os.environ.get("FARTHING_CHAOS_CALLS", "1000"))
PROCESSES = 8
KILLS = int(os.environ.get("FARTHING_CHAOS_KILLS", "6"))
MODEL = "gpt-5-mini"
PROMPT, MOST_OUTPUT = 200, 400
MEAN = Usage(input=PROMPT, output=MOST_OUTPUT // 2)
RECOVERY = 60.0

CONFIG = """
[server]
port = {port}
workers = {workers}
[ledger]
path = "{path}"
[cache]
enabled = false
[upstreams.openai]
provider = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key = "env:PROVIDER_KEY"
models = ["*"]
on_disconnect = "{on_disconnect}"
[fallback]
backoff = 0.02
longest_backoff = 0.1
[budgets.all]
usd = "{limit}"
period = "lifetime"
[limits.rates]
per = "total"
concurrent = 100000
"""


class Provider:
    """An OpenAI-compatible provider that is slow, fails at random, and knows what it charged."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.billed: list[int] = []
        self.asked = 0
        self._book = current_book("")

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=2048)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                asked = json.loads(await reader.readexactly(length))
                await self._answer(asked, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, asked: dict, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        trouble = self.dice.random()
        await asyncio.sleep(self.dice.uniform(0.01, 0.3))
        if trouble < 0.1:
            status = self.dice.choice([b"500 Internal Server Error", b"503 Service Unavailable"])
            body = b'{"error":{"message":"try again","type":"server_error"}}'
            writer.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )
            return
        usage = {"prompt_tokens": PROMPT, "completion_tokens": self.dice.randint(1, asked["max_completion_tokens"])}
        usage["total_tokens"] = sum(usage.values())
        bill = charge(
            self._book,
            provider="openai",
            model=MODEL,
            tier=None,
            usage=Usage(input=usage["prompt_tokens"], output=usage["completion_tokens"]),
            at=time.time_ns(),
        )
        self.billed.append(bill.amount)  # from here on it is charged, whoever is still there to read it
        base = {"id": "c", "model": MODEL, "created": 1, "object": "chat.completion"}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
            body = json.dumps({**base, "choices": [choice], "usage": usage}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        base["object"] = "chat.completion.chunk"
        for part in range(5):
            delta = {**base, "choices": [{"index": 0, "delta": {"content": f"part {part}"}, "finish_reason": None}]}
            self._chunk(writer, b"data: " + json.dumps(delta).encode() + b"\n\n")
            await writer.drain()
            await asyncio.sleep(self.dice.uniform(0, 0.05))
        end = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        self._chunk(writer, b"data: " + json.dumps(end).encode() + b"\n\n")
        self._chunk(writer, b"data: " + json.dumps({**base, "choices": [], "usage": usage}).encode() + b"\n\n")
        self._chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")

    @staticmethod
    def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def call(port: int, number: int, dice: random.Random) -> str:
    """One call by a client that may leave early; what became of it."""
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"question {number} " + "x" * 100}],
            "max_completion_tokens": MOST_OUTPUT,
            "stream": dice.random() < 0.5,
        }
    ).encode()
    leaves = dice.random() < 0.15
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "unreachable"
    try:
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        )
        writer.write(head % len(body) + body)
        if leaves:
            await asyncio.sleep(dice.uniform(0, 0.3))
            return "left"
        answer = await asyncio.wait_for(reader.read(), 60)
        return answer.split(b" ", 2)[1].decode() if answer else "cut off"
    except (OSError, TimeoutError, IndexError):
        return "cut off"
    finally:
        writer.transport.abort()


class Gateways:
    """Eight processes: the workers of one host, or gateways of their own over shared stores."""

    def __init__(self, directory: Path, store: dict[str, str], upstream: int, limit: str, on_disconnect: str) -> None:
        self.env = {**os.environ, "PROVIDER_KEY": "sk-test", **store}
        shared = "".join(
            f'{name} = "env:{variable}"\n'
            for name, variable in (("postgres", "PG"), ("redis", "RD"))
            if variable in store
        )
        self.configs = []
        self.ports = []
        workers, hosts = (1, PROCESSES) if store else (PROCESSES, 1)
        for host in range(hosts):
            with closing(socket.create_server(("127.0.0.1", 0))) as free:
                port = free.getsockname()[1]
            config = directory / f"{host}.toml"
            values = {
                "port": port,
                "workers": workers,
                "path": directory / f"data{host}",
                "upstream": upstream,
                "limit": limit,
            }
            config.write_text(
                CONFIG.format(on_disconnect=on_disconnect, **values) + (f"[shared]\n{shared}" if shared else "")
            )
            self.configs.append(config)
            self.ports.append(port)
        self.processes = [self._start(config) for config in self.configs]

    def _start(self, config: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "farthing.cli", "up", "--config", str(config)]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def ready(self) -> None:
        for port in self.ports:
            for _ in range(600):
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                    if b" 200 " in await reader.read():
                        break
                except OSError:
                    pass
                await asyncio.sleep(0.1)
            else:
                pytest.fail("a gateway did not start")

    def kill_one(self, dice: random.Random) -> None:
        """kill -9 of one process that serves; it is started again as a supervisor would."""
        if len(self.processes) == 1:
            children = Path(f"/proc/{self.processes[0].pid}/task/{self.processes[0].pid}/children")
            while not (alive := children.read_text().split()):  # the kernel may list none while some come and go
                time.sleep(0.01)
            os.kill(int(dice.choice(alive)), signal.SIGKILL)
            return
        victim = dice.randrange(len(self.processes))
        self.processes[victim].kill()
        self.processes[victim].wait()
        self.processes[victim] = self._start(self.configs[victim])

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(60)

    async def balance(self) -> Balance:
        settings = load(self.configs[0], self.env).settings
        limit = limits_of(settings)[0]
        store = budget_store_of(settings, self.env, "observer")
        try:
            account = Limits((limit,)).claims(Caller(), MODEL, time.time_ns(), usd=0, tokens=0)[0].account
            return await store.balance(account, slices(limit, time.time_ns())[1])
        finally:
            await store.close()

    @contextmanager
    def ledger(self) -> Iterator[LedgerStore]:
        if "PG" in self.env:
            from farthing.stores.postgres_ledger import PostgresLedger

            store: LedgerStore = PostgresLedger(self.env["PG"])
        else:
            store = SqliteLedger(Path(load(self.configs[0], self.env).settings.ledger.path) / "ledger.sqlite")
        with closing(store):
            yield store


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def store(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that names the shared stores."""
    if request.param == "sqlite":
        return {}
    variables = {"PG": request.getfixturevalue("postgres_dsn")}
    if request.param == "redis":
        variables["RD"] = request.getfixturevalue("redis_url")
    return variables


@pytest.mark.timeout(300)
@pytest.mark.parametrize("on_disconnect", ["drain"])
def test_a_budget_is_never_overspent(tmp_path: Path, store: dict[str, str], on_disconnect: str, capsys) -> None:
    asyncio.run(never_overspent(tmp_path, store, on_disconnect, capsys))


async def never_overspent(path: Path, store: dict[str, str], on_disconnect: str, capsys) -> None:
    provider = Provider(seed=7)
    server = await provider.serve()
    mean = charge(current_book(""), provider="openai", model=MODEL, tier=None, usage=MEAN, at=time.time_ns()).amount
    limit = mean * 100
    gateways = Gateways(path, store, server.sockets[0].getsockname()[1], f"{limit / 10**12:.12f}", on_disconnect)
    dice = random.Random(11)
    try:
        await gateways.ready()
        calls = [
            asyncio.create_task(call(dice.choice(gateways.ports), number, random.Random(number)))
            for number in range(CALLS)
        ]
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0.1, 0.4))
            gateways.kill_one(dice)
        outcomes = Counter(await asyncio.gather(*calls))
        ended = time.monotonic()
        while (balance := await gateways.balance()).held and time.monotonic() < ended + RECOVERY:
            await asyncio.sleep(0.5)
        released = time.monotonic() - ended
        await gateways.ready()
        await asyncio.sleep(2)  # the last entries reach the ledger
        balance = await gateways.balance()
        # Nothing is under way any more: by and by, all that is left is bought.
        more = Counter(
            [await call(gateways.ports[0], CALLS + number, random.Random(number * 7)) for number in range(20)]
        )
    finally:
        await asyncio.to_thread(gateways.stop)
        server.close()
    last = await gateways.balance()
    with gateways.ledger() as ledger:
        entries = [entry for entry in ledger.entries() if entry.cost]
    entered = sum(entry.cost for entry in entries)
    billed = sum(provider.billed)
    with capsys.disabled():
        print(
            f"\n{'+'.join(sorted(store)) or 'SQLite'}: {CALLS} calls on 8 processes, {KILLS} kills, {provider.asked} attempts reached the provider"
            f"\n  budget {usd(limit)}; billed by the provider {usd(billed)} ({len(provider.billed)} answers); spent {usd(last.spent)}; "
            f"entered {usd(entered)}; in doubt {usd(last.expired)}; held {usd(last.held)} (0 after {released:.1f} s)"
            f"\n  overspent {usd(max(billed - limit, 0))}; outcomes {dict(outcomes)}; afterwards {dict(more)}"
        )
    assert billed <= limit
    assert last.total <= limit
    assert balance.held == last.held == 0
    assert entered == last.spent
    assert len({entry.id for entry in entries}) == len(entries)
    assert billed <= last.total
    assert set(outcomes) <= {"200", "402", "499", "500", "502", "503", "left", "cut off", "unreachable"}
    assert outcomes["402"] > 0
    assert outcomes["200"] > 0
