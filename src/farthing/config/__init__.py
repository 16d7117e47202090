"""One frozen Settings, from one TOML file, FARTHING__SECTION__KEY variables and flags."""

from farthing.config.loading import Loaded, Override, load
from farthing.config.secrets import resolve_secret
from farthing.config.settings import (
    Budget,
    ExactCache,
    Fallback,
    Key,
    KeyStore,
    Ledger,
    Prices,
    RateLimit,
    Route,
    Server,
    Settings,
    Shared,
    Upstream,
)

__all__ = [
    "Budget",
    "ExactCache",
    "Fallback",
    "Key",
    "KeyStore",
    "Ledger",
    "Loaded",
    "Override",
    "Prices",
    "RateLimit",
    "Route",
    "Server",
    "Settings",
    "Shared",
    "Upstream",
    "load",
    "resolve_secret",
]
