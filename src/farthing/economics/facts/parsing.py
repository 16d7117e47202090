"""Reading facts from TOML as people write them: friendly units in the keys, strict about everything else."""

import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from farthing.economics.architecture import Architecture, Indexer, LatentAttention, LinearAttention
from farthing.economics.facts.catalogue import Catalogue, Facility, Grid, HardwarePrice, Ownership
from farthing.economics.facts.rows import Row
from farthing.economics.facts.shape import problem_of
from farthing.economics.hardware import Hardware
from farthing.economics.memory import parameters
from farthing.economics.precision import PRECISIONS
from farthing.errors import RequestError

Fact = TypeVar("Fact", Architecture, Hardware, HardwarePrice, Grid, Facility, Ownership)

KINDS = ("gpu", "tpu", "accelerator", "cpu")
_PEAKS = {
    "fp32_tflops": "fp32",
    "bf16_tflops": "bf16",
    "fp8_tflops": "fp8",
    "int8_tops": "int8",
    "fp4_tflops": "fp4",
}
_ABOUT = ("source", "date")
_SECTIONS = ("hardware", "model", "price", "grid", "facility", "ownership")

PARAMETERS_WITHIN = 0.01
"""How far the parameters that a shape counts up to may be from those its maker publishes, unless the row says."""


def parse_catalogue(texts: Mapping[str, str]) -> Catalogue:
    """The catalogue that TOML texts, by the name of their file, add up to; a later row replaces one of the same name.

    Raises ConfigError naming file, row and key for what is no TOML, not known, missing, negative or contradictory.

    >>> row = '[[grid]]\\nname = "Norway"\\ng_per_kwh = 30\\nsource = "Ember"\\ndate = 2024-01-01'
    >>> parse_catalogue({"grid.toml": row}).grid_named("norway").g_per_kwh
    30.0
    """
    tops = [_top(place, text) for place, text in texts.items()]
    hardware = _layered(tops, "hardware", _hardware, lambda row: (row.name,), "name")
    names = Catalogue(hardware=hardware)
    return Catalogue(
        hardware=hardware,
        architectures=_layered(tops, "model", _model, lambda row: (row.name,), "name"),
        prices=_layered(
            tops,
            "price",
            lambda row: _price(row, names),
            lambda row: (row.hardware, row.provider, row.region, row.sku),
            "provider",
            "hardware",
        ),
        grids=_layered(tops, "grid", _grid, lambda row: (row.name,), "name"),
        facilities=_layered(tops, "facility", _facility, lambda row: (row.name,), "name"),
        ownership=_layered(
            tops, "ownership", lambda row: _ownership(row, names), lambda row: (row.hardware,), "hardware"
        ),
    )


def _top(place: str, text: str) -> Row:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Row(place, {}).error(f"is not TOML: {error}", "Correct the line it names.") from error
    top = Row(place, data)
    top.only(*_SECTIONS)
    return top


def _layered(
    tops: list[Row], section: str, read: Callable[[Row], Fact], key: Callable[[Fact], tuple[str, ...]], *naming: str
) -> tuple[Fact, ...]:
    found: dict[tuple[str, ...], Fact] = {}
    for top in tops:
        here: set[tuple[str, ...]] = set()
        for row in top.rows(section, *naming):
            fact = read(row)
            name = tuple(part.lower() for part in key(fact))
            if name in here:
                raise row.error("is in the file twice", "Remove one of the two.")
            here.add(name)
            found[name] = fact
    return tuple(found.values())


