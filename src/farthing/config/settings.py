"""Everything that can be configured, as frozen records; nothing here reads a file or the environment."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535 (0 takes any free one)")]
Count = Annotated[int, Meta(ge=1, description="a whole number from 1")]
Days = Annotated[int, Meta(ge=1, description="a whole number of days from 1")]
Bytes = Annotated[int, Meta(ge=1, description="a whole number of bytes from 1")]
Room = Annotated[int, Meta(ge=0, description="a whole number of bytes (0 for none)")]
Seconds = Annotated[float, Meta(gt=0, le=1e9, description="a positive number of seconds")]
Temperature = Annotated[float, Meta(ge=0, le=2, description="a number from 0 to 2")]
Dollars = Annotated[
    str, Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,12})?)?$", description='dollars as text, such as "2.49"')
]

SECRET = Meta(
    pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)?$",
    description='a reference to a secret, "env:NAME" or "file:/path"',
)
Secret = Annotated[str, SECRET]
"""Where a secret is to be read; the secret itself never stands in the configuration."""


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the gateway listens, and what it refuses. Sizes in bytes, times in seconds.

    A `host` beyond this machine needs at least one `[keys.NAME]`. `allowed_hosts` are the Host headers answered
    (a page elsewhere could otherwise reach a local gateway through DNS); `idle_timeout` closes silent connections.
    """

    host: str = "127.0.0.1"
    port: Port = 8787
    max_body: Bytes = 20 * 1024 * 1024
    max_header: Bytes = 32 * 1024
    idle_timeout: Seconds = 75.0
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")


class Ledger(Struct, frozen=True, forbid_unknown_fields=True):
    """Where entries are kept, and for how long.

    `sync` says when the journal is forced to disk: every `interval` (one second), or `always` before a reply leaves.
    Both survive the death of the process; only `always` survives the loss of power without losing the last second.
    `bodies` keeps prompts and answers in a file of their own for `bodies_days`; off by default.
    """

    path: str = "farthing-data"
    sync: Literal["interval", "always"] = "interval"
    retention_days: Days = 90
    bodies: bool = False
    bodies_days: Days = 7


class ExactCache(Struct, frozen=True, forbid_unknown_fields=True):
    """Which answers may be given again to an identical call, and for how long.

    `ttl` is in seconds, `memory` and `disk` bound the two levels in bytes.
    `scope` is who shares: callers of one `tenant`, of one `key`, or `all`. `max_temperature` is the highest explicit
    temperature still shared (a call that names none is shared); `tools` shares calls that offer tools;
    `truncated` shares answers cut off by a length limit.
    """

    enabled: bool = True
    ttl: Seconds = 3600.0
    memory: Room = 8 * 1024 * 1024
    disk: Room = 256 * 1024 * 1024
    scope: Literal["tenant", "key", "all"] = "tenant"
    max_temperature: Temperature = 0.0
    tools: bool = False
    truncated: bool = False


class Upstream(Struct, frozen=True, forbid_unknown_fields=True):
    """One place where answers are bought. Times in seconds.

    `kind` is the adapter; `provider` names a row of the provider table, which fills what is left out here;
    `api_key` is a reference ("env:NAME" or "file:/path"), never the secret itself; empty, the provider's usual variable
    is used where it is set, and else the caller's own key is passed on.
    `models` are the names it serves, `*` matching anything; `on_disconnect` says what to do when the caller leaves.
    `connections` bounds those open at once; `stall_timeout` is the longest silence, `deadline` the longest answer.
    `hourly_usd` prices an owned machine by the hour at `concurrency` calls at once, instead of by the token.
    `recording` is the traffic file that a `recorded` upstream answers from.
    """

    kind: Literal["http", "stub", "recorded"] = "http"
    provider: str = ""
    base_url: str = ""
    api_key: Secret = ""
    models: tuple[str, ...] = ()
    on_disconnect: Literal["abort", "drain", ""] = ""
    connections: Count = 256
    connect_timeout: Seconds = 10.0
    stall_timeout: Seconds = 60.0
    deadline: Seconds = 600.0
    hourly_usd: Dollars = ""
    concurrency: Count = 1
    recording: str = ""


class Route(Struct, frozen=True, forbid_unknown_fields=True):
    """Send calls whose model matches `model` to `upstream`, optionally under another name, with or without cache."""

    model: str
    upstream: str
    served_as: str = ""
    cache: bool | None = None


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """A gateway key: whom its calls are billed to. `secret` is a reference ("env:NAME" or "file:/path")."""

    secret: Secret
    tenant: str = ""
    team: str = ""


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    """`overrides` is a TOML file of the user's own price rows, which win over the built-in ones."""

    overrides: str = ""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be configured."""

    server: Server = Server()
    ledger: Ledger = Ledger()
    cache: ExactCache = ExactCache()
    prices: Prices = Prices()
    upstreams: dict[str, Upstream] = {}
    routes: tuple[Route, ...] = ()
    keys: dict[str, Key] = {}
