"""An engine under open load on one core: arrivals come when they come, however far behind it is.

Run by itself, `python -m benchmarks.engine FOLDER`, it measures one engine in this process and prints JSON; rows run it
so, that one measurement leaves nothing behind for the next.
"""

import argparse
import asyncio
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import uvloop
from tokenizers import Tokenizer

from farthing.engines.batching import Rules
from farthing.engines.embedded import EmbeddedUpstream
from farthing.engines.models import Keeping
from farthing.ports import Flow, Question
from farthing.schema import Headers
from farthing.schema.artefact import TOKENIZER

P95_MS = 25.0
MEDIAN_WORDS, SPREAD, MOST_WORDS = 10.0, 0.5, 60
"""How long texts are: as customers' questions are (Banking77: half have 10 words or fewer, one in twenty 28)."""
TEXTS = 5_000
STEPS = 7
CALLERS = 192
"""Callers that ask again at once, to find out how much can be done at all: enough for three full batches."""

Ask = Callable[[bytes], Awaitable[bool]]
"""Asks one question; whether it was answered well."""


class Found(msgspec.Struct, frozen=True):
    """What one engine can do on one core, and what a request costs it, in CPU-microseconds, beyond the model."""

    rate: float
    p50_ms: float
    p95_ms: float
    most: float
    batch: float
    model_us: float
    overhead_us: float
    single_ms: float
    share: float
    """Of its core, what this process was given when it had work for all of it: others take the rest."""


class Load(msgspec.Struct, frozen=True):
    """Milliseconds each answer took, from when it was due to be asked; and how many were not answered well."""

    took_ms: tuple[float, ...]
    failures: int
    seconds: float

    def percentile(self, share: float) -> float:
        """The time within which so many percent were answered."""
        return float(np.percentile(self.took_ms, share)) if self.took_ms else float("inf")

    def holds(self) -> bool:
        """Whether the promise was kept: 95 of 100 within 25 ms, and none refused."""
        return not self.failures and self.percentile(95) <= P95_MS


def bodies(folder: Path, model: str, count: int, seed: int = 1) -> list[bytes]:
    """Requests for the labels of texts of common lengths, made of whole words that the model knows, no two alike."""
    known = Tokenizer.from_file(str(folder / TOKENIZER)).get_vocab()
    words = sorted((word for word in known if word.isalpha() and word.isascii()), key=known.__getitem__)
    dice = np.random.default_rng(seed)
    lengths = np.clip(dice.lognormal(np.log(MEDIAN_WORDS), SPREAD, count), 2, MOST_WORDS).astype(int)
    shares = 1 / (np.arange(len(words)) + 10)
    drawn = iter(dice.choice(len(words), int(lengths.sum()), p=shares / shares.sum()).tolist())
    texts = [" ".join(words[next(drawn)] for _ in range(length)) for length in lengths]
    return [msgspec.json.encode({"model": model, "input": text}) for text in texts]