def _hardware(row: Row) -> Hardware:
    row.only(
        "name", "vendor", "kind", *_PEAKS, "memory_gib", "memory_gb_per_s", "link_gb_per_s", "link_latency_us",
        "link_devices", "tdp_w", "idle_w", "aliases", *_ABOUT,
    )  # fmt: skip
    peaks = {compute: row.number(key) * 1e12 for key, compute in _PEAKS.items() if row.has(key)}
    if not peaks:
        raise row.error("multiplies nothing", f"Give at least one of {', '.join(_PEAKS)}.")
    tdp, idle = row.number("tdp_w"), row.optional("idle_w")
    if idle is not None and idle >= tdp:
        raise row.error(f"draws {idle:g} W idle but {tdp:g} W at most", "Correct idle_w or tdp_w.")
    _plausible(row)
    return Hardware(
        name=row.text("name"),
        vendor=row.text("vendor"),
        kind=row.one_of("kind", KINDS),
        flop_per_s=peaks,
        memory_bytes=row.number("memory_gib") * 2**30,
        memory_bytes_per_s=row.number("memory_gb_per_s") * 1e9,
        link_bytes_per_s=row.number("link_gb_per_s") * 1e9,
        link_latency_s=row.number("link_latency_us") * 1e-6,
        link_devices=row.count("link_devices"),
        tdp_w=tdp,
        idle_w=idle,
        source=row.text("source"),
        date=row.day("date"),
        aliases=row.texts("aliases"),
    )


_MOST = {
    "fp32_tflops": 1e4, "bf16_tflops": 1e5, "fp8_tflops": 1e5, "int8_tops": 1e5, "fp4_tflops": 1e5,
    "memory_gib": 1e5, "memory_gb_per_s": 1e5, "link_gb_per_s": 1e5, "link_latency_us": 1e4, "tdp_w": 1e5,
}  # fmt: skip
"""Beyond these a number was written in another unit than its key says."""


def _plausible(row: Row) -> None:
    for key, most in _MOST.items():
        if row.has(key) and row.number(key) > most:
            raise row.error(
                f"has {key} = {row.number(key):g}, more than any device",
                "The unit is in the key: TFLOP/s, GiB, GB/s, microseconds, watts.",
            )


_SHAPE = {
    "layers", "hidden", "query_heads", "kv_heads", "head_dim", "vocabulary",
}  # fmt: skip
_COUNTS = {
    "ffn", "full_layers", "window_layers", "window", "linear_layers", "experts", "top_k", "expert_ffn", "shared_ffn",
    "dense_layers", "sparse_top_k", "expert_hidden", "ffn_layers", "value_dim", "window_kv_heads",
    "window_head_dim", "positions", "other_parameters",
}  # fmt: skip
_FLAGS = {"gated": True, "tied_embeddings": False, "gated_attention": False, "shared_kv": False}


def _model(row: Row) -> Architecture:
    row.only(
        "name", *_SHAPE, *_COUNTS, *_FLAGS, "latent", "linear", "indexer", "native", "parameters_b",
        "parameters_within", "aliases", *_ABOUT,
    )  # fmt: skip
    shape: dict[str, Any] = {key: row.count(key) for key in _SHAPE} | {key: row.count(key, 0) for key in _COUNTS}
    if not row.has("full_layers"):
        shape["full_layers"] = max(shape["layers"] - shape["window_layers"] - shape["linear_layers"], 0)
    if not shape["experts"] and not row.has("dense_layers"):
        shape["dense_layers"] = shape["ffn_layers"] or shape["layers"]
    row.day("date")
    flags: dict[str, Any] = {key: row.flag(key, default) for key, default in _FLAGS.items()}
    architecture = Architecture(
        name=row.text("name"),
        **shape,
        **flags,
        latent=_nested(row, "latent", LatentAttention),
        linear=_nested(row, "linear", LinearAttention),
        indexer=_nested(row, "indexer", Indexer),
        native=row.one_of("native", PRECISIONS, "bf16"),
        parameters_b=row.number("parameters_b") if row.has("parameters_b") else 0.0,
        source=row.text("source"),
        aliases=row.texts("aliases"),
    )
    if problem := problem_of(architecture):
        raise row.error(problem, "Compare with the config.json of the model.")
    _check_parameters(row, architecture)
    return architecture


