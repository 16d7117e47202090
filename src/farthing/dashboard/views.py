"""What the dashboard answers: the records that `/api` encodes and that the pages are drawn from.

Instants are RFC 3339 in UTC, durations are whole microseconds, shares are between 0 and 1, and unknown is null.
"""

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from farthing.dashboard.windows import Range
from farthing.schema import CacheState, Decision, LimitMeter, UsageSource

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Money(msgspec.Struct, frozen=True):
    """An amount, exactly, twice: whole pico-dollars (1 USD = 10^12) and dollars; strings, so that no reader rounds."""

    pico_usd: Annotated[str, Meta(pattern="^-?[0-9]+$")]
    usd: Annotated[str, Meta(pattern="^-?[0-9]+([.][0-9]{1,12})?$")]

    @classmethod
    def of(cls, amount: int) -> "Money":
        """From pico-dollars.

        >>> Money.of(31_250_000)
        Money(pico_usd='31250000', usd='0.00003125')
        """
        dollars = f"{Decimal(amount).scaleb(-12):f}"
        return cls(str(amount), dollars.rstrip("0").rstrip(".") if "." in dollars else dollars)

    @classmethod
    def maybe(cls, amount: int | None) -> "Money | None":
        """From pico-dollars that may be unknown."""
        return None if amount is None else cls.of(amount)

    @property
    def pico(self) -> int:
        """Pico-dollars."""
        return int(self.pico_usd)


class Quantiles(msgspec.Struct, frozen=True):
    """Median and 99th percentile of a duration, within 9.1 %; null when nothing was measured."""

    p50: int | None
    p99: int | None


class CacheShare(msgspec.Struct, frozen=True):
    """How many of the calls that the gateway's own cache may answer it did."""

    hits: int
    lookups: int
    ratio: float | None


class ProviderCacheShare(msgspec.Struct, frozen=True):
    """How many of the input tokens bought were read from the provider's prompt cache."""

    read_tokens: int
    input_tokens: int
    ratio: float | None


class Saving(msgspec.Struct, frozen=True):
    """What one lever saved; negative when it cost more than it gave back."""

    lever: str
    saved: Money


class Slice(msgspec.Struct, frozen=True):
    """The calls that share a model, a tenant or a feature; `name` is empty when they name none."""

    name: str
    calls: int
    errors: int
    unpriced: int
    tokens: int
    cost: Money
    list_cost: Money
    cost_per_1k: Money | None


class InFlight(msgspec.Struct, frozen=True):
    """A call that has arrived and is not settled; `stage` is the last decision made about it."""

    id: str
    arrived: Instant
    age_us: int
    endpoint: str
    model: str
    tenant: str
    feature: str
    stage: str


class LimitBar(msgspec.Struct, frozen=True):
    """One account of a limit, as of the last call that it counted.

    Amounts are in the unit of `meter`, as text; those of a budget ("usd") are whole pico-dollars. `held` are worst
    cases of calls under way and of gateways that died. `used_ratio` and `held_ratio` are shares of what is allowed.
    """

    name: str
    subject: str
    meter: LimitMeter
    period: str
    hard: bool
    allowed: str
    spent: str
    held: str
    used_ratio: float
    held_ratio: float
    resets_at: Instant | None


class Summary(msgspec.Struct, frozen=True):
    """One range at a glance.

    `since` is later than the range asked for when there was more to read than is read at once (`partial`).
    `cost` and `list_cost` leave out `unpriced` entries, so both are lower bounds while that is not zero.
    `cost_per_1k_change` compares with the same hours seven days earlier (0.25 is 25 % dearer).
    """

    range: Range
    since: Instant
    until: Instant
    partial: bool
    version: str
    policy: str
    simulated: bool
    calls: int
    attempts: int
    errors: int
    failures: int
    unpriced: int
    estimated: int
    cost: Money
    list_cost: Money
    saved: Money
    saved_ratio: float | None
    cost_per_1k: Money | None
    cost_per_1k_change: float | None
    gateway_cache: CacheShare
    provider_cache: ProviderCacheShare
    overhead_us: Quantiles
    latency_us: Quantiles
    ttft_us: Quantiles
    levers: tuple[Saving, ...]
    models: tuple[Slice, ...]
    tenants: tuple[Slice, ...]
    features: tuple[Slice, ...]
    in_flight: tuple[InFlight, ...]
    limits: tuple[LimitBar, ...]


class Track(msgspec.Struct, frozen=True):
    """What one model cost in each step of a series, and how many calls it took."""

    model: str
    costs: tuple[Money, ...]
    calls: tuple[int, ...]


class Series(msgspec.Struct, frozen=True):
    """Cost over time by model, dearest first; every track has one value for each of `starts`."""

    range: Range
    step_seconds: int
    partial: bool
    starts: tuple[Instant, ...]
    tracks: tuple[Track, ...]


class CallLine(msgspec.Struct, frozen=True):
    """One settled call. Money adds up all its attempts; null when any of it is unknown."""

    id: str
    at: Instant
    endpoint: str
    model: str
    served: str | None
    upstream: str
    tenant: str
    feature: str
    status: int
    error: str
    cache: CacheState
    attempts: int
    input_tokens: int | None
    output_tokens: int | None
    cost: Money | None
    list_cost: Money | None
    saved: Money
    ttft_us: int | None
    latency_us: int
    overhead_us: int
    stream: bool
    simulated: bool


class Calls(msgspec.Struct, frozen=True):
    """Settled calls, newest first; `next_before` is the `before` that asks for the page after this one."""

    calls: tuple[CallLine, ...]
    next_before: str | None


class ReceiptLine(msgspec.Struct, frozen=True):
    """A quantity of one meter at its unit price; null where the price is unknown."""

    meter: str
    quantity: int
    unit_price: Money | None
    amount: Money | None


class Part(msgspec.Struct, frozen=True):
    """One entry of a call: an attempt, an answer that needed none (`attempt` is 0), or a correction.

    `lines` list what was used; `lines_total` is their sum, null when any price is unknown. `priced_alike` is false
    when the lines do not add up to what was charged: the edition of the prices is gone, or hardware is paid by time.
    """

    id: str
    attempt: int
    corrects: str
    superseded: bool
    upstream: str
    provider: str
    served: str | None
    tier: str | None
    status: int
    error: str
    finish: str | None
    usage_source: UsageSource
    unknown_usage: tuple[str, ...]
    price_version: str
    missing_prices: tuple[str, ...]
    lines: tuple[ReceiptLine, ...]
    lines_total: Money | None
    priced_alike: bool
    cost: Money | None
    list_cost: Money | None
    saved: tuple[Saving, ...]
    simulated: bool


class Receipt(msgspec.Struct, frozen=True):
    """Everything the ledger knows about one call."""

    call: CallLine
    team: str
    key: str
    tags: tuple[tuple[str, str], ...]
    policy: str
    savings: tuple[Saving, ...]
    parts: tuple[Part, ...]
    decisions: tuple[Decision, ...]


class Health(msgspec.Struct, frozen=True):
    """Whether the gateway is well; `reasons` say why it is not, or what it does without though it is."""

    status: str
    reasons: tuple[str, ...] = ()


class Trouble(msgspec.Struct, frozen=True):
    """Why a question was not answered, and what to do about it."""

    code: str
    message: str
    hint: str = ""


class Problem(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: Trouble
