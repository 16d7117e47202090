"""Reconciliation: both sides of every model and day, to the token and the pico-dollar, and what explains a difference."""

from collections import Counter
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.ledger.reconcile import DAY, Bill, Gap, Line, Reason, doubtful, explain, reconcile
from farthing.ledger.tally import Tally
from farthing.schema import HOUR, PICO_PER_USD, Entry, Usage

NOW = 100 * DAY + 5 * HOUR
TOLERANCE = Fraction(1, 1000)
USAGE = Usage(input=100, cache_read=30, cache_write_5m=10, output=20, reasoning=5)
EVERY = ("requests", "tokens", "input", "output", "cache_read", "cache_write", "cost")


def bought(at: int = 98 * DAY, model: str = "gpt-6-sol", **more) -> Entry:
    fields = {"usage": USAGE, "usage_source": "provider", "cost": 7_000, "status": 200, "latency": 900_000}
    known = {"endpoint": "chat", "attempt": 1, "provider": "openai", "upstream": "openai", **fields, **more}
    return Entry(id=f"{at}.1", group=str(at), at=at, model=model, **known)


def rollups(entries: list[Entry]) -> list:
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    return tally.rollups()


def bill(*lines: Line, days=range(95, 101), measures=EVERY) -> Bill:
    whole = frozenset(day * DAY for day in days)
    return Bill("openai", lines, dict.fromkeys(measures, whole))


def line(day: int = 98, model: str = "gpt-6-sol-2026-08-06", times: int = 1, **more: int) -> Line:
    amounts = {
        "requests": 1,
        "tokens": 165,
        "input": 140,
        "output": 25,
        "cache_read": 30,
        "cache_write": 10,
        "cost": 7_000,
    }
    return Line(day * DAY, model, {name: amount * times for name, amount in amounts.items()} | more)


def reconciled(entries: list[Entry], bill: Bill, tolerance: Fraction = TOLERANCE):
    entries = sorted([bought(95 * DAY, provider="mistral"), *entries], key=lambda entry: entry.at)
    found = reconcile(bill, rollups(entries), NOW, tolerance)
    span = doubtful(found)
    return explain(found, [e for e in entries if span[0] <= e.at < span[1]]) if span else found


ENTRIES = st.lists(
    st.builds(
        bought,
        st.integers(96 * DAY, 100 * DAY - 10**9),
        st.sampled_from(["gpt-6-sol", "gpt-6-sol-2026-08-06", "gpt-6-luna"]),
        usage=st.builds(Usage, input=st.integers(0, 10**9), cache_read=st.integers(0, 9), output=st.integers(1, 10**9)),
        cost=st.integers(1, 10**15),
        simulated=st.booleans(),
        provider=st.sampled_from(["openai", "anthropic"]),
    ),
    max_size=8,
    unique_by=lambda entry: entry.at,
)


@given(ENTRIES)
def test_a_bill_of_what_was_entered_has_no_gap(entries):
    billed = []
    for each in entries:
        if each.provider == "openai" and not each.simulated:
            usage = each.usage
            amounts = {"requests": 1, "tokens": usage.tokens, "input": usage.input_tokens, "output": usage.output_tokens,
                       "cache_read": usage.cache_read, "cost": each.cost}  # fmt: skip
            billed.append(Line(each.at - each.at % DAY, "GPT-6-luna" if "luna" in each.model else "gpt-6-sol", amounts))
    found = reconciled(entries, bill(*billed), Fraction(0))
    assert found.comparable
    assert not found.off
    assert all(gap.difference == 0 for row in found.rows for gap in row.gaps.values())
    assert not any(row.off or row.reasons for row in found.rows)
    assert {each.seen for each in found.models} <= {"both"}


@given(ENTRIES, st.lists(st.builds(line, st.integers(94, 101), st.sampled_from(["gpt-6-sol", "gpt-6-luna", "x"]))))
def test_rows_and_models_add_up_to_the_totals_and_to_the_ledger(entries, lines):
    found = reconciled(entries, bill(*lines))
    for measure in EVERY:
        sums = Counter({side: getattr(found.totals.get(measure, Gap()), side) for side in ("ours", "billed")})
        for each in (found.rows, found.models):
            assert sums == Counter(
                {side: sum(getattr(one.gaps.get(measure, Gap()), side) for one in each) for side in ("ours", "billed")}
            )
    real = [each for each in entries if each.provider == "openai" and not each.simulated]
    assert found.totals.get("cost", Gap()).ours == sum(each.cost for each in real)
    assert found.totals.get("tokens", Gap()).billed == sum(
        each.amounts["tokens"] for each in lines if 95 <= each.day // DAY < 100
    )
    assert found.simulated == sum(each.simulated for each in entries if each.provider == "openai")


@pytest.mark.parametrize(("billed", "off"), [(1000, False), (1001, False), (1002, True), (999, True), (0, True)])
def test_the_tolerance_is_a_share_of_the_bill_to_the_last_token(billed, off):
    assert Gap(1000, billed).beyond(TOLERANCE) is off


def test_no_tolerance_hides_what_was_never_billed():
    found = reconciled([bought()], bill(), Fraction(1))
    assert found.off
    assert found.models[0].seen == "entered"
    assert found.totals["tokens"].ratio is None


