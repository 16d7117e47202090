"""An upstream that answers from recorded traffic, with the tokens and the timing of the recording."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
from blake3 import blake3

from farthing import dialects
from farthing.errors import UpstreamGarbage
from farthing.ports import Outcome, Question, Sink
from farthing.providers.pouring import Tap, json_headers, pour, refuse, simulated_endpoint, sse_headers
from farthing.schema import Call, Endpoint, Recorded, Reply
from farthing.simulation import wire
from farthing.simulation.answers import Answer, prose

MARK = "farthing-recorded"
NEVER_ANSWERED = ("stream", "stream_options")
"""Top-level fields of a request that say how to send the answer, not what to answer."""

Find = Callable[[Question], Recorded | None]

_HEADERS = json_headers(b"recorded")
_STREAM_HEADERS = sse_headers(b"recorded")
_MICROSECOND = 1e-6
_LONGEST = 1 << 20
_read_body = msgspec.json.Decoder(dict[str, object]).decode
_write_body = msgspec.json.Encoder(order="sorted").encode


class RecordedUpstream:
    """Answers each question as its record says it was answered: status, tokens, time to first token, latency.

    `find` tells which record a question is from. Where the reply itself was not recorded, prose of the recorded length
    stands in for it. A question of which there is no record is refused with 404.
    """

    simulated = True

    def __init__(self, name: str, find: Find, *, provider: str = "recorded") -> None:
        self.name = name
        self.provider = provider
        self._find = find

    @classmethod
    def of(cls, name: str, traffic: Iterable[Recorded]) -> "RecordedUpstream":
        """An upstream that knows recorded requests by their content; the first record of equal requests counts.

        Keeps all of the traffic that has request bodies in memory.
        """
        known: dict[bytes, Recorded] = {}
        for recorded in traffic:
            if recorded.request:
                known.setdefault(_digest(recorded.endpoint, bytes(recorded.request)), recorded)

        def find(question: Question) -> Recorded | None:
            endpoint = simulated_endpoint(question)
            return known.get(_digest(endpoint, question.body)) if endpoint else None

        return cls(name, find)

    async def ask(self, question: Question, sink: Sink) -> Outcome:
        """Answer after the recorded time; a cancelled answer ends as `disconnected`."""
        recorded = self._find(question)
        if recorded is None:
            message = "The recording holds no answer to this request. Record it first, or ask another upstream."
            return refuse(sink, simulated_endpoint(question) or "chat", 404, message, _HEADERS)
        try:
            if question.stream and recorded.status < 400:
                return await _stream(recorded, sink)
            if recorded.latency:
                await asyncio.sleep(recorded.latency * _MICROSECOND)
        except asyncio.CancelledError:
            return Outcome("disconnected", "the caller left before the recorded answer was complete")
        if recorded.reply:
            return pour(sink, recorded.status, _HEADERS, bytes(recorded.reply))
        if recorded.status >= 400:
            message = f"The recorded call failed with status {recorded.status}."
            return refuse(sink, recorded.endpoint, recorded.status, message, _HEADERS)
        return pour(sink, recorded.status, _HEADERS, wire.plain(recorded.endpoint, _answer(recorded)))

    async def close(self) -> None:
        """There is nothing to close."""


async def _stream(recorded: Recorded, sink: Sink) -> Outcome:
    """The first frame at the recorded time to first token, the others together when the last of them came."""
    try:
        first, others = _frames(recorded)
    except UpstreamGarbage as error:
        return Outcome("garbage", error.message)
    latency = recorded.latency or 0
    ttft = latency if recorded.ttft is None else recorded.ttft
    if ttft:
        await asyncio.sleep(ttft * _MICROSECOND)
    tap = Tap()
    sink.begin(recorded.status, _STREAM_HEADERS, tap)
    sink.chunk(first)
    if latency > ttft:
        await asyncio.sleep((latency - ttft) * _MICROSECOND)
    if not await tap.opened():
        return Outcome("garbage", tap.stopped)
    sink.chunk(others)
    return Outcome("complete")


def _frames(recorded: Recorded) -> tuple[bytes, bytes]:
    """The first frame of a recorded answer, and all others."""
    if recorded.reply:
        call = Call(recorded.endpoint, recorded.model, b"", stream=True, wants_usage=True)
        body = dialects.render(call, Reply(recorded.status, bytes(recorded.reply), usage=recorded.usage)).body
        first, end, others = body.partition(b"\n\n")
        return first + end, others
    first, *rest = wire.frames(recorded.endpoint, _answer(recorded))
    return first, b"".join(rest)


def _answer(recorded: Recorded) -> Answer:
    usage = recorded.usage
    return Answer(
        id=f"{recorded.at:x}",
        model=recorded.served or recorded.model,
        text=prose(recorded.at, min(usage.output, _LONGEST) if usage else 1),
        usage=usage,
        tier=recorded.tier or "default",
        created=recorded.at // 10**9,
        tokens_per_frame=_LONGEST,
        vectors=([0.0],) if recorded.endpoint in ("embeddings", "classify", "rerank") else (),
        mark=MARK,
    )


def _digest(endpoint: Endpoint, body: bytes) -> bytes:
    """A digest of what a request asks, the same however its JSON is laid out; an unreadable one is its own digest."""
    try:
        asked = _read_body(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return blake3(body).digest(16)
    for name in NEVER_ANSWERED:
        asked.pop(name, None)
    return blake3(endpoint.encode()).update(_write_body(asked)).digest(16)
