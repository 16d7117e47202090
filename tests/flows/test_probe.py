"""The probe against a real HTTP server that streams like an engine whose iterations take a known time."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import msgspec
import pytest

from farthing.advisor.probe import Probed, ProbePlan, probe
from farthing.advisor.questions import Lengths, prompt
from farthing.economics.calibrating.setup import Setup
from farthing.errors import FarthingError, RequestError, Unauthorized, UpstreamError, UpstreamUnreachable
from farthing.providers.stub import StubUpstream
from farthing.wiring.probing import probe_engine

SETUP = Setup(hardware="RTX 4090", devices=1, precision="bf16")
STEP_S = 0.004
SMALL = ProbePlan(input_tokens=60, output_tokens=24, answers=8, most_callers=4, most_seconds=20)


class Engine:
    """Continuous batching with `slots`: each iteration gives every running sequence a token, after `step_s`."""

    def __init__(self, *, step_s: float = STEP_S, prefill_s: float = 0.01, slots: int = 64) -> None:
        self.step_s, self.prefill_s, self.slots = step_s, prefill_s, slots
        self.cards = [
            {"id": "m", "object": "model", "owned_by": "vllm", "root": "Qwen/Qwen3-8B", "max_model_len": 4096}
        ]
        self.refuses = ""
        self.usage = True
        self.key = ""
        self.fail_after: int | None = None
        self.status = 500
        self.bodies: list[dict] = []
        self.aborted = 0
        self.most_running = 0
        self._running: list[asyncio.Event] = []
        self._free = asyncio.Semaphore(slots)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if self.key and headers.get("authorization") != f"bearer {self.key}":
                    self._plain(writer, 401, {"error": {"message": "no such key"}})
                elif lines[0].startswith("GET /v1/models"):
                    self._plain(writer, 200, {"object": "list", "data": self.cards})
                else:
                    await self._generate(writer, lines[0].split()[1], json.loads(body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.aborted += 1
        finally:
            writer.close()

    def _plain(self, writer: asyncio.StreamWriter, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(data), data)
        )

    async def _generate(self, writer: asyncio.StreamWriter, path: str, body: dict) -> None:
        self.bodies.append(body)
        if self.refuses and self.refuses in body:
            return self._plain(writer, 400, {"error": {"message": f"unknown field {self.refuses}"}})
        if self.fail_after is not None and len(self.bodies) > self.fail_after:
            return self._plain(writer, self.status, {"error": {"message": "overloaded"}})
        chat = path.endswith("/chat/completions")
        text = body["messages"][0]["content"] if chat else body["prompt"]
        inputs, outputs = 12 + 2 * len(text.split()), body["max_tokens"]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if chat:
            self._event(writer, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        async with self._free:
            await asyncio.sleep(self.prefill_s)
            for number in range(outputs):
                if number:
                    await self._token()
                piece = {"delta": {"content": "x"}} if chat else {"text": "x"}
                self._event(writer, {"choices": [{"index": 0, **piece, "finish_reason": None}]})
                await writer.drain()
        if self.usage and body.get("stream_options", {}).get("include_usage"):
            details = {"cached_tokens": 6}
            self._event(
                writer,
                {
                    "choices": [],
                    "usage": {"prompt_tokens": inputs, "completion_tokens": outputs, "prompt_tokens_details": details},
                },
            )
        self._chunk(writer, b"data: [DONE]\n\n")
        self._chunk(writer, b"")

    async def _token(self) -> None:
        turn = asyncio.Event()
        self._running.append(turn)
        self.most_running = max(self.most_running, len(self._running))
        await turn.wait()

    async def iterate(self) -> None:
        started = asyncio.get_running_loop().time()
        while True:
            started += self.step_s
            await asyncio.sleep(max(started - asyncio.get_running_loop().time(), 0))
            turns, self._running = self._running, []
            for turn in turns:
                turn.set()

    def _event(self, writer: asyncio.StreamWriter, event: dict) -> None:
        self._chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    ready = threading.Event()
    address: list[str] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        engine._free = asyncio.Semaphore(engine.slots)
        over = asyncio.Event()
        server = await asyncio.start_server(engine.answer, "127.0.0.1", 0)
        address.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        stop.append((asyncio.get_running_loop(), over))
        clock = asyncio.create_task(engine.iterate())
        ready.set()
        await over.wait()
        clock.cancel()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield address[0]
    finally:
        loop, over = stop[0]
        loop.call_soon_threadsafe(over.set)
        thread.join(10)


def swept(engine: Engine, plan: ProbePlan = SMALL, **given: str) -> Probed:
    with serving(engine) as url:
        return probe_engine(url, SETUP, plan, lambda said: None, **given)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_times_and_rates_are_those_of_the_engine(endpoint):
    engine = Engine(step_s=0.008, prefill_s=0.03)

    found = swept(engine, msgspec.structs.replace(SMALL, endpoint=endpoint))

    assert [row.concurrency for row in found.measurements] == [1, 2, 4]
    assert found.stopped == "4 at once is the most"
    for row in found.measurements:
        assert row.tpot_s == pytest.approx(0.008, rel=0.3)
        assert 0.03 <= row.ttft_s < 0.06
        expected = row.concurrency * row.output_tokens / (row.ttft_s + (row.output_tokens - 1) * row.tpot_s)
        assert row.output_tokens_per_s_per_device == pytest.approx(expected, rel=0.2)
        assert row.output_tokens == 24
        assert row.input_tokens == pytest.approx(60, abs=2)
        assert row.cached_share == pytest.approx(6 / row.input_tokens)
        assert (row.kind, row.engine, row.model, row.tensor) == ("closed_loop", "vllm", "Qwen/Qwen3-8B", None)
    assert engine.most_running <= 4


def test_stops_where_more_callers_gain_nothing():
    found = swept(Engine(slots=2), msgspec.structs.replace(SMALL, most_callers=16))

    assert [row.concurrency for row in found.measurements] == [1, 2, 4]
    assert found.stopped.startswith("throughput grew by less than 5% from 2 to 4")
    one, two, four = (row.output_tokens_per_s_per_device for row in found.measurements)
    assert two > 1.5 * one
    assert four < 1.05 * two
    assert found.measurements[2].ttft_s > 5 * found.measurements[1].ttft_s  # they wait for one another


def test_asks_for_all_tokens_with_prompts_that_no_cache_knows():
    engine = Engine()

    swept(engine, msgspec.structs.replace(SMALL, most_callers=2))

    assert all(
        body["ignore_eos"] is True and body["stream"] is True and body["temperature"] == 0 for body in engine.bodies
    )
    texts = [body["messages"][0]["content"] for body in engine.bodies]
    assert len({tuple(text.split()[:8]) for text in texts}) == len(texts)


def test_asks_without_fields_that_an_engine_refuses():
    engine = Engine()
    engine.refuses = "ignore_eos"

    found = swept(engine, msgspec.structs.replace(SMALL, most_callers=1))

    assert len(found.measurements) == 1
    assert "ignore_eos" not in engine.bodies[-1]


@pytest.mark.parametrize("status", [429, 503])
def test_an_engine_that_refuses_ends_the_sweep_with_what_was_measured(status):
    engine = Engine()
    engine.fail_after, engine.status = 20, status

    found = swept(engine)

    assert [row.concurrency for row in found.measurements] == [1]
    assert found.stopped == f'it answered {status}: {{"error": {{"message": "overloaded"}}}}'


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"most_requests": 15}, "the limit of 15 requests is reached"),
        ({"most_tokens": 1300}, "the limit of 1300 tokens is reached"),
        ({"most_seconds": 1.5}, "the limit of 1.5 s is reached"),
    ],
)
def test_limits_hold(limit, reason):
    engine = Engine()
    plan = msgspec.structs.replace(SMALL, **limit)
    began = time.monotonic()

    found = swept(engine, plan)

    assert found.stopped == reason
    assert found.measurements[0].concurrency == 1
    assert len(engine.bodies) == found.requests <= plan.most_requests
    assert found.tokens <= plan.most_tokens
    assert time.monotonic() - began < plan.most_seconds + 2


def test_what_is_under_way_is_aborted_at_the_end():
    engine = Engine(step_s=0.05)
    plan = msgspec.structs.replace(SMALL, most_callers=1, most_seconds=1.0, output_tokens=400, answers=100)

    with serving(engine) as url:
        with pytest.raises(RequestError, match=r"Nothing was measured.* limit of 1 s"):
            probe_engine(url, SETUP, plan, lambda said: None)
        deadline = time.monotonic() + 5
        while not engine.aborted and time.monotonic() < deadline:
            time.sleep(0.02)
        assert engine.aborted == 1


def test_an_interrupt_returns_what_was_measured():
    engine = Engine()
    plan = msgspec.structs.replace(SMALL, most_callers=1024, gain=0.0001, most_seconds=60)
    told: list[str] = []

    def interrupt(said: str) -> None:
        told.append(said)
        if said == "4 at once":
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    with serving(engine) as url:
        found = probe_engine(url, SETUP, plan, interrupt)

    assert found.stopped == "it was interrupted"
    assert [row.concurrency for row in found.measurements[:2]] == [1, 2]
    assert told[:2] == ["1 at once", told[1]]
    assert told[1].startswith("1 at once: ")


def test_a_setup_that_is_not_complete_is_refused_before_any_load():
    engine = Engine()

    with serving(engine) as url, pytest.raises(RequestError, match=r"does not say its hardware, precision and devices"):
        probe_engine(url, Setup(), SMALL, lambda said: None)
    assert engine.bodies == []


def test_a_context_that_is_too_short_is_refused():
    engine = Engine()
    with serving(engine) as url, pytest.raises(RequestError, match=r"exceed the context of 4096 tokens"):
        probe_engine(url, SETUP, ProbePlan(input_tokens=4000, output_tokens=128), lambda said: None)
    assert engine.bodies == []


def test_several_models_need_a_name():
    engine = Engine()
    engine.cards = [{"id": "a"}, {"id": "b"}]
    with serving(engine) as url, pytest.raises(RequestError, match=r"lists 2 models: a, b"):
        probe_engine(url, SETUP, SMALL, lambda said: None)
    setup = msgspec.structs.replace(SETUP, engine="vllm")
    with serving(engine) as url:
        found = probe_engine(url, setup, msgspec.structs.replace(SMALL, most_callers=1), lambda said: None, model="b")
    assert found.measurements[0].model == "b"
    assert engine.bodies[-1]["model"] == "b"


def test_keys_travel_and_wrong_ones_are_said():
    engine = Engine()
    engine.key = "sk-own"
    with serving(engine) as url, pytest.raises(Unauthorized, match=r"refuses the key"):
        probe_engine(url, SETUP, SMALL, lambda said: None, api_key="sk-other")
    with serving(engine) as url:
        found = probe_engine(
            f"{url}/v1/", SETUP, msgspec.structs.replace(SMALL, most_callers=1), lambda said: None, api_key="sk-own"
        )
    assert len(found.measurements) == 1


def test_streams_without_usage_are_said():
    engine = Engine()
    engine.usage = False
    with serving(engine) as url, pytest.raises(UpstreamError, match=r"do not report usage"):
        probe_engine(url, SETUP, SMALL, lambda said: None)


def test_nobody_there():
    with pytest.raises(UpstreamUnreachable, match=r"cannot be reached"):
        probe_engine("http://127.0.0.1:9", SETUP, SMALL, lambda said: None)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://"])
def test_addresses_that_are_none(url):
    with pytest.raises(RequestError, match=r"is no address"):
        probe_engine(url, SETUP, SMALL, lambda said: None)


@pytest.mark.parametrize(
    "change", [{"input_tokens": 0}, {"output_tokens": 1}, {"most_callers": 0}, {"most_seconds": 0.0}, {"gain": float("nan")}]
)  # fmt: skip
def test_plans_that_make_no_sense(change):
    with pytest.raises(RequestError, match=r"^The probe (has|asks)"):
        asyncio.run(probe(StubUpstream(), SETUP, msgspec.structs.replace(SMALL, **change), Random(0), print))


@pytest.mark.parametrize("model", ["stub-garbage", "stub-error-200", "stub-refused", "stub-reset"])
def test_every_fault_of_the_stub_is_an_error(model):
    setup = msgspec.structs.replace(SETUP, engine="vllm")
    with pytest.raises(FarthingError):
        asyncio.run(probe(StubUpstream(), setup, SMALL, Random(0), lambda said: None, model))


def test_a_simulated_engine_is_not_measured(gateway_with):
    gateway = gateway_with()
    setup = msgspec.structs.replace(SETUP, engine="vllm")
    with pytest.raises(UpstreamError, match=r"its answers are simulated"):
        probe_engine(gateway.url, setup, SMALL, lambda said: None, model="gpt-6-luna")


def test_lengths_are_learnt_from_two_prompts():
    lengths = Lengths.of((16, 44), (30, 72))
    assert lengths.words(512) == 250
    assert lengths.words(1) == 1
    assert len(prompt(40, Random(1)).split()) == 40
