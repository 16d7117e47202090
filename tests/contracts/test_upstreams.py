"""What every upstream keeps to: one suite over the stub, the recording, HTTP and the engine."""

import asyncio
import json
import re
from collections.abc import Callable

import msgspec
import pytest

from farthing.engines.batching import Rules
from farthing.ports import Flow, Outcome, Question, Upstream
from farthing.providers.http import HttpSettings, HttpUpstream
from farthing.providers.recorded import RecordedUpstream
from farthing.providers.stub import StubUpstream
from farthing.schema import Headers, Recorded, Usage

Cases = dict[str, tuple[Upstream, Question]]


def asking(model: str = "gpt-6-luna", *, stream: bool = False) -> Question:
    body = {"model": model, "messages": [{"role": "user", "content": "What is a farthing?"}], "stream": stream}
    headers = ((b"content-type", b"application/json"),)
    return Question("POST", "/chat/completions", headers, json.dumps(body).encode(), stream)


def stub_cases(_: pytest.FixtureRequest) -> Cases:
    stub, slow = StubUpstream(), StubUpstream(speed=1e-6)
    return {
        "plain": (stub, asking()),
        "stream": (stub, asking(stream=True)),
        "refused": (stub, asking("stub-429")),
        "lost": (stub, asking("stub-reset", stream=True)),
        "unreachable": (stub, asking("stub-refused")),
        "slow": (slow, asking()),
        "slow stream": (slow, asking(stream=True)),
    }


def recorded_cases(_: pytest.FixtureRequest) -> Cases:
    usage = Usage(input=7, output=300)

    def case(stream: bool = False, **facts: object) -> tuple[Upstream, Question]:
        question = asking(stream=stream)
        record = Recorded(at=1, model="gpt-6-luna", request=msgspec.Raw(question.body), usage=usage, **facts)
        return RecordedUpstream.of("recording", [record]), question

    return {
        "plain": case(),
        "stream": case(stream=True),
        "refused": case(status=429),
        "slow": case(latency=10**12),
        "slow stream": case(stream=True, ttft=1, latency=10**12),
    }


JSON_HEAD = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LONG_STREAM = b"data: {}\n\n" * 400_000


