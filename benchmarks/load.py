"""The load: many callers on keep-alive connections, each asking again as soon as it has its answer."""

import asyncio
import itertools
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop

from benchmarks.process import BenchmarkError
from benchmarks.questions import Question, fresh_serial
from benchmarks.upstream import Stats

CONNECTIONS = 64
ANSWER_SECONDS = 30
_LUA = Path(__file__).with_name("wrk.lua")


class Load(msgspec.Struct, frozen=True):
    """What was sent: answered requests, those of them that failed, and for how long."""

    requests: int
    failures: int
    seconds: float


def sustain(port: int, question: Question, seconds: int, *, unique: bool = True) -> Load:
    """Keep 64 connections busy for a while, with `wrk` when it is installed."""
    if shutil.which("wrk"):
        return _wrk(port, question, seconds, unique)
    end = time.monotonic() + seconds
    serials = itertools.count(fresh_serial()) if unique else itertools.repeat(0)
    return _send(port, (question.numbered(n) for n in itertools.takewhile(lambda _: time.monotonic() < end, serials)))


def send(port: int, question: Question, count: int) -> Load:
    """Send exactly `count` requests, no two alike, over 64 connections."""
    first = fresh_serial()
    return _send(port, (question.numbered(n) for n in range(first, first + count)))


def alternate(direct: int, gateway: int, question: Question, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds each answer took over one connection to either port, asked in turn so that both meet the same weather."""
    return uvloop.run(_alternate(direct, gateway, question, pairs))


def stats(port: int) -> Stats:
    """What the fake provider on this port has seen."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats") as answer:
        return msgspec.json.decode(answer.read(), type=Stats)


def _wrk(port: int, question: Question, seconds: int, unique: bool) -> Load:
    serial = fresh_serial() if unique else 0
    with tempfile.NamedTemporaryFile(suffix=".http") as message:
        message.write(question.numbered(serial))
        message.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"--timeout={ANSWER_SECONDS}s", f"-s{_LUA}"]
        command += [f"http://127.0.0.1:{port}", "--", message.name, f"{serial:012d}", "fresh" if unique else "same"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BenchmarkError(f"wrk exited {result.returncode}: {result.stderr or result.stdout}")
    return msgspec.json.decode(result.stdout.strip().rpartition("\n")[2], type=Load)


def _send(port: int, messages: Iterator[bytes]) -> Load:
    return uvloop.run(_ask_all(port, messages))


async def _ask_all(port: int, messages: Iterator[bytes]) -> Load:
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    callers = [Caller(messages) for _ in range(CONNECTIONS)]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(caller.done for caller in callers))
    return Load(sum(c.answered for c in callers), sum(c.failed for c in callers), time.monotonic() - started)


async def _alternate(direct: int, gateway: int, question: Question, pairs: int) -> tuple[list[float], list[float]]:
    loop = asyncio.get_running_loop()
    took: dict[int, list[float]] = {direct: [], gateway: []}
    lines = {}
    for port in took:
        _, lines[port] = await loop.create_connection(Line, "127.0.0.1", port)
    serial = fresh_serial()
    for port in (direct, gateway) * pairs:
        serial += 1
        message = question.numbered(serial)
        before = time.perf_counter()
        await lines[port].ask(message)
        took[port].append(time.perf_counter() - before)
    return took[direct], took[gateway]


class Answers(asyncio.Protocol):
    """One connection that reads HTTP answers; `answer_ended` is called after each with its status, 0 when cut off."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._waiting = False

    def answer_ended(self, status: int) -> None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def write(self, message: bytes) -> None:
        """Send a request; nothing may be waited for."""
        self._waiting = True
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._waiting = False
        self.answer_ended(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self.answer_ended(0)


class Caller(Answers):
    """Takes the next message as soon as the last is answered, until there are none."""

    def __init__(self, messages: Iterator[bytes]) -> None:
        super().__init__()
        self._messages = messages
        self.answered = 0
        self.failed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._next()

    def answer_ended(self, status: int) -> None:
        self.answered += 1
        self.failed += status != 200
        if status:
            self._next()
        elif not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        message = next(self._messages, None)
        if message is not None:
            self.write(message)
            return
        self._transport.close()
        self.done.set_result(None)


class Line(Answers):
    """Asks one question at a time and waits for the answer."""

    async def ask(self, message: bytes) -> None:
        """Send a request and wait until it is answered; raises BenchmarkError unless the status is 200."""
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.write(message)
        status = await self._answer
        if status != 200:
            raise BenchmarkError(f"a request was answered with status {status}")

    def answer_ended(self, status: int) -> None:
        self._answer.set_result(status)
