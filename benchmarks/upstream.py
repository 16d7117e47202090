"""A fast OpenAI-compatible provider that makes its answers up: `python -m benchmarks.upstream --port 9000`.

It answers chat completions (plain and streamed), embeddings and the list of models, with usage that adds up, and
tells at `/stats` what it has seen, so that a benchmark or a test can check that nothing was lost on the way.
"""

import argparse
import asyncio
import signal
from collections.abc import Iterator
from typing import cast

import httptools
import msgspec
import uvloop

BYTES_PER_TOKEN = 4
EMBEDDING = [round(0.001 * (i - 128), 3) for i in range(256)]
SENTENCE = (
    "The ledger closes every evening: each call is written down once, with the tokens it used, the price of the day "
    "it was made on, and what it would have cost had nothing been saved. "
)
ANSWER = SENTENCE * 3
WORDS = [word + " " for word in SENTENCE.split()]


class Pace(msgspec.Struct, frozen=True):
    """How streams are told: `chunks` pieces of text per stream, one each `interval` seconds."""

    chunks: int = 100
    interval: float = 0.02


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Asked(msgspec.Struct):
    """The fields of a request that change the answer."""

    model: str = "unknown"
    stream: bool = False
    stream_options: StreamOptions | None = None


class Stats(msgspec.Struct):
    """What has been seen since the start: requests answered or begun, and streamed events sent."""

    requests: int = 0
    chunks: int = 0


_asked = msgspec.json.Decoder(Asked)
_json = msgspec.json.Encoder()


def usage(prompt_bytes: int, completion: int) -> dict[str, object]:
    """A usage object as OpenAI writes it, counting one token per four bytes of prompt."""
    prompt = max(1, prompt_bytes // BYTES_PER_TOKEN)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 1024 * 512, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat(number: int, model: str, prompt_bytes: int) -> bytes:
    """A plain chat completion of about 1 KB."""
    return _json.encode(
        {
            "id": f"chatcmpl-{number:012d}",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": usage(prompt_bytes, len(ANSWER) // BYTES_PER_TOKEN),
            "service_tier": "default",
            "system_fingerprint": "fp_farthing",
        }
    )


def embedding(model: str, prompt_bytes: int) -> bytes:
    """One embedding of 256 numbers."""
    tokens = max(1, prompt_bytes // BYTES_PER_TOKEN)
    return _json.encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": EMBEDDING}],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def frames(number: int, asked: Asked, prompt_bytes: int, chunks: int) -> Iterator[bytes]:
    """The server-sent events of one stream: `chunks` deltas, the finish with `[DONE]`, the usage when asked for."""
    include_usage = asked.stream_options is not None and asked.stream_options.include_usage
    head = b'data: {"id":"chatcmpl-%012d","object":"chat.completion.chunk","created":1790000000,"model":%b,' % (
        number,
        _json.encode(asked.model),
    )
    head += b'"service_tier":"default","system_fingerprint":"fp_farthing",'
    tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
    for index in range(chunks):
        word = _json.encode(WORDS[index % len(WORDS)])
        delta = b'{"role":"assistant","content":%b}' % word if index == 0 else b'{"content":%b}' % word
        choice = b'"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}]' % delta
        yield head + choice + tail
    last = head + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]' + tail
    if include_usage:
        last += head + b'"choices":[],"usage":%b}\n\n' % _json.encode(usage(prompt_bytes, chunks))
    yield last + b"data: [DONE]\n\n"


class Provider(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, pace: Pace, stats: Stats) -> None:
        self._pace = pace
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []
        self._frames: Iterator[bytes] = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._path == b"/stats":
            self._answer(200, _json.encode(self._stats))
            return
        self._stats.requests += 1
        body = b"".join(self._body)
        match self._path:
            case b"/v1/chat/completions":
                self._chat(body)
            case b"/v1/embeddings":
                self._answer(200, embedding(_asked.decode(body).model, len(body)))
            case b"/v1/models":
                self._answer(200, b'{"object":"list","data":[{"id":"gpt-4o-mini","object":"model"}]}')
            case _:
                self._refuse(404, "no such endpoint")

    def _chat(self, body: bytes) -> None:
        try:
            asked = _asked.decode(body)
        except msgspec.DecodeError as error:
            self._refuse(400, str(error))
            return
        number = self._stats.requests
        if not asked.stream:
            self._answer(200, chat(number, asked.model, len(body)))
            return
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"x-request-id: req_%012d\r\ntransfer-encoding: chunked\r\n\r\n" % number
        )
        self._frames = frames(number, asked, len(body), self._pace.chunks)
        self._timer = self._loop.call_later(self._pace.interval, self._tell)

    def _tell(self) -> None:
        if self._full:
            self._timer = self._loop.call_later(self._pace.interval, self._tell)
            return
        frame = next(self._frames, None)
        if frame is None:
            self._timer = None
            self._transport.write(b"0\r\n\r\n")
            return
        self._stats.chunks += 1
        self._timer = self._loop.call_later(self._pace.interval, self._tell)
        self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame))

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, _json.encode({"error": {"message": message, "type": "invalid_request_error"}}))

    def _answer(self, status: int, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\nx-request-id: req_%012d\r\n"
            b"openai-processing-ms: 1\r\nx-ratelimit-remaining-requests: 9999\r\ncontent-length: %d\r\n\r\n%b"
            % (status, b"OK" if status == 200 else b"Error", self._stats.requests, len(body), body)
        )


async def serve(port: int, pace: Pace) -> None:
    """Answer on 127.0.0.1 until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stats = Stats()
    server = await loop.create_server(lambda: Provider(pace, stats), "127.0.0.1", port, backlog=1024)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    server.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=Pace().chunks, help="pieces of text per stream")
    parser.add_argument("--interval", type=float, default=Pace().interval, help="seconds between two pieces")
    flags = parser.parse_args()
    uvloop.run(serve(flags.port, Pace(flags.chunks, flags.interval)))


if __name__ == "__main__":
    main()