def http_cases(request: pytest.FixtureRequest) -> Cases:
    upstream_that = request.getfixturevalue("upstream_that")

    def case(*sent: bytes, then: Callable = lambda client: None, stream: bool = False) -> tuple[Upstream, Question]:
        def script(client, _):
            for data in sent:
                client.sendall(data)
            then(client)

        port = upstream_that(script).port
        settings = HttpSettings(name="http", provider="", base_url=f"http://127.0.0.1:{port}/v1")
        return HttpUpstream(settings), asking(stream=stream)

    def hang(client):
        client.recv(1)

    def chunks(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    refusal = b'{"error":{"message":"slow down"}}'
    closed = HttpSettings(name="http", provider="", base_url="http://127.0.0.1:9")
    return {
        "plain": case(JSON_HEAD % (b"200 OK", 2), b"{}"),
        "stream": case(SSE_HEAD, chunks(LONG_STREAM), b"0\r\n\r\n", stream=True),
        "refused": case(JSON_HEAD % (b"429 Too Many Requests", len(refusal)), refusal),
        "lost": case(SSE_HEAD, chunks(b"data: {}\n\n"), then=lambda client: client.close(), stream=True),
        "unreachable": (HttpUpstream(closed), asking()),
        "slow": case(then=hang),
        "slow stream": case(SSE_HEAD, chunks(b"data: {}\n\n"), then=hang, stream=True),
    }


def embedded_cases(request: pytest.FixtureRequest) -> Cases:
    pytest.importorskip("onnxruntime", reason="needs farthing[engine]")
    from farthing.engines.embedded import EmbeddedUpstream
    from farthing.engines.models import Keeping

    folder = request.getfixturevalue("bag_artefact")

    def case(rules: Rules, *, stream: bool = False) -> tuple[Upstream, Question]:
        return EmbeddedUpstream("engine", [folder], Keeping(), rules), asking("bag", stream=stream)

    patient = Rules(max_wait=20)
    return {
        "plain": case(Rules()),
        "stream": case(Rules(), stream=True),
        "slow": case(patient),
        "slow stream": case(patient, stream=True),
    }


ADAPTERS = {"stub": stub_cases, "recorded": recorded_cases, "http": http_cases, "embedded": embedded_cases}


@pytest.fixture(params=ADAPTERS)
def case(request: pytest.FixtureRequest) -> Callable[[str], tuple[Upstream, Question]]:
    """A question by the way its answer goes, and the upstream to ask it of."""
    cases = ADAPTERS[request.param](request)

    def chosen(name: str) -> tuple[Upstream, Question]:
        if name not in cases:
            pytest.skip(f"{request.param} has no way to be {name}")
        return cases[name]

    return chosen


class Basin:
    """A sink that keeps everything, and does `on_chunk` with the flow as chunks come."""

    def __init__(self, on_chunk: Callable[[Flow], None] | None = None) -> None:
        self.begun: list[tuple[int, Headers]] = []
        self.flow: Flow | None = None
        self.chunks: list[bytes] = []
        self._on_chunk = on_chunk

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        assert not self.chunks
        self.begun.append((status, headers))
        self.flow = flow

    def chunk(self, data: bytes) -> None:
        assert self.begun
        self.chunks.append(data)
        if self._on_chunk:
            assert self.flow is not None
            self._on_chunk(self.flow)

    @property
    def status(self) -> int:
        ((status, _),) = self.begun
        return status

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: bytes) -> bytes:
        ((_, headers),) = self.begun
        return dict(headers)[name]


def ask(upstream: Upstream, question: Question, basin: Basin) -> Outcome:
    async def once() -> Outcome:
        try:
            return await asyncio.wait_for(upstream.ask(question, basin), 30)
        finally:
            await upstream.close()

    return asyncio.run(once())


def is_whole(outcome: Outcome) -> bool:
    """Whether an answer came to its end, however sure of it the upstream is."""
    return msgspec.structs.replace(outcome, confidence=None) == Outcome("complete")


def unnamed(body: bytes) -> bytes:
    """An answer without what is new each time: its id, and the second it was made in."""
    return re.sub(rb'"id":"[^"]*"|"created":[0-9]+', b"", body)


async def soon(happened: Callable[[], bool]) -> None:
    for _ in range(500):
        if happened():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


def test_a_plain_answer_begins_once_and_is_whole(case):
    upstream, question = case("plain")
    basin = Basin()

    assert is_whole(ask(upstream, question, basin))
    assert basin.status == 200
    assert basin.header(b"content-type").startswith(b"application/json")
    assert isinstance(json.loads(basin.body), dict)


def test_a_stream_comes_as_events_with_a_flow_to_hold_it(case):
    upstream, question = case("stream")
    basin = Basin()

    assert is_whole(ask(upstream, question, basin))
    assert basin.header(b"content-type").startswith(b"text/event-stream")
    assert basin.flow is not None
    assert len(basin.chunks) > 1
    assert all(b"data: " in frame for frame in basin.body.removesuffix(b"\n\n").split(b"\n\n"))


def test_a_refusal_is_an_answer(case):
    upstream, question = case("refused")
    basin = Basin()

    assert is_whole(ask(upstream, question, basin))
    assert basin.status == 429
    assert json.loads(basin.body)["error"]["message"]


def test_a_lost_stream_keeps_what_came_and_says_so(case):
    upstream, question = case("lost")
    basin = Basin()

    outcome = ask(upstream, question, basin)

    assert outcome.ending == "reset"
    assert outcome.detail
    assert outcome.sent
    assert basin.body.startswith(b"data: ")