async def poisson(ask: Ask, asked: Sequence[bytes], rate: float, seconds: float, seed: int = 1) -> Load:
    """Ask at random instants, `rate` times a second on average, whether or not answers come."""
    loop = asyncio.get_running_loop()
    count = int(rate * seconds)
    dues = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count)).tolist()
    took: list[float] = []
    failures = 0
    tasks: set[asyncio.Task[None]] = set()
    start = time.perf_counter()

    async def one(body: bytes, due: float) -> None:
        nonlocal failures
        good = await ask(body)
        took.append((time.perf_counter() - start - due) * 1000)
        failures += not good

    for number, due in enumerate(dues):
        while (early := start + due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        task = loop.create_task(one(asked[number % len(asked)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(tasks)
    return Load(tuple(took[count // 10 :]), failures, time.perf_counter() - start)


async def closed(ask: Ask, asked: Sequence[bytes], callers: int, seconds: float) -> Load:
    """So many callers, each asking again as soon as it has its answer."""
    took: list[float] = []
    failures = 0
    start = time.perf_counter()

    async def one(number: int) -> None:
        nonlocal failures
        while (before := time.perf_counter()) < start + seconds:
            failures += not await ask(asked[number % len(asked)])
            took.append((time.perf_counter() - before) * 1000)
            number += callers

    await asyncio.gather(*(one(number) for number in range(callers)))
    return Load(tuple(took), failures, time.perf_counter() - start)


async def highest(ask: Ask, asked: Sequence[bytes], seconds: float) -> tuple[float, Load, float]:
    """The highest rate at which the promise is kept, with that load; and the most that was ever answered a second.

    A rate has two tries: what else runs on the machine makes it slower now and then, and never faster.
    """
    full = await closed(ask, asked, CALLERS, seconds / 2)
    most = len(full.took_ms) / full.seconds
    low, high = most / 4, most * 1.05
    best, kept = 0.0, Load((), 0, 0.0)
    for step in range(STEPS):
        rate = low if step == 0 else (low * high) ** 0.5
        load = await poisson(ask, asked, rate, seconds, seed=step)
        if not load.holds():
            load = await poisson(ask, asked, rate, seconds, seed=step)
        if load.holds():
            low, best, kept = rate, rate, load
        elif step == 0:
            break
        else:
            high = rate
    return best, kept, most


class _Sink:
    """Takes an answer and remembers its status."""

    __slots__ = ("status",)

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        self.status = status

    def chunk(self, data: bytes) -> None:
        pass


class _Meter:
    """What a model's own runs take of CPU time, in nanoseconds of their threads."""

    def __init__(self, upstream: EmbeddedUpstream) -> None:
        self.ns = 0
        self.texts = 0
        self.runs = 0
        for loaded in upstream.models._loaded.values():
            session = loaded.model._session
            loaded.model._session = _Metered(session, self)  # type: ignore[assignment]


class _Metered:
    def __init__(self, session: object, meter: _Meter) -> None:
        self._session = session
        self._meter = meter

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> object:
        before = time.thread_time_ns()
        found = self._session.run(outputs, inputs)  # type: ignore[attr-defined]
        self._meter.ns += time.thread_time_ns() - before
        self._meter.texts += len(inputs["input_ids"])
        self._meter.runs += 1
        return found


async def measure(folder: Path, max_batch: int, seconds: float) -> Found:
    """What one engine can do with batches of so many texts at most."""
    upstream = EmbeddedUpstream("bench", [folder], Keeping(), Rules(max_batch=max_batch, queue=100_000))
    (name,) = upstream.models.names()
    asked = bodies(folder, name, TEXTS)

    async def ask(body: bytes) -> bool:
        sink = _Sink()
        await upstream.ask(Question("POST", "/classify", (), body, False), sink)
        return sink.status == 200

    async def nothing(_: bytes) -> bool:
        await asyncio.sleep(0)
        return True

    await closed(ask, asked, 8, 0.5)
    before, began = time.process_time(), time.perf_counter()
    await closed(ask, asked, CALLERS, seconds / 2)
    share = (time.process_time() - before) / (time.perf_counter() - began)
    lone = await closed(ask, asked, 1, seconds / 2)
    gc.collect()
    gc.freeze()
    rate, load, most = await highest(ask, asked, seconds)
    generator = await _spent(nothing, asked, 0.5)
    meter = _Meter(upstream)
    spent = await _spent(ask, asked, seconds)
    await upstream.close()
    model_us = meter.ns / 1000 / max(meter.texts, 1)
    return Found(
        rate=rate,
        p50_ms=load.percentile(50),
        p95_ms=load.percentile(95),
        most=most,
        batch=meter.texts / max(meter.runs, 1),
        model_us=model_us,
        overhead_us=spent - generator - model_us,
        single_ms=lone.percentile(50),
        share=share,
    )


async def _spent(ask: Ask, asked: Sequence[bytes], seconds: float) -> float:
    """CPU-microseconds of this process per request while callers ask again at once, theirs included."""
    before = time.process_time_ns()
    load = await closed(ask, asked, CALLERS, seconds)
    return (time.process_time_ns() - before) / 1000 / len(load.took_ms)


def main() -> None:
    """Measure on one core and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0)
    flags = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = uvloop.run(measure(flags.folder, flags.max_batch, flags.seconds))
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")


if __name__ == "__main__":
    main()
