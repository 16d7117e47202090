"""Several processes that serve on one port, and the one that keeps them running."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import msgspec
import uvloop

from farthing.config import Settings
from farthing.errors import FarthingError
from farthing.stores.worker_totals import forget_totals
from farthing.wiring.serving import serve, totals_path

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 8.0
"""Seconds before a worker that died is started again: at once the first time, longer each time it dies soon."""
SOON = 30.0
STOP_SECONDS = 45.0
"""How long workers may take to finish their calls; longer than a gateway drains."""

SPAWN = multiprocessing.get_context("spawn")


class _Worker:
    """One slot: the process in it, and the pipe that tells each side that the other is there."""

    def __init__(self, settings: Settings, number: int) -> None:
        self._settings = settings
        self._number = number
        self._pause = FIRST_PAUSE
        self.due = 0.0
        self.start()

    def start(self) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process: BaseProcess = SPAWN.Process(target=_work, args=(self._settings, self._number, theirs))
        self.process.start()
        theirs.close()
        self.started = time.monotonic()

    def wait_until_ready(self) -> bool:
        """Whether it serves; it may also end without."""
        with contextlib.suppress(EOFError, OSError):
            return bool(self.pipe.recv())
        return False

    def exit_code(self) -> int:
        """Why it ended, once it has."""
        self.process.join(STOP_SECONDS)
        return self.process.exitcode or 1

    def died(self) -> None:
        """Note when to start it again."""
        self.process.join()
        self.pipe.close()
        lived = time.monotonic() - self.started
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if lived < SOON else FIRST_PAUSE
        self.due = time.monotonic() + self._pause
        log.error(
            "Worker %d (process %d) died with exit code %s; another starts in %.2g s.",
            self._number,
            self.process.pid,
            self.process.exitcode,
            self._pause,
        )


def supervise(settings: Settings, announce: Callable[[str], None]) -> int:
    """Serve with `server.workers` processes until SIGTERM or SIGINT; their exit code.

    `announce` is called with the address once all of them answer. Raises OSError when the address is taken.
    """
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    server = settings.server
    with _reserved(server.host, server.port) as port:
        settings = msgspec.structs.replace(settings, server=msgspec.structs.replace(server, port=port))
        forget_totals(totals_path(settings))
        workers = [_Worker(settings, number) for number in range(server.workers)]
        try:
            for worker in workers:
                if not worker.wait_until_ready():
                    return worker.exit_code()
            announce(f"http://{server.host}:{port}")
            while not stopping:
                _tend(workers)
        finally:
            _end(workers)
    return 0


def _tend(workers: list[_Worker]) -> None:
    """Start again what died; returns after half a second at the latest."""
    running = {worker.process.sentinel: worker for worker in workers if not worker.due}
    for sentinel in wait(list(running), timeout=0.5):
        running[sentinel].died()  # type: ignore[index]  # sentinels are all that was waited for
    for worker in workers:
        if worker.due and time.monotonic() >= worker.due:
            worker.due = 0.0
            worker.start()


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.process.is_alive():
            worker.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.process.join(max(deadline - time.monotonic(), 0))
        if worker.process.is_alive():
            worker.process.kill()


@contextlib.contextmanager
def _reserved(host: str, port: int):  # type: ignore[no-untyped-def]  # an iterator of the port
    """The port, kept for the workers: bound, but not listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host.strip("[]"), port))
        yield reserved.getsockname()[1]


def _work(settings: Settings, number: int, parent: Connection) -> None:
    """What a worker process does: serve, until it is told to stop or its parent is gone."""

    async def work() -> None:
        asyncio.get_running_loop().add_reader(parent.fileno(), os.kill, os.getpid(), signal.SIGTERM)
        await serve(settings, os.environ, lambda _: parent.send(True), worker=number)

    try:
        uvloop.run(work())
    except FarthingError as error:
        print(f"farthing: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"farthing: {error}", file=sys.stderr)
        sys.exit(1)
