"""From what traffic on machines of one's own are cheaper than an API.

The bill of an API is a straight line through zero. That of one's own machines is a stair: replicas are rented whole,
and staff is paid whatever the traffic. So the two may cross several times: right after a step the API can be cheaper
again.
"""

import math

import msgspec

from farthing.economics.money.api_price import ApiPrice, Tokens, api_usd, checked
from farthing.economics.money.costs import DAYS_PER_MONTH
from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError

DAY_S = 86_400.0
MOST_CROSSINGS = 1000
"""How many crossings are listed; there are more only where both bills are nearly the same for long."""

NEARLY = 1e-9
"""By what share of a replica traffic may exceed a whole number of them: rounding, not traffic."""


class Traffic(msgspec.Struct, frozen=True):
    """Requests of a mean size in tokens, of whose input `cached_share` is read from a prefix cache.

    `peak_to_mean` is the busiest hour over the mean of a day; replicas are there for the busiest hour.
    """

    input_tokens: float
    output_tokens: float
    cached_share: float = 0.0
    peak_to_mean: float = 1.0


class SelfHosting(msgspec.Struct, frozen=True):
    """Replicas of one's own: their price, what one serves within its limits, and what comes on top.

    `hardware_share_of_bill` is the share of devices in the bill without staff; network, storage, monitoring and idle
    test machines make up the rest (devices are 60 to 70 % of what teams report, mercatus-ai.com). `usd_per_request` is
    what each request costs beside (a judge, a moderation call). At least one replica runs, and `spare_replicas` beside.
    """

    usd_per_replica_h: float | None
    requests_per_s_per_replica: float
    staff_usd_per_month: float
    hardware_share_of_bill: float = 0.65
    spare_replicas: int = 0
    usd_per_request: float = 0.0


class Crossing(msgspec.Struct, frozen=True):
    """Where the cheaper side changes: just beyond, `self_hosting_wins` says which it is."""

    requests_per_day: float
    tokens_per_day: float
    replicas: int
    self_hosting_wins: bool


class BreakEven(msgspec.Struct, frozen=True):
    """Every crossing by rising traffic (the first `MOST_CROSSINGS` of `crossings_in_all`), and where they end.

    From `always` on machines of one's own are always cheaper; when that is `None`, `why_never` says why. The two
    figures per request compare an API with a replica that is never idle.
    """

    crossings: tuple[Crossing, ...]
    crossings_in_all: int
    always: Crossing | None
    why_never: str
    api_usd_per_request: float
    full_replica_usd_per_request: float


def api_usd_per_request(price: ApiPrice, traffic: Traffic) -> float:
    """Dollars of one request at an API; raises RequestError for prices that are unknown or contradictory."""
    _check_traffic(traffic)
    cached = traffic.input_tokens * traffic.cached_share
    return api_usd(
        checked(price), Tokens(input=traffic.input_tokens - cached, cache_read=cached, output=traffic.output_tokens)
    )


def replicas_for(hosting: SelfHosting, traffic: Traffic, requests_per_day: float) -> int:
    """How many replicas serve the busiest hour, without spares; raises RequestError."""
    _check(hosting, traffic)
    requests = number("the traffic", "requests_per_day", requests_per_day)
    if requests < 0:
        raise RequestError(f"The traffic has {requests:g} requests a day.", hint="Give 0 or more.")
    return max(1, math.ceil(requests / _requests_per_replica_day(hosting, traffic) - NEARLY))


def self_hosting_usd_per_day(hosting: SelfHosting, traffic: Traffic, requests_per_day: float) -> float:
    """Dollars a day for replicas, spares, overhead and staff at so many requests a day; raises RequestError.

    >>> hosting = SelfHosting(6.5, 1.0, staff_usd_per_month=0.0)
    >>> round(self_hosting_usd_per_day(hosting, Traffic(1000, 200), requests_per_day=100_000), 6)
    480.0
    """
    replicas = replicas_for(hosting, traffic, requests_per_day)
    fixed, each = _fixed_usd_per_day(hosting), _usd_per_replica_day(hosting)
    return fixed + replicas * each + requests_per_day * hosting.usd_per_request


