"""How to buy the devices that a demand curve asks for: reserved, on demand and spot.

What is reserved is paid in every hour, and the rest of an hour's demand is met by spot devices, and on demand where
these are interrupted or not to be had. Every level of reservation is tried with the best number of spot devices for
each demand, so the plan is the cheapest of all such plans. Without spot it is the newsvendor's: the k-th device is
reserved if it is in use for more than the share reserved price / on-demand price of the hours.
"""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.economics.money.costs import HOURS_PER_MONTH
from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError

MOST_DEVICES = 4096
MOST_ZONES = 64


class Spot(msgspec.Struct, frozen=True):
    """Spot devices: their price, how often each zone takes its devices back, and how long a new one takes to serve.

    A device that restarts is paid and serves nothing. `availability` is the share of time in which a zone has devices
    at all. Devices are spread evenly over `zones`, which lose theirs independently of one another, and each all of its
    own at once. At most `share` of what is not reserved relies on spot; up to `over_provisioning` of that is bought
    beyond. `usd_per_interruption` is the work that one device loses.
    """

    usd_per_device_h: float | None
    interruptions_per_h: float
    restart_s: float
    availability: float = 1.0
    zones: int = 1
    share: float = 1.0
    over_provisioning: float = 0.0
    usd_per_interruption: float = 0.0

    @property
    def serving_share(self) -> float:
        """The share of time that a zone's devices serve: availability / (1 + interruptions x restart)."""
        return self.availability / (1 + self.interruptions_per_h * self.restart_s / 3600)

    @property
    def mean_usd_per_h(self) -> float:
        """Dollars an hour for one spot device that is asked for all the time, with the work that it loses."""
        hourly = number("the spot", "usd_per_device_h", self.usd_per_device_h)
        lost = self.serving_share * self.interruptions_per_h * self.usd_per_interruption
        return self.availability * hourly + lost


class Market(msgspec.Struct, frozen=True):
    """Prices per device and hour; `reserved` and `spot` are left out where that is not for sale."""

    on_demand_usd_per_device_h: float | None
    reserved_usd_per_device_h: float | None = None
    spot: Spot | None = None


class Level(msgspec.Struct, frozen=True):
    """What is bought in the hours of one demand.

    `spot` devices are asked for and `on_demand` are always there; `fallback` are, on the mean, bought on demand in
    place of spot devices that do not serve, which is so in `short_share` of the time.
    """

    demand: int
    hours: int
    spot: int
    on_demand: int
    fallback: float
    short_share: float


class Buying(msgspec.Struct, frozen=True):
    """What to reserve, what to buy beside at each level of demand, and what that costs per hour on the mean.

    `reserved_used_share` is how much of the reservation is in use; `worst_usd_per_h` is the cost if no spot device is
    to be had at all, `deviation_usd_per_h` the standard deviation of an hour's cost by interruptions alone, and
    `short_share` the share of time in which some of the spot devices needed do not serve.
    """

    reserved: int
    reserved_used_share: float
    levels: tuple[Level, ...]
    reserved_usd_per_h: float
    on_demand_usd_per_h: float
    spot_usd_per_h: float
    all_on_demand_usd_per_h: float
    worst_usd_per_h: float
    deviation_usd_per_h: float
    short_share: float

    @property
    def usd_per_h(self) -> float:
        """The expected cost of an hour."""
        return self.reserved_usd_per_h + self.on_demand_usd_per_h + self.spot_usd_per_h

    @property
    def usd_per_month(self) -> float:
        """The expected cost of 730 hours."""
        return self.usd_per_h * HOURS_PER_MONTH


class _Flexible(msgspec.Struct, frozen=True):
    """For each number of devices beyond the reservation: how many spot devices are best, and what that comes to."""

    usd: NDArray[np.float64]
    spot: NDArray[np.int64]
    relied: NDArray[np.int64]
    fallback: NDArray[np.float64]
    short: NDArray[np.float64]
    deviation: NDArray[np.float64]


def buying(devices: Sequence[int], market: Market) -> Buying:
    """The cheapest way of buying the devices that each hour asks for. Raises RequestError.

    Reserving is worth its price by the hours of the curve alone: that they come again is the buyer's bet.

    >>> plan = buying([2, 2, 2, 10], Market(4.0, reserved_usd_per_device_h=2.4))
    >>> plan.reserved, round(plan.usd_per_h, 6), plan.all_on_demand_usd_per_h
    (2, 12.8, 16.0)
    """
    demand = _demand(devices)
    on_demand = _check(market)
    top = max(demand)
    flexible = _flexible(top, market, on_demand)
    levels, hours = (np.array(column) for column in zip(*sorted(Counter(demand).items()), strict=True))
    reserved, reserved_usd = 0, 0.0
    if market.reserved_usd_per_device_h is not None:
        totals = [
            level * market.reserved_usd_per_device_h * len(demand)
            + float(hours @ flexible.usd[np.maximum(levels - level, 0)])
            for level in range(top + 1)
        ]
        reserved = int(np.argmin(totals))
        reserved_usd = reserved * market.reserved_usd_per_device_h
    rest = np.maximum(levels - reserved, 0)
    weights = hours / len(demand)
    spot_usd = float(weights @ flexible.spot[rest]) * (market.spot.mean_usd_per_h if market.spot else 0.0)
    return Buying(
        reserved=reserved,
        reserved_used_share=float(weights @ np.minimum(levels, reserved)) / reserved if reserved else 0.0,
        levels=tuple(
            Level(
                demand=int(level),
                hours=int(count),
                spot=int(flexible.spot[beyond]),
                on_demand=int(beyond - flexible.relied[beyond]),
                fallback=float(flexible.fallback[beyond]),
                short_share=float(flexible.short[beyond]),
            )
            for level, count, beyond in zip(levels, hours, rest, strict=True)
        ),
        reserved_usd_per_h=reserved_usd,
        on_demand_usd_per_h=float(weights @ flexible.usd[rest]) - spot_usd,
        spot_usd_per_h=spot_usd,
        all_on_demand_usd_per_h=float(weights @ levels) * on_demand,
        worst_usd_per_h=reserved_usd + float(weights @ rest) * on_demand,
        deviation_usd_per_h=float(weights @ flexible.deviation[rest]),
        short_share=float(weights @ flexible.short[rest]),
    )


