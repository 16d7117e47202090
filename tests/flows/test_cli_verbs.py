"""demo, up, prices, doctor, import and replay, as a person would run them."""

import http.client
import json
import os
import pty
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

import farthing
from farthing.cli import past
from farthing.cli.verbs import root
from farthing.errors import PriceError, TrafficError
from farthing.schema import Recorded, Usage, read_recorded, write_recorded
from farthing.simulation.generator import Workload, generate

SOURCE = Path(farthing.__file__).parents[1]
FARTHING = [sys.executable, "-m", "farthing.cli"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)


def environ(**more: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), **more}


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FARTHING, *words], check=False, capture_output=True, text=True, env=environ(**more), timeout=100
    )


def farthing_verb(*words: str) -> Result:
    return CliRunner().invoke(root, words)


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_demo_sends_real_calls_and_leaves_nothing_behind():
    done = run("demo", "--calls", "300", "--port", "0", "--json", TMPDIR=str(Path.cwd()))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    live, day = summary["live"], summary["day"]
    assert (summary["schema"], summary["tenants"], summary["simulated"]) == ("farthing.demo/1", 3, True)
    assert (live["calls"], live["errors"], day["errors"]) == (300, 0, 0)
    assert day["calls"] == pytest.approx(past.CALLS, rel=0.1)
    for figures in (live, day):
        assert figures["list"] - figures["paid"] == figures["saved"] == sum(figures["saved_by_lever"].values())
        assert figures["saved_by_lever"]["exact_cache"] > 0
        assert 0 < figures["hit_ratio"] < 1
    assert 0 < live["overhead"]["p50"] <= live["overhead"]["p99"]
    receipt = summary["receipt"]
    assert sum(line["amount"] for line in receipt["lines"]) == receipt["cost"]
    assert list(Path.cwd().iterdir()) == []


def test_demo_in_words_says_what_the_numbers_are_and_what_to_do_next():
    done = run("demo", "--calls", "200", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SIMULATED: 200 HTTP calls of 3 tenants")
    for said in (
        "day replayed",
        "list cost",
        "by exact_cache",
        "p99",
        "one call:",
        "OPENAI_BASE_URL=http://127.0.0.1:",
    ):
        assert said in done.stdout


def test_demo_sends_the_same_calls_for_the_same_seed():
    costs = [
        json.loads(run("demo", "--calls", "100", "--port", "0", "--json").stdout)["live"]["list"] for _ in range(2)
    ]
    assert costs[0] == costs[1] > 0


def test_demo_moves_to_a_free_port_and_says_so():
    with taken_port() as port:
        done = run("demo", "--calls", "20", "--port", str(port))
    assert done.returncode == 0
    assert f"Port {port} is taken; the demo listens at" in done.stderr
    assert f":{port}/" not in done.stdout


@contextmanager
def at_a_terminal(*words: str, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*FARTHING, *words], stdout=theirs, stderr=theirs, env=environ(TERM="xterm", **more))
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(descriptor: int, text: str) -> str:
    seen = b""
    while text.encode() not in seen:
        assert select.select([descriptor], [], [], 60)[0], f"never said {text!r}: {seen.decode()}"
        try:
            seen += os.read(descriptor, 65536)
        except OSError:
            break
    return seen.decode()


def test_demo_at_a_terminal_stays_up_until_it_is_interrupted():
    with at_a_terminal("demo", "--calls", "50", "--port", "0") as (process, terminal):
        shown = read_until(terminal, "Ctrl-C stops it")
        port = int(shown.partition("OPENAI_BASE_URL=http://127.0.0.1:")[2].partition("/")[0])
        assert get(port, "/healthz") == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_interrupted_while_it_replays_says_nothing_and_leaves_nothing(name):
    with at_a_terminal("demo", "--port", "0", TMPDIR=str(Path.cwd())) as (process, terminal):
        read_until(terminal, "Replaying")
        while not list(Path.cwd().glob("*/journal")):
            assert process.poll() is None
        process.send_signal(name)
        assert process.wait(timeout=60) == 130
        assert "Error" not in read_until(terminal, "nothing more")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_shows_at_a_terminal_unless_it_is_unwanted(environment, coloured):
    with at_a_terminal("prices", "show", "openai/gpt-6-luna", **environment) as (_, terminal):
        assert ("\x1b[1m" in read_until(terminal, "output")) is coloured


def test_no_colour_shows_in_a_pipe():
    assert "\x1b" not in run("prices", "show", "openai/gpt-6-luna").stdout


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def first_document(lines: Iterable[str]) -> dict:
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            return json.loads(text)
    raise AssertionError(f"it ended after {text!r}")


