"""Entry: one line of the ledger."""

from typing import Literal

import msgspec

from farthing.schema.exchange import Decision
from farthing.schema.usage import Usage, UsageSource

CacheState = Literal["off", "miss", "hit", "coalesced"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt (or one answer that needed none), append-only; corrections are new entries.

    `id` is `<group>.<attempt>`: attempt 0 never asked an upstream (cache hit, refusal), 1 is the first asked.
    Money is in pico-dollars and `None` when unknown: `cost` was paid, `list_cost` is what the call would have cost
    with no lever, `saved` splits the difference by lever. Durations are in microseconds: `ttft` until the first byte
    of the answer, `latency` from arrival to settlement, `overhead` the part of it spent in the gateway.
    `cache` is the gateway's own cache; the provider's is in `usage`. `simulated` marks stub and replayed answers.
    `superseded` marks an attempt whose answer did not go back, because a later one's did (or, where it is an audit and
    says so in its decisions, an earlier one's); a correction names in `corrects` the entry whose amounts it adds to,
    and its own `id` is that one's followed by `~` and what corrected it.
    """

    id: str
    group: str
    attempt: int
    at: int
    endpoint: str
    model: str
    served: str | None = None
    upstream: str = ""
    provider: str = ""
    tier: str | None = None
    tenant: str = ""
    team: str = ""
    key: str = ""
    feature: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    usage: Usage | None = None
    usage_source: UsageSource = "none"
    unknown_usage: tuple[str, ...] = ()
    cost: int | None = None
    list_cost: int | None = None
    saved: tuple[tuple[str, int], ...] = ()
    missing_prices: tuple[str, ...] = ()
    price_version: str = ""
    policy: str = ""
    cache: CacheState = "off"
    status: int = 0
    error: str = ""
    finish: str | None = None
    stream: bool = False
    ttft: int | None = None
    latency: int = 0
    overhead: int = 0
    decisions: tuple[Decision, ...] = ()
    simulated: bool = False
    superseded: bool = False
    corrects: str = ""
