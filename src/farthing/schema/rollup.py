"""Rollup: the sums of one hour of entries that share every dimension."""

from math import exp2

import msgspec

from farthing.schema.entry import CacheState
from farthing.schema.usage import Usage

HOUR = 3_600_000_000_000
"""One hour in nanoseconds."""


class Histogram(msgspec.Struct, frozen=True, omit_defaults=True):
    """How often each duration was seen: `counts` by bucket, `total` their exact sum, in microseconds.

    Bucket `b` holds durations from 2^(b/4) up to, not including, 2^((b+1)/4); the first also holds 0.
    A quantile read from it is within 9.1 % of the true one (half a bucket: 2^(1/8) - 1).
    """

    counts: dict[int, int] = {}
    total: int = 0

    @property
    def count(self) -> int:
        """How many durations were seen."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """The duration, in microseconds, that `share` (0 to 1) of those seen do not exceed; `None` when empty.

        >>> Histogram({0: 1, 40: 98, 80: 1}).quantile(0.5)
        1116.7
        """
        rank = share * self.count
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank and seen > 0:
                return round(exp2((bucket + 0.5) / 4), 1)
        return None


class Sums(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a set of entries adds up to. Money is in pico-dollars, and sums only what is known.

    `calls` counts exchanges, `attempts` the times an upstream was asked (a retried call has two or more);
    `errors` are calls that ended in an error, `failures` attempts that did. `hits` and `misses` are calls that the
    gateway's own cache answered, or could have. `unpriced` counts entries whose cost is unknown, so `cost` is a lower
    bound while it is not zero. `estimated` counts attempts whose usage no provider reported, `unknown_usage` the usage
    fields they reported that Farthing does not know; `usage` is what upstreams processed, without what the gateway's
    cache answered. Durations are of calls.
    """

    calls: int = 0
    attempts: int = 0
    errors: int = 0
    failures: int = 0
    hits: int = 0
    misses: int = 0
    unpriced: int = 0
    estimated: int = 0
    unknown_usage: int = 0
    cost: int = 0
    list_cost: int = 0
    saved: dict[str, int] = {}
    usage: Usage = Usage()
    latency: Histogram = Histogram()
    overhead: Histogram = Histogram()
    ttft: Histogram = Histogram()

    @property
    def hit_ratio(self) -> float | None:
        """The share of the calls that policy let the cache answer which it did; `None` when there were none."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    @property
    def cost_per_1k(self) -> int | None:
        """Pico-dollars per thousand calls, rounded down; `None` when there were none."""
        return self.cost * 1000 // self.calls if self.calls else None


Cell = tuple[int, str, str, str, str, str, str, str, str, CacheState, int, bool]
"""The hour and every dimension of a roll-up, in order: no two roll-ups share one."""


class Rollup(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `sums` of the entries of one hour that share every dimension.

    `hour` is its start in Unix nanoseconds; `model` is the one served, or the one asked when none was;
    `status` is the class of the HTTP status (2 for 2xx; 0 when there was none).
    """

    hour: int
    tenant: str = ""
    team: str = ""
    key: str = ""
    feature: str = ""
    endpoint: str = ""
    model: str = ""
    upstream: str = ""
    provider: str = ""
    cache: CacheState = "off"
    status: int = 0
    simulated: bool = False
    sums: Sums = Sums()

    @property
    def cell(self) -> Cell:
        """The hour and every dimension."""
        return (
            self.hour, self.tenant, self.team, self.key, self.feature, self.endpoint, self.model, self.upstream,
            self.provider, self.cache, self.status, self.simulated,
        )  # fmt: skip


DIMENSIONS: tuple[str, ...] = Rollup.__struct_fields__[1:-1]
"""What a roll-up can be broken down by."""
