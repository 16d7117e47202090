"""Reads what a server spent on the requests it was sent, and whether it wrote all of them down."""

import subprocess

from benchmarks.load import CONNECTIONS, sustain
from benchmarks.process import BenchmarkError, Served
from benchmarks.questions import Question
from benchmarks.servers import FARTHING, Scene


class Meter:
    """CPU per request of one server over several runs, with a count of what was answered and what failed.

    The server is at rest when a run begins: it starts idle, and each run ends when its background work has.
    """

    def __init__(self, served: Served) -> None:
        self._served = served
        self._runs = 0
        self.answered = 0
        self.failed = 0

    def cpu_us(self, question: Question, seconds: int, *, unique: bool = True) -> float:
        """CPU-microseconds per request while 64 connections are kept busy, background work included."""
        before = self._served.cpu_ns()
        load = sustain(self._served.port, question, seconds, unique=unique)
        spent = self._served.settled_cpu_ns() - before
        if not load.requests:
            raise BenchmarkError(f"{self._served.name} answered nothing in {seconds} s: {self._served.log()}")
        self._runs += 1
        self.answered += load.requests
        self.failed += load.failures
        return spent / 1000 / load.requests

    def problems(self, entries: int) -> tuple[str, ...]:
        """What went wrong, given the number of ledger entries written meanwhile.

        A run ends with up to 64 requests on their way, whose answers nobody waited for but which have an entry.
        """
        return tuple(failures(self.failed)) + wrong_count(
            "ledger entries", entries, self.answered, self.answered + self._runs * CONNECTIONS
        )


def failures(count: int) -> tuple[str, ...]:
    """A sentence when any request failed."""
    return (f"{count:,} requests were not answered with status 200",) if count else ()


def wrong_count(what: str, found: int, least: int, most: int) -> tuple[str, ...]:
    """A sentence when a count is not within its bounds."""
    return () if least <= found <= most else (f"{found:,} {what} where {least:,} to {most:,} were due",)


def ledger_entries(scene: Scene) -> int:
    """The number of entries that `farthing ledger export` tells of, once the store has taken what was journalled."""
    scene.gateway.settled_cpu_ns()
    command = [*FARTHING, "ledger", "export", "--json", "--config", str(scene.home / "farthing.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        count = sum(1 for _ in export.stdout)
        errors = export.stderr.read()
    if export.returncode:
        raise BenchmarkError(f"farthing ledger export exited {export.returncode}: {errors.decode()[-300:]}")
    return count
