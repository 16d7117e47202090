"""The book that ships is what the build makes of its sources, to the byte."""

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from farthing.stores.price_files import packaged_book

SCRIPT = Path(__file__).parents[2] / "hatch_build.py"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    pytest.importorskip("genai_prices", reason="the source of the price book is a development dependency")
    pytest.importorskip("hatchling", reason="the build back end is a development dependency")
    spec = importlib.util.spec_from_file_location("hatch_build", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_building_again_gives_the_same_bytes(build: ModuleType) -> None:
    first, second = build.compiled(Counter()).encode(), build.compiled(Counter()).encode()
    assert first == second
    assert first == packaged_book().encode(), "book.json is stale: run `python hatch_build.py`"


def test_what_cannot_be_said_exactly_is_left_out_and_counted(build: ModuleType) -> None:
    skipped: Counter[str] = Counter()
    build.compiled(skipped)
    assert skipped["prices that are not whole pico-dollars"] > 0
    assert skipped["models billed by what no meter counts (requests, messages, citations)"] > 0
    sonar = [
        model.id
        for provider in packaged_book().edition.providers
        for model in provider.models
        if provider.id == "perplexity"
    ]
    assert "sonar-pro" not in sonar


def test_every_price_is_a_whole_number_and_every_own_row_has_a_source() -> None:
    edition = packaged_book().edition
    for provider in edition.providers:
        for model in provider.models:
            for row in (row for rows in model.tiers.values() for row in rows):
                assert {type(price) for band in row.bands for price in band.prices.values()} <= {int}
                assert row.bands[0].above == 0
    assert all("(2026-" in rule.source for rule in (*edition.tier_rules, *edition.meter_rules))
