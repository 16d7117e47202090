"""The engine: how much it answers in time on one core, what batching is worth, and what a request costs beyond it."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import uvloop

from benchmarks.effort import Effort
from benchmarks.engine import TEXTS, Found, Load, bodies, highest
from benchmarks.figures import Figure, Target
from benchmarks.load import Answers
from benchmarks.process import ROOT, BenchmarkError, Served, free_port, serving
from farthing.engines.artefacts import read_manifest

PINNED = "import os, sys; os.sched_setaffinity(0, {{{core}}}); from farthing.cli import main; sys.exit(main())"
CONFIG = """
[server]
port = {port}

[ledger]
path = "{home}/ledger"

[upstreams.engine]
kind = "embedded"
folder = "{folder}"
hourly_usd = "0.05"
"""
ON, OFF = 64, 1


def engine(effort: Effort) -> list[Figure]:
    """Requests a second within 25 ms with batching, without, and through the gateway; CPU beyond the model."""
    rounds = max(1, effort.rounds // 2)
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as directory:
        folder = Path(effort.artefact).absolute() if effort.artefact else _student(Path(directory) / "student")
        found = [(_measured(folder, ON, effort.seconds), _measured(folder, OFF, effort.seconds)) for _ in range(rounds)]
        through = [_through_the_gateway(folder, Path(directory), effort.seconds) for _ in range(rounds)]
    on, off = [one for one, _ in found], [one for _, one in found]
    note = (
        f"a lone request takes {on[0].single_ms:.2f} ms; batches have {on[0].batch:.0f} texts a run; the model takes "
        f"{on[0].model_us:.0f} us a text in them, {off[0].model_us:.0f} by itself; "
        f"this process was given {100 * on[0].share:.0f} % and {100 * off[0].share:.0f} % of its core"
    )
    what = "requests/s with p95 <= 25 ms, one core"
    return [
        Figure(f"{what}, batches up to {ON}", Target(2000, None, "/s", True), tuple(one.rate for one in on), note),
        Figure(f"{what}, batches of 1", Target(unit="/s"), tuple(one.rate for one in off)),
        Figure(
            "batching on over off", Target(2.5, None, "x", True), tuple(a.rate / b.rate for a, b in found if b.rate)
        ),
        Figure("CPU per request beyond the model", Target(60, None, "us"), tuple(one.overhead_us for one in on)),
        Figure(f"{what}, whole gateway", Target(unit="/s"), tuple(through)),
    ]


def _student(folder: Path) -> Path:
    """A model of a usual student's size and random weights, its weights in 8 bits."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from engine_sample import Shape, encoder, quantized
    except ImportError as error:
        raise BenchmarkError(f"{error}; pip install 'farthing[compress]', or name a model with --artefact") from None
    return quantized(encoder(folder, Shape()))  # type: ignore[no-any-return]


def _measured(folder: Path, max_batch: int, seconds: float) -> Found:
    """What an engine can do in a process of its own, on one core, with its generator."""
    command = [sys.executable, "-m", "benchmarks.engine", str(folder), f"--max-batch={max_batch}"]
    done = subprocess.run([*command, f"--seconds={seconds}"], capture_output=True, check=False, cwd=ROOT)
    if done.returncode:
        raise BenchmarkError(done.stderr.decode(errors="replace")[-500:])
    return msgspec.json.decode(done.stdout, type=Found)


def _through_the_gateway(folder: Path, home: Path, seconds: float) -> float:
    """The highest rate at which a gateway on the first core keeps the promise to a generator on the others."""
    cores = os.sched_getaffinity(0)
    first, *rest = sorted(cores)
    if not rest:
        raise BenchmarkError("the gateway and its callers need a core each")
    with _gateway(folder, home, first) as served:
        os.sched_setaffinity(0, set(rest))
        try:
            rate, _, _ = uvloop.run(_drive(served.port, folder, seconds))
        finally:
            os.sched_setaffinity(0, cores)
    return rate


@contextlib.contextmanager
def _gateway(folder: Path, home: Path, core: int) -> Iterator[Served]:
    port = free_port()
    config = home / "farthing.toml"
    config.write_text(CONFIG.format(port=port, home=home, folder=folder))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    command = [sys.executable, "-c", PINNED.format(core=core), "up", "--config", str(config)]
    with serving("the gateway", port, command, home / "gateway.log", clean) as served:
        yield served


async def _drive(port: int, folder: Path, seconds: float) -> tuple[float, Load, float]:
    asked = bodies(
        folder, read_manifest(folder).name, TEXTS * 20, seed=os.getpid()
    )  # no two alike: none from the cache
    return await highest(_asking(port), [_message(body) for body in asked], seconds)


def _message(body: bytes) -> bytes:
    head = (
        b"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return head % len(body) + body


def _asking(port: int) -> Callable[[bytes], Awaitable[bool]]:
    """Asks over as many connections as there are questions under way."""
    idle: list[_Line] = []

    async def ask(message: bytes) -> bool:
        line = idle.pop() if idle else (await asyncio.get_running_loop().create_connection(_Line, "127.0.0.1", port))[1]
        status = await line.ask(message)
        if status:
            idle.append(line)
        return status == 200

    return ask


class _Line(Answers):
    """One question at a time."""

    def ask(self, message: bytes) -> asyncio.Future[int]:
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.write(message)
        return self._answer

    def answer_ended(self, status: int) -> None:
        if not self._answer.done():
            self._answer.set_result(status)
