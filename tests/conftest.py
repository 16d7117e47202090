"""A real gateway on a free port, and a real upstream that does exactly what a test says."""

import asyncio
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import settings

from farthing.config import Fallback, Ledger, Server, Settings, Upstream
from farthing.schema import Entry

# A busy machine is no reason for a property to fail.
settings.register_profile("farthing", deadline=None)
settings.load_profile("farthing")

pytest_plugins = ["postgres_server", "redis_server"]

if TYPE_CHECKING:
    from farthing.wiring.serving import Running


class Answer(msgspec.Struct):
    """One HTTP answer as a test reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


class Gateway:
    """A gateway running in a thread of its own."""

    def __init__(self, running: "Running", loop: asyncio.AbstractEventLoop) -> None:
        self.running = running
        self.loop = loop
        self.url = running.url
        self.port = int(running.url.rpartition(":")[2])

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, {"content-type": "application/json", **(headers or {})})

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.request("GET", path, None, headers or {})

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def raw(self, data: bytes, timeout: float = 10) -> bytes:
        """Everything that comes back for some bytes, until the gateway closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as client:
            client.sendall(data)
            received = b""
            try:
                while chunk := client.recv(65536):
                    received += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            return received

    def entries(self) -> list[Entry]:
        """Every entry, once all that was answered has reached the store."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (self.running.journal.commit(), done.set()))
        assert done.wait(10)
        assert self.running.journal.flush(10)
        return list(self.running.ledger.entries())

    def accounts(self) -> list:
        """How every limit stands, once all that was answered is settled."""
        self.entries()
        deadline = time.monotonic() + 5
        while True:
            asked = asyncio.run_coroutine_threadsafe(self.running.holds.refreshed(), self.loop)
            found = asked.result(5)
            if not any(account.balance.held for account in found) or time.monotonic() > deadline:
                return found

    def call(self, function: Callable[[], object]) -> None:
        self.loop.call_soon_threadsafe(function)


@contextmanager
def serving(settings: Settings, environ: dict[str, str] | None = None) -> Iterator[Gateway]:
    started: list[Gateway] = []
    failed: list[BaseException] = []
    ready, stop = threading.Event(), threading.Event()

    from farthing.wiring.serving import running  # not above: tests of the core need not load the shell

    async def serve() -> None:
        async with running(settings, environ or {}) as gateway:
            started.append(Gateway(gateway, asyncio.get_running_loop()))
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 (handed to the test, which raises it)
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(30)
    if failed:
        raise failed[0]
    try:
        yield started[0]
    finally:
        stop.set()
        thread.join(40)
        assert not thread.is_alive(), "the gateway did not stop"
    if failed:
        raise failed[0]


def settings_for(path: Path, **changes: object) -> Settings:
    """Settings for a gateway over the stub, in a directory of its own, on a free port; nothing is asked twice."""
    defaults = {
        "server": Server(port=0),
        "ledger": Ledger(path=str(path / "ledger")),
        "upstreams": {"stub": Upstream(kind="stub", models=("*",))},
        "fallback": Fallback(attempts=1),
    }
    return Settings(**{**defaults, **changes})


@pytest.fixture
def gateway_with(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways with settings of the test's own; all stop at its end."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        count = iter(range(100))

        def start(environ: dict[str, str] | None = None, **changes: object) -> Gateway:
            return stack.enter_context(serving(settings_for(tmp_path / str(next(count)), **changes), environ))

        yield start


@pytest.fixture
def gateway(gateway_with: Callable[..., Gateway]) -> Gateway:
    """A gateway over the stub."""
    return gateway_with()


@pytest.fixture(scope="session")
def bag_artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model named "bag", which labels texts by the words in them."""
    pytest.importorskip("onnx", reason="needs farthing[compress]")
    from engine_sample import bag

    return bag(tmp_path_factory.mktemp("artefacts") / "bag")


class ScriptedUpstream:
    """An upstream that reads one request per connection and then does what its script says with the socket."""

    def __init__(self, script: Callable[[socket.socket, bytes], None]) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.closed_by_gateway = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while request := read_request(client):
                    self.requests.append(request)
                    self.script(client, request)
            except OSError:
                self.closed_by_gateway.set()

    def close(self) -> None:
        self._listener.close()


def read_request(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def upstream_that() -> Iterator[Callable[[Callable[[socket.socket, bytes], None]], ScriptedUpstream]]:
    """Start upstreams that follow a script."""
    started: list[ScriptedUpstream] = []

    def start(script: Callable[[socket.socket, bytes], None]) -> ScriptedUpstream:
        started.append(ScriptedUpstream(script))
        return started[-1]

    yield start
    for upstream in started:
        upstream.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public data that benchmarks and some tests run on; it is not part of the repository."""
    path = Path(os.environ.get("FARTHING_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not path.is_dir():
        pytest.skip("needs ../shared/data or FARTHING_SHARED")
    return path
