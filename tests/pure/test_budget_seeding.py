"""An account that no store has seen starts with what its entries say, slice by slice."""

from hypothesis import given
from hypothesis import strategies as st

from farthing.budgets import Limits, account, matches, seed, slices, starts_at
from farthing.budgets.cells import Cells
from farthing.ledger.corrections import correct, settle
from farthing.schema import Caller, Charge, Entry, Hold, Limit, Resolution

HOUR = 3600 * 10**9
NOW = 1_790_000_000 * 10**9
MONTH = 1_788_220_800


def entry(at: int, cost: int | None, **changes: object) -> Entry:
    fields = {
        "id": f"{at}.1",
        "group": f"{at}",
        "attempt": 1,
        "at": at,
        "endpoint": "chat",
        "model": "gpt",
        "cost": cost,
    }
    return Entry(**{**fields, **changes})


def usd(**changes: object) -> Limit:
    return Limit("b", "usd", 10**15, **changes)


def test_a_calendar_period_starts_with_what_was_spent_in_it():
    some = [entry(MONTH * 10**9 - 1, 1), entry(MONTH * 10**9, 20), entry(NOW, 300), entry(NOW - HOUR, None)]
    assert seed(usd(), "", some, NOW) == {MONTH: 320}


def test_a_rolling_period_starts_with_what_was_spent_in_each_of_its_parts():
    limit = usd(period="hour", rolling=True)
    newest, oldest = slices(limit, NOW)
    some = [entry((oldest - 1) * 10**9, 1), entry(oldest * 10**9, 20), entry(NOW, 300), entry(NOW - 1, 4000)]
    assert seed(limit, "", some, NOW) == {oldest: 20, newest: 300, slices(limit, NOW - 1)[0]: 4000} | (
        {newest: 4300} if slices(limit, NOW - 1)[0] == newest else {}
    )


def test_a_lifetime_starts_with_everything():
    assert seed(usd(period="lifetime"), "", [entry(5, 1), entry(NOW, 20)], NOW) == {0: 21}


def test_only_the_entries_of_the_account_count():
    some = [
        entry(NOW, 1, team="search", model="gpt", tags=(("customer", "x"),)),
        entry(NOW, 20, team="sales", model="gpt"),
        entry(NOW, 300, team="search", model="other"),
        entry(NOW, 4000),
    ]
    assert seed(usd(per="team"), "search", some, NOW) == {MONTH: 301}
    assert seed(usd(per="model"), "gpt", some, NOW) == {MONTH: 4021}
    assert seed(usd(per="tag:customer"), "x", some, NOW) == {MONTH: 1}
    assert seed(usd(per="team"), "none", some, NOW) == {}
    assert seed(usd(per="team", of="sales"), "search", some, NOW) == {}
    assert [matches(usd(), "", one) for one in some] == [True] * 4


def test_a_correction_counts_with_what_it_corrects():
    first = entry(NOW, 300)
    (settled,) = settle([first])
    later = correct(settled, Charge(120, 120, "v2"), "prices")
    assert seed(usd(), "", [first, later], NOW) == {MONTH: 120}


def test_answers_of_stubs_and_replays_count_as_any_other():
    assert seed(usd(), "", [entry(NOW, 7, simulated=True)], NOW) == {MONTH: 7}


calls = st.lists(
    st.tuples(
        st.integers(NOW - 40 * 24 * HOUR, NOW),
        st.sampled_from(["", "search", "sales"]),
        st.integers(0, 2**60),
    ),
    max_size=20,
)


@given(
    calls=calls,
    per=st.sampled_from(["total", "team"]),
    period=st.sampled_from(["minute", "hour", "day", "week", "month", "lifetime"]),
    rolling=st.booleans(),
)
def test_a_seeded_account_stands_as_if_it_had_counted_from_the_start(calls, per, period, rolling):
    limit = Limit("b", "usd", 0, per=per, period=period, rolling=rolling, hard=False, time_zone="Europe/Berlin")
    counted = Cells()
    limits = Limits([limit])
    for number, (at, team, cost) in enumerate(calls):
        claims = limits.claims(Caller(team=team), "gpt", at, usd=cost, tokens=0)
        for claim in claims:
            counted.seed(claim.account, {})
        assert counted.hold("me", Hold(f"{number}", claims)).granted
        counted.resolve(Resolution(f"{number}", cost))
    entries = [entry(at, cost, team=team) for at, team, cost in calls if at >= starts_at(limit, NOW)]
    seeded = Cells()
    oldest = slices(limit, NOW)[1]
    for whose in ("search", "sales", ""):
        name = account(limit, whose)
        if per == "total" or whose:
            seeded.seed(name, seed(limit, whose, entries, NOW))
            assert seeded.balance(name, oldest) == counted.balance(name, oldest)
