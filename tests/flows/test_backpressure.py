"""A slow reader slows its upstream down; it never fills the gateway's memory."""

import json
import resource
import socket
import threading
import time

from farthing.config import Upstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say much."}], "stream": True}
FRAME = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{"content":"'
    + b"x" * 16_000
    + b'"},"finish_reason":null}]}\n\n'
)
FRAMES = 6_000  # about 100 MB


def test_a_slow_reader_holds_its_upstream_back(gateway_with, upstream_that):
    sent = threading.Event()
    count = [0]

    def flood(client: socket.socket, request: bytes) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(FRAMES):
            client.sendall(b"%x\r\n%b\r\n" % (len(FRAME), FRAME))
            count[0] += 1
        last = b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        sent.set()

    port = upstream_that(flood).port
    gateway = gateway_with(
        upstreams={"up": Upstream(provider="openai", base_url=f"http://127.0.0.1:{port}/v1", models=("*",))}
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = json.dumps(CHAT).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        stopped = -1
        while count[0] != stopped:  # until the upstream is held back
            stopped = count[0]
            time.sleep(0.3)
        assert count[0] < FRAMES / 2
        received = b""
        total = 0
        while not received.endswith(b"0\r\n\r\n"):
            chunk = client.recv(1 << 20)
            assert chunk
            total += len(chunk)
            received = (received + chunk)[-64:]

    assert sent.wait(10)
    assert total > FRAMES * len(FRAME)
    (entry,) = gateway.entries()
    assert entry.error == ""
    assert entry.usage_source == "estimated"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"memory grew by {grown} KiB"
