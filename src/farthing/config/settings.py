"""Everything that can be configured, as frozen records; nothing here reads a file or the environment."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535 (0 takes any free one)")]
Count = Annotated[int, Meta(ge=1, description="a whole number from 1")]
Days = Annotated[int, Meta(ge=1, description="a whole number of days from 1")]
Bytes = Annotated[int, Meta(ge=1, description="a whole number of bytes from 1")]
Room = Annotated[int, Meta(ge=0, description="a whole number of bytes (0 for none)")]
Seconds = Annotated[float, Meta(gt=0, le=1e9, description="a positive number of seconds")]
Whole = Annotated[int, Meta(ge=0, description="a whole number (0 for no limit)")]
Milliseconds = Annotated[float, Meta(ge=0, le=10_000, description="milliseconds from 0 to 10,000")]
Share = Annotated[float, Meta(gt=0, le=10, description="a share of the limit, such as 0.8")]
Part = Annotated[float, Meta(ge=0, le=1, description="a share from 0 to 1")]
Subject = Annotated[
    str,
    Meta(
        pattern=r"^(total|tenant|team|key|model|feature|tag:[a-z0-9][a-z0-9_-]*)$",
        description='"total", "tenant", "team", "key", "model", "feature", or a tag such as "tag:customer"',
    ),
]
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

    A `host` beyond this machine needs gateway keys and an `admin_token` (a reference, "env:NAME" or "file:/path"): who
    brings it as a bearer token sees the pages, their JSON and the metrics; without one, only this machine does.
    `allowed_hosts` are the Host headers answered (a page elsewhere could otherwise reach a local gateway through DNS);
    `idle_timeout` closes silent connections. `workers` is the number of processes that serve, one per core at most.
    `max_in_flight` calls are served at once by each; more are refused with 503 and a time to come back.
    """

    host: str = "127.0.0.1"
    port: Port = 8787
    max_body: Bytes = 20 * 1024 * 1024
    max_header: Bytes = 32 * 1024
    idle_timeout: Seconds = 75.0
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    admin_token: Secret = ""
    workers: Count = 1
    max_in_flight: Count = 1024


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
    `models` are the names it serves, `*` matching anything; `max_output` bounds, in tokens, what an answer can come to
    whose caller set no cap. When the caller leaves, `on_disconnect` says to hang up (`abort`), to read the rest for its
    meter (`drain`, for `drain_seconds` at most and only where the rest costs `drain_usd` at most), or to ask for the
    stored response afterwards (`retrieve`, where the API has it, and else as `drain`).
    `connections` bounds those open at once; `stall_timeout` is the longest silence, `deadline` the longest answer.
    `hourly_usd` prices an owned machine by the hour at `concurrency` calls at once, instead of by the token.
    `recording` is the traffic file that a `recorded` upstream answers from.

    An `embedded` upstream runs small models in the gateway itself: those in `folder`, or each in one of `folders`, as
    `farthing compress` makes them, under their own names unless `models` says which. Texts that wait are run together,
    `max_batch` at most, by `threads`; a batch that is not full waits `max_wait_ms` for more (0: only while another
    runs). `queue` texts may wait, each no longer than `deadline`; beyond that calls are refused with 429. Models are
    kept in `memory_mb` (0: no limit): the one used longest ago goes first, those in `pinned` never.
    """

    kind: Literal["http", "stub", "recorded", "embedded"] = "http"
    provider: str = ""
    base_url: str = ""
    api_key: Secret = ""
    models: tuple[str, ...] = ()
    max_output: Count = 131_072
    on_disconnect: Literal["abort", "drain", "retrieve", ""] = ""
    drain_seconds: Seconds = 30.0
    drain_usd: Dollars = "1"
    connections: Count = 256
    connect_timeout: Seconds = 10.0
    stall_timeout: Seconds = 60.0
    deadline: Seconds = 600.0
    hourly_usd: Dollars = ""
    concurrency: Count = 1
    recording: str = ""
    folder: str = ""
    folders: tuple[str, ...] = ()
    max_batch: Count = 64
    max_wait_ms: Milliseconds = 0.0
    queue: Count = 1024
    threads: Count = 1
    memory_mb: Whole = 0
    pinned: tuple[str, ...] = ()


class Route(Struct, frozen=True, forbid_unknown_fields=True):
    """Send calls whose model matches `model` to `upstream`, optionally under another name, with or without cache.

    Several routes for one model share its calls by `weight`; those of a higher `rank` are asked when the others fail,
    or decline: a small model declines what it is less confident of than `accept`, from 0 (nothing) to 1. The share
    `audit` of its answers is compared with those of the next rank, in the background; when the share that differs is
    found to exceed `gate` (0: it is not watched), the small model steps aside.
    """

    model: str
    upstream: str
    served_as: str = ""
    cache: bool | None = None
    rank: Count = 1
    weight: Count = 1
    accept: Part = 0.0
    audit: Part = 0.0
    gate: Part = 0.0


class Fallback(Struct, frozen=True, forbid_unknown_fields=True):
    """How hard to try for an answer. Times in seconds.

    At most `attempts` in all within `deadline`, with random waits that double from `backoff` to `longest_backoff`, and
    none once those before have cost `max_usd` (empty: no bound). An upstream rests after `failures` in a row, for
    `rest` at first and `longest_rest` at the longest.
    """

    attempts: Count = 3
    backoff: Seconds = 0.25
    longest_backoff: Seconds = 8.0
    deadline: Seconds = 120.0
    max_usd: Dollars = ""
    failures: Count = 5
    rest: Seconds = 5.0
    longest_rest: Seconds = 60.0


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """A gateway key: whom its calls are billed to. `secret` is a reference ("env:NAME" or "file:/path").

    `models` and `endpoints` are what it may ask for, `*` matching anything. `farthing key new` makes keys without a
    place in this file.
    """

    secret: Secret
    tenant: str = ""
    team: str = ""
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)


class KeyStore(Struct, frozen=True, forbid_unknown_fields=True):
    """How keys made by `farthing key new` are kept: as HMAC-SHA256 under `pepper`, a reference to a secret.

    Empty, the pepper is made once and kept in the directory of the ledger; gateways that share keys need the same one.
    """

    pepper: Secret = ""


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """The most that may be spent in a period, in all or by each key, team, tenant, model, feature or value of a tag.

    `per` says what has an account of its own, `of` limits only that one of them. A `calendar` period begins at midnight
    in `time_zone`, weeks on Monday; a `rolling` one is the last so many days or hours. A `hard` budget is never
    overspent: a call whose worst case does not fit is refused with 402, unless `clamp` lowers its cap on output to what
    is left, or `downgrade` names a cheaper model to ask instead. A `soft` one only warns, at each share in `warn_at`.
    """

    usd: Dollars
    per: Subject = "total"
    of: str = ""
    period: Literal["minute", "hour", "day", "week", "month", "lifetime"] = "month"
    window: Literal["calendar", "rolling"] = "calendar"
    time_zone: str = "UTC"
    mode: Literal["hard", "soft"] = "hard"
    warn_at: tuple[Share, ...] = (0.5, 0.8, 1.0)
    clamp: bool = False
    downgrade: dict[str, str] = {}


class RateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """How much may be asked of upstreams in a minute, and at once; `per` and `of` as with budgets.

    Retries count; answers from the cache do not.
    """

    per: Subject = "key"
    of: str = ""
    calls_per_minute: Whole = 0
    tokens_per_minute: Whole = 0
    concurrent: Whole = 0


class Shared(Struct, frozen=True, forbid_unknown_fields=True):
    """Stores that many gateways share; both are references to an address ("env:REDIS_URL", "file:/path").

    `postgres` keeps the ledger and the keys, and what budgets and limits count where there is no `redis`; `redis` (or
    Valkey) keeps what they count, and a level of the exact cache. A store that does not answer within `deadline`
    seconds is taken for down. `replicas` is how many gateways run with this configuration: more than one need both to
    have budgets in common.
    """

    replicas: Count = 1
    postgres: Secret = ""
    redis: Secret = ""
    deadline: Seconds = 0.5


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
    fallback: Fallback = Fallback()
    keys: dict[str, Key] = {}
    key_store: KeyStore = KeyStore()
    budgets: dict[str, Budget] = {}
    limits: dict[str, RateLimit] = {}
    shared: Shared = Shared()