Nested = TypeVar("Nested", LatentAttention, LinearAttention, Indexer)


def _nested(row: Row, key: str, kind: type[Nested]) -> Nested | None:
    table = row.table(key)
    if table is None:
        return None
    fields = {field.name: None if field.required else field.default for field in msgspec.structs.fields(kind)}
    fields |= {"query_rank": 0} if "query_rank" in fields else {}  # 0: queries are projected at once
    table.only(*fields)
    return kind(**{name: table.count(name, default) for name, default in fields.items()})


def _check_parameters(row: Row, architecture: Architecture) -> None:
    within = row.number("parameters_within") if row.has("parameters_within") else PARAMETERS_WITHIN
    published, counted = architecture.parameters_b, parameters(architecture).total / 1e9
    if published and abs(counted - published) > within * published:
        raise row.error(
            f"has a shape of {counted:.3f} billion parameters, but parameters_b = {published:g}",
            "Correct the shape or the count; parameters_within states how far a rounded figure may be off.",
        )


def _price(row: Row, names: Catalogue) -> HardwarePrice:
    row.only(
        "hardware", "provider", "region", "sku", "devices", "on_demand_usd_per_h", "reserved_1y_usd_per_h",
        "reserved_3y_usd_per_h", "spot_usd_per_h", *_ABOUT,
    )  # fmt: skip
    low, high = row.span("spot_usd_per_h") or (None, None)
    price = HardwarePrice(
        hardware=_device(row, names),
        provider=row.text("provider").lower(),
        region=row.text("region", ""),
        sku=row.text("sku", ""),
        devices=row.count("devices") if row.has("devices") else 1,
        on_demand_usd_per_h=row.optional("on_demand_usd_per_h"),
        reserved_1y_usd_per_h=row.optional("reserved_1y_usd_per_h"),
        reserved_3y_usd_per_h=row.optional("reserved_3y_usd_per_h"),
        spot_low_usd_per_h=low,
        spot_high_usd_per_h=high,
        source=row.text("source"),
        date=row.day("date"),
    )
    if not any((price.on_demand_usd_per_h, price.reserved_1y_usd_per_h, price.reserved_3y_usd_per_h, high)):
        raise row.error("has no price", "Give on_demand_usd_per_h, spot_usd_per_h = [low, high], or a reserved one.")
    return price


def _device(row: Row, names: Catalogue) -> str:
    try:
        return names.hardware_named(row.text("hardware")).name
    except RequestError as error:
        raise row.error(f"is of unknown hardware '{row.text('hardware')}'", error.hint) from error


def _grid(row: Row) -> Grid:
    row.only("name", "g_per_kwh", "aliases", *_ABOUT)
    grams = row.number("g_per_kwh")
    if grams > 2000:
        raise row.error(f"carries {grams:g} g/kWh, more than any fuel", "Give grams per kWh.")
    return Grid(row.text("name"), grams, row.text("source"), row.day("date"), row.texts("aliases"))


def _facility(row: Row) -> Facility:
    row.only("name", "pue", *_ABOUT)
    return Facility(row.text("name"), row.number("pue", least=1.0), row.text("source"), row.day("date"))


def _ownership(row: Row, names: Catalogue) -> Ownership:
    row.only(
        "hardware", "power_w", "own_hyperscaler_usd_per_h", "own_neocloud_usd_per_h", "rental_3y_usd_per_h",
        "capex_usd", *_ABOUT,
    )  # fmt: skip
    return Ownership(
        hardware=_device(row, names),
        power_w=row.optional("power_w"),
        own_hyperscaler_usd_per_h=row.optional("own_hyperscaler_usd_per_h"),
        own_neocloud_usd_per_h=row.optional("own_neocloud_usd_per_h"),
        rental_3y_usd_per_h=row.optional("rental_3y_usd_per_h"),
        capex_usd=row.optional("capex_usd"),
        source=row.text("source"),
        date=row.day("date"),
    )
