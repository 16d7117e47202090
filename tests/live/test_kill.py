"""kill -9 at random moments under load: no answered call is missing from the ledger, and none is there twice."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from farthing.stores.journal import FileJournal
from farthing.stores.sqlite_ledger import SqliteLedger

ROUNDS = int(os.environ.get("FARTHING_KILL_ROUNDS", "50"))
CLIENTS = 8
CONFIG = """
[server]
port = {port}
[ledger]
path = "{path}"
[upstreams.stub]
kind = "stub"
models = ["*"]
"""


class Load(threading.Thread):
    """One client that notes the id of every call whose answer it has read to the end."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.dice = random.Random(seed)
        self.answered: list[str] = []
        self.seed = seed

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            while True:
                body = {
                    "model": "gpt-6-luna",
                    "messages": [{"role": "user", "content": f"question {self.dice.randrange(200)}"}],
                    "stream": self.dice.random() < 0.5,
                    "temperature": self.dice.choice([0, 1]),
                }
                connection.request("POST", "/v1/chat/completions", json.dumps(body))
                response = connection.getresponse()
                if response.status == 200 and response.read():
                    self.answered.append(response.headers["x-farthing-call"])
        except (OSError, http.client.HTTPException):
            connection.close()


def start(config: Path) -> subprocess.Popen:
    gateway = subprocess.Popen(
        [sys.executable, "-m", "farthing.cli", "up", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    port = int(config.read_text().partition("port = ")[2].split()[0])
    for _ in range(400):
        if gateway.poll() is not None:
            pytest.fail(f"the gateway did not start: {gateway.stderr.read().decode()}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return gateway
        except OSError:
            time.sleep(0.02)
    pytest.fail("the gateway did not answer in time")


@pytest.mark.timeout(600)
def test_no_answered_call_is_lost_and_none_is_entered_twice(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = tmp_path / "farthing.toml"
    config.write_text(CONFIG.format(port=port, path=tmp_path / "ledger"))
    dice = random.Random(7)
    answered: list[str] = []

    for number in range(ROUNDS):
        gateway = start(config)
        load = [Load(port, number * CLIENTS + client) for client in range(CLIENTS)]
        for client in load:
            client.start()
        time.sleep(dice.uniform(0.02, 0.5))
        gateway.send_signal(signal.SIGKILL)
        gateway.wait()
        for client in load:
            client.join(10)
            answered += client.answered

    store = SqliteLedger(tmp_path / "ledger" / "ledger.sqlite")
    journal = FileJournal(tmp_path / "ledger" / "journal", store)
    assert journal.flush(30)
    entered = Counter(entry.id for entry in store.entries())
    groups = {entry_id.rpartition(".")[0] for entry_id in entered}
    problems = store.check()
    journal.close()
    store.close()

    print(f"{ROUNDS} kills, {len(answered)} answered calls, {len(entered)} entries")
    assert len(answered) > ROUNDS
    assert [call for call in answered if call not in groups] == []
    assert [entry for entry, times in entered.items() if times > 1] == []
    assert problems == []
    verified = subprocess.run(
        [sys.executable, "-m", "farthing.cli", "ledger", "verify", "--config", str(config)],
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
