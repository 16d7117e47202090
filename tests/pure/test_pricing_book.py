"""The packaged book answers by provider, model, meter, tier, context band, cache life and instant."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from farthing.errors import ConfigError
from farthing.pricing import PriceBook, price_at
from farthing.pricing.book import tier_name
from farthing.schema import METERS
from farthing.stores.price_files import packaged_book

BOOK = packaged_book()


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


NOW = instant("2026-11-20T12:00")


def usd_per_mtok(
    model: str, meter: str, tier: str | None = None, tokens: int = 1000, at: int = NOW, provider: str = ""
) -> str:
    price = price_at(BOOK, provider, model, meter, tier, tokens, at)
    return "unknown" if price is None else f"{Decimal(price).scaleb(-6).normalize():f}"


STANDARD = [
    # model, input, output, cache read, cache writes by life
    ("gpt-6-sol", "2", "10", "0.2", {"30m": "2.5", "12h": "5"}),
    ("gpt-6.1-sol", "2", "10", "0.1", {"30m": "2.5", "12h": "5"}),
    ("gpt-6-luna", "0.1", "0.5", "0.01", {"30m": "0.125", "12h": "0.25"}),
    ("gpt-5.5", "5", "30", "0.5", {"30m": "5", "12h": "unknown"}),
    ("gpt-5.4-mini", "0.75", "4.5", "0.075", {"30m": "0.75", "12h": "unknown"}),
    ("claude-opus-5-5", "4", "20", "0.2", {"5m": "5", "1h": "8"}),
    ("claude-sonnet-5-5", "2", "10", "0.1", {"5m": "2.5", "1h": "4"}),
    ("claude-haiku-5-5", "0.1", "0.5", "0.01", {"5m": "0.125", "1h": "0.2"}),
    ("gemini-3.8-flash", "0.75", "3.75", "0.075", {"5m": "unknown"}),
]


@pytest.mark.parametrize(("model", "plain", "output", "read", "writes"), STANDARD)
def test_standard_prices_by_meter(model: str, plain: str, output: str, read: str, writes: dict[str, str]) -> None:
    assert usd_per_mtok(model, "input") == plain
    assert usd_per_mtok(model, "output") == output
    assert usd_per_mtok(model, "cache_read") == read
    assert {life: usd_per_mtok(model, f"cache_write_{life}") for life in writes} == writes


@pytest.mark.parametrize(
    ("model", "tier", "plain", "output"),
    [
        ("gpt-6-sol", "batch", "1", "5"),
        ("gpt-6-sol", "flex", "1", "5"),
        ("gpt-6-sol", "priority", "4", "20"),
        ("gpt-6.1-sol", "ultrafast", "12", "60"),
        ("gpt-5.5", "priority", "12.5", "75"),
        ("gpt-5.4-mini", "priority", "1.5", "9"),
        ("claude-opus-5-5", "batch", "2", "10"),
        ("claude-opus-5-5", "fast", "8", "40"),
        ("gemini-3.8-flash", "batch", "0.375", "1.875"),
        ("gemini-3.8-flash", "flex", "0.375", "1.875"),
        ("gemini-3.8-flash", "priority", "1.35", "6.75"),
    ],
)
def test_tiers(model: str, tier: str, plain: str, output: str) -> None:
    assert (usd_per_mtok(model, "input", tier), usd_per_mtok(model, "output", tier)) == (plain, output)


@pytest.mark.parametrize("meter", ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h"])
def test_anthropic_batches_halve_every_token_meter_even_before_rows_for_them_begin(meter: str) -> None:
    for at in (NOW, instant("2026-10-13T23:59")):
        standard = price_at(BOOK, "anthropic", "claude-opus-5-5", meter, None, 1000, at)
        assert standard is not None
        assert price_at(BOOK, "anthropic", "claude-opus-5-5", meter, "batch", 1000, at) == standard // 2


def test_a_tier_leaves_fees_as_they_are() -> None:
    fees = [price_at(BOOK, "anthropic", "claude-opus-5-5", "web_search", tier, 0, NOW) for tier in (None, "batch")]
    assert fees == [10 * 10**9, 10 * 10**9]


@pytest.mark.parametrize("tier", ["ultrafast", "scale", "provisioned_throughput", "fast"])
def test_an_unknown_tier_of_a_known_model_is_unknown(tier: str) -> None:
    assert usd_per_mtok("claude-haiku-5-5", "input", tier) == "unknown"


@pytest.mark.parametrize("tier", [None, "", "default", "auto", "on_demand", "ON_DEMAND", "standard", "standard_only"])
def test_names_of_the_standard_tier(tier: str | None) -> None:
    assert tier_name(tier) == "standard"
    assert usd_per_mtok("gpt-6-sol", "input", tier) == "2"


@pytest.mark.parametrize(
    ("model", "edge", "meter", "below", "above"),
    [
        ("gpt-6-sol", 272_000, "input", "2", "4"),
        ("gpt-6-sol", 272_000, "output", "10", "15"),
        ("gpt-6-luna", 272_000, "input", "0.1", "0.2"),
        ("gpt-6-luna", 272_000, "output", "0.5", "0.75"),
        ("claude-haiku-5-5", 100_000, "input", "0.1", "0.5"),
        ("claude-haiku-5-5", 100_000, "output", "0.5", "2.5"),
        ("claude-haiku-5-5", 100_000, "cache_write_1h", "0.2", "1"),
    ],
)
def test_more_input_than_the_edge_of_a_band_reprices_the_request(
    model: str, edge: int, meter: str, below: str, above: str
) -> None:
    assert usd_per_mtok(model, meter, tokens=edge) == below
    assert usd_per_mtok(model, meter, tokens=edge + 1) == above


def test_no_price_is_made_up_where_a_band_has_none() -> None:
    assert usd_per_mtok("gpt-6.1-sol", "input", "ultrafast", tokens=272_001) == "unknown"


@pytest.mark.parametrize(
    ("when", "plain"),
    [
        ("2026-08-16T15:59", "0.435"),
        ("2026-08-16T16:00", "0.66"),
        ("2026-08-22T02:00", "1.32"),  # a Saturday, before weekends were off-peak
        ("2026-11-20T00:59", "0.66"),
        ("2026-11-20T01:00", "1.32"),
        ("2026-11-20T03:59", "1.32"),
        ("2026-11-20T04:00", "0.66"),
        ("2026-11-20T06:00", "1.32"),
        ("2026-11-20T10:00", "0.66"),
        ("2026-11-21T02:00", "0.66"),  # a Saturday
        ("2026-11-22T07:00", "0.66"),  # a Sunday
        ("2026-11-23T07:00", "1.32"),
    ],
)
def test_deepseek_bills_by_the_clock(when: str, plain: str) -> None:
    assert usd_per_mtok("deepseek-v4-pro", "input", at=instant(when), provider="deepseek") == plain


def test_a_price_that_changes_on_a_date() -> None:
    before, after = instant("2026-12-31T23:59"), instant("2027-01-01T00:00")
    assert [usd_per_mtok("gemini-3.8-flash", "input", at=at) for at in (before, after)] == ["0.75", "1.5"]
    assert [usd_per_mtok("gemini-3.8-flash", "input", "batch", at=at) for at in (before, after)] == ["0.375", "0.75"]


@pytest.mark.parametrize(
    ("meter", "like"), [("reasoning", "output"), ("rejected_prediction", "output"), ("input_image", "input")]
)
def test_meters_without_a_price_of_their_own_that_follow_another(meter: str, like: str) -> None:
    assert usd_per_mtok("gpt-6-sol", meter) == usd_per_mtok("gpt-6-sol", like)


def test_audio_is_unknown_unless_listed_or_the_provider_prices_every_modality_alike() -> None:
    assert usd_per_mtok("gpt-6-sol", "input_audio") == "unknown"
    assert usd_per_mtok("gemini-2.5-flash", "input_audio") == "1"
    assert usd_per_mtok("gemini-2.5-pro", "input_audio") == usd_per_mtok("gemini-2.5-pro", "input")


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-99"), ("nobody", "gpt-6-sol"), ("vllm", "gpt-6-sol"), ("anthropic", "gpt-6-sol"), ("", "llama-9")],
)
def test_unknown_models_and_providers(provider: str, model: str) -> None:
    assert all(price_at(BOOK, provider, model, meter, None, 1000, NOW) is None for meter in METERS)


def test_an_unknown_meter() -> None:
    assert price_at(BOOK, "openai", "gpt-6-sol", "inputs", None, 1000, NOW) is None


def test_a_provider_lends_only_its_standard_tier() -> None:
    assert usd_per_mtok("gpt-6-sol", "input", provider="azure") == "2"
    assert usd_per_mtok("gpt-6-sol", "input", "batch", provider="azure") == "1"  # Azure's own rule
    assert usd_per_mtok("gpt-6-sol", "input", "priority", provider="azure") == "unknown"


def test_a_second_name_for_a_provider_has_all_its_tiers() -> None:
    assert usd_per_mtok("gemini-3.8-flash", "input", "priority", provider="gemini") == "1.35"
    assert set(BOOK.models("gemini")) == set(BOOK.models("google"))


def test_rows_are_what_is_charged() -> None:
    patterns = ("openai/gpt-6*", "anthropic/claude-*-5-5", "deepseek/deepseek-v4-*", "google/gemini-3.8-flash")
    in_force = {
        (row.provider, row.model, row.tier, row.meter, row.above): Decimal(row.usd)
        * (10**9 if row.per == "1k uses" else 10**6)
        for pattern in patterns
        for row in BOOK.rows(pattern)
        if (row.start or 0) <= NOW < (row.until or NOW + 1) and all(window.holds(NOW) for window in row.windows[:1])
    }
    assert {key[2] for key in in_force} == {"standard", "batch", "flex", "priority", "fast", "ultrafast"}
    for (provider, model, tier, meter, above), price in in_force.items():
        assert price_at(BOOK, provider, model, meter, tier, above + 1, NOW) == price


def test_rows_are_found_by_dated_name_and_carry_their_source() -> None:
    rows = [row for row in BOOK.rows("gpt-6-luna-2026-05-13") if row.provider == "openai"]
    assert {row.model for row in rows} == {"gpt-6-luna"}
    by_meter = {row.meter: row for row in rows if row.tier == "standard" and not row.above}
    assert (by_meter["input"].usd, by_meter["input"].per) == ("0.1", "1M tokens")
    assert (by_meter["web_search"].usd, by_meter["web_search"].per) == ("10", "1k uses")
    assert by_meter["input"].source.startswith("genai-prices")
    assert all(row.source for row in rows)


def test_an_encoded_book_is_the_same_book() -> None:
    again = PriceBook.decode(BOOK.encode())
    assert again.version == BOOK.version
    assert again.edition == BOOK.edition


def test_version_names_date_and_content() -> None:
    date, _, digest = BOOK.version.partition("+")
    assert date == BOOK.edition.as_of
    assert len(digest) == 8
    assert int(digest, 16) >= 0


def test_age_in_days() -> None:
    assert BOOK.age(instant(BOOK.edition.as_of + "T23:59")) == 0
    assert BOOK.age(instant(BOOK.edition.as_of) + 30 * 86_400 * 10**9) == 30


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"as_of":"2026-11-20","source":"","format":2}'])
def test_a_damaged_book_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="price book"):
        PriceBook.decode(data)


def test_look_ups_are_remembered_but_not_without_bound() -> None:
    book = PriceBook.decode(BOOK.encode())
    assert book.tariff("openai", "gpt-6-sol", None) is book.tariff("openai", "gpt-6-sol", None)
    for number in range(10_100):
        book.tariff("nobody", f"model-{number}", None)
    assert len(book._memory) <= 10_000
