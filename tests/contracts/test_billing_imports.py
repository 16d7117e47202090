"""Exports of usage and costs, in the shape that each provider documents: read in full, exactly, and with suspicion."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.errors import TrafficError
from farthing.importers.billing import EXPORTS, read_bill
from farthing.ledger.reconcile import DAY
from farthing.schema import PICO_PER_USD

HERE = Path(__file__).parent / "billing"
NOVEMBER = 1_793_491_200 * 10**9
"""2026-11-01 UTC."""


def bill_of(*names: str):
    return read_bill([HERE / name for name in names])


def usd(text: str) -> int:
    return int(Decimal(text) * PICO_PER_USD)


def dollars(bill) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in bill.lines:
        found[line.model] = found.get(line.model, 0) + line.amounts["cost"]
    return found


def days(bill, measure: str) -> list[int]:
    return sorted((day - NOVEMBER) // DAY + 1 for day in bill.days.get(measure, ()))


def test_openai_usage_in_pages_one_after_another():
    bill = bill_of("openai_usage.json")
    sol, luna, later = bill.lines
    assert (bill.provider, bill.more) == ("openai", False)
    assert (sol.day, sol.model) == (NOVEMBER, "gpt-6-sol-2026-08-06")
    assert sol.amounts == {"requests": 30, "tokens": 150_000, "input": 141_000, "output": 9_000, "cache_read": 30_000,
                           "cache_write": 10_000}  # fmt: skip
    assert (luna.amounts["tokens"], later.amounts["requests"]) == (6_000, 2)
    assert days(bill, "tokens") == [1, 2, 3]
    assert "cost" not in bill.days


def test_openai_costs_by_the_model_that_the_line_item_names():
    bill = bill_of("openai_costs.json")
    assert dollars(bill) == {"gpt-6-sol-2026-08-06": usd("0.323"), "web search tool calls": usd("0.02")}
    assert days(bill, "cost") == [1]


def test_openai_costs_as_csv_with_a_day_on_which_nothing_was_bought():
    bill = bill_of("openai_costs.csv")
    assert dollars(bill) == {"gpt-6-luna": usd("0.0000387")}
    assert days(bill, "cost") == [1, 2]


def test_several_exports_of_one_provider_are_one_bill():
    bill = bill_of("openai_usage.json", "openai_costs.json")
    assert len(bill.lines) == 7
    assert (days(bill, "tokens"), days(bill, "cost")) == ([1, 2, 3], [1])


def test_anthropic_usage_counts_cached_tokens_beside_the_others():
    bill = bill_of("anthropic_usage.json")
    (line,) = bill.lines
    assert line.amounts == {"tokens": 3_700, "input": 3_200, "output": 500, "cache_read": 200, "cache_write": 1_500}
    assert days(bill, "tokens") == [1, 2]


def test_anthropic_costs_are_in_cents():
    bill = bill_of("anthropic_costs.json")
    assert dollars(bill) == {"claude-sonnet-5-5-20260714": usd("1.2378912"), "Web Search Usage": usd("0.10")}
    assert bill.more


def test_openrouter_activity_tells_of_the_days_between_its_first_and_last():
    bill = bill_of("openrouter_activity.json")
    assert bill.lines[0].amounts == {"requests": 5, "tokens": 175, "input": 50, "output": 125, "cost": usd("0.015")}
    assert days(bill, "cost") == [1, 2, 3]


def test_openrouter_generations_count_the_tokens_that_are_charged_for():
    bill = bill_of("openrouter_generations.jsonl")
    assert [(line.day, line.amounts["input"], line.amounts["output"]) for line in bill.lines] == [
        (NOVEMBER, 10, 25),
        (NOVEMBER, 100, 2),
    ]
    assert dollars(bill) == {"openai/gpt-4.1": usd("0.0036")}
    (line,) = bill_of("openrouter_generations.csv").lines
    assert (line.amounts["tokens"], line.amounts["cost"]) == (120, usd("0.0000125"))


def page(
    tmp_path: Path, *results: dict, start: object = NOVEMBER // 10**9, end: object = NOVEMBER // 10**9 + 86_400, **more
):
    file = tmp_path / "export.json"
    bucket = {"object": "bucket", "start_time": start, "end_time": end, "results": list(results)}
    file.write_text(json.dumps({"data": [bucket], "has_more": False, **more}))
    return file


USED = {"input_tokens": 5, "output_tokens": 1, "num_model_requests": 1, "model": "m"}
COST = {"amount": {"value": 0.5, "currency": "usd"}, "line_item": "m, input"}


def test_hours_make_a_day_only_when_none_is_missing(tmp_path):
    hours = [
        {"start_time": NOVEMBER // 10**9 + hour * 3600, "end_time": NOVEMBER // 10**9 + (hour + 1) * 3600,
         "results": [{**USED, "input_tokens": hour}]}
        for hour in range(30)
    ]  # fmt: skip
    file = tmp_path / "hours.json"
    file.write_text(json.dumps({"data": hours}))
    bill = read_bill([file])
    assert days(bill, "tokens") == [1]
    assert sum(line.amounts["input"] for line in bill.lines if line.day == NOVEMBER) == sum(range(24))
    file.write_text(json.dumps({"data": hours[1:]}))
    assert days(read_bill([file]), "tokens") == []


def test_the_same_hours_for_two_projects_are_not_a_day(tmp_path):
    file = tmp_path / "hours.csv"
    header = "start_time,end_time,amount_value,amount_currency,line_item,project_id\n"
    start = NOVEMBER // 10**9
    file.write_text(header + "".join(f'{start},{start + 43_200},0.5,usd,"m, input",{name}\n' for name in ("a", "b")))
    bill = read_bill([file])
    assert sum(line.amounts["cost"] for line in bill.lines) == PICO_PER_USD
    assert days(bill, "cost") == []


@pytest.mark.parametrize("value", ["0.1", "0.30000000000000004", "1e-9", "123456789.123456789012", "-0.25"])
def test_dollars_are_exact_however_they_are_written(tmp_path, value):
    for written in (value, f'"{value}"'):
        file = tmp_path / "export.json"
        file.write_text(page(tmp_path, {**COST, "amount": {"value": "HERE"}}).read_text().replace('"HERE"', written))
        expected = int((Decimal(value) * PICO_PER_USD).to_integral_value())
        assert read_bill([file]).lines[0].amounts["cost"] == expected


REFUSED = [
    ([{**USED, "model": None}], {}, "names no model"),
    ([{**COST, "line_item": None}], {}, "names no model"),
    ([{**USED, "input_tokens": -1}], {}, ">= 0"),
    ([{**USED, "input_tokens": 1.5}], {}, "Expected `int`"),
    ([{**COST, "amount": {"value": 1, "currency": "eur"}}], {}, "not in dollars"),
    ([{**COST, "amount": {"value": "1e999999999"}}], {}, "no price"),
    ([{**COST, "amount": {"value": "NaN"}}], {}, "no price"),
    ([USED, USED], {}, "twice"),
    ([USED], {"start": NOVEMBER // 10**9 + 3600, "end": NOVEMBER // 10**9 + 90_000}, "UTC day"),
    ([USED], {"end": NOVEMBER // 10**9}, "UTC day"),
    ([USED], {"start": "noon"}, "not a date"),
    ([], {}, "no results"),
    ([{"prompt": "hello"}], {}, "prompt"),
]


@pytest.mark.parametrize(("results", "more", "told"), REFUSED)
def test_what_cannot_be_relied_on_is_refused_with_its_place(tmp_path, results, more, told):
    file = page(tmp_path, *results, **more)
    with pytest.raises(TrafficError, match=told) as refused:
        read_bill([file])
    assert str(file) in refused.value.message
    assert refused.value.hint


def test_files_of_two_providers_are_not_one_bill():
    with pytest.raises(TrafficError, match="anthropic, openai"):
        bill_of("anthropic_usage.json", "openai_usage.json")


def test_the_same_pages_twice_are_noticed_over_files(tmp_path):
    copy = tmp_path / "again.json"
    copy.write_bytes((HERE / "openai_usage.json").read_bytes())
    with pytest.raises(TrafficError, match="twice"):
        read_bill([HERE / "openai_usage.json", copy])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TrafficError, match="json cannot be read"):
        read_bill([tmp_path / "missing.json"])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[[1]]", '{"data": [5]}', '{"data": [{"results": [5]}]}', "a,b\n1,2,3\n", "[" * 10**5, '{"a": NaN}'],
)
def test_garbage_is_refused(tmp_path, text):
    file = tmp_path / "garbage"
    file.write_text(text)
    with pytest.raises(TrafficError):
        read_bill([file])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_export_is_read_or_refused(tmp_path, data):
    whole = (HERE / data.draw(st.sampled_from(sorted(path.name for path in HERE.iterdir())))).read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file = tmp_path / "damaged"
    file.write_bytes(whole[:cut] + data.draw(st.binary(max_size=3)) + whole[cut + data.draw(st.integers(0, 3)) :])
    try:
        bill = read_bill([file])
    except TrafficError:
        return
    assert all(isinstance(amount, int) for line in bill.lines for amount in line.amounts.values())


def test_every_kind_of_export_has_a_fixture():
    titles = {export.title for export in EXPORTS}
    assert len(titles) == len(list(HERE.iterdir()))
