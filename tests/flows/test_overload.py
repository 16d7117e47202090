"""More calls than are served at once: the rest are refused cheaply, told when to come back, and counted."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from farthing.config import ExactCache, Server, Upstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
BODY = b'{"id":"c","object":"chat.completion","model":"gpt-6-luna","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'


def test_what_is_too_much_is_refused_and_counted(gateway_with, upstream_that):
    go = threading.Event()

    def slowly(client: socket.socket, request: bytes) -> None:
        go.wait(20)
        client.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
        )

    upstream = upstream_that(slowly)
    gateway = gateway_with(
        server=Server(port=0, max_in_flight=2),
        upstreams={"slow": Upstream(base_url=f"http://127.0.0.1:{upstream.port}/v1", models=("*",))},
        cache=ExactCache(enabled=False),
    )
    with ThreadPoolExecutor(2) as pool:
        under_way = [pool.submit(gateway.post, "/v1/chat/completions", CHAT) for _ in range(2)]
        deadline = time.monotonic() + 10
        while len(upstream.requests) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        refused = gateway.post("/v1/chat/completions", CHAT)
        said = gateway.post("/v1/messages", {**CHAT, "max_tokens": 5})
        health, metrics = gateway.get("/healthz"), gateway.get("/metrics")
        go.set()
        assert [call.result().status for call in under_way] == [200, 200]

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json["error"]["code"] == "unavailable"
    assert said.json["error"]["type"] == "overloaded_error"
    assert health.status == 200
    assert b"farthing_shed_total 2.0" in metrics.body
    assert len(gateway.entries()) == 2
    assert gateway.post("/v1/chat/completions", CHAT).status == 200
