"""How long a gateway takes to serve that was killed with a long ledger behind it."""

import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.process import BenchmarkError, free_port
from benchmarks.servers import FARTHING
from farthing.ports import Stored
from farthing.schema import HOUR, Entry, Usage
from farthing.stores.sqlite_ledger import SqliteLedger

ENTRIES = 1_000_000
CONFIG = """
[server]
port = {port}
[ledger]
path = "{home}/ledger"
retention_days = 36500
[upstreams.stub]
kind = "stub"
models = ["*"]
[budgets.all]
usd = "9000000"
period = "lifetime"
"""


def ready(effort: Effort) -> list[Figure]:
    """Seconds from `farthing up` to a good `/readyz`, each time after a kill -9, with a million entries."""
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as directory:
        home = Path(directory)
        _fill(home / "ledger" / "ledger.sqlite")
        port = free_port()
        config = home / "farthing.toml"
        config.write_text(CONFIG.format(port=port, home=home))
        samples = tuple(_start_and_kill(config, port) for _ in range(effort.rounds))
    what = f"kill -9 to ready, {ENTRIES:,} entries"
    return [Figure(what, Target(2, None, "s"), samples)]


def _fill(path: Path) -> None:
    ledger = SqliteLedger(path)
    encode = msgspec.json.Encoder().encode
    now = time.time_ns()
    for numbers in _batched(ENTRIES, 1000):
        entries = [_entry(number, now - (ENTRIES - number) * HOUR // 1000) for number in numbers]
        ledger.ingest([Stored(entry, encode(entry)) for entry in entries], numbers[-1] + 1)
    ledger.close()


def _batched(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _entry(number: int, at: int) -> Entry:
    group = f"{number:020d}"
    return Entry(
        id=f"{group}.1",
        group=group,
        attempt=1,
        at=at,
        endpoint="chat",
        model="gpt-6-luna",
        upstream="stub",
        usage=Usage(input=100, output=50),
        usage_source="provider",
        cost=35_000_000,
        list_cost=35_000_000,
        status=200,
        latency=1000,
    )


def _start_and_kill(config: Path, port: int) -> float:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    began = time.perf_counter()
    process = subprocess.Popen(
        [*FARTHING, "up", "--config", str(config)], env=clean, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - began < 60:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    return time.perf_counter() - began
            except (urllib.error.URLError, OSError):
                time.sleep(0.01)
        raise BenchmarkError("the gateway was not ready within a minute")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
