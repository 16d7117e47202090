"""The compiled book against the library it was compiled from, to the last pico-dollar."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from farthing.pricing import charge
from farthing.pricing.names import find
from farthing.schema import Usage
from farthing.stores.price_files import packaged_book

data = pytest.importorskip("genai_prices.data", reason="the source of the price book is a development dependency")
types = pytest.importorskip("genai_prices.types")

BOOK = packaged_book()
KNOWN = {provider.id: provider for provider in BOOK.edition.providers}
INSTANTS = [datetime(2026, 3, 2, 12, tzinfo=UTC), datetime(2026, 11, 20, 17, tzinfo=UTC)]
USAGES = (
    Usage(input=700),
    Usage(input=700, output=90),
    Usage(input=300, cache_read=500, cache_write_5m=200, output=90),
)
OURS = ("deepseek",)
"""Providers whose clock the source cannot say, and our rows do."""


def priced(provider: Any, model: Any) -> bool:
    """Whether both books know the model by its id."""
    found = find(KNOWN, provider.id, model.id)
    return found is not None and provider.find_model(model.id) is model


def sample() -> Iterator[tuple[str, str]]:
    for provider in data.providers:
        names = [model.id for model in provider.models if priced(provider, model)]
        if provider.id not in OURS:
            yield from ((provider.id, name) for name in names[:: max(1, len(names) // 3)][:3])


def variants() -> Iterator[tuple[str, str, dict[str, str], str]]:
    for provider in data.providers:
        for model in provider.models:
            for variant in (model.price_variants or ())[::3]:
                ((key, value),) = variant.when.items()
                tier = key in ("processing", "service_tier", "speed") and value != "default"
                if tier and priced(provider, model):
                    yield provider.id, model.id, variant.when, value


SAMPLE, VARIANTS = list(sample()), list(variants())


def compare(provider_id: str, name: str, tier: str | None, context: dict[str, str] | None, at: datetime) -> int:
    """Compare every usage that both can price; how many there were."""
    provider = next(provider for provider in data.providers if provider.id == provider_id)
    model = provider.find_model(name)
    compared = 0
    for scale in (1, 400):
        for usage in USAGES:
            ours = Usage(
                *(quantity * scale for quantity in (usage.input, usage.cache_read, usage.cache_write_5m)),
                output=usage.output,
            )
            result = charge(
                BOOK, provider=provider_id, model=name, tier=tier, usage=ours, at=int(at.timestamp()) * 10**9
            )
            if result.amount is None:
                continue
            theirs = model.calc_price(
                types.Usage(
                    input_tokens=ours.input_tokens,
                    cache_read_tokens=ours.cache_read,
                    cache_write_tokens=ours.cache_write_5m,
                    output_tokens=ours.output,
                ),
                provider,
                genai_request_timestamp=at,
                price_context=context,
            )
            assert Decimal(result.amount) == theirs.total_price * 10**12, (ours, model.id)
            compared += 1
    return compared


def test_the_sample_is_large_enough() -> None:
    assert len(SAMPLE) >= 60
    assert len(VARIANTS) >= 30


@pytest.mark.parametrize(("provider", "name"), SAMPLE)
def test_standard_prices(provider: str, name: str) -> None:
    assert all(compare(provider, name, None, None, at) > 0 for at in INSTANTS)


@pytest.mark.parametrize(("provider", "name", "context", "tier"), VARIANTS)
def test_tier_prices(provider: str, name: str, context: dict[str, str], tier: str) -> None:
    assert compare(provider, name, tier, context, INSTANTS[-1]) > 0


@pytest.mark.parametrize("provider", data.providers, ids=lambda provider: provider.id)
def test_names_mean_the_same_models(provider: Any) -> None:
    for name in list(exact_names(provider))[::7]:
        theirs = provider.find_model(name, all_providers=data.providers)
        found = find(KNOWN, provider.id, name)
        if found is not None:
            assert theirs is not None
            assert found.model.id == theirs.id


def exact_names(provider: Any) -> Iterator[str]:
    def walk(clause: Any) -> Iterator[str]:
        for part in getattr(clause, "or_", getattr(clause, "and_", ())):
            yield from walk(part)
        if isinstance(clause, types.ClauseEquals):
            yield clause.equals

    for model in provider.models:
        yield from walk(model.match)
