"""One frozen Settings, from one TOML file, FARTHING__SECTION__KEY variables and flags."""

from typing import Literal

import msgspec


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the gateway listens, and what it refuses. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 8787
    max_body: int = 20 * 1024 * 1024
    max_header: int = 32 * 1024
    idle_timeout: float = 75.0
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where entries are kept, and for how long.

    `sync` says when the journal is forced to disk: every `interval` (one second), or `always` before a reply leaves.
    Both survive the death of the process; only `always` survives the loss of power without losing the last second.
    `bodies` keeps prompts and answers in a file of their own for `bodies_days`; off by default.
    """

    path: str = "farthing-data"
    sync: Literal["interval", "always"] = "interval"
    retention_days: int = 90
    bodies: bool = False
    bodies_days: int = 7


class ExactCache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which answers may be given again to an identical call, and for how long.

    `scope` is who shares: callers of one `tenant`, of one `key`, or `all`. `max_temperature` is the highest explicit
    temperature still shared (a call that names none is shared); `tools` shares calls that offer tools;
    `truncated` shares answers cut off by a length limit.
    """

    enabled: bool = True
    ttl: float = 3600.0
    memory: int = 16 * 1024 * 1024
    disk: int = 256 * 1024 * 1024
    scope: Literal["tenant", "key", "all"] = "tenant"
    max_temperature: float = 0.0
    tools: bool = False
    truncated: bool = False


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place where answers are bought. Times in seconds.

    `kind` is the adapter; `provider` names a row of the provider table, which fills what is left out here;
    `api_key` is a reference ("env:NAME" or "file:/path"), never the secret itself; empty passes the caller's own on.
    `models` are the names it serves, `*` matching anything; `on_disconnect` says what to do when the caller leaves.
    `hourly_usd` prices an owned machine by the hour at `concurrency` calls at once, instead of by the token.
    """

    kind: Literal["http", "stub", "recorded"] = "http"
    provider: str = ""
    base_url: str = ""
    api_key: str = ""
    models: tuple[str, ...] = ()
    on_disconnect: Literal["abort", "drain", ""] = ""
    connections: int = 256
    connect_timeout: float = 10.0
    stall_timeout: float = 60.0
    deadline: float = 600.0
    hourly_usd: str = ""
    concurrency: int = 1
    recording: str = ""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Send calls whose model matches `model` to `upstream`, optionally under another name, with or without cache."""

    model: str
    upstream: str
    served_as: str = ""
    cache: bool | None = None


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gateway key: whom its calls are billed to. `secret` is a reference ("env:NAME" or "file:/path")."""

    secret: str
    tenant: str = ""
    team: str = ""


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML file of the user's own price rows, which win over the built-in ones."""

    overrides: str = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be configured."""

    server: Server = Server()
    ledger: Ledger = Ledger()
    cache: ExactCache = ExactCache()
    prices: Prices = Prices()
    upstreams: dict[str, Upstream] = {}
    routes: tuple[Route, ...] = ()
    keys: dict[str, Key] = {}
