"""Price tables: rows of prices as people write them in TOML, read strictly and laid over an edition."""

import tomllib
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from farthing.errors import ConfigError
from farthing.pricing.cells import PICO_PER_TOKEN, PICO_PER_USE, Cells
from farthing.pricing.edition import (
    STANDARD,
    Band,
    Edition,
    MeterRule,
    Model,
    Provider,
    Ratio,
    Row,
    TierRule,
)
from farthing.pricing.hosting import price_per_token
from farthing.pricing.layers import layered
from farthing.schema import FEE_METERS, METERS, PICO_PER_USD

T = TypeVar("T")

_SPREAD_METERS = ("input", "cache_read", "output")
"""The meters that a price per hour is spread over; the other token meters follow them by rule."""

_ABOUT = ("source", "checked")
_PRICE_KEYS = (
    "provider", "model", "names", "tier", "from", "until", "hours", "days", "above", "hourly", "tokens_per_hour",
    *_ABOUT, *METERS,
)  # fmt: skip


class Price(msgspec.Struct, frozen=True):
    """One [[price]] table: a row for a model at a tier, and where it stands."""

    place: str
    provider: str
    model: str
    names: tuple[str, ...]
    tier: str
    row: Row


class Tables(msgspec.Struct, frozen=True):
    """Everything one TOML file says. `as_of` is empty when it gives no date."""

    place: str
    as_of: str
    providers: tuple[Provider, ...]
    prices: tuple[Price, ...]
    tier_rules: tuple[TierRule, ...]
    meter_rules: tuple[MeterRule, ...]


def read(text: str, place: str) -> Tables:
    """Read a TOML file of prices; raises ConfigError naming the file (`place`), the table, the key and a near name."""
    try:
        data = tomllib.loads(text, parse_float=str)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{place} is not TOML: {error}.", hint="Correct the line it names.") from error
    top = Cells(place, data)
    top.only("as_of", "provider", "price", "tier_rule", "meter_rule")
    return Tables(
        place=place,
        as_of=top.date("as_of"),
        providers=_each(top, "provider", _provider),
        prices=_each(top, "price", _price),
        tier_rules=_each(top, "tier_rule", _tier_rule),
        meter_rules=_each(top, "meter_rule", _meter_rule),
    )


def apply(edition: Edition, tables: Tables, *, own: bool) -> Edition:
    """The edition with the tables on top: their rows win while valid, their rules come first.

    `own` says that they are the user's, whose terms with one provider do not hold at others that borrow its models.
    Raises ConfigError when a row or rule names a provider that neither the edition nor the tables know.
    """
    providers = {provider.id: provider for provider in edition.providers}
    for provider in tables.providers:
        providers[provider.id] = _redeclared(providers.get(provider.id), provider)
    _check_references(tables, providers)
    for price in tables.prices:
        providers[price.provider] = _with_price(
            providers[price.provider], price, msgspec.structs.replace(price.row, own=own)
        )
    return msgspec.structs.replace(
        edition,
        as_of=max(edition.as_of, tables.as_of),
        providers=tuple(providers.values()),
        tier_rules=tables.tier_rules + edition.tier_rules,
        meter_rules=tables.meter_rules + edition.meter_rules,
    )


def _redeclared(before: Provider | None, now: Provider) -> Provider:
    if before is None:
        return now
    return Provider(
        id=now.id,
        models=before.models,
        serves=now.serves or before.serves,
        like=now.like or before.like,
        factor=now.factor if now.like else before.factor,
        borrows=now.borrows or before.borrows,
    )


def _with_price(provider: Provider, price: Price, row: Row) -> Provider:
    known = next((model for model in provider.models if model.id.lower() == price.model.lower()), None)
    if known is None:
        model = Model(price.model, {price.tier: (row,)}, price.names)
        return msgspec.structs.replace(provider, models=(model, *provider.models))
    rows = layered(known.tiers.get(price.tier, ()), row)
    names = known.names + tuple(name for name in price.names if name not in known.names)
    grown = Model(known.id, {**known.tiers, price.tier: rows}, names)
    return msgspec.structs.replace(
        provider, models=tuple(grown if model is known else model for model in provider.models)
    )


