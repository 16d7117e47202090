"""One frozen Settings, from one TOML file, FARTHING__SECTION__KEY variables and flags."""

from farthing.config.loading import Loaded, Override, load
from farthing.config.secrets import resolve_secret
from farthing.config.settings import ExactCache, Key, Ledger, Prices, Route, Server, Settings, Upstream

__all__ = [
    "ExactCache",
    "Key",
    "Ledger",
    "Loaded",
    "Override",
    "Prices",
    "Route",
    "Server",
    "Settings",
    "Upstream",
    "load",
    "resolve_secret",
]