def test_only_whole_days_that_are_over_and_on_both_sides_are_compared():
    entries = [bought(96 * DAY), bought(97 * DAY, cost=1), bought(98 * DAY), bought(100 * DAY)]
    lines = [line(90), line(96), line(98), line(100)]
    found = reconciled(entries, bill(*lines, days=(90, 96, 98, 100)))
    assert [row.day // DAY for row in found.rows] == [96, 98]
    assert not found.off
    days = found.days["tokens"]
    assert (days.compared, days.first, days.last) == (2, 96 * DAY, 98 * DAY)
    assert (days.unfinished, days.before, days.unbilled) == (1, 1, 1)


def test_today_is_not_held_against_the_bill():
    found = reconciled([bought(98 * DAY), bought(100 * DAY)], bill(line(98), days=[98]))
    assert found.days["tokens"].unbilled == 0
    assert found.days["tokens"].unfinished == 0


def test_attempts_that_failed_are_not_among_the_requests():
    failed = bought(98 * DAY + 1, usage=None, usage_source="none", cost=0, status=500, error="upstream_error")
    (row,) = reconciled([bought(), failed], bill(line())).rows
    assert row.gaps["requests"] == Gap(1, 1)


def test_tokens_and_dollars_are_compared_on_days_of_their_own():
    usage, costs = line(97), Line(98 * DAY, "gpt-6-sol", {"cost": 7_000})
    days = {"tokens": frozenset([97 * DAY]), "cost": frozenset([98 * DAY])}
    found = reconciled([bought(97 * DAY), bought(98 * DAY)], Bill("openai", (usage, costs), days))
    assert [set(row.gaps) for row in found.rows] == [{"tokens"}, {"cost"}]
    assert not found.off


def test_without_a_day_in_common_nothing_is_said_to_agree():
    found = reconciled([bought()], bill(line(90), days=[90]))
    assert not found.comparable
    assert (found.rows, found.totals) == ((), {})


def test_an_empty_ledger_has_no_day_in_common_with_a_bill():
    assert not reconcile(bill(line()), [], NOW, TOLERANCE).comparable


def test_what_one_side_does_not_have_is_counted():
    found = reconciled([bought()], bill(line(times=3), line(model="gpt-6-terra")))
    terra, sol = found.rows[1], found.rows[0]
    assert terra.reasons == (Reason("not_entered", 1, 165, 7_000),)
    assert sol.reasons == (Reason("not_entered", 2, 330),)
    assert {each.model: each.seen for each in found.models} == {"gpt-6-sol": "both", "gpt-6-terra": "billed"}
    (row,) = reconciled([bought(), bought(98 * DAY + 1)], bill(line())).rows
    assert row.reasons == (Reason("not_billed", 1, 165),)


def test_equal_tokens_at_another_price_are_a_matter_of_prices():
    (row,) = reconciled([bought()], bill(line(cost=8_000))).rows
    assert row.reasons == (Reason("price", cost=1_000),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usage_source": "estimated"}, Reason("estimated", 1, 165, 7_000)),
        ({"cost": None}, Reason("unpriced", 1, 165, 0)),
        ({"cost": None, "usage": None, "usage_source": "none"}, Reason("unpriced", 1, 0, 0)),
        ({"error": "client_left", "status": 499}, Reason("unanswered", 1, 165, 7_000)),
    ],
)
def test_the_entries_say_why_a_row_is_off(change, reason):
    found = reconciled([bought(98 * DAY, **change), bought(98 * DAY + 1)], bill(line(times=5)))
    (row,) = found.rows
    assert reason in row.reasons
    assert sum(each.cause == reason.cause for each in row.reasons) == 1


def test_calls_across_midnight_are_named_on_both_days():
    late = bought(98 * DAY - 10**8)
    found = reconciled([late], bill(line(98)))
    before, after = found.rows
    assert Reason("settled_next_day", 1, 165, 7_000) in before.reasons
    assert Reason("from_day_before", 1, 165, 7_000) in after.reasons
    assert not found.off


def test_a_call_of_the_day_before_is_named_where_only_the_next_is_off():
    found = reconciled([bought(98 * DAY - 10**8), bought(98 * DAY)], bill(line(97), line(98, times=2)))
    before, after = found.rows
    assert (before.off, after.off) == (False, True)
    assert after.reasons[-1].cause == "from_day_before"


def test_a_row_within_the_tolerance_needs_no_explanation():
    found = reconciled([bought(usage_source="estimated")], bill(line()))
    assert [row.reasons for row in found.rows] == [()]


def test_days_whose_entries_are_gone_say_so():
    found = reconcile(bill(line(times=2)), rollups([bought()]), NOW, TOLERANCE)
    (row,) = explain(found, []).rows
    assert row.reasons[-1] == Reason("forgotten")


def test_corrections_count_as_what_they_make_of_an_entry():
    entry = bought(cost=None)
    correction = msgspec.structs.replace(entry, id="c~1", corrects=entry.id, usage=None, cost=6_000)
    (row,) = reconciled([entry, correction], bill(line())).rows
    assert row.gaps["cost"] == Gap(6_000, 7_000)
    assert row.reasons == (Reason("price", cost=1_000),)


def test_sums_beyond_64_bits_stay_exact():
    huge = [bought(98 * DAY + n, cost=9_000_000 * PICO_PER_USD) for n in range(3)]
    found = reconciled(huge, bill(line(cost=27_000_000 * PICO_PER_USD - 1, requests=3, tokens=495)), Fraction(0))
    assert found.totals["cost"].difference == 1
    assert found.off