def test_an_upstream_that_was_never_reached_was_never_asked(case):
    upstream, question = case("unreachable")
    basin = Basin()

    outcome = ask(upstream, question, basin)

    assert (outcome.ending, outcome.sent) == ("unreachable", False)
    assert outcome.detail
    assert not basin.begun


@pytest.mark.parametrize("name", ["slow", "slow stream"])
def test_when_the_caller_leaves_the_answer_ends_without_an_exception(case, name):
    upstream, question = case(name)
    basin = Basin()

    async def leave() -> Outcome:
        asked = asyncio.create_task(upstream.ask(question, basin))
        await asyncio.sleep(0.05)
        asked.cancel()
        outcome = await asked
        await upstream.close()
        return outcome

    assert asyncio.run(leave()).ending == "disconnected"


def test_a_paused_stream_waits_and_then_loses_nothing(case):
    upstream, question = case("stream")
    whole = Basin()
    ask(upstream, question, whole)

    async def pause_and_resume() -> Basin:
        basin = Basin(lambda flow: flow.pause() if len(basin.chunks) == 1 else None)
        asked = asyncio.create_task(upstream.ask(question, basin))
        await soon(lambda: bool(basin.chunks))
        await asyncio.sleep(0.1)
        assert not asked.done()
        assert len(basin.body) < len(whole.body)
        basin.flow.resume()
        assert is_whole(await asyncio.wait_for(asked, 30))
        await upstream.close()
        return basin

    assert unnamed(asyncio.run(pause_and_resume()).body) == unnamed(whole.body)


def test_a_stopped_stream_ends_there_and_repeats_why(case):
    upstream, question = case("stream")
    basin = Basin(lambda flow: flow.stop("more than can be kept") if len(basin.chunks) == 1 else None)

    outcome = ask(upstream, question, basin)

    assert outcome.ending != "complete"
    assert "more than can be kept" in outcome.detail
    assert len(basin.chunks) == 1


REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-6-luna-2026-09-01",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "A quarter."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}


def recorded_reply(reply: object, *, stream: bool) -> tuple[Outcome, Basin]:
    question = asking(stream=stream)
    body = msgspec.Raw(json.dumps(reply).encode())
    record = Recorded(at=1, model="gpt-6-luna", request=msgspec.Raw(asking().body), reply=body)
    basin = Basin()
    return ask(RecordedUpstream.of("recording", [record]), question, basin), basin


def test_a_recorded_reply_is_given_again_as_it_was():
    _, basin = recorded_reply(REPLY, stream=False)

    assert json.loads(basin.body) == REPLY


def test_a_recorded_reply_can_be_streamed_though_it_was_not():
    _, basin = recorded_reply(REPLY, stream=True)

    assert b'"A quarter."' in basin.body
    assert b'"total_tokens":12' in basin.body
    assert basin.body.endswith(b"data: [DONE]\n\n")


def test_a_recorded_reply_that_makes_no_sense_as_a_stream_is_garbage():
    outcome, basin = recorded_reply({"choices": 3}, stream=True)

    assert outcome.ending == "garbage"
    assert not basin.begun


def test_a_question_that_was_not_recorded_is_refused():
    basin = Basin()
    outcome = ask(RecordedUpstream.of("recording", []), asking(), basin)

    assert (outcome, basin.status) == (Outcome("complete"), 404)
    assert "holds no answer" in json.loads(basin.body)["error"]["message"]


def test_a_question_is_known_however_its_json_is_laid_out():
    body = b'{ "stream": true, "model":"gpt-6-luna", "messages": [ {"content":"What is a farthing?", "role":"user"} ] }'
    record = Recorded(at=1, model="gpt-6-luna", request=msgspec.Raw(body), usage=Usage(input=7, output=3))
    basin = Basin()
    ask(RecordedUpstream.of("recording", [record]), asking(), basin)

    assert basin.status == 200
    assert json.loads(basin.body)["usage"]["total_tokens"] == 10
