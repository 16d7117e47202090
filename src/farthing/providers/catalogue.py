"""The provider table: one row per place where answers are bought."""

import difflib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

from farthing.errors import ConfigError
from farthing.schema import Dialect


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach one provider; the fields are explained at the top of `data/providers.toml`."""

    base_url: str
    dialects: tuple[Dialect, ...]
    auth: str
    key_env: str
    prices: str
    on_disconnect: Literal["abort", "drain"]
    running_usage: bool = False


@cache
def providers() -> dict[str, Provider]:
    """Every row of the provider table by name."""
    text = files("farthing.providers").joinpath("data/providers.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Provider])


def provider(name: str) -> Provider:
    """One row; raises ConfigError with the nearest name."""
    rows = providers()
    if name in rows:
        return rows[name]
    near = difflib.get_close_matches(name, rows, 1)
    hint = f'Did you mean "{near[0]}"?' if near else f"Known providers: {', '.join(rows)}."
    raise ConfigError(f'There is no provider "{name}".', hint=hint)