def _flexible(top: int, market: Market, on_demand: float) -> _Flexible:
    """Tables of 0 to `top` devices; spot devices are added one by one, and what is cheapest for each number is kept."""
    needed = np.arange(top + 1)
    spot = np.zeros(top + 1, np.int64)
    usd = np.asarray(needed * on_demand, np.float64)
    fallback, short, deviation = np.zeros(top + 1), np.zeros(top + 1), np.zeros(top + 1)
    relied = np.zeros(top + 1, np.int64)
    offer = market.spot
    if offer is not None:
        relying = np.floor(needed * offer.share + 1e-9).astype(np.int64)
        most = np.ceil(relying * (1 + offer.over_provisioning) - 1e-9).astype(np.int64)
        for bought in range(1, int(most[-1]) + 1):
            trusted = np.minimum(relying, bought)
            missing, square, chance = _shortfall(bought, trusted, offer)
            total = (needed - trusted + missing) * on_demand + bought * offer.mean_usd_per_h
            better = (total < usd) & (bought <= most)
            usd, spot, relied = (
                np.where(better, new, old) for new, old in ((total, usd), (bought, spot), (trusted, relied))
            )
            fallback, short = np.where(better, missing, fallback), np.where(better, chance, short)
            spread = on_demand * np.sqrt(np.maximum(square - missing**2, 0.0))
            deviation = np.where(better, spread, deviation)
    return _Flexible(usd, spot, relied, fallback, short, deviation)


def _shortfall(
    bought: int, relying: NDArray[np.int64], spot: Spot
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and mean square of how many devices do not serve of those relied on, and the chance that any does not."""
    size, larger = divmod(bought, min(spot.zones, bought))
    smaller = min(spot.zones, bought) - larger
    serving = np.add.outer(np.arange(larger + 1) * (size + 1), np.arange(smaller + 1) * size).ravel()
    chances = np.outer(_binomial(larger, spot.serving_share), _binomial(smaller, spot.serving_share)).ravel()
    counts = np.bincount(serving, weights=chances, minlength=bought + 1)
    # With F, G and H the sums of chances, of serving x chance and of serving^2 x chance below n:
    # E[(n - serving)+] = n F - G, and E[(n - serving)+ ^2] = n^2 F - 2 n G + H.
    number_serving = np.arange(len(counts))
    below, first, second = (np.concatenate(([0.0], np.cumsum(counts * number_serving**power))) for power in (0, 1, 2))
    at = np.minimum(relying, len(counts))
    missing = np.maximum(relying * below[at] - first[at], 0.0)
    n = relying.astype(np.float64)
    square = n * n * below[at] - 2 * n * first[at] + second[at]
    return missing, square, np.minimum(below[at], 1.0)


def _binomial(trials: int, share: float) -> NDArray[np.float64]:
    return np.array([math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)])


def _demand(devices: Sequence[int]) -> list[int]:
    if not len(devices):
        raise RequestError("The demand curve has no hours.", hint="Give how many devices each hour asks for.")
    found = []
    for hour, asked in enumerate(devices):
        count = number(f"hour {hour}", "devices", asked)
        if count < 0 or count != int(count):
            raise RequestError(f"Hour {hour} asks for {count:g} devices.", hint="Give whole numbers of 0 or more.")
        found.append(int(count))
    if not 0 < max(found) <= MOST_DEVICES:
        raise RequestError(
            f"The busiest hour asks for {max(found)} devices.",
            hint=f"Give between 1 and {MOST_DEVICES}; count nodes where there are more.",
        )
    return found


def _check(market: Market) -> float:
    require(market, above_zero=("on_demand_usd_per_device_h",))
    on_demand = number("the market", "on_demand_usd_per_device_h", market.on_demand_usd_per_device_h)
    if market.reserved_usd_per_device_h is not None:
        require(market, above_zero=("reserved_usd_per_device_h",))
    if market.spot is not None:
        require(
            market.spot,
            above_zero=("usd_per_device_h",),
            at_least_zero=("interruptions_per_h", "restart_s", "usd_per_interruption"),
            shares=("availability", "share", "over_provisioning"),
            counts=("zones",),
        )
        if market.spot.zones > MOST_ZONES:
            raise RequestError(f"Spot has {market.spot.zones} zones.", hint=f"Give {MOST_ZONES} at most.")
    return on_demand
