"""Prices of an API: of one unit, known where they are needed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.economics.money.api_price import ApiPrice, Tokens, api_usd, checked, usd_per_1m_of
from farthing.errors import RequestError

counts = st.floats(0, 1e9)


@given(counts, counts, counts, counts)
def test_every_token_is_paid_at_its_own_price(plain, read, written, output):
    usd = api_usd(ApiPrice(3.0, 15.0, 0.3, 3.75), Tokens(plain, read, written, output))
    assert usd == pytest.approx((3 * plain + 0.3 * read + 3.75 * written + 15 * output) / 1e6)


def test_a_price_is_needed_only_for_tokens_that_are_there():
    assert api_usd(ApiPrice(3.0, 15.0), Tokens(input=1e6)) == 3.0
    with pytest.raises(RequestError, match="usd_per_1m_cache_read"):
        api_usd(ApiPrice(3.0, 15.0), Tokens(cache_read=1))
    with pytest.raises(RequestError, match="'sonnet' has no usd_per_1m_output"):
        api_usd(ApiPrice(3.0, None, name="sonnet"), Tokens(output=1))


@pytest.mark.parametrize(
    ("price", "says"),
    [
        (ApiPrice(-1.0, 2.0), "-1"),
        (ApiPrice(math.nan, 2.0), "nan"),
        (ApiPrice(0.003, 15.0), "5,000 times less"),
        (ApiPrice(3.0, 0.002), "1,500 times less"),
        (ApiPrice(30_000.0, 60_000.0), "more than any model costs"),
        (ApiPrice(3.0, 15.0, 7.0), "cache_read"),
    ],
)
def test_prices_that_contradict_one_another_are_refused(price, says):
    with pytest.raises(RequestError, match=says) as refused:
        checked(price)
    assert refused.value.hint


@pytest.mark.parametrize(
    "price", [ApiPrice(0.435, 0.87, 0.0036), ApiPrice(150.0, 600.0), ApiPrice(0.0, 0.0), ApiPrice(0.02, None)]
)
def test_prices_that_exist_are_taken(price):
    assert checked(price) is price


def test_the_price_book_counts_pico_dollars():
    assert usd_per_1m_of(10**12) == 10**6
    assert usd_per_1m_of(None) is None


@pytest.mark.parametrize("tokens", [Tokens(input=-1), Tokens(output=math.nan)])
def test_tokens_that_cannot_be_are_refused(tokens):
    with pytest.raises(RequestError):
        api_usd(ApiPrice(3.0, 15.0), tokens)
