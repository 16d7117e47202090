"""`farthing up --workers`: one port, one ledger, one set of figures, and a worker that dies is started again."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from farthing.stores.sqlite_ledger import SqliteLedger

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
CONFIG = """
[ledger]
path = "{path}"
[cache]
enabled = false
[upstreams.stub]
kind = "stub"
models = ["*"]
"""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, int, Path]]:
    config = tmp_path / "farthing.toml"
    config.write_text(CONFIG.format(path=tmp_path / "data"))
    command = [sys.executable, "-m", "farthing.cli", "up", "--json", "--workers", "2", "--port", "0", "-c", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = ""
    while not said.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, "it did not start"
        said += line
    yield process, int(json.loads(said)["url"].rpartition(":")[2]), tmp_path / "data"
    if process.poll() is None:
        process.terminate()
        assert process.wait(60) == 0


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, answer.read()


def children(process: subprocess.Popen) -> list[int]:
    return [
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if stat.read_text().rpartition(")")[2].split()[1] == str(process.pid)
        and b"multiprocessing.spawn" in (stat.parent / "cmdline").read_bytes()
    ]


def requests_seen(port: int) -> float:
    text = ask(port, "GET", "/metrics")[1].decode()
    return sum(float(value) for value in re.findall(r"^farthing_requests_total\{.*\} (\S+)$", text, re.MULTILINE))


@pytest.mark.timeout(120)
def test_workers_share_a_port_a_ledger_and_their_figures(workers):
    process, port, data = workers
    assert len(children(process)) == 2

    for _ in range(40):
        assert ask(port, "POST", "/v1/chat/completions", CHAT)[0] == 200
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and {requests_seen(port) for _ in range(6)} != {40.0}:
        time.sleep(0.3)
    assert {requests_seen(port) for _ in range(6)} == {40.0}  # whichever of them answers

    os.kill(children(process)[0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len(children(process)) < 2:
        time.sleep(0.1)
    assert len(children(process)) == 2
    answered = 0
    while answered < 20 and time.monotonic() < deadline:
        try:
            answered += ask(port, "POST", "/v1/chat/completions", CHAT)[0] == 200
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
    assert answered == 20
    assert requests_seen(port) >= 40  # counters do not fall when a worker dies

    process.terminate()
    assert process.wait(60) == 0
    with closing(SqliteLedger(data / "ledger.sqlite")) as ledger:
        entries = list(ledger.entries())
        assert len(entries) == len({entry.id for entry in entries}) == 60
        assert ledger.check() == []


def test_a_worker_that_cannot_start_ends_it_all(tmp_path):
    config = tmp_path / "farthing.toml"
    config.write_text(CONFIG.format(path=tmp_path / "data") + '[keys.app]\nsecret = "env:NOWHERE"\n')
    command = [sys.executable, "-m", "farthing.cli", "up", "--workers", "2", "--port", "0", "-c", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "env:NOWHERE is missing or empty" in ended.stderr
    assert "Traceback" not in ended.stderr
