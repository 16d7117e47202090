"""PriceBook: one edition of the prices, and the price of anything in it at any instant."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from hashlib import blake2s

import msgspec

from farthing.pricing.edition import STANDARD, Edition, Ratio, Window, decode
from farthing.pricing.names import Found, find, matches
from farthing.pricing.tables import apply, read
from farthing.pricing.tariff import FOREVER, Sheet, Tariff, Term, tariff_of, tiers_of
from farthing.schema import FEE_METERS, METERS

_STANDARD_NAMES = frozenset(("", "default", "auto", "on_demand", "standard", "standard_only"))
_MEMORY = 10_000
_DAY = 86_400 * 10**9
_EPOCH = date(1970, 1, 1).toordinal()
_UNKNOWN = Tariff(())


class PriceRow(msgspec.Struct, frozen=True):
    """One price as people read it: dollars per million tokens, or per thousand uses for a fee.

    It holds above `above` input tokens, from `start` to before `until` (Unix ns) and within `windows`.
    """

    provider: str
    model: str
    tier: str
    above: int
    meter: str
    usd: str
    per: str
    start: int | None
    until: int | None
    windows: tuple[Window, ...]
    source: str


class PriceBook:
    """Prices by provider, model, meter, tier, context band and instant. A value: the same content, the same book."""

    __slots__ = ("_memory", "_providers", "edition", "version")

    def __init__(self, edition: Edition, version: str) -> None:
        self.edition = edition
        self.version = version
        self._providers = {provider.id: provider for provider in edition.providers}
        self._memory: dict[tuple[str, str, str | None], Tariff] = {}

    @classmethod
    def decode(cls, data: bytes) -> "PriceBook":
        """Read an encoded book; raises ConfigError when it is damaged."""
        edition = decode(data)
        return cls(edition, _version(edition.as_of, data))

    def encode(self) -> bytes:
        """The whole book as JSON, for the archive; `decode` of it has the same version."""
        return self.edition.encode()

    def with_overrides(self, toml_text: str, source: str) -> "PriceBook":
        """The book with the user's rows on top; raises ConfigError naming `source`, row and key."""
        edition = apply(self.edition, read(toml_text, source), own=True)
        return PriceBook(edition, _version(edition.as_of, edition.encode()))

    def age(self, at: int) -> int:
        """Whole days from the book's date to an instant (Unix ns)."""
        return at // _DAY - (date.fromisoformat(self.edition.as_of).toordinal() - _EPOCH)

    def tariff(self, provider: str, model: str, tier: str | None) -> Tariff:
        """The tariff of a model at a tier as its provider names it; without terms when either is unknown."""
        key = (provider, model, tier)
        known = self._memory.get(key)
        if known is None:
            known = self._resolve(provider, model, tier)
            if len(self._memory) >= _MEMORY:
                self._memory.clear()
            self._memory[key] = known
        return known

    def models(self, provider: str) -> list[str]:
        """The ids of the models that a provider has prices for, its own first; none when it is not known."""
        home = self._providers.get(provider.lower())
        if home is None:
            return []
        lent = (model.id for lender in home.borrows for model in self._providers[lender].models)
        return [*(model.id for model in home.models), *self.models(home.like), *lent]

    def rows(self, pattern: str = "*") -> Iterator[PriceRow]:
        """Every price of the models whose id, name, or "provider/id" fits a pattern, as it is charged."""
        wanted = pattern.lower()
        for provider in self.edition.providers:
            for model in provider.models:
                spellings = (model.id.lower(), f"{provider.id}/{model.id}".lower())
                if any(matches(wanted, name) for name in spellings) or any(
                    matches(name, wanted) for name in model.names
                ):
                    yield from self._rows_of(Found(provider, provider, model, Ratio(), borrowed=False))

    def _resolve(self, provider: str, model: str, tier: str | None) -> Tariff:
        found = find(self._providers, provider, model)
        return tariff_of(self.edition, found, tier_name(tier)) if found else _UNKNOWN

    def _rows_of(self, found: Found) -> Iterator[PriceRow]:
        for tier in tiers_of(self.edition, found):
            for term in reversed(tariff_of(self.edition, found, tier).terms):
                for sheet in reversed(term.sheets):
                    yield from _price_rows(found, tier, term, sheet, self.edition.source)


def tier_name(tier: str | None) -> str:
    """One name for each tier: what providers call standard is "standard".

    >>> tier_name(None), tier_name("auto"), tier_name("ON_DEMAND_FLEX"), tier_name("Priority")
    ('standard', 'standard', 'flex', 'priority')
    """
    name = (tier or "").lower()
    return STANDARD if name in _STANDARD_NAMES else name.removeprefix("on_demand_")


def price_at(
    book: PriceBook, provider: str, model: str, meter: str, tier: str | None, input_tokens: int, at: int
) -> int | None:
    """Pico-dollars per unit of a meter, for a request of `input_tokens` at `at` (Unix ns); `None` when unknown."""
    sheet = book.tariff(provider, model, tier).sheet(input_tokens, at)
    return sheet.units[METERS.index(meter)] if sheet and meter in METERS else None


def _version(as_of: str, data: bytes) -> str:
    return f"{as_of}+{blake2s(data, digest_size=4).hexdigest()}"


def _price_rows(found: Found, tier: str, term: Term, sheet: Sheet, source: str) -> Iterator[PriceRow]:
    for meter, price in zip(METERS, sheet.units, strict=True):
        if price is not None:
            fee = meter in FEE_METERS
            yield PriceRow(
                provider=found.asked.id,
                model=found.model.id,
                tier=tier,
                above=sheet.above,
                meter=meter,
                usd=f"{Decimal(price).scaleb(-9 if fee else -6).normalize():f}",
                per="1k uses" if fee else "1M tokens",
                start=term.start or None,
                until=None if term.until == FOREVER else term.until,
                windows=term.windows,
                source=term.source or source,
            )