def test_up_serves_until_it_is_told_to_stop():
    command = [*FARTHING, "up", "--stub", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ()) as gateway:
        try:
            listening = first_document(gateway.stdout)
            assert listening["upstreams"] == ["stub"]
            assert get(int(listening["url"].rpartition(":")[2]), "/readyz") == 200
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(timeout=60) == 0
            assert "OPENAI_BASE_URL=" in gateway.stderr.read()
        finally:
            gateway.kill()


def test_up_says_when_its_port_is_taken():
    with taken_port() as port:
        done = run("up", "--stub", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot serve at 127.0.0.1:{port}: ")
    assert "hint: Choose another port with --port" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--provider", "opnai"], 'error: --provider: [upstreams.opnai] has provider "opnai"'),
        (["--port", "http"], 'error: --port: server.port is "http"; expected a port'),
        (["--host", "0.0.0.0"], 'error: --host: server.host is "0.0.0.0", which lets other machines in'),
    ],
)
def test_up_names_the_flag_that_is_wrong(words, message):
    done = run("up", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(message)


def test_prices_show_prints_each_price_in_force_once():
    prices = json.loads(farthing_verb("prices", "show", "openai/gpt-6-luna", "--json").stdout)
    rows = [(row["provider"], row["tier"], row["above"], row["meter"], row["usd"]) for row in prices["rows"]]
    assert ("openai", "standard", 0, "input", "0.1") in rows
    assert ("openai", "standard", 0, "output", "0.5") in rows
    assert len(rows) == len(
        {row[:4] for row in rows if row[0] == "openai"} | {row for row in rows if row[0] != "openai"}
    )


def test_prices_show_alone_says_what_the_book_holds():
    shown = farthing_verb("prices", "show").stdout
    assert shown.startswith("edition 20")
    assert any(line.startswith("openai ") for line in shown.splitlines())


def test_a_model_without_a_price_is_an_error_with_the_nearest_names():
    error = farthing_verb("prices", "show", "gpt-6-lun").exception
    assert isinstance(error, PriceError)
    assert "gpt-6-luna" in error.hint


def test_doctor_finds_a_fresh_installation_healthy():
    done = run("doctor", "--json", FARTHING__SERVER__PORT="0")
    health = json.loads(done.stdout)
    assert (done.returncode, health["healthy"]) == (0, True)
    assert {"python", "configuration", "ledger directory", "journal", "prices", "port"} <= {
        finding["check"] for finding in health["findings"]
    }


def test_doctor_says_what_is_wrong_and_what_to_do():
    Path("farthing.toml").write_text('[upstreams.openai]\nprovider = "openai"\napi_key = "env:ABSENT"\n')
    Path("file").write_text("in the way")
    with taken_port() as port:
        done = run("doctor", FARTHING__SERVER__PORT=str(port), FARTHING__LEDGER__PATH="file/ledger")
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 1
    assert [line.split("  ")[1].split(":")[0] for line in failures] == [
        "secret upstreams.openai.api_key",
        "ledger directory",
        "port",
    ]
    assert "Set the variable ABSENT" in done.stdout


def test_doctor_reports_a_configuration_that_cannot_be_used():
    Path("farthing.toml").write_text("[server]\nprt = 1\n")
    done = run("doctor")
    assert done.returncode == 1
    assert 'FAIL  configuration: farthing.toml:2: [server] has no key "prt"; did you mean "port"?' in done.stdout


def test_doctor_knows_its_own_gateway(gateway):
    health = json.loads(run("doctor", "--json", FARTHING__SERVER__PORT=str(gateway.port)).stdout)
    (port,) = (finding for finding in health["findings"] if finding["check"] == "port")
    assert (port["state"], port["detail"]) == ("ok", f"a gateway answers at 127.0.0.1:{gateway.port}")


MOONCAKE = "".join(
    json.dumps({"timestamp": at, "input_length": 100, "output_length": 10, "hash_ids": [at % 2]}) + "\n"
    for at in range(0, 4000, 1000)
)


def test_import_writes_lines_that_replay_reads():
    Path("trace.jsonl").write_text(MOONCAKE)
    imported = run("import", "trace.jsonl")
    assert imported.returncode == 0
    assert "4 records of format mooncake" in imported.stderr
    records = [read_recorded(line.encode()) for line in imported.stdout.splitlines()]
    assert [record.at for record in records] == [0, 10**9, 2 * 10**9, 3 * 10**9]
    Path("ours.jsonl").write_text(imported.stdout)
    replays = [json.loads(farthing_verb("replay", name, "--json").stdout) for name in ("trace.jsonl", "ours.jsonl")]
    assert [replay["format"] for replay in replays] == ["mooncake", "farthing"]
    assert replays[0]["totals"] == replays[1]["totals"]


def test_import_into_a_file_reports_on_stdout():
    Path("trace.jsonl").write_text(MOONCAKE)
    report = json.loads(farthing_verb("import", "trace.jsonl", "-o", "ours.jsonl", "--limit", "3", "--json").stdout)
    assert (report["format"], report["records"], report["output"]) == ("mooncake", 3, "ours.jsonl")
    assert len(Path("ours.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("verb", ["import", "replay"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.jsonl"], "absent.jsonl cannot be read"),
        (["absent.jsonl", "--format", "mooncake"], "absent.jsonl cannot be read"),
        (["notes.txt"], "notes.txt is not traffic in any known format"),
        (["notes.txt", "--format", "mooncake"], "notes.txt, line 1"),
    ],
)
def test_a_file_that_is_not_traffic_is_refused_with_what_would_be(verb, words, message):
    Path("notes.txt").write_text("dear diary\n")
    error = farthing_verb(verb, *words).exception
    assert isinstance(error, TrafficError)
    assert message in error.message


