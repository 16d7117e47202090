"""A charge is exact, additive, splits its saving, and says what it does not know."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.pricing import PriceBook, charge, lines, price_at
from farthing.pricing.charge import any_charge
from farthing.schema import METERS, Charge, Usage
from farthing.stores.price_files import packaged_book

BOOK = packaged_book()
AGAIN = PriceBook.decode(BOOK.encode())
NOW = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 10**9


@dataclass(frozen=True)
class Sold:
    """What a charge is asked for, besides the usage."""

    provider: str
    model: str
    tier: str | None
    at: int

    def charge(self, usage: Usage, book: PriceBook = BOOK) -> Charge:
        return charge(book, provider=self.provider, model=self.model, tier=self.tier, usage=usage, at=self.at)

    def lines(self, usage: Usage) -> list[tuple[str, int, int | None, int | None]]:
        receipt = lines(BOOK, provider=self.provider, model=self.model, tier=self.tier, usage=usage, at=self.at)
        return [(line.meter, line.quantity, line.unit_price, line.amount) for line in receipt]


solds = st.builds(
    Sold,
    provider=st.just(""),
    model=st.sampled_from(
        ["gpt-6-sol", "gpt-6.1-sol", "gpt-5.5", "claude-opus-5-5", "claude-haiku-5-5", "gemini-3.8-flash",
         "gemini-2.5-flash", "deepseek-v4-pro", "gpt-4o", "no-such-model"]
    ),
    tier=st.sampled_from([None, "standard", "batch", "flex", "priority", "ultrafast", "fast", "no-such-tier"]),
    at=st.integers(min_value=1_700_000_000, max_value=1_900_000_000).map(lambda second: second * 10**9),
)  # fmt: skip
few = st.one_of(st.just(0), st.integers(min_value=0, max_value=3000))
usages = st.builds(Usage, **dict.fromkeys(METERS, few))
"""At most 27,000 input tokens: two of them stay within the first band of any model."""


def added(one: Usage, other: Usage) -> Usage:
    return Usage(**{meter: getattr(one, meter) + getattr(other, meter) for meter in METERS})


@given(solds, usages, usages)
def test_charges_add_up_within_a_band(sold: Sold, one: Usage, other: Usage) -> None:
    parts, whole = [sold.charge(one), sold.charge(other)], sold.charge(added(one, other))
    if whole.amount is not None:
        assert whole.amount == sum(part.amount or 0 for part in parts)
        assert all(part.amount is not None for part in parts)
    else:
        assert None in [part.amount for part in parts]
    if whole.list_amount is not None:
        assert whole.list_amount == sum(part.list_amount or 0 for part in parts)


@given(solds, usages)
def test_saved_splits_the_difference_exactly(sold: Sold, usage: Usage) -> None:
    result = sold.charge(usage)
    if result.amount is None or result.list_amount is None:
        assert result.saved == ()
        return
    assert result.list_amount - result.amount == sum(amount for _, amount in result.saved)
    assert [name for name, _ in result.saved] == [n for n in ("provider_cache", "tier") if n in dict(result.saved)]
    assert 0 not in dict(result.saved).values()


@given(solds, usages)
def test_what_has_no_price_is_named_and_never_zero(sold: Sold, usage: Usage) -> None:
    result = sold.charge(usage)
    unpriced = [
        meter
        for meter in METERS
        if getattr(usage, meter)
        and price_at(BOOK, sold.provider, sold.model, meter, sold.tier, usage.input_tokens, sold.at) is None
    ]
    assert list(result.missing) == unpriced
    assert (result.amount is None) == bool(unpriced)


@given(solds, usages)
def test_the_receipt_sums_to_the_charge(sold: Sold, usage: Usage) -> None:
    receipt = sold.lines(usage)
    assert [(meter, quantity) for meter, quantity, _, _ in receipt] == [
        (meter, getattr(usage, meter)) for meter in METERS if getattr(usage, meter)
    ]
    amounts = [amount for *_, amount in receipt]
    assert sold.charge(usage).amount == (None if None in amounts else sum(amount or 0 for amount in amounts))
    for meter, quantity, unit, amount in receipt:
        assert unit == price_at(BOOK, sold.provider, sold.model, meter, sold.tier, usage.input_tokens, sold.at)
        assert amount == (None if unit is None else quantity * unit)


@given(solds, usages)
def test_the_archived_edition_makes_the_same_charge(sold: Sold, usage: Usage) -> None:
    assert sold.charge(usage, AGAIN) == sold.charge(usage)


texts = st.builds(Usage, **dict.fromkeys(["input", "cache_read", "output", "reasoning"], st.integers(0, 300_000)))


@pytest.mark.parametrize("meter", METERS)
@given(sold=solds, text=texts, more=st.sampled_from([0, 7]))
@settings(max_examples=50)
def test_the_charge_of_text_is_that_of_any_usage(meter: str, sold: Sold, text: Usage, more: int) -> None:
    usage = added(text, Usage(**{meter: more}))
    tariff = BOOK.tariff(sold.provider, sold.model, sold.tier)
    assert sold.charge(usage) == any_charge(tariff, usage, sold.at, BOOK.version)


@given(solds, usages)
@settings(max_examples=50)
def test_money_is_whole_pico_dollars(sold: Sold, usage: Usage) -> None:
    result = sold.charge(usage)
    assert {type(amount) for amount in (result.amount, result.list_amount)} <= {int, type(None)}
    assert {type(amount) for _, amount in result.saved} <= {int}
    assert {type(value) for _, _, *prices in sold.lines(usage) for value in prices} <= {int, type(None)}


def test_a_chat_call() -> None:
    usage = Usage(input=1200, cache_read=3000, output=350, reasoning=120)
    result = Sold("openai", "gpt-6-sol", "default", NOW).charge(usage)
    assert result.amount == 1200 * 2_000_000 + 3000 * 200_000 + 470 * 10_000_000
    assert result.list_amount == 4200 * 2_000_000 + 470 * 10_000_000
    assert result.saved == (("provider_cache", 3000 * 1_800_000),)
    assert (result.missing, result.price_version) == ((), BOOK.version)


def test_a_batch_call_saves_by_cache_at_standard_prices_and_then_by_tier() -> None:
    result = Sold("anthropic", "claude-opus-5-5", "batch", NOW).charge(Usage(input=1000, cache_read=1000, output=1000))
    assert result.list_amount == 2000 * 4_000_000 + 1000 * 20_000_000
    assert result.amount == (1000 * 4_000_000 + 1000 * 200_000 + 1000 * 20_000_000) // 2
    assert result.saved == (("provider_cache", 1000 * 3_800_000), ("tier", result.amount))


def test_a_cache_write_that_is_never_read_and_a_dearer_tier_are_negative_savings() -> None:
    written = Sold("anthropic", "claude-opus-5-5", None, NOW).charge(Usage(cache_write_1h=1000))
    assert written.saved == (("provider_cache", -1000 * 4_000_000),)
    faster = Sold("openai", "gpt-5.5", "priority", NOW).charge(Usage(output=10))
    assert faster.saved == (("tier", -10 * 45_000_000),)


def test_savings_that_cancel_are_both_told() -> None:
    sold = Sold("openai", "gpt-6-sol", "priority", NOW)
    result = sold.charge(Usage(input=1, cache_read=10, output=1))  # cache: 10 x 1.8; tier: 2 + 10 x 0.2 + 10 = 14
    assert result.saved == (("provider_cache", 18_000_000), ("tier", -14_000_000))
    even = sold.charge(Usage(input=8, cache_read=10))  # cache: 10 x 1.8; tier: 8 x 2 + 10 x 0.2
    assert even.amount == even.list_amount
    assert even.saved == (("provider_cache", 18_000_000), ("tier", -18_000_000))


def test_crossing_a_band_reprices_the_whole_request() -> None:
    sold = Sold("anthropic", "claude-haiku-5-5", None, NOW)
    under = sold.charge(Usage(input=60_000, cache_read=40_000, output=100)).amount
    over = sold.charge(Usage(input=60_000, cache_read=40_001, output=100)).amount
    assert under == 60_000 * 100_000 + 40_000 * 10_000 + 100 * 500_000
    assert over == 60_000 * 500_000 + 40_001 * 50_000 + 100 * 2_500_000


def test_an_unknown_tier_is_unknown_but_its_list_price_is_not() -> None:
    result = Sold("openai", "gpt-6-sol", "scale", NOW).charge(Usage(input=10, output=5))
    assert (result.amount, result.missing, result.saved) == (None, ("input", "output"), ())
    assert result.list_amount == 10 * 2_000_000 + 5 * 10_000_000


def test_a_tier_without_a_standard_price_has_no_list_price() -> None:
    book = BOOK.with_overrides(
        '[[price]]\nprovider = "vllm"\nmodel = "own"\ntier = "night"\ninput = 1\noutput = 2\n', "prices.toml"
    )
    result = charge(book, provider="vllm", model="own", tier="night", usage=Usage(input=3, output=1), at=NOW)
    assert (result.amount, result.list_amount, result.saved) == (5_000_000, None, ())


def test_what_a_cache_saves_is_told_only_where_the_standard_tier_prices_it() -> None:
    book = BOOK.with_overrides(
        '[[price]]\nprovider = "vllm"\nmodel = "own"\ninput = 4\n'
        '[[price]]\nprovider = "vllm"\nmodel = "own"\ntier = "night"\ninput = 2\ncache_read = 1\n',
        "prices.toml",
    )
    usage = Usage(input=10, cache_read=10)
    result = charge(book, provider="vllm", model="own", tier="night", usage=usage, at=NOW)
    assert (result.amount, result.list_amount) == (30_000_000, 80_000_000)
    assert result.saved == (("tier", 50_000_000),)


def test_an_unknown_model_is_unknown_and_nothing_used_costs_nothing() -> None:
    unknown = Sold("openai", "gpt-99", None, NOW)
    assert unknown.charge(Usage(input=1)).amount is None
    assert unknown.charge(Usage(input=1)).list_amount is None
    assert unknown.charge(Usage()) == Charge(0, 0, BOOK.version)


@pytest.mark.parametrize("model", ["gpt-6-sol", "claude-opus-5-5"])
def test_web_search_is_a_fee_per_use(model: str) -> None:
    plain, searched = (Sold("", model, None, NOW).charge(Usage(input=5, web_search=uses)).amount for uses in (0, 3))
    assert plain is not None
    assert searched == plain + 3 * 10**10
