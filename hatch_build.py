"""Compile the price book: genai-prices plus our own rows, as integers, into src/farthing/pricing/data/book.json.

Runs inside every wheel and editable build; `python hatch_build.py` runs it alone. What cannot be said exactly is left
out and counted on stderr, never rounded.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
DATA = ROOT / "src" / "farthing" / "pricing" / "data"
BOOK = DATA / "book.json"
SOURCE = "genai-prices 0.2.3"

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
"""What each source price is metered as. A cache write of no stated life is of the default one: 5 m or 30 m by dialect."""

UNSEEN = {"requests_kcount", "output_citation_mtok", "input_text_messages_kcount"}
"""Billed on every call but counted by no meter: a model with such a price would be undercharged, so it is left out."""

TIERS = {("processing", "batch"): "batch", ("speed", "fast"): "fast"}
"""Which context of a source price is which tier; every `service_tier` is the tier of that name."""


class PriceBookHook(BuildHookInterface):
    """Compiles the price book before a wheel is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the book where the wheel expects it."""
        compile_book()


def compile_book() -> None:
    """Write book.json and say on stderr what is in it and what is not."""
    sys.path.insert(0, str(ROOT / "src"))
    from farthing.pricing.book import PriceBook

    skipped: Counter[str] = Counter()
    edition = Source(skipped).edition()
    edition = with_own_rows(edition)
    count_inexact(edition, skipped)
    data = edition.encode()
    BOOK.write_bytes(data)
    models = sum(len(provider.models) for provider in edition.providers)
    rows = sum(len(rows) for provider in edition.providers for model in provider.models for rows in model.tiers.values())
    print(
        f"price book {PriceBook.decode(data).version}: {len(edition.providers)} providers, {models} models, {rows} rows, "
        f"{len(data) // 1024} KiB; left out {sum(skipped.values())}:",
        file=sys.stderr,
    )
    for reason, count in skipped.most_common():
        print(f"  {count:5} {reason}", file=sys.stderr)


def with_own_rows(edition: Any) -> Any:
    """The edition with every table of data/*.toml on top, in the order of their names."""
    from farthing.pricing.tables import apply, read

    for path in sorted(DATA.glob("*.toml")):
        edition = apply(edition, read(path.read_text("utf-8"), path.name))
    return edition


def count_inexact(edition: Any, skipped: Counter[str]) -> None:
    """Count the standard prices that a tier rule would make less than whole: there the tier has no price."""
    from farthing.pricing.edition import STANDARD, scaled
    from farthing.pricing.names import matches

    providers = {provider.id: provider for provider in edition.providers}
    for rule in edition.tier_rules:
        for model in providers[rule.provider].models:
            if any(matches(pattern, model.id.lower()) for pattern in rule.models):
                for row in model.tiers.get(STANDARD, ()):
                    for before, after in zip(row.bands, scaled(row.bands, rule.factor), strict=True):
                        skipped["not whole pico-dollars after a tier rule"] += len(before.prices) - len(after.prices)


class Source:
    """Reads genai-prices into an edition, counting what is left out and why."""

    def __init__(self, skipped: Counter[str]) -> None:
        from genai_prices import types
        from genai_prices.data import providers

        from farthing.pricing import edition, layers

        self.types, self.providers, self.to, self.layers = types, providers, edition, layers
        self.skipped = skipped

    def edition(self) -> Any:
        providers = tuple(self.provider(provider) for provider in self.providers)
        return self.to.Edition(as_of="", source=SOURCE, providers=providers)

    def provider(self, provider: Any) -> Any:
        models = (self.model(model) for model in provider.models)
        return self.to.Provider(
            id=provider.id,
            models=tuple(model for model in models if model),
            serves=tuple(self.alternatives(provider.model_match)) if provider.model_match else (),
            borrows=tuple(provider.fallback_model_providers or ()),
        )

    def model(self, model: Any) -> Any:
        conditions = model.prices if isinstance(model.prices, list) else [self.types.ConditionalPrice(prices=model.prices)]
        if any(getattr(condition.prices, key, None) is not None for condition in conditions for key in UNSEEN):
            self.skipped["models billed by what no meter counts (requests, messages, citations)"] += 1
            return None
        standard = [row for condition in conditions if (row := self.row(condition.constraint, condition.prices))]
        if not standard:
            self.skipped["models without a price per token"] += 1
            return None
        tiers = {self.to.STANDARD: tuple(standard)}
        for variant in reversed(model.price_variants or ()):
            self.add_variant(tiers, variant)
        names = (name for name in self.alternatives(model.match) if name != model.id.lower())
        return self.to.Model(id=model.id, tiers=tiers, names=tuple(dict.fromkeys(names)))

    def add_variant(self, tiers: dict[str, Any], variant: Any) -> None:
        """Add a tier's rows: the standard ones, while the variant is valid, with its prices over theirs."""
        ((key, value),) = variant.when.items()
        tier = value if key == "service_tier" else TIERS.get((key, value))
        if tier is None:
            self.skipped[f"price variants by {key}"] += 1
            return
        top = self.row(variant.constraint, variant.prices)
        if top and tier != "default":
            tiers[tier] = (*tiers.get(tier, ()), *self.layers.overlays(tiers[self.to.STANDARD], top))

    def row(self, constraint: Any, prices: Any) -> Any:
        bands = self.bands({key: value for key, value in prices.__dict__.items() if value is not None})
        if not any(band.prices for band in bands):
            return None
        if isinstance(constraint, self.types.StartDateConstraint):
            moment = datetime.combine(constraint.start_date, time(), UTC)
            return self.to.Row(bands, start=int(moment.timestamp()) * 10**9)
        if isinstance(constraint, self.types.TimeOfDateConstraint):
            return self.to.Row(bands, windows=self.windows(constraint.start_time, constraint.end_time))
        return self.to.Row(bands)

    def windows(self, start: time, end: time) -> tuple[Any, ...]:
        first, last = (moment.hour * 60 + moment.minute for moment in (start, end))
        spans = [(first, last)] if first < last else [(first, 1440), (0, last)]
        return tuple(self.to.Window(127, begin, finish) for begin, finish in spans)

    def bands(self, prices: dict[str, Any]) -> tuple[Any, ...]:
        tiered = (price.tiers for price in prices.values() if isinstance(price, self.types.TieredPrices))
        starts = sorted({0, *(tier.start for tiers in tiered for tier in tiers)})
        return tuple(self.to.Band(start, dict(self.meters(prices, start))) for start in starts)

    def meters(self, prices: dict[str, Any], start: int) -> Iterator[tuple[str, int]]:
        for key, price in sorted(prices.items(), key=lambda item: len(item[0])):
            if key not in METERS:
                self.skipped[f"prices per {key}"] += start == 0
                continue
            amount = self.at(price, start) * (PER_KCOUNT if key.endswith("kcount") else PER_MTOK)
            if amount != amount.to_integral_value():
                self.skipped["prices that are not whole pico-dollars"] += 1
                continue
            for meter in METERS[key]:
                yield meter, int(amount)

    def at(self, price: Any, start: int) -> Decimal:
        """The price of a request of just more than `start` input tokens."""
        if not isinstance(price, self.types.TieredPrices):
            return price
        return next((tier.price for tier in reversed(price.tiers) if start >= tier.start), price.base)

    def alternatives(self, clause: Any) -> Iterator[Any]:
        """A match rule as alternatives, each one pattern or several that must all match."""
        types = self.types
        if isinstance(clause, types.ClauseOr):
            for part in clause.or_:
                yield from self.alternatives(part)
        elif isinstance(clause, types.ClauseAnd):
            combined: list[tuple[str, ...]] = [()]
            for part in clause.and_:
                options = [(option,) if isinstance(option, str) else option for option in self.alternatives(part)]
                combined = [(*before, *option) for before in combined for option in options]
            yield from combined
        elif isinstance(clause, types.ClauseRegex):
            yield f"/{clause.regex}/"
        else:
            yield self.wildcard(clause)

    def wildcard(self, clause: Any) -> str:
        match clause:
            case self.types.ClauseEquals(equals=text):
                pattern = text
            case self.types.ClauseStartsWith(starts_with=text):
                pattern = f"{text}*"
            case self.types.ClauseEndsWith(ends_with=text):
                pattern = f"*{text}"
            case self.types.ClauseContains(contains=text):
                pattern = f"*{text}*"
            case _:
                raise TypeError(f"{SOURCE} has a match rule that is not known here: {clause!r}")
        if "*" in text or pattern[0] == "/" == pattern[-1]:
            raise ValueError(f"{SOURCE} matches the text {text!r}, which our patterns cannot say")
        return pattern.lower()


if __name__ == "__main__":
    compile_book()
