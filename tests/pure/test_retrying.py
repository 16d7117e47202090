"""Which failures are tried again, and how hard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.routing import backoff, classify, may_retry
from farthing.schema import Fallback, Reply

ANTHROPIC_BROKE = (
    b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the'
    b' Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}'
)


@pytest.mark.parametrize(
    ("reply", "judgement"),
    [
        (Reply(200), "answered"),
        (Reply(200, ending="reset", error="upstream_reset"), "retry"),
        (Reply(504, ending="timeout", error="upstream_timeout"), "retry"),
        (Reply(502, ending="unreachable", error="upstream_unreachable"), "retry"),
        (Reply(502, ending="garbage", error="upstream_garbage"), "retry"),
        (Reply(499, ending="disconnected", error="client_disconnected"), "caller"),
        (Reply(400, error="invalid_request_error"), "caller"),
        (Reply(404, error="model_not_found"), "caller"),
        (Reply(413, error="request_too_large"), "caller"),
        (Reply(408, error="http_408"), "retry"),
        (Reply(409, error="http_409"), "retry"),
        (Reply(425, error="http_425"), "retry"),
        (Reply(498, error="capacity_exceeded"), "retry"),
        (Reply(500, error="server_error"), "retry"),
        (Reply(529, error="overloaded_error"), "retry"),
        (Reply(502, error="overloaded_error"), "retry"),  # said with status 200
        (Reply(429, error="rate_limit_exceeded"), "rate_limited"),
        (Reply(429, error="insufficient_quota"), "quota"),
        (Reply(429, error="credit_balance_exhausted"), "quota"),
        (Reply(429, error="organization_usage_limit_exceeded"), "quota"),
        (Reply(429, error="organization_spend_limit_exceeded"), "quota"),
        (Reply(429, error="project_spend_limit_exceeded"), "quota"),
        (Reply(403, error="billing_hard_limit_reached"), "quota"),
        (Reply(400, ANTHROPIC_BROKE, error="invalid_request_error"), "quota"),
        (Reply(402, error="billing_error"), "quota"),
        (Reply(402, b'{"error":{"code":402,"message":"Insufficient credits"}}', error="http_402"), "quota"),
        (Reply(502, error="insufficient_quota"), "quota"),  # said with status 200
    ],
)
def test_what_became_of_an_attempt(reply, judgement):
    assert classify(reply) == judgement


def test_an_answer_that_speaks_of_credit_is_an_answer():
    assert classify(Reply(200, ANTHROPIC_BROKE)) == "answered"


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.integers(1, 10**10), st.integers(1, 10**12))
def test_a_wait_is_never_longer_than_its_bound(attempt, draw, first, longest):
    fallback = Fallback(backoff=first, longest_backoff=longest)
    assert 0 <= backoff(fallback, attempt, draw) <= min(first << min(attempt - 1, 62), longest)
    assert backoff(fallback, attempt, 0.0) == 0


def test_each_wait_may_be_twice_as_long_as_the_one_before():
    fallback = Fallback(backoff=100, longest_backoff=1000)
    assert [backoff(fallback, attempt, 0.5) for attempt in range(1, 7)] == [50, 100, 200, 400, 500, 500]


BOUNDED = Fallback(attempts=3, deadline=100, max_cost=50)


@pytest.mark.parametrize(
    ("attempts", "elapsed", "spent", "may"),
    [(1, 0, 0, True), (2, 99, 49, True), (3, 0, 0, False), (1, 100, 0, False), (1, 0, 50, False), (1, 0, None, False)],
)
def test_no_further_attempt_beyond_any_bound(attempts, elapsed, spent, may):
    assert may_retry(BOUNDED, attempts=attempts, elapsed=elapsed, spent=spent) is may


def test_without_a_bound_on_money_what_was_spent_need_not_be_known():
    assert may_retry(Fallback(), attempts=1, elapsed=0, spent=None)
