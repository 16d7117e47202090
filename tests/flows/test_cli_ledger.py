"""report and ledger: what they say about a ledger that a real gateway filled, while it runs and after."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from time import time_ns

import msgspec
import pytest
from click.testing import CliRunner, Result

import farthing
from farthing.cli.verbs import root
from farthing.config import Ledger
from farthing.errors import LedgerError
from farthing.pricing import charge
from farthing.schema import PICO_PER_USD, Entry, Usage
from farthing.stores.journal import FileJournal
from farthing.stores.memory_ledger import MemoryLedger
from farthing.stores.price_files import PriceArchive, current_book

SOURCE = Path(farthing.__file__).parents[1]
DOUBLED = """
[[price]]
provider = "openai"
model = "gpt-6-luna"
input = "0.20"
output = "1.00"
"""


def chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "gpt-6-luna", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the ledger is; every verb is run there without a configuration file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FARTHING__LEDGER__PATH", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


@pytest.fixture
def entries(place, gateway_with):
    """What a running gateway entered: two tenants, one answer given twice, one error."""
    gateway = gateway_with(ledger=Ledger(path=str(place)))
    for tenant, body in (
        ("acme", chat("one")),
        ("acme", chat("one")),
        ("globex", chat("two", stream=True)),
        ("globex", chat("three", model="stub-500")),
    ):
        gateway.post("/v1/chat/completions", body, {"x-farthing-tenant": tenant})
    return gateway.entries()


def farthing_verb(*words: str) -> Result:
    return CliRunner().invoke(root, words)


def document(*words: str) -> dict:
    result = farthing_verb(*words, "--json")
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def test_report_adds_up_what_was_entered(entries):
    report = document("report", "--last", "1h", "--by", "tenant", "--by", "model")
    assert report["schema"] == "farthing.report/1"
    assert report["totals"]["calls"] == 4
    assert report["totals"]["errors"] == 1
    assert report["totals"]["paid"] == sum(entry.cost for entry in entries)
    assert report["totals"]["saved_by_lever"]["exact_cache"] == entries[0].cost
    assert {share["value"]: share["figures"]["calls"] for share in report["by"]["tenant"]} == {"acme": 2, "globex": 2}
    assert report["simulated"] == 4


def test_report_in_words_says_that_answers_were_simulated(entries):
    shown = farthing_verb("report", "--last", "all", "--by", "tenant").stdout
    assert "4 calls since the ledger began" in shown
    assert "SIMULATED: 4 of them" in shown
    assert "by exact_cache" in shown
    assert {line.split()[0] for line in shown.splitlines()[-2:]} == {"globex", "acme"}


def test_report_never_shows_an_unknown_price_as_nothing(place, gateway_with):
    gateway = gateway_with(ledger=Ledger(path=str(place)))
    for model in ("gpt-6-luna", "a-model-without-a-price"):
        gateway.post("/v1/chat/completions", {**chat("one"), "model": model})
    gateway.entries()
    lines = farthing_verb("report").stdout.splitlines()
    (paid,) = (line.split()[1] for line in lines if line.startswith("paid  "))
    assert paid.endswith("+")
    (unknown,) = (line.split() for line in lines if line.startswith("a-model-without-a-price"))
    assert unknown[2] == "unknown"
    assert any("No price is known for 1 attempt" in line for line in lines)


@pytest.mark.parametrize("words", [["report"], ["ledger", "tail"], ["ledger", "export"], ["ledger", "verify"]])
def test_a_ledger_that_is_not_there_is_an_error_with_advice(place, words):
    result = farthing_verb(*words)
    assert isinstance(result.exception, LedgerError)
    assert str(place) in result.exception.message
    assert "farthing up" in result.exception.hint
    assert not place.exists()


@pytest.mark.parametrize("span", ["", "7", "d", "0h", "-1h", "1y", "99999999d"])
def test_report_refuses_a_span_it_does_not_know(entries, span):
    result = farthing_verb("report", "--last", span)
    assert result.exit_code == 2
    assert "is not a span" in result.output


def test_tail_prints_the_latest_entries_oldest_first(entries):
    lines = farthing_verb("ledger", "tail", "-n", "3").stdout.splitlines()
    assert [line.split()[2] for line in lines] == [entry.id for entry in entries[-3:]]
    assert "cache hit" in lines[0]
    assert all("simulated" in line for line in lines[1:])


def test_tail_as_json_gives_the_entries_themselves(entries):
    lines = farthing_verb("ledger", "tail", "--json").stdout.splitlines()
    assert [msgspec.json.decode(line, type=Entry) for line in lines] == entries


def test_tail_follows_until_it_is_interrupted(place, gateway_with):
    gateway = gateway_with(ledger=Ledger(path=str(place)))
    command = [sys.executable, "-u", "-m", "farthing.cli", "ledger", "tail", "--follow", "--json"]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    gateway.post("/v1/chat/completions", chat("before"))
    first = gateway.entries()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as follower:
        try:
            assert json.loads(follower.stdout.readline())["id"] == first[0].id
            gateway.post("/v1/chat/completions", chat("after"))
            assert json.loads(follower.stdout.readline())["id"] == gateway.entries()[1].id
            follower.send_signal(signal.SIGINT)
            assert follower.wait(timeout=20) == 130
            assert "Traceback" not in follower.stderr.read()
        finally:
            follower.kill()


def test_export_as_csv_is_exact_to_the_last_digit(entries):
    rows = list(csv.DictReader(io.StringIO(farthing_verb("ledger", "export").stdout)))
    assert [row["id"] for row in rows] == [entry.id for entry in entries]
    assert [Decimal(row["cost_usd"]) for row in rows] == [Decimal(entry.cost) / PICO_PER_USD for entry in entries]


def test_export_as_json_lines_is_the_entries_of_the_period(entries):
    lines = farthing_verb("ledger", "export", "--format", "jsonl").stdout.splitlines()
    assert [msgspec.json.decode(line, type=Entry) for line in lines] == entries
    assert farthing_verb("ledger", "export", "--json", "--until", "1h").stdout == ""
    assert len(farthing_verb("ledger", "export", "--json", "--since", "1h").stdout.splitlines()) == len(entries)


@pytest.mark.parametrize("when", ["yesterday", "2026-13-01", "12", ""])
def test_export_refuses_an_instant_it_cannot_read(entries, when):
    result = farthing_verb("ledger", "export", "--since", when)
    assert result.exit_code == 2
    assert "is neither a date" in result.output


def test_verify_finds_a_sound_ledger_sound(entries):
    proven = document("ledger", "verify")
    assert (proven["sound"], proven["entries"], proven["problems"]) == (True, len(entries), [])


def test_verify_and_doctor_name_a_damaged_record(place):
    fill(place, [entry(1), entry(2), entry(3)])
    (segment,) = (place / "journal").glob("*.log")
    segment.write_bytes(segment.read_bytes().replace(b'"cost":2,', b'"cost":9,'))
    result = farthing_verb("ledger", "verify")
    assert isinstance(result.exception, LedgerError)
    assert result.exception.exit_code == 4
    assert f"{segment.name}, line 3" in result.stdout
    health = json.loads(farthing_verb("doctor", "--json").stdout)
    assert [finding["check"] for finding in health["findings"] if finding["state"] == "failure"] == ["journal"]


def test_what_a_dead_gateway_had_only_journalled_is_reported(place):
    fill(place, [entry(1), entry(2), entry(3)])
    assert document("report", "--last", "all")["totals"]["paid"] == 6
    assert len(farthing_verb("ledger", "tail").stdout.splitlines()) == 3


def test_rerate_proves_every_charge_by_its_own_edition(entries):
    proof = document("ledger", "rerate")
    metered = sum(1 for each in entries if each.attempt and each.usage)
    assert (proof["attempts"], proof["reproduced"], proof["changed"]) == (metered, metered, 0)


def test_corrections_are_refused_while_a_gateway_is_running(place, tmp_path, gateway_with, monkeypatch):
    gateway = gateway_with(ledger=Ledger(path=str(place)))
    gateway.post("/v1/chat/completions", chat("one"))
    paid = sum(each.cost for each in gateway.entries())
    name_dearer_prices(tmp_path, monkeypatch)
    refused = farthing_verb("ledger", "rerate", "--edition", "current", "--apply")
    assert isinstance(refused.exception, LedgerError)
    assert str(os.getpid()) in refused.exception.message
    assert document("report", "--last", "all")["totals"]["paid"] == paid


def test_rerate_by_dearer_prices_shows_the_difference_and_enters_it_once(place, tmp_path, monkeypatch):
    usage = Usage(input=100_000, output=10_000)
    bought = msgspec.structs.replace(entry(1), model="gpt-6-luna", provider="openai", usage=usage, at=time_ns())
    book = current_book()
    PriceArchive(place / "prices").keep(book)
    charged = charge(book, provider="openai", model="gpt-6-luna", tier=None, usage=usage, at=bought.at)
    before = charged.amount
    fill(place, [msgspec.structs.replace(bought, cost=before, list_cost=before, price_version=book.version)])
    name_dearer_prices(tmp_path, monkeypatch)

    shown = document("ledger", "rerate", "--edition", "current")
    assert shown["by_model"]["gpt-6-luna"] == {"before": before, "after": 2 * before}
    assert not shown["applied"]
    assert document("report", "--last", "all")["totals"]["paid"] == before

    assert document("ledger", "rerate", "--edition", "current", "--apply")["applied"]
    assert document("report", "--last", "all")["totals"]["paid"] == 2 * before
    assert document("ledger", "rerate", "--edition", "current", "--apply")["changed"] == 0
    assert document("ledger", "verify")["sound"]


def test_rerate_needs_an_edition_that_is_kept(entries):
    result = farthing_verb("ledger", "rerate", "--edition", "2020-01-01+00000000")
    assert result.exception.exit_code == 3
    assert "2020-01-01+00000000" in result.exception.message
    assert farthing_verb("ledger", "rerate", "--apply").exit_code == 2


def entry(number: int) -> Entry:
    group = f"call-{number}"
    return Entry(id=f"{group}.1", group=group, attempt=1, at=number, endpoint="chat", model="m", cost=number,
                 list_cost=number, status=200)  # fmt: skip


def name_dearer_prices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "dearer.toml").write_text(DOUBLED)
    monkeypatch.setenv("FARTHING__PRICES__OVERRIDES", str(folder / "dearer.toml"))


def fill(place: Path, entries: list[Entry]) -> None:
    """Journal entries as a gateway does that is killed before its store has any."""
    journal = FileJournal(place / "journal", MemoryLedger())
    journal.append(entries)
    journal.close()
