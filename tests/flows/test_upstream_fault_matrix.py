"""Every fault of an upstream, streamed and plain, in both dialects: classified, in time, in little memory, entered."""

import contextlib
import gzip
import http.client
import json
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import msgspec
import pytest

from farthing.schema import Entry
from farthing.stores.sqlite_ledger import SqliteLedger

DEADLINE = 1.5
STALL = 0.7
MEGABYTE = 1024 * 1024
ROOM = 64
"""MB that no fault may cost the gateway."""

Script = Callable[[socket.socket, "Asked"], None]


class Asked(msgspec.Struct):
    """What the gateway asked: in which dialect, for which fault, and whether for a stream."""

    dialect: str
    fault: str
    stream: bool


# What a good upstream says


def answer_body(dialect: str) -> bytes:
    if dialect == "anthropic":
        said = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5",
            "content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 2},
        }  # fmt: skip
    else:
        said = {
            "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-6-luna",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        }  # fmt: skip
    return json.dumps(said).encode()


def error_body(dialect: str, kind: str = "rate_limit_error") -> bytes:
    said = {"type": kind, "message": "Slow down."}
    return json.dumps({"type": "error", "error": said} if dialect == "anthropic" else {"error": said}).encode()


def events(dialect: str, text: str = "Hello.", *, done: bool = True) -> list[dict]:
    if dialect == "anthropic":
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "content": []}
        usage = {"input_tokens": 10, "output_tokens": 1}
        return [
            {"type": "message_start", "message": message | {"usage": usage}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        ] + ([{"type": "message_stop"}] if done else [])
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-6-luna"}
    return [
        chunk | {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
        chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        chunk | {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}},
    ]


def frames(dialect: str, text: str = "Hello.", *, done: bool = True) -> list[bytes]:
    def frame(event: dict) -> bytes:
        name = f"event: {event['type']}\n" if dialect == "anthropic" else ""
        return f"{name}data: {json.dumps(event)}\n\n".encode()

    sent = [frame(event) for event in events(dialect, text, done=done)]
    return [*sent, b"data: [DONE]\n\n"] if done and dialect == "openai" else sent


def head(asked: Asked, *fields: str, status: str = "200 OK") -> bytes:
    kind = "text/event-stream" if asked.stream else "application/json"
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-type: {kind}", *fields, "", ""]).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def body_of(asked: Asked) -> bytes:
    return b"".join(frames(asked.dialect)) if asked.stream else answer_body(asked.dialect)


# What faulty ones do


def refuses(status: str, *fields: str, kind: str = "rate_limit_error") -> Script:
    def script(client: socket.socket, asked: Asked) -> None:
        body = error_body(asked.dialect, kind)
        plain = msgspec.structs.replace(asked, stream=False)
        client.sendall(head(plain, f"content-length: {len(body)}", *fields, status=status) + body)

    return script


def sends(make: Callable[[Asked], bytes]) -> Script:
    def script(client: socket.socket, asked: Asked) -> None:
        client.sendall(make(asked))
        client.shutdown(socket.SHUT_WR)

    return script


def streams(make: Callable[[str], bytes]) -> Script:
    return sends(lambda asked: head(asked, "transfer-encoding: chunked") + chunked(make(asked.dialect)) + b"0\r\n\r\n")


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def resets_in_head(client: socket.socket, asked: Asked) -> None:
    client.sendall(head(asked)[:40])
    time.sleep(0.05)
    reset(client)


def half(asked: Asked) -> bytes:
    whole = body_of(asked)
    return head(asked, f"content-length: {len(whole)}") + (
        frames(asked.dialect)[0] if asked.stream else whole[: len(whole) // 2]
    )


def resets_midway(client: socket.socket, asked: Asked) -> None:
    client.sendall(half(asked))
    time.sleep(0.05)
    reset(client)


def stalls(client: socket.socket, asked: Asked) -> None:
    client.sendall(half(asked))
    client.recv(1)


def drips(client: socket.socket, asked: Asked) -> None:
    client.sendall(half(asked))
    while True:
        client.sendall(b" ")
        time.sleep(0.2)  # five times as fast as a byte a second, and well within the longest silence


def multi_line(dialect: str) -> bytes:
    """Each event as JSON over several data lines, which a reader joins by LF."""
    out = []
    for event in events(dialect):
        name = f"event: {event['type']}\n" if dialect == "anthropic" else ""
        lines = "".join(f"data: {line}\n" for line in json.dumps(event, indent=1).splitlines())
        out.append(f"{name}{lines}\n".encode())
    return b"".join(out) + (b"data: [DONE]\n\n" if dialect == "openai" else b"")


def bomb(asked: Asked) -> bytes:
    packed = BOMB_STREAM if asked.stream else BOMB
    return head(asked, f"content-length: {len(packed)}", "content-encoding: gzip") + packed


def pours(total: int, piece: bytes) -> Script:
    def script(client: socket.socket, asked: Asked) -> None:
        client.sendall(head(asked, "transfer-encoding: chunked"))
        part = chunked(piece)
        for _ in range(total // len(piece)):
            client.sendall(part)
        client.sendall(b"0\r\n\r\n")

    return script


BOMB = gzip.compress(bytes(300 * MEGABYTE), 1)
BOMB_STREAM = gzip.compress(b"data: " + bytes(300 * MEGABYTE), 1)


class Fault(msgspec.Struct):
    """A fault, and what a call that meets it ends as: status, error code and usage source, plain then streamed.

    `None`: the fault is none in that way of asking. `slow` ones are waited for side by side. `messages` is how
    Anthropic's streams end, where they end otherwise: only their last event says that they are whole.
    """

    script: Script | None
    plain: tuple[int, str, str] | None
    streamed: tuple[int, str, str] | None
    slow: bool = False
    messages: tuple[int, str, str] | None = None

    def ends_as(self, way: str, dialect: str) -> tuple[int, str, str] | None:
        if way == "streamed" and dialect == "anthropic" and self.messages is not None:
            return self.messages
        return self.streamed if way == "streamed" else self.plain


LOST = (502, "upstream_reset", "estimated")
LATE = (504, "upstream_timeout", "estimated")
JUNK = (502, "upstream_garbage", "estimated")
NEVER = (502, "upstream_unreachable", "none")
NEVER_IN_TIME = (504, "upstream_timeout", "none")
SLOWER = (429, "rate_limit_error", "none")
GOOD = (200, "", "provider")
UNENDED = (200, "upstream_reset", "provider")
CUT = (200, "upstream_reset", "estimated")
CUT_LATE = (200, "upstream_timeout", "estimated")


def sized(extra: int) -> Script:
    """A whole answer whose length is said to be so many bytes more than it is."""
    return sends(lambda asked: head(asked, f"content-length: {len(body_of(asked)) + extra}") + body_of(asked))


def breaks_its_chunks(asked: Asked) -> bytes:
    _, _, begun = half(asked).partition(b"\r\n\r\n")
    return head(asked, "transfer-encoding: chunked") + chunked(begun) + b"zz\r\n"


FAULTS = {
    "connection refused": Fault(None, NEVER, NEVER),
    "no such host": Fault(None, NEVER, NEVER, slow=True),
    "certificate not trusted": Fault(None, NEVER, NEVER),
    "TLS that says nothing": Fault(None, NEVER_IN_TIME, NEVER_IN_TIME, slow=True),
    "429 in seconds": Fault(refuses("429 Slower", "retry-after: 7"), SLOWER, SLOWER),
    "429 until a date": Fault(
        refuses("429 Slower", f"retry-after: {formatdate(2e9, usegmt=True)}"), SLOWER, SLOWER
    ),
    "429 in milliseconds": Fault(refuses("429 Slower", "retry-after-ms: 250"), SLOWER, SLOWER),
    "500": Fault(refuses("500 Broken", kind="api_error"), *[(500, "api_error", "none")] * 2),
    "529": Fault(refuses("529 Busy", kind="overloaded_error"), *[(529, "overloaded_error", "none")] * 2),
    "200 with an error": Fault(refuses("200 OK", kind="overloaded_error"), *[(502, "overloaded_error", "none")] * 2),
    "reset in the head": Fault(resets_in_head, LOST, LOST),
    "reset midway": Fault(resets_midway, LOST, CUT),
    "stall": Fault(stalls, LATE, CUT_LATE, slow=True),
    "a byte at a time": Fault(drips, LATE, CUT_LATE, slow=True),
    "longer than it said": Fault(sized(-40), JUNK, (200, "", "estimated"), messages=UNENDED),
    "shorter than it said": Fault(sized(40), LOST, GOOD),
    "bad chunk": Fault(sends(breaks_its_chunks), JUNK, (200, "upstream_garbage", "estimated")),
    "invalid UTF-8": Fault(sends(lambda asked: head(asked) + body_of(asked).replace(b"Hello", b"\xff\xfe")), GOOD, GOOD),
    "CRLF": Fault(streams(lambda dialect: b"".join(frames(dialect)).replace(b"\n", b"\r\n")), None, GOOD),
    "several data lines": Fault(streams(multi_line), None, GOOD),
    "comments": Fault(streams(lambda dialect: b": hi\n\n" + b": keep-alive\n\n".join(frames(dialect))), None, GOOD),
    "a line of 10 MB": Fault(streams(lambda dialect: b"".join(frames(dialect, "x" * 10 * MEGABYTE))), None, GOOD),
    "no last event": Fault(streams(lambda dialect: b"".join(frames(dialect, done=False))), None, GOOD, messages=UNENDED),
    "gzip bomb": Fault(sends(bomb), JUNK, JUNK),
    "100 MB body": Fault(pours(100 * MEGABYTE, b" " * MEGABYTE), JUNK, JUNK),
    "no fault": Fault(sends(lambda asked: head(asked) + body_of(asked)), GOOD, GOOD),
}  # fmt: skip

CELLS = [
    (name, way, dialect)
    for name, fault in FAULTS.items()
    for way in ("plain", "streamed")
    if fault.ends_as(way, "openai") is not None
    for dialect in ("openai", "anthropic")
]
WARMING = [("no fault", way, "warming") for way in ("plain", "streamed")]
"""Calls that load what loads late."""


# The upstreams, and a gateway in a process of its own


def read_question(client: socket.socket) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(65536)
        if not chunk:
            return None
        data += chunk
    before, _, body = data.partition(b"\r\n\r\n")
    length = int(before.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    asked = json.loads(body)
    dialect = "anthropic" if b"/messages" in before.split(b"\r\n")[0] else "openai"
    return Asked(dialect, asked["model"].partition(",")[0], asked.get("stream", False))


def serve(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        asked = read_question(client)
        script = FAULTS[asked.fault].script if asked else None
        if asked and script:
            script(client, asked)
            client.settimeout(5)
            client.recv(1)  # until the gateway hangs up


def listen(serve_one: Callable[[socket.socket], None]) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def self_signed(path: Path) -> ssl.SSLContext:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to sign a certificate with")
    key, certificate = path / "key.pem", path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
               "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def shake_hands(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def serve_one(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as shaken:
            shaken.recv(1)

    return serve_one


def say_nothing(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(10)
        while client.recv(4096):
            pass


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@contextlib.contextmanager
def gateway(path: Path, addresses: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A gateway with an upstream per model, for they rest once they failed: its port and its process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = port_of(free)
    config = path / "farthing.toml"
    lines = [f"[server]\nport = {port}\n[ledger]\npath = {json.dumps(str(path / 'ledger'))}\n[cache]\nenabled = false"]
    lines += ["[fallback]\nattempts = 1\nfailures = 1000"]
    for number, (model, address) in enumerate(addresses.items()):
        lines.append(
            f"[upstreams.up{number}]\nprovider = 'openrouter'\nbase_url = '{address}/v1'\nmodels = ['{model}']"
        )
        lines.append(f"stall_timeout = {STALL}\ndeadline = {DEADLINE}\non_disconnect = 'abort'")
    config.write_text("\n".join(lines))
    command = [sys.executable, "-m", "farthing.cli", "up", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            await_port(process, port)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def await_port(process: subprocess.Popen, port: int) -> None:
    for _ in range(400):
        if process.poll() is not None:
            pytest.fail(f"the gateway did not start: {process.stderr.read().decode()}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    pytest.fail("the gateway did not start")


def memory(process_id: int, field: str) -> float:
    """VmRSS, or VmHWM for the most since it was last forgotten, in MB."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def forget_peak(process_id: int) -> None:
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


def ids(cell: tuple[str, str, str]) -> str:
    return ", ".join(cell)


class Met(msgspec.Struct):
    """What became of one call that met a fault."""

    status: int
    body: bytes
    retry_after: str | None
    call: str
    seconds: float
    grown: float = 0.0
    entry: Entry | None = None


def ask(port: int, fault: str, way: str, dialect: str) -> Met:
    path = "/v1/messages" if dialect == "anthropic" else "/v1/chat/completions"
    body = {
        "model": ids((fault, way, dialect)),
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Hi."}],
        "stream": way == "streamed",
    }
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        received = response.read()
    finally:
        connection.close()
    headers = response.headers
    pause = headers["retry-after-ms"] or headers["retry-after"]
    return Met(response.status, received, pause, headers["x-farthing-call"], time.monotonic() - began)


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str, str], Met]]:
    """Every cell of the matrix, met once."""
    path = tmp_path_factory.mktemp("matrix")
    faulty, quiet = listen(serve), listen(say_nothing)
    signed = listen(shake_hands(self_signed(path)))
    closed = socket.socket()  # bound, so that nobody else listens there
    closed.bind(("127.0.0.1", 0))
    special = {
        "connection refused": f"http://127.0.0.1:{port_of(closed)}",
        "no such host": "http://nowhere.invalid",
        "certificate not trusted": f"https://127.0.0.1:{port_of(signed)}",
        "TLS that says nothing": f"https://127.0.0.1:{port_of(quiet)}",
    }
    usual = f"http://127.0.0.1:{port_of(faulty)}"
    addresses = {ids(cell): special.get(cell[0], usual) for cell in [*CELLS, *WARMING]}
    found: dict[tuple[str, str, str], Met] = {}
    with gateway(path, addresses) as (port, process_id):
        for cell in WARMING:
            ask(port, *cell)
        before = memory(process_id, "VmRSS")
        for cell in CELLS:
            if not FAULTS[cell[0]].slow:
                forget_peak(process_id)
                found[cell] = ask(port, *cell)
                found[cell].grown = memory(process_id, "VmHWM") - before
        slow = [cell for cell in CELLS if FAULTS[cell[0]].slow]
        with ThreadPoolExecutor(len(slow)) as pool:
            found.update(zip(slow, pool.map(lambda cell: ask(port, *cell), slow), strict=True))
    for listener in (faulty, quiet, signed, closed):
        listener.close()
    ledger = SqliteLedger(path / "ledger" / "ledger.sqlite")
    for result in found.values():
        (result.entry,) = ledger.group(result.call)
    ledger.close()
    yield found
    show(found)


def show(found: dict[tuple[str, str, str], Met]) -> None:
    print(f"\n{'fault':26}{'asked':10}{'dialect':11}{'status':>7}  {'code':22}{'usage':11}{'seconds':>8}{'MB':>6}")
    for (fault, way, dialect), one in found.items():
        entry = one.entry
        print(
            f"{fault:26}{way:10}{dialect:11}{one.status:7}  {entry.error:22}{entry.usage_source:11}{one.seconds:8.2f}{one.grown:6.0f}"
        )


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_it_is_classified_and_entered(met, cell):
    fault, way, dialect = cell
    status, code, source = FAULTS[fault].ends_as(way, dialect)
    one = met[cell]
    assert (one.status, one.entry.error, one.entry.usage_source) == (status, code, source)
    assert one.entry.cost is None or one.entry.cost >= 0
    if source == "none":
        assert one.entry.cost == 0


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_it_ends_within_its_deadline_and_a_second(met, cell):
    assert met[cell].seconds < DEADLINE + 1


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_it_takes_little_memory(met, cell):
    assert met[cell].grown < ROOM


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_its_error_is_one_of_the_callers_dialect(met, cell):
    _, way, dialect = cell
    one = met[cell]
    if not one.entry.error:
        assert b'"error"' not in one.body
        return
    if one.status == 200:  # a stream that had begun says so in its last event
        assert way == "streamed"
        data = [line for line in one.body.splitlines() if line.startswith(b"data: ")][-1]
        said = json.loads(data.removeprefix(b"data: "))
    else:
        said = json.loads(one.body)
    if dialect == "anthropic":
        assert said["type"] == "error"
    assert said["error"]["type"]
    assert said["error"]["message"]


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_caller_is_told_when_to_come_back_as_the_provider_said_it(met, dialect):
    assert met["429 in seconds", "plain", dialect].retry_after == "7"
    assert met["429 until a date", "streamed", dialect].retry_after.startswith("Wed, 18 May 2033")
    assert met["429 in milliseconds", "plain", dialect].retry_after == "250"
