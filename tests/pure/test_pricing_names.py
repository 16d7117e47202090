"""Names of models and providers: patterns, dated snapshots, other names, and what is nobody's."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.pricing.edition import STANDARD, Band, Model, Provider, Ratio, Row
from farthing.pricing.names import find, matches
from farthing.stores.price_files import packaged_book

KNOWN = {provider.id: provider for provider in packaged_book().edition.providers}


def meant(provider: str, name: str) -> str | None:
    found = find(KNOWN, provider, name)
    return f"{found.owner.id}/{found.model.id}" if found else None


@given(st.text(alphabet="ab*", max_size=6), st.text(alphabet="ab", max_size=8))
def test_a_star_matches_any_text(pattern: str, name: str) -> None:
    assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("gpt-6", "gpt-6", True),
        ("gpt-6", "gpt-6-sol", False),
        ("gpt-*-sol", "gpt-sol", False),
        (("gpt*", "*sol"), "gpt-6-sol", True),
        (("gpt*", "*sol"), "gpt-6-luna", False),
        (r"/^gpt-\d$/", "gpt-6", True),
        (r"/^gpt-\d$/", "gpt-6x", False),
        ("/regional", "/regional", True),
        ("/regional", "regional", False),
    ],
)
def test_patterns(pattern: str | tuple[str, ...], name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


@pytest.mark.parametrize(
    ("provider", "name", "model"),
    [
        ("openai", "gpt-6-luna", "openai/gpt-6-luna"),
        ("openai", "GPT-6-Luna", "openai/gpt-6-luna"),
        ("openai", "gpt-6-luna-2026-05-13", "openai/gpt-6-luna"),
        ("openai", "gpt-6-luna-20260513", "openai/gpt-6-luna"),
        ("openai", "gpt-5.4-mini-2026-09-30", "openai/gpt-5.4-mini"),  # a snapshot without a rule of its own
        ("openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),  # a snapshot with a price of its own
        ("anthropic", "claude-haiku-5-5-20260901", "anthropic/claude-haiku-5-5"),
        ("anthropic", "claude-3-5-haiku-20241022", "anthropic/claude-3-5-haiku-latest"),
        ("azure", "gpt-6-sol", "openai/gpt-6-sol"),
        ("azure", "claude-opus-5-5", "anthropic/claude-opus-5-5"),
        ("gemini", "gemini-3.8-flash", "google/gemini-3.8-flash"),
        ("Google", "gemini-3.8-flash", "google/gemini-3.8-flash"),
        ("", "gpt-6-sol", "openai/gpt-6-sol"),
        ("", "claude-opus-5-5", "anthropic/claude-opus-5-5"),
        ("", "mistral-small-latest", "mistral/mistral-small-latest"),
        ("", "deepseek-v4-pro", "deepseek/deepseek-v4-pro"),
        ("openrouter", "openai/gpt-6-sol", "openrouter/openai/gpt-6-sol"),
        ("openai", "gpt-6", None),
        ("openai", "claude-opus-5-5", None),
        ("anthropic", "", None),
        ("vllm", "mistral-small-latest", None),
        ("nobody", "gpt-6-sol", None),
        ("", "my-own-model", None),
        ("openai", "gpt-6-luna" + "-" * 300, None),
    ],
)
def test_what_a_name_means(provider: str, name: str, model: str | None) -> None:
    assert meant(provider, name) == model


def priced(name: str, *names: str) -> Model:
    return Model(name, {STANDARD: (Row((Band(0, {"input": 1}),)),)}, names)


def test_an_exact_name_goes_before_an_earlier_pattern_and_own_models_before_borrowed_ones() -> None:
    maker = Provider("maker", models=(priced("family", "fam*"), priced("famous"), priced("lent")))
    seller = Provider("seller", models=(priced("family"),), borrows=("maker",))
    reseller = Provider("reseller", like="seller", factor=Ratio(11, 10))
    known = {provider.id: provider for provider in (maker, seller, reseller)}

    famous = find(known, "maker", "famous")
    assert famous is not None
    assert famous.model.id == "famous"
    own = find(known, "seller", "family")
    assert own is not None
    assert (own.owner.id, own.borrowed) == ("seller", False)
    lent = find(known, "seller", "lent")
    assert lent is not None
    assert (lent.owner.id, lent.borrowed) == ("maker", True)
    resold = find(known, "reseller", "family")
    assert resold is not None
    assert (resold.owner.id, resold.factor, resold.borrowed) == ("seller", Ratio(11, 10), False)
    assert find(known, "reseller", "unheard-of") is None
