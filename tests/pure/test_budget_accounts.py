"""A call counts in just the accounts that its limits give its caller."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.budgets import Limits, account, subject
from farthing.budgets.accounts import REMEMBERED
from farthing.schema import Caller, Claim, Limit

AT = 1_790_000_000 * 10**9
ANN = Caller("acme", "search", "ann", "chat", (("customer", "x"), ("env", "prod")))
NOBODY = Caller()


def usd(name: str = "b", **changes: object) -> Limit:
    return Limit(name, "usd", 100, **changes)


@pytest.mark.parametrize(
    ("per", "whose"),
    [
        ("total", ""), ("tenant", "acme"), ("team", "search"), ("key", "ann"), ("model", "gpt"), ("feature", "chat"),
        ("tag:customer", "x"), ("tag:env", "prod"),
    ],
)  # fmt: skip
def test_whose_account_a_call_counts_in(per, whose):
    assert subject(usd(per=per), ANN, "gpt") == whose
    if per != "total":
        assert subject(usd(per=per, of=whose), ANN, "gpt") == whose
        assert subject(usd(per=per, of="other"), ANN, "gpt") is None
        assert subject(usd(per=per), NOBODY, "") is None


def test_a_tag_that_the_caller_did_not_send_is_not_limited():
    assert subject(usd(per="tag:other"), ANN, "gpt") is None


@given(
    st.tuples(*[st.text("a/%é|\n", max_size=4)] * 3),
    st.tuples(*[st.text("a/%é|\n", max_size=4)] * 3),
)
def test_two_accounts_never_have_one_name(one, other):
    def name(parts: tuple[str, str, str]) -> str:
        return account(usd(parts[0], time_zone=parts[1]), parts[2])

    assert (name(one) == name(other)) == (one == other)


def test_whatever_tells_limits_apart_tells_their_accounts_apart():
    limits = [
        Limit("b", meter, 1, period=period, rolling=rolling, time_zone=zone)
        for meter, period, (rolling, zone) in product(
            ("usd", "tokens", "calls", "concurrent"),
            ("minute", "month", "lifetime"),
            ((True, "UTC"), (False, "UTC"), (False, "Europe/Berlin")),
        )
    ]
    assert len({account(one, "x") for one in limits}) == len(limits)


def test_an_account_outlives_a_change_of_what_it_may_hold():
    assert account(usd(), "x") == account(Limit("b", "usd", 7, hard=False, warn_at=(0.5,), clamp=True), "x")


def test_claims_name_what_is_taken_of_each_limit():
    limits = Limits(
        [
            usd("month", per="team"),
            usd("soft", hard=False),
            usd("other", per="team", of="sales"),
            Limit("tpm", "tokens", 1000, per="key", period="minute", rolling=True),
            Limit("rpm", "calls", 60, per="key", period="minute", rolling=True),
            Limit("once", "concurrent", 5, per="model", period="minute"),
        ]
    )
    month = 1_788_220_800
    assert limits.claims(ANN, "gpt", AT, usd=7, tokens=30) == (
        Claim("month/usd/month/UTC/search", "usd", month, month, 7, 100),
        Claim("soft/usd/month/UTC/", "usd", month, month, 7, None),
        Claim("tpm/tokens/minute/rolling/ann", "tokens", 1_790_000_000, 1_789_999_940, 30, 1000),
        Claim("rpm/calls/minute/rolling/ann", "calls", 1_790_000_000, 1_789_999_940, 1, 60),
        Claim("once/concurrent/minute/UTC/gpt", "concurrent", 0, 0, 1, 5),
    )
    assert [one.name for one in limits.applying(ANN, "gpt").limits] == ["month", "soft", "tpm", "rpm", "once"]
    assert [one.name for one in limits.applying(ANN, "gpt").hard_usd] == ["month"]
    assert [one.name for one in limits.applying(NOBODY, "gpt").limits] == ["soft", "once"]
    assert limits.applying(NOBODY, "gpt").hard_usd == ()


def test_an_unknown_price_is_nothing_to_a_soft_budget_and_too_much_for_a_hard_one():
    hard, soft = Limits([usd(), usd("soft", hard=False)]).claims(ANN, "gpt", AT, usd=None, tokens=1)
    assert hard.limit is not None
    assert hard.amount > hard.limit
    assert (soft.amount, soft.limit) == (0, None)


def test_callers_that_come_again_are_told_the_same_and_those_before_are_forgotten():
    limits = Limits([usd(per="key"), usd("all")])
    for number in range(2 * REMEMBERED):
        caller = Caller(key=f"k{number % (REMEMBERED + 1)}")
        first, second = limits.claims(caller, "m", AT, usd=1, tokens=1)
        assert first.account == f"b/usd/month/UTC/{caller.key}"
        assert second.account == "all/usd/month/UTC/"
    assert limits._applying.cache_info().currsize == REMEMBERED


def test_no_limits_claim_nothing():
    limits = Limits([])
    assert limits.claims(ANN, "gpt", AT, usd=None, tokens=1) == limits.applying(ANN, "gpt").limits == ()