def break_even(price: ApiPrice, traffic: Traffic, hosting: SelfHosting) -> BreakEven:
    """Where the bills of an API and of one's own replicas cross, exactly. Raises RequestError.

    With k replicas, which serve up to k x q requests a day, the bills are equal at (fixed + k x replica) / margin
    requests; that counts for the k for which it lies between (k - 1) x q and k x q. These k are a range known in
    closed form, and between them the API wins again right after each step.
    """
    _check(hosting, traffic)
    api = api_usd_per_request(price, traffic)
    margin = api - hosting.usd_per_request
    per_replica = _requests_per_replica_day(hosting, traffic)
    fixed, each = _fixed_usd_per_day(hosting), _usd_per_replica_day(hosting)
    full = each / per_replica + hosting.usd_per_request
    gain = margin * per_replica - each
    if gain <= 1e-12 * each:
        why = (
            f"a replica that is never idle costs ${full:.4g} per request, and the API ${api:.4g}: "
            "no traffic is large enough"
        )
        return BreakEven((), 0, None, why, api, full)
    first = max(1, math.ceil(fixed / gain - NEARLY))
    last = max(first, math.ceil((fixed + margin * per_replica) / gain - NEARLY) - 1)

    def up(replicas: int) -> Crossing:
        return _crossing((fixed + replicas * each) / margin, replicas, traffic, True)

    found: list[Crossing] = []
    for replicas in range(first, min(last, first + MOST_CROSSINGS) + 1):
        found.append(up(replicas))
        if replicas < last:
            found.append(_crossing(replicas * per_replica, replicas, traffic, False))
    return BreakEven(tuple(found[:MOST_CROSSINGS]), 2 * (last - first) + 1, up(last), "", api, full)


def _crossing(requests: float, replicas: int, traffic: Traffic, self_hosting_wins: bool) -> Crossing:
    tokens = requests * (traffic.input_tokens + traffic.output_tokens)
    return Crossing(requests, tokens, replicas, self_hosting_wins)


def _requests_per_replica_day(hosting: SelfHosting, traffic: Traffic) -> float:
    return DAY_S * hosting.requests_per_s_per_replica / traffic.peak_to_mean


def _usd_per_replica_day(hosting: SelfHosting) -> float:
    hourly = number("the self hosting", "usd_per_replica_h", hosting.usd_per_replica_h)
    return 24 * hourly / hosting.hardware_share_of_bill


def _fixed_usd_per_day(hosting: SelfHosting) -> float:
    return hosting.staff_usd_per_month / DAYS_PER_MONTH + hosting.spare_replicas * _usd_per_replica_day(hosting)


def _check(hosting: SelfHosting, traffic: Traffic) -> None:
    _check_traffic(traffic)
    require(
        hosting,
        above_zero=("usd_per_replica_h", "requests_per_s_per_replica", "hardware_share_of_bill"),
        at_least_zero=("staff_usd_per_month", "usd_per_request"),
        shares=("hardware_share_of_bill",),
        whole=("spare_replicas",),
    )


def _check_traffic(traffic: Traffic) -> None:
    require(traffic, at_least_zero=("input_tokens", "output_tokens"), shares=("cached_share",))
    number("the traffic", "peak_to_mean", traffic.peak_to_mean)
    if traffic.input_tokens + traffic.output_tokens <= 0:
        raise RequestError("The traffic has requests of no tokens.", hint="Give input_tokens and output_tokens.")
    if traffic.peak_to_mean < 1:
        raise RequestError(
            f"The busiest hour has {traffic.peak_to_mean:g} of the mean hour's requests.",
            hint="peak_to_mean must be 1 or more.",
        )
