"""ledger reconcile: a ledger that a gateway filled beside a provider's own account of the same calls."""

import json
from decimal import Decimal
from pathlib import Path
from time import time_ns

import pytest
from click.testing import CliRunner, Result

from farthing.cli.verbs import root
from farthing.errors import LedgerError, TrafficError
from farthing.ledger.reconcile import DAY
from farthing.pricing import charge
from farthing.schema import PICO_PER_USD, Entry, Usage
from farthing.stores.journal import FileJournal
from farthing.stores.memory_ledger import MemoryLedger
from farthing.stores.price_files import current_book

TODAY = time_ns() // DAY
BOOK = current_book()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the ledger is; the verb is run there without a configuration file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FARTHING__LEDGER__PATH", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


def reconcile(*words: object) -> Result:
    return CliRunner().invoke(root, ["ledger", "reconcile", *map(str, words)])


def document(*words: object) -> dict:
    return json.loads(reconcile(*words, "--json").stdout)


def entry(number: int, day: int, usage: Usage, **more) -> Entry:
    at = day * DAY + number * 10**9
    bought = charge(BOOK, provider="openai", model="gpt-6-luna", tier=None, usage=usage, at=at)
    known = {"usage_source": "provider", "cost": bought.amount, "provider": "openai", "status": 200, **more}
    return Entry(
        id=f"{number}.1", group=str(number), attempt=1, at=at, endpoint="chat", model="gpt-6-luna", usage=usage, **known
    )


def fill(place: Path, entries: list[Entry]) -> list[Entry]:
    journal = FileJournal(place / "journal", MemoryLedger())
    journal.append(entries)
    journal.close()
    return entries


def write(file: Path, days: dict[int, list[dict]], **more) -> Path:
    data = [
        {"object": "bucket", "start_time": day * 86_400, "end_time": (day + 1) * 86_400, "results": results}
        for day, results in days.items()
    ]
    file.write_text(json.dumps({"object": "page", "data": data, "has_more": False, **more}))
    return file


def exports(folder: Path, entries: list[Entry], days: range) -> list[Path]:
    """What OpenAI would say of these entries."""
    usage: dict[int, list[dict]] = {day: [] for day in days}
    costs: dict[int, list[dict]] = {day: [] for day in days}
    for day in days:
        of_day = [each for each in entries if each.at // DAY == day]
        if of_day:
            tokens = {
                "input_tokens": sum(each.usage.input_tokens for each in of_day),
                "output_tokens": sum(each.usage.output_tokens for each in of_day),
                "input_cached_tokens": sum(each.usage.cache_read for each in of_day),
            }
            usage[day] = [{"model": "gpt-6-luna-2026-09-01", "num_model_requests": len(of_day), **tokens}]
            amount = f"{Decimal(sum(each.cost or 0 for each in of_day)) / PICO_PER_USD:f}"
            costs[day] = [{"amount": {"value": amount, "currency": "usd"}, "line_item": "gpt-6-luna-2026-09-01, input"}]
    return [write(folder / "usage.json", usage), write(folder / "costs.json", costs)]


@pytest.fixture
def entries(place):
    """Three days of calls."""
    return fill(place, [
        entry(number, TODAY - 3 + number % 3, Usage(input=1000 + number, cache_read=64, output=50))
        for number in range(30)
    ])  # fmt: skip


def test_a_ledger_agrees_with_the_provider_to_the_token(entries, tmp_path):
    files = exports(tmp_path, entries, range(TODAY - 3, TODAY))
    result = reconcile(*files, "--tolerance", "0")
    assert result.exit_code == 0, result.output
    assert "The ledger and the bill of openai agree within 0 %." in result.output
    assert "tokens: 3 days compared" in result.output
    found = document(*files)
    assert found["schema"] == "farthing.ledger.reconcile/1"
    assert found["totals"]["tokens"] == {key: sum(e.usage.tokens for e in entries) for key in ("ours", "billed")}
    assert found["totals"]["cost"] == {key: sum(e.cost for e in entries) for key in ("ours", "billed")}


def test_calls_that_never_came_by_the_gateway_are_found(entries, tmp_path):
    unseen = [entry(100 + number, TODAY - 2, Usage(input=10_000, output=10)) for number in range(2)]
    files = exports(tmp_path, [*entries, *unseen], range(TODAY - 3, TODAY))
    result = reconcile(*files)
    assert result.exit_code == 1
    assert "differ by more than 0.1 %" in result.output
    assert "2 attempts, 20,020 tokens billed and not entered" in result.output
    assert reconcile(*files, "--tolerance", "60").exit_code == 0


def test_what_was_estimated_and_unpriced_is_listed_with_its_tokens(entries, place, tmp_path):
    usage = Usage(input=500, output=500)
    doubtful = [entry(200, TODAY - 1, usage, usage_source="estimated"), entry(201, TODAY - 1, usage, cost=None)]
    fill(place, doubtful)
    shown = reconcile(*exports(tmp_path, entries, range(TODAY - 3, TODAY))).output
    assert "2 attempts, 2,000 tokens entered and not billed" in shown
    assert "1 attempt, 1,000 tokens, " in shown
    assert "entered by an estimate" in shown
    assert "1 attempt, 1,000 tokens entered without a price" in shown


def test_a_shorter_export_is_compared_on_its_own_days_and_says_so(entries, tmp_path):
    files = exports(tmp_path, entries, range(TODAY - 2, TODAY + 1))
    result = reconcile(*files)
    assert result.exit_code == 0
    assert "2 days compared" in result.output
    assert "left out: 1 not over yet, 1 not told of by the bill in full" in result.output


def test_nothing_in_common_is_not_agreement(entries, tmp_path):
    result = reconcile(*exports(tmp_path, entries, range(TODAY - 30, TODAY - 28)))
    assert isinstance(result.exception, TrafficError)  # it has no results at all
    old = write(tmp_path / "old.json", {TODAY - 30: [{"model": "m", "num_model_requests": 1, "input_tokens": 5}]})
    result = reconcile(old)
    assert result.exit_code == 1
    assert "have no whole day in common" in result.output
    assert "1 from before the ledger began" in result.output


def test_simulated_answers_are_left_out(entries, place, tmp_path):
    fill(place, [entry(300, TODAY - 1, Usage(input=9_999), simulated=True)])
    result = reconcile(*exports(tmp_path, entries, range(TODAY - 3, TODAY)))
    assert result.exit_code == 0
    assert "Left out: 1 simulated attempt" in result.output


def test_missing_pages_are_mentioned(entries, tmp_path):
    usage, _ = exports(tmp_path, entries, range(TODAY - 3, TODAY))
    usage.write_text(usage.read_text().replace('"has_more": false', '"has_more": true'))
    assert "further pages" in reconcile(usage).output


def test_a_wrong_file_and_a_missing_ledger_say_what_to_do(place, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"hello": 1}')
    assert isinstance(reconcile(wrong).exception, TrafficError)
    good = write(tmp_path / "good.json", {TODAY - 1: [{"model": "m", "num_model_requests": 1, "input_tokens": 5}]})
    assert isinstance(reconcile(good).exception, LedgerError)
    assert reconcile().exit_code == 2
    assert reconcile(good, "--tolerance", "-1").exit_code == 2
