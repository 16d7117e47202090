"""Policy: the levers and limits in force."""

from hashlib import sha256
from typing import Literal

import msgspec

from farthing.schema.limit import Limit


class SharingRules(msgspec.Struct, frozen=True):
    """Which answers may be given again to an identical call.

    `scope` is who shares; `ttl` is in nanoseconds; `max_temperature` is the highest explicit temperature still shared;
    `tools` shares calls that offer tools; `truncated` shares answers cut off by a length limit.
    """

    enabled: bool = True
    ttl: int = 3600 * 10**9
    scope: Literal["tenant", "key", "all"] = "tenant"
    max_temperature: float = 0.0
    tools: bool = False
    truncated: bool = False


class Route(msgspec.Struct, frozen=True):
    """Where calls go whose model matches `model` ("*" matches anything).

    `served_as` renames the model on the way; `cache` overrides `SharingRules.enabled` for this route. Of several routes
    for one model, those of the lowest `rank` are asked first and share the calls by `weight`; the next rank is asked
    when they fail; one of rank 0 is asked alone. `max_output` bounds, in tokens, what an answer can come to whose
    caller set no cap.

    A rung of a cascade declines what it is less confident of than `accept` (0: nothing), and the next rank is asked. Of
    the calls that it answers, the share `audit` is asked of the next rank too, to compare; when the share of them on
    which the two differ exceeds `gate` (0: is not watched), it steps aside. All three are 0 in the last rank.
    """

    model: str
    upstream: str
    endpoints: tuple[str, ...]
    served_as: str = ""
    cache: bool | None = None
    rank: int = 1
    weight: int = 1
    max_output: int = 131_072
    accept: float = 0.0
    audit: float = 0.0
    gate: float = 0.0


class Fallback(msgspec.Struct, frozen=True):
    """How hard to try for an answer. Durations in nanoseconds, money in pico-dollars.

    At most `attempts` in all, within `deadline` of the call's arrival, with random waits that double from `backoff` to
    `longest_backoff`; no further attempt once those before have cost `max_cost` (`None`: no bound). An upstream rests
    after `failures` in a row, first for `rest`, then twice as long each time, up to `longest_rest`.
    """

    attempts: int = 3
    backoff: int = 250_000_000
    longest_backoff: int = 8 * 10**9
    deadline: int = 120 * 10**9
    max_cost: int | None = None
    failures: int = 5
    rest: int = 5 * 10**9
    longest_rest: int = 60 * 10**9


class Policy(msgspec.Struct, frozen=True):
    """One versioned document: what the pure functions decide by, in replay as in production."""

    sharing: SharingRules
    routes: tuple[Route, ...]
    limits: tuple[Limit, ...] = ()
    fallback: Fallback = Fallback()

    @property
    def version(self) -> str:
        """The first 12 hex digits of the SHA-256 of its content."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:12]
