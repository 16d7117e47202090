"""Child processes and what Linux says they used."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")
START_SECONDS = 20.0
STOP_SECONDS = 10.0
IDLE_SECONDS = 0.6
IDLE_SHARE = 0.01
"""A server that uses less than this share of a core for `IDLE_SECONDS` has finished the work it was given."""
SETTLE_TRIES = 20


class BenchmarkError(Exception):
    """A server did not start, a load generator broke, or the answers were wrong."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A running server with its descendants, which all count as one."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.port = port
        self._process = process
        self._log = log
        self._family: tuple[int, ...] = (process.pid,)

    def await_ready(self) -> None:
        """Return once the port accepts connections; raises BenchmarkError with the log's end if it never does."""
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                self._family = _family(self._process.pid)
                return
            time.sleep(0.02)
        raise BenchmarkError(f"{self.name} did not start on port {self.port}: {self.log()}")

    def log(self) -> str:
        """The last 500 characters of what the server printed."""
        return self._log.read_text(errors="replace")[-500:].strip()

    def cpu_ns(self) -> int:
        """Nanoseconds of CPU run by every thread of every process of the server so far."""
        return sum(_run_ns(task) for pid in self._family for task in PROC.glob(f"{pid}/task/*"))

    def rss_bytes(self) -> int:
        """Resident memory of the largest process of the server."""
        page = os.sysconf("SC_PAGE_SIZE")
        return max(int((PROC / str(pid) / "statm").read_text().split()[1]) for pid in self._family) * page

    def settled_cpu_ns(self) -> int:
        """`cpu_ns` once background work has come to rest, such as a store that is fed twice a second."""
        before = self.cpu_ns()
        for _ in range(SETTLE_TRIES):
            time.sleep(IDLE_SECONDS)
            after = self.cpu_ns()
            if after - before < IDLE_SECONDS * IDLE_SHARE * 1e9:
                return after
            before = after
        raise BenchmarkError(f"{self.name} is still busy {SETTLE_TRIES * IDLE_SECONDS:.0f} s after its last request")

    def stop(self) -> None:
        """Ask the server to end, then insist."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def serving(
    name: str, port: int, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Run a server for the length of a `with` block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=ROOT)
    served = Served(name, port, process, log)
    try:
        served.await_ready()
        yield served
    finally:
        served.stop()


def child_cpu_seconds(command: Sequence[str]) -> float:
    """User + system CPU seconds of one run of a command to its end; raises BenchmarkError when it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise BenchmarkError(
            f"{' '.join(command)} exited {process.returncode}: {errors[-300:].decode(errors='replace')}"
        )
    return usage.ru_utime + usage.ru_stime


def _run_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except FileNotFoundError:  # the thread ended between the listing and the reading
        return 0


def _family(root: int) -> tuple[int, ...]:
    """A process and its descendants; /proc/PID/task/TID/children is not in every kernel, the parent's id is."""
    parents: dict[int, int] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    family = [root]
    for pid in family:
        family.extend(child for child, parent in parents.items() if parent == pid)
    return tuple(family)