def _check_references(tables: Tables, providers: dict[str, Provider]) -> None:
    top = Cells(tables.place, {})
    for provider in tables.providers:
        for name in filter(None, (provider.like, *provider.borrows)):
            top.known(f"[[provider]] {provider.id}: provider", name, providers)
        if provider.like and providers[provider.like].like:
            raise ConfigError(
                f"{tables.place}, [[provider]] {provider.id}: '{provider.like}' is itself like another provider.",
                hint=f"Use like = '{providers[provider.like].like}'.",
            )
    for price in tables.prices:
        top.known(f"{price.place}: provider", price.provider, providers)
    for kind, rules in (("tier_rule", tables.tier_rules), ("meter_rule", tables.meter_rules)):
        for rule in rules:
            top.known(f"[[{kind}]]: provider", rule.provider, ("*", *providers))


def _each(top: Cells, kind: str, build: Callable[[Cells], T]) -> tuple[T, ...]:
    return tuple(build(table) for table in top.tables(kind))


def _provider(table: Cells) -> Provider:
    table.only("id", "like", "factor", "borrows", "names", *_ABOUT)
    if table.has("factor") and not table.has("like"):
        raise table.error(
            "has a factor, but of nobody's prices", 'Name the provider whose prices it scales: like = "openai".'
        )
    return Provider(
        id=table.text("id").lower(),
        serves=table.patterns("names"),
        like=table.text("like", "").lower(),
        factor=table.ratio("factor", Ratio()),
        borrows=tuple(name.lower() for name in table.texts("borrows")),
    )


def _price(table: Cells) -> Price:
    table.only(*_PRICE_KEYS)
    provider, model = table.text("provider").lower(), table.text("model")
    table = table.called(f"{provider} {model}")
    row = Row(
        bands=(Band(0, _base_prices(table)), *_each(table, "above", _band)),
        start=table.instant("from"),
        until=table.instant("until"),
        windows=table.windows("hours", "days"),
        source=_source(table),
    )
    _check_order(table, row)
    return Price(table.place, provider, model, table.patterns("names"), table.text("tier", STANDARD).lower(), row)


def _base_prices(table: Cells) -> dict[str, int]:
    prices = _prices(table, METERS)
    if table.has("hourly") or table.has("tokens_per_hour"):
        spread = price_per_token(table.money("hourly", PICO_PER_USD), table.count("tokens_per_hour"))
        prices = {**dict.fromkeys(_SPREAD_METERS, spread), **prices}
    if not prices and not table.has("above"):
        raise table.error("has no price", "Give at least one meter a price: " + ", ".join(METERS) + ".")
    return prices


def _band(table: Cells) -> Band:
    table.only("tokens", *METERS)
    return Band(table.count("tokens"), _prices(table, METERS))


def _prices(table: Cells, meters: Iterable[str]) -> dict[str, int]:
    return {
        meter: table.money(meter, PICO_PER_USE if meter in FEE_METERS else PICO_PER_TOKEN)
        for meter in meters
        if table.has(meter)
    }


def _check_order(table: Cells, row: Row) -> None:
    starts = [band.above for band in row.bands]
    if starts != sorted(set(starts)):
        raise table.error("has bands out of order", "List [[price.above]] by ascending tokens, each once.")
    if row.start is not None and row.until is not None and row.start >= row.until:
        raise table.error("ends before it begins", "Let 'until' be later than 'from'.")


def _tier_rule(table: Cells) -> TierRule:
    table.only("provider", "tier", "factor", "models", *_ABOUT)
    return TierRule(
        table.text("provider").lower(), table.text("tier").lower(), table.ratio("factor"),
        table.patterns("models") or ("*",), _source(table),
    )  # fmt: skip


def _meter_rule(table: Cells) -> MeterRule:
    table.only("provider", "meter", "of", "factor", "models", *_ABOUT)
    return MeterRule(
        table.text("provider").lower(), table.one_of("meter", METERS), table.one_of("of", METERS),
        table.ratio("factor"), table.patterns("models") or ("*",), _source(table),
    )  # fmt: skip


def _source(table: Cells) -> str:
    checked = table.date("checked")
    return " ".join(filter(None, (table.text("source", ""), checked and f"({checked})")))
