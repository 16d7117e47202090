"""The user's own rows: what they say wins, what is wrong in them is named, and they make a version of their own."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import ConfigError
from farthing.pricing import PriceBook, charge, price_at
from farthing.schema import Usage
from farthing.stores.price_files import packaged_book

BOOK = packaged_book()


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


NOW = instant("2026-11-20T12:00")


def override(text: str) -> PriceBook:
    return BOOK.with_overrides(text, "prices.toml")


def price(
    book: PriceBook, provider: str, model: str, meter: str, tier: str | None = None, tokens: int = 9, at: int = NOW
) -> int | None:
    return price_at(book, provider, model, meter, tier, tokens, at)


NEGOTIATED = """
[[price]]
provider = "openai"
model = "gpt-6-sol"
from = 2026-11-01
until = 2026-12-01
input = 1.80
"""


def test_a_row_wins_while_it_is_valid_and_leaves_what_it_does_not_name() -> None:
    book = override(NEGOTIATED)
    assert price(book, "openai", "gpt-6-sol", "input") == 1_800_000
    assert price(book, "openai", "gpt-6-sol-2026-07-01", "input") == 1_800_000
    assert price(book, "openai", "gpt-6-sol", "output") == 10_000_000
    assert price(book, "openai", "gpt-6-sol", "input", at=instant("2026-10-31T23:59")) == 2_000_000
    assert price(book, "openai", "gpt-6-sol", "input", at=instant("2026-12-01")) == 2_000_000
    assert price(book, "openai", "gpt-6-luna", "input") == price(BOOK, "openai", "gpt-6-luna", "input")


@pytest.mark.parametrize("dates", ["", "from = 2026-11-01\nuntil = 2026-12-01\n"])
def test_terms_with_one_provider_do_not_hold_at_another_that_borrows_its_models(dates: str) -> None:
    row = f'[[price]]\nprovider = "openai"\nmodel = "gpt-6-sol"\n{dates}input = 1.80\n'
    book = override(row + '[[price]]\nprovider = "openai"\nmodel = "gpt-7"\ninput = 3\n')
    assert price(book, "openai", "gpt-6-sol", "input") == 1_800_000
    assert price(book, "azure", "gpt-6-sol", "input") == 2_000_000
    assert price(book, "azure", "gpt-6-sol", "input", "batch") == 1_000_000
    assert price(book, "azure", "gpt-7", "input") is None


def test_a_new_model_follows_its_providers_rules() -> None:
    book = override(
        """
        [[price]]
        provider = "openai"
        model = "gpt-7"
        names = ["gpt-7-*"]
        input = 3
        cache_write_30m = 3.75
        output = "15"
        web_search = 10

        [[price.above]]
        tokens = 200_000
        input = 6
        output = 20
        """
    )
    assert price(book, "openai", "gpt-7-mini", "input") == 3_000_000
    assert price(book, "openai", "gpt-7", "input", tokens=200_001) == 6_000_000
    assert price(book, "openai", "gpt-7", "reasoning") == 15_000_000
    assert price(book, "openai", "gpt-7", "output", "batch") == 7_500_000
    assert price(book, "openai", "gpt-7", "web_search", "batch") == 10**10
    assert price(book, "openai", "gpt-7", "cache_read") is None
    assert price(book, "openai", "gpt-7", "cache_write_30m", tokens=200_001) is None
    assert price(book, "openai", "gpt-7", "input", "priority") is None


def test_names_of_a_new_model() -> None:
    book = override('[[price]]\nprovider = "vllm"\nmodel = "Own/7B"\nnames = ["Own-*", "/^own\\\\D7$/"]\ninput = 1\n')
    for name in ("own/7b", "Own/7B", "OWN-fast", "own_7", "own/7b-2026-11-20"):
        assert price(book, "vllm", name, "input") == 1_000_000
    assert price(book, "vllm", "own17", "input") is None


def test_own_names_go_before_built_in_ones() -> None:
    book = override('[[price]]\nprovider = "openai"\nmodel = "ours"\nnames = ["gpt-6-luna-2026-*"]\ninput = 7\n')
    assert price(book, "openai", "gpt-6-luna-2026-05-13", "input") == 7_000_000
    assert price(book, "openai", "gpt-6-luna", "input") == 100_000


def test_a_partial_row_for_a_tier_that_a_rule_makes_keeps_the_rest_of_the_rule() -> None:
    book = override('[[price]]\nprovider = "mistral"\nmodel = "mistral-7"\ninput = 4\noutput = 8\n'
                    '[[price]]\nprovider = "mistral"\nmodel = "mistral-7"\ntier = "batch"\ninput = 1\n')  # fmt: skip
    assert price(book, "mistral", "mistral-7", "input", "batch") == 1_000_000
    assert price(book, "mistral", "mistral-7", "output", "batch") == 4_000_000


def test_a_provider_at_another_ones_prices_times_a_factor() -> None:
    book = override('[[provider]]\nid = "openai-eu"\nlike = "openai"\nfactor = 1.1\n')
    assert price(book, "openai-eu", "gpt-6-sol", "input") == 2_200_000
    assert price(book, "openai-eu", "gpt-6-sol", "output", "batch") == 5_500_000
    assert price(book, "openai-eu", "gpt-6-sol", "web_search") == 10**10
    assert price(book, "openai", "gpt-6-sol", "input") == 2_000_000


def test_a_price_that_a_factor_would_make_less_than_whole_is_unknown() -> None:
    book = override(
        '[[provider]]\nid = "third"\nlike = "vllm"\nfactor = "1/3"\n'
        '[[price]]\nprovider = "vllm"\nmodel = "own"\ninput = 3\noutput = 1\n'
    )
    assert price(book, "third", "own", "input") == 1_000_000
    assert price(book, "third", "own", "output") is None
    usage = Usage(input=1, output=1)
    assert charge(book, provider="third", model="own", tier=None, usage=usage, at=NOW).missing == ("output",)


def test_hours_and_days() -> None:
    book = override(
        """
        [[price]]
        provider = "vllm"
        model = "own"
        input = 2

        [[price]]
        provider = "vllm"
        model = "own"
        hours = ["22:00-02:00"]
        days = ["sat-sun", "wed"]
        input = 1
        """
    )
    cheap = {
        *("2026-11-21T22:00", "2026-11-22T00:00", "2026-11-22T01:59", "2026-11-23T01:59"),  # Saturday, Sunday
        *("2026-11-25T22:30", "2026-11-26T01:00"),  # Wednesday, into Thursday
    }
    dear = {"2026-11-21T01:00", "2026-11-21T21:59", "2026-11-22T02:00", "2026-11-23T23:00", "2026-11-25T00:30"}
    assert {when: price(book, "vllm", "own", "input", at=instant(when)) for when in cheap | dear} == {
        **dict.fromkeys(cheap, 1_000_000),
        **dict.fromkeys(dear, 2_000_000),
    }


def test_days_alone_are_whole_days() -> None:
    row = '[[price]]\nprovider = "vllm"\nmodel = "own"\ndays = ["fri-mon"]\ninput = 1\n'
    book = override(row)
    days = [price(book, "vllm", "own", "input", at=instant(f"2026-11-{day}T23:59")) for day in range(20, 27)]
    assert days == [1_000_000] * 4 + [None] * 3
    assert override(row + 'hours = ["00:00-24:00"]').version == book.version


def test_a_machine_by_the_hour_spread_over_its_tokens() -> None:
    book = override('[[price]]\nprovider = "vllm"\nmodel = "own"\nhourly = 3.00\ntokens_per_hour = 6_000_000\n')
    meters = ("input", "cache_read", "output", "reasoning", "input_image")
    assert {price(book, "vllm", "own", meter) for meter in meters} == {500_000}


def test_own_rules_go_before_the_built_in_ones() -> None:
    book = override(
        '[[tier_rule]]\nprovider = "azure"\ntier = "batch"\nfactor = 0.6\n'
        '[[meter_rule]]\nprovider = "*"\nmeter = "input_audio"\nof = "input"\nfactor = 4\nmodels = ["gpt-6-*"]\n'
    )
    assert price(book, "azure", "gpt-6-sol", "input", "batch") == 1_200_000
    assert price(book, "openai", "gpt-6-sol", "input_audio") == 8_000_000
    assert price(book, "anthropic", "claude-opus-5-5", "input_audio") is None


@given(st.integers(1, 10**9), st.integers(1, 10**9))
@settings(max_examples=25)
def test_the_version_changes_with_the_content_and_only_then(one: int, other: int) -> None:
    def version(pico: int) -> str:
        usd = f"{pico // 10**6}.{pico % 10**6:06}"
        return override(f'[[price]]\nprovider = "vllm"\nmodel = "own"\ninput = {usd}\n').version

    assert (version(one) == version(other)) == (one == other)
    assert version(one) != BOOK.version


def test_remarks_and_order_of_keys_do_not_change_the_version() -> None:
    assert override("# nothing\n").version == BOOK.version
    row = '[[price]]\nprovider = "vllm"\nmodel = "own"\n'
    assert (
        override(row + "input = 1\noutput = 2").version == override(row + "output = 2.0 # dear\ninput = 1.00").version
    )
    assert override(NEGOTIATED).version.startswith(BOOK.edition.as_of)


def test_a_book_with_overrides_is_archived_whole() -> None:
    book = override(NEGOTIATED)
    again = PriceBook.decode(book.encode())
    assert again.version == book.version
    assert price(again, "openai", "gpt-6-sol", "input") == 1_800_000


def test_the_documented_example_can_be_used() -> None:
    page = Path(__file__).parents[2] / "docs" / "concepts" / "pricing.md"
    (example,) = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    book = override(example)
    assert price(book, "sglang", "own-70b", "output") == 500_000
    assert price(book, "vllm", "own-anything", "input", at=instant("2026-11-20T23:00")) == 100_000
    assert price(book, "azure", "gpt-6-sol", "input", "priority") == 3_500_000
    assert price(book, "mistral", "mistral-small-latest", "input_audio") == 600_000


ROW = '[[price]]\nprovider = "openai"\nmodel = "gpt-6-sol"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[price]\n", ["prices.toml", "line 1"]),
        ("[[prices]]\n", ["prices.toml", "'prices'", "Did you mean 'price'"]),
        (ROW + "inptu = 2", ["prices.toml, [[price]] 1", "'inptu'", "Did you mean 'input'"]),
        (ROW + "input = 1\n" + ROW.replace("openai", "opnai") + "input = 1",
         ["[[price]] 2 (opnai gpt-6-sol)", "'opnai'", "Did you mean 'openai'"]),
        (ROW, ["openai gpt-6-sol", "no price", "cache_read"]),
        (ROW + "input = -1", ["openai gpt-6-sol", "'input'"]),
        (ROW + 'input = "two"', ["openai gpt-6-sol", "'input'", "'two'"]),
        (ROW + "input = true", ["openai gpt-6-sol", "'input'"]),
        (ROW + "input = nan", ["openai gpt-6-sol", "'input'"]),
        (ROW + "input = 0.0000001", ["openai gpt-6-sol", "'input'", "0.1 pico-dollars"]),
        (ROW + 'input = 1\nfrom = "yesterday"', ["openai gpt-6-sol", "'from'", "2026-11-20"]),
        (ROW + "input = 1\nfrom = 2026-12-01\nuntil = 2026-11-01", ["openai gpt-6-sol", "ends before it begins"]),
        (ROW + 'input = 1\nhours = ["1-4"]', ["openai gpt-6-sol", "'hours'", "01:00-04:00"]),
        (ROW + 'input = 1\nhours = ["01:00-24:30"]', ["openai gpt-6-sol", "'hours'"]),
        (ROW + 'input = 1\nhours = ["01:00-01:00"]', ["openai gpt-6-sol", "'hours'"]),
        (ROW + 'input = 1\nhours = ["01:00:30-04:00"]', ["openai gpt-6-sol", "'hours'"]),
        (ROW + 'input = 1\ndays = ["mo-fri"]', ["openai gpt-6-sol", "days 'mo'", "Did you mean 'mon'"]),
        (ROW + 'input = 1\nnames = "gpt"', ["openai gpt-6-sol", "'names'"]),
        (ROW + 'input = 1\nnames = ["/[/"]', ["openai gpt-6-sol", "'names'", "regular expression"]),
        (ROW + "input = 1\n[[price.above]]\ninput = 2", ["[[above]] 1", "'tokens'"]),
        (ROW + "input = 1\n[[price.above]]\ntokens = 9\n[[price.above]]\ntokens = 9", ["openai gpt-6-sol", "out of order"]),
        (ROW + "hourly = 3", ["openai gpt-6-sol", "'tokens_per_hour'"]),
        ("[[price]]\nmodel = 'x'\ninput = 1", ["[[price]] 1", "'provider'"]),
        ("price = 3", ["'price'", "[[price]]"]),
        ("price = [3]", ["[[price]] 1"]),
        ('[[provider]]\nid = "mine"\nlike = "opena"', ["mine", "'opena'", "Did you mean 'openai'"]),
        ('[[provider]]\nid = "mine"\nlike = "gemini"', ["mine", "'gemini'", "google"]),
        ('[[provider]]\nid = "mine"\nfactor = 1.1', ["[[provider]] 1", "like"]),
        ('[[tier_rule]]\nprovider = "openai"\ntier = "x"\nfactor = "a/b"', ["[[tier_rule]] 1", "'factor'"]),
        ('[[tier_rule]]\nprovider = "openai"\ntier = "x"\nfactor = "1/0"', ["[[tier_rule]] 1", "'factor'"]),
        ('[[tier_rule]]\nprovider = "opena"\ntier = "x"\nfactor = 1', ["'opena'", "Did you mean 'openai'"]),
        ('[[meter_rule]]\nprovider = "*"\nmeter = "ouput"\nof = "input"\nfactor = 1', ["'ouput'", "'output'"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        override(text)
    for words in says:
        assert words in str(caught.value)
