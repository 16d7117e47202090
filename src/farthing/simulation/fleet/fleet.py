"""What is simulated: one engine, how many of it, who chooses among them, and what goes wrong with them."""

import math
from typing import Literal

import msgspec

from farthing.economics.step import StepCosts
from farthing.errors import RequestError

Route = Literal["round_robin", "least_loaded", "prefix_affine"]
ROUTES: tuple[Route, ...] = ("round_robin", "least_loaded", "prefix_affine")
"""In the order of the numbers that compiled code knows them by."""

Signal = Literal["requests", "queue", "utilisation"]


class Engine(msgspec.Struct, frozen=True):
    """How one replica batches and remembers.

    `kv_tokens` is the size of its KV pool, in blocks of `block_tokens`. `chunked_prefill` shares each iteration's
    `max_batched_tokens` between decoding sequences, which go first, and parts of prompts; without it whole prompts run
    in iterations of their own, before any decoding. `ahead` composes each iteration while the one before it still runs
    (asynchronous scheduling, the default of vLLM since 0.14), so that arrivals wait, and slots stay taken, one
    iteration longer. `window` is the attention window in tokens, 0 for none. `ttft_offset_s` is the fixed time that
    callers see on top: from arrival to the queue and from the first token to the caller.
    """

    kv_tokens: int
    max_sequences: int = 256
    max_batched_tokens: int = 8192
    block_tokens: int = 16
    chunked_prefill: bool = True
    prefix_caching: bool = True
    ahead: bool = True
    whole_prompt: bool = True
    window: int = 0
    ttft_offset_s: float = 0.0


class Router(msgspec.Struct, frozen=True):
    """Which replica a request goes to.

    "prefix_affine" takes the one that holds most of the prompt among those with at most `1 + slack` times the mean
    number of requests plus one; of equals, and for "least_loaded", the one with the fewest requests.
    """

    route: Route = "least_loaded"
    slack: float = 0.5


class Autoscaler(msgspec.Struct, frozen=True):
    """Replicas = what keeps `signal` at `target`, looked at every `every_s`.

    `signal` is the mean per replica of requests in it ("requests"), of those that wait ("queue"), or the share of time
    it is busy ("utilisation"). It shrinks to the most that was wanted in the last `cooldown_s`.
    """

    signal: Signal
    target: float
    minimum: int = 1
    maximum: int = 64
    every_s: float = 15.0
    cooldown_s: float = 300.0


class Spot(msgspec.Struct, frozen=True):
    """`share` of the replicas are spot instances, each taken away `interruptions_per_h` times per hour on average.

    From notice on it takes no request and passes on those that wait; `notice_s` later those unfinished start again
    elsewhere. Its replacement is asked for at the notice.
    """

    share: float
    interruptions_per_h: float
    notice_s: float = 120.0


class Failures(msgspec.Struct, frozen=True):
    """Each replica fails once in `every_h` hours on average and is back `repair_s` later; its requests start again."""

    every_h: float
    repair_s: float = 300.0


class Fleet(msgspec.Struct, frozen=True):
    """Replicas of one engine. `cold_start_s` passes, and is paid, before a new one serves.

    The simulation ends `drain_s` after the last arrival at the latest.
    """

    engine: Engine
    costs: StepCosts
    replicas: int = 1
    router: Router = Router()
    autoscaler: Autoscaler | None = None
    spot: Spot | None = None
    failures: Failures | None = None
    cold_start_s: float = 120.0
    drain_s: float = math.inf

    @property
    def most(self) -> int:
        """How many replicas serve at once at most."""
        return self.autoscaler.maximum if self.autoscaler else self.replicas


def check(fleet: Fleet) -> None:
    """Raise RequestError for a fleet that cannot be: which figure, what it is, and what it may be."""
    engine = fleet.engine
    for name in StepCosts._fields:
        value = float(getattr(fleet.costs, name))
        _require(math.isfinite(value) and value >= 0, f"costs.{name}", value, "a finite number of seconds, 0 or more")
    whole = ("kv_tokens", "max_sequences", "max_batched_tokens", "block_tokens")
    for name in whole:
        _require(getattr(engine, name) >= 1, f"engine.{name}", getattr(engine, name), "1 or more")
    _require(engine.kv_tokens >= engine.block_tokens, "engine.kv_tokens", engine.kv_tokens, "a block at least")
    _require(
        engine.max_batched_tokens >= engine.max_sequences,
        "engine.max_batched_tokens",
        engine.max_batched_tokens,
        f"at least max_sequences ({engine.max_sequences}): every sequence decodes in each iteration",
    )
    _require(engine.window >= 0, "engine.window", engine.window, "0 (none) or more")
    _not_negative("engine.ttft_offset_s", engine.ttft_offset_s)
    _require(fleet.replicas >= 1, "replicas", fleet.replicas, "1 or more")
    _require(fleet.router.route in ROUTES, "router.route", fleet.router.route, f"one of {', '.join(ROUTES)}")
    _not_negative("router.slack", fleet.router.slack)
    _not_negative("cold_start_s", fleet.cold_start_s)
    _require(fleet.drain_s >= 0, "drain_s", fleet.drain_s, "0 or more")
    _check_changes(fleet)


def _check_changes(fleet: Fleet) -> None:
    """What changes the number of replicas."""
    if scaler := fleet.autoscaler:
        _positive("autoscaler.target", scaler.target)
        _positive("autoscaler.every_s", scaler.every_s)
        _not_negative("autoscaler.cooldown_s", scaler.cooldown_s)
        _require(scaler.minimum >= 1, "autoscaler.minimum", scaler.minimum, "1 or more")
        _require(
            scaler.minimum <= fleet.replicas <= scaler.maximum,
            "replicas",
            fleet.replicas,
            f"from autoscaler.minimum ({scaler.minimum}) to autoscaler.maximum ({scaler.maximum})",
        )
    if spot := fleet.spot:
        _require(0 <= spot.share <= 1, "spot.share", spot.share, "from 0 to 1")
        _not_negative("spot.interruptions_per_h", spot.interruptions_per_h)
        _not_negative("spot.notice_s", spot.notice_s)
    if failures := fleet.failures:
        _positive("failures.every_h", failures.every_h)
        _not_negative("failures.repair_s", failures.repair_s)


def _positive(name: str, value: float) -> None:
    _require(math.isfinite(value) and value > 0, name, value, "a finite number above 0")


def _not_negative(name: str, value: float) -> None:
    _require(math.isfinite(value) and value >= 0, name, value, "a finite number, 0 or more")


def _require(good: bool, name: str, value: object, allowed: str) -> None:
    if not good:
        raise RequestError(f"the fleet's {name} is {value}.", hint=f"It must be {allowed}.")