def test_import_to_where_it_cannot_write_is_an_error():
    Path("trace.jsonl").write_text(MOONCAKE)
    error = farthing_verb("import", "trace.jsonl", "-o", "absent/ours.jsonl").exception
    assert isinstance(error, TrafficError)
    assert "cannot write absent/ours.jsonl" in error.message


def record(at: int, prompt: str, **more: object) -> bytes:
    return write_recorded(
        Recorded(at=at * 10**9, model="gpt-6-luna", prompt=prompt, usage=Usage(input=1000, output=100), **more)
    )


def test_replay_prices_calls_and_shows_what_the_cache_would_save():
    Path("traffic.jsonl").write_bytes(b"\n".join(record(at, prompt) for at, prompt in enumerate(["a", "b", "a", "a"])))
    rerun = json.loads(farthing_verb("replay", "traffic.jsonl", "--json").stdout)
    each = 1000 * 100_000 + 100 * 500_000  # $0.10 and $0.50 a million
    totals = rerun["totals"]
    assert (rerun["schema"], rerun["calls"], rerun["simulated"]) == ("farthing.replay/1", 4, True)
    assert (totals["list"], totals["paid"], totals["saved_by_lever"]) == (4 * each, 2 * each, {"exact_cache": 2 * each})
    assert rerun["spanned"] == pytest.approx(3.0)


def test_replay_runs_under_the_configuration_in_force():
    Path("traffic.jsonl").write_bytes(b"\n".join(record(at, "a") for at in range(3)))
    off = {"FARTHING__CACHE__ENABLED": "false"}
    result = CliRunner().invoke(root, ["replay", "traffic.jsonl", "--json"], env=off)
    assert json.loads(result.stdout)["totals"]["saved"] == 0
    hosted = {f"FARTHING__UPSTREAMS__MINE__{key}": value for key, value in
              {"PROVIDER": "vllm", "MODELS": "*", "HOURLY_USD": "3", "CONCURRENCY": "8"}.items()}  # fmt: skip
    Path("timed.jsonl").write_bytes(record(0, "a", latency=300_000))
    result = CliRunner().invoke(root, ["replay", "timed.jsonl", "--json"], env=hosted)
    assert json.loads(result.stdout)["totals"]["paid"] == 31_250_000  # $3/h, 0.3 s, 8 at once


def test_replay_of_generated_traffic_comes_to_the_same_twice():
    Path("traffic.jsonl").write_bytes(b"\n".join(map(write_recorded, generate(Workload(calls=200), random.Random(1)))))
    first, second = (json.loads(farthing_verb("replay", "traffic.jsonl", "--json").stdout) for _ in range(2))
    assert first["totals"] == second["totals"]
    assert first["totals"]["errors"] == 0
    assert first["totals"]["unpriced"] == 0


def test_replay_of_an_empty_file_says_so():
    Path("empty.jsonl").write_bytes(b"")
    error = farthing_verb("replay", "empty.jsonl", "--format", "farthing").exception
    assert isinstance(error, TrafficError)
    assert "no records" in error.message


def test_replay_in_words_is_labelled():
    Path("traffic.jsonl").write_bytes(record(0, "a", cost=7 * 10**9))
    shown = farthing_verb("replay", "traffic.jsonl").stdout
    assert shown.startswith("REPLAYED (simulated): 1 call of traffic.jsonl")
    assert "The recording says that 1 of the calls cost $0.007000." in shown
    assert msgspec.json.decode(farthing_verb("replay", "traffic.jsonl", "--json").stdout)["recorded_priced"] == 1
