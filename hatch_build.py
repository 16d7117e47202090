"""Compile the price book: genai-prices plus our own rows, as integers, into src/farthing/pricing/data/book.json.

Runs inside every wheel and editable build; `python hatch_build.py` runs it alone. What cannot be said exactly is left
out and counted on stderr, never rounded.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import types
from genai_prices.data import providers
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent / "src"))

from farthing.pricing.book import PriceBook
from farthing.pricing.edition import STANDARD, Band, Edition, Model, Pattern, Provider, Row, Window, scaled
from farthing.pricing.layers import overlays
from farthing.pricing.names import matches
from farthing.pricing.tables import apply, read

DATA = Path(__file__).parent / "src" / "farthing" / "pricing" / "data"
BOOK = DATA / "book.json"
SOURCE = f"genai-prices {version('genai-prices')}"

PER_MTOK, PER_KCOUNT = 10**6, 10**9
"""Pico-dollars per unit in 1 USD per million tokens, and in 1 USD per thousand uses."""

METERS = {
    "input_mtok": ("input",),
    "cache_read_mtok": ("cache_read",),
    "cache_write_mtok": ("cache_write_5m", "cache_write_30m"),
    "cache_write_5m_mtok": ("cache_write_5m",),
    "cache_write_1h_mtok": ("cache_write_1h",),
    "input_audio_mtok": ("input_audio",),
    "input_image_mtok": ("input_image",),
    "input_video_mtok": ("input_video",),
    "output_mtok": ("output",),
    "output_reasoning_mtok": ("reasoning",),
    "output_audio_mtok": ("output_audio",),
    "output_image_mtok": ("output_image",),
    "web_searches_kcount": ("web_search",),
}
"""What each price is metered as. A cache write of no stated life has the default one: 5 or 30 minutes, by dialect."""

UNSEEN = ("requests_kcount", "output_citation_mtok", "input_text_messages_kcount")
"""Billed on every call but counted by no meter: a model with such a price would be undercharged, so it is left out."""

FREE = {"cache_read": 0, "input": 0, "output": 0}
"""The prices of a model that says in its name that it is free; without the name, no price is an unknown one."""

TIERS = {("processing", "batch"): "batch", ("speed", "fast"): "fast"}
"""Which context of a price is which tier; every `service_tier` is the tier of that name."""

Price = Decimal | types.TieredPrices


class PriceBookHook(BuildHookInterface[Any]):
    """Compiles the price book before a wheel is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the book where the wheel expects it."""
        write_book()


def write_book() -> None:
    """Write book.json, and say on stderr what is in it and what is not."""
    skipped: Counter[str] = Counter()
    edition = compiled(skipped)
    data = edition.encode()
    BOOK.write_bytes(data)
    models = [model for provider in edition.providers for model in provider.models]
    rows = sum(len(rows) for model in models for rows in model.tiers.values())
    title = f"price book {PriceBook.decode(data).version}"
    size = f"{len(edition.providers)} providers, {len(models)} models, {rows} rows, {len(data) // 1024} KiB"
    print(f"{title}: {size}; left out {skipped.total()}:", file=sys.stderr)
    for reason, count in skipped.most_common():
        print(f"  {count:5} {reason}", file=sys.stderr)


def compiled(skipped: Counter[str]) -> Edition:
    """The source with every table of data/*.toml on top, in the order of their names; counts what is left out."""
    edition = Source(skipped).edition()
    for path in sorted(DATA.glob("*.toml")):
        edition = apply(edition, read(path.read_text("utf-8"), path.name), own=False)
    if inexact := sum(_inexact(edition)):
        skipped["prices that are not whole pico-dollars after a tier rule"] = inexact
    return edition


def _inexact(edition: Edition) -> Iterator[int]:
    """How many standard prices each tier rule would make less than whole: there the tier has no price."""
    for rule in edition.tier_rules:
        sellers = (provider for provider in edition.providers if rule.provider in ("*", provider.id))
        for model in (model for seller in sellers for model in seller.models):
            if any(matches(pattern, model.id.lower()) for pattern in rule.models):
                for row in model.tiers.get(STANDARD, ()):
                    after = scaled(row.bands, rule.factor)
                    yield sum(len(band.prices) for band in row.bands) - sum(len(band.prices) for band in after)


class Source:
    """Reads genai-prices into an edition, counting what is left out and why."""

    def __init__(self, skipped: Counter[str]) -> None:
        self.skipped = skipped

    def edition(self) -> Edition:
        """Everything in the source that has a price per token."""
        return Edition(as_of="", source=SOURCE, providers=tuple(self._provider(provider) for provider in providers))

    def _provider(self, provider: types.Provider) -> Provider:
        models = (self._model(model) for model in provider.models)
        return Provider(
            id=provider.id,
            models=tuple(model for model in models if model),
            serves=tuple(alternatives(provider.model_match)) if provider.model_match else (),
            borrows=tuple(provider.fallback_model_providers or ()),
        )

    def _model(self, model: types.ModelInfo) -> Model | None:
        prices = model.prices if isinstance(model.prices, list) else [types.ConditionalPrice(prices=model.prices)]
        if any(getattr(condition.prices, key, None) is not None for condition in prices for key in UNSEEN):
            self.skipped["models billed by what no meter counts (requests, messages, citations)"] += 1
            return None
        rows = (self._row(condition.constraint, condition.prices) for condition in prices)
        standard = tuple(row for row in rows if any(band.prices for band in row.bands))
        if model.id.endswith(":free") and not standard:
            standard = (Row((Band(0, FREE),)),)
        if not standard:
            self.skipped["models without a price per token"] += 1
            return None
        names = (name for name in alternatives(model.match) if name != model.id.lower())
        return Model(model.id, {STANDARD: standard, **self._tiers(model, standard)}, tuple(dict.fromkeys(names)))

    def _tiers(self, model: types.ModelInfo, standard: tuple[Row, ...]) -> dict[str, tuple[Row, ...]]:
        """The other tiers: the standard rows, with the prices of each variant over theirs while it is valid."""
        tiers: dict[str, tuple[Row, ...]] = {}
        for variant in reversed(model.price_variants or ()):
            ((key, value),) = variant.when.items()
            tier = value if key == "service_tier" else TIERS.get((key, value))
            if tier is None:
                self.skipped[f"price variants by {key}"] += 1
            elif tier != "default":
                row = self._row(variant.constraint, variant.prices)
                tiers[tier] = (*tiers.get(tier, ()), *overlays(standard, row))
        return tiers

    def _row(
        self, constraint: types.StartDateConstraint | types.TimeOfDateConstraint | None, prices: types.ModelPrice
    ) -> Row:
        bands = self._bands({key: value for key, value in vars(prices).items() if value is not None})
        if isinstance(constraint, types.StartDateConstraint):
            midnight = datetime.combine(constraint.start_date, time(), UTC)
            return Row(bands, start=int(midnight.timestamp()) * 10**9)
        if isinstance(constraint, types.TimeOfDateConstraint):
            return Row(bands, windows=windows(constraint.start_time, constraint.end_time))
        return Row(bands)

    def _bands(self, prices: Mapping[str, Price]) -> tuple[Band, ...]:
        tiered = (price.tiers for price in prices.values() if isinstance(price, types.TieredPrices))
        starts = sorted({0, *(tier.start for tiers in tiered for tier in tiers)})
        return tuple(Band(start, dict(self._meters(prices, start))) for start in starts)

    def _meters(self, prices: Mapping[str, Price], start: int) -> Iterator[tuple[str, int]]:
        """Prices by meter above `start` input tokens; the more specific keys are the longer ones, and come last."""
        for key in sorted(prices, key=len):
            if key not in METERS:
                self.skipped[f"prices per {key}"] += start == 0
                continue
            amount = price_above(prices[key], start) * (PER_KCOUNT if key.endswith("kcount") else PER_MTOK)
            if amount != amount.to_integral_value():
                self.skipped["prices that are not whole pico-dollars"] += 1
                continue
            for meter in METERS[key]:
                yield meter, int(amount)


def price_above(price: Price, start: int) -> Decimal:
    """The price of a request of just more than `start` input tokens."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if start >= tier.start), price.base)


def windows(start: time, end: time) -> tuple[Window, ...]:
    """A daily interval in UTC, in two parts when it crosses midnight."""
    if start.utcoffset() or end.utcoffset() or start.second or end.second:
        raise ValueError(f"{SOURCE} has a window that is not in whole UTC minutes: {start} to {end}")
    first, last = (moment.hour * 60 + moment.minute for moment in (start, end))
    spans = [(first, last)] if first < last else [(first, 1440), (0, last)]
    return tuple(Window(127, begin, finish) for begin, finish in spans)


def alternatives(clause: types.MatchLogic) -> Iterator[Pattern]:
    """A match rule as alternatives, each one pattern or several that must all match."""
    match clause:
        case types.ClauseOr(or_=parts):
            for part in parts:
                yield from alternatives(part)
        case types.ClauseAnd(and_=parts):
            combined: list[tuple[str, ...]] = [()]
            for part in parts:
                options = [(option,) if isinstance(option, str) else option for option in alternatives(part)]
                combined = [(*before, *option) for before in combined for option in options]
            yield from combined
        case types.ClauseRegex(regex=expression):
            yield f"/{expression}/"
        case types.ClauseEquals(equals=text):
            yield wildcard(text, "{}")
        case types.ClauseStartsWith(starts_with=text):
            yield wildcard(text, "{}*")
        case types.ClauseEndsWith(ends_with=text):
            yield wildcard(text, "*{}")
        case types.ClauseContains(contains=text):
            yield wildcard(text, "*{}*")
        case _:
            raise TypeError(f"{SOURCE} has a match rule that is not known here: {clause!r}")


def wildcard(text: str, form: str) -> str:
    """The pattern for a text, which must not mean something else as a pattern."""
    pattern = form.format(text).lower()
    if "*" in text or pattern[0] == "/" == pattern[-1]:
        raise ValueError(f"{SOURCE} matches the text {text!r}, which a pattern cannot say")
    return pattern


if __name__ == "__main__":
    write_book()
