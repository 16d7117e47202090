"""What tokens and requests cost on hardware that is paid by the hour.

An hour of devices is paid whether they are busy or not. The bill is split between prompts and answers by the time that
each keeps the devices busy, not by how many tokens each has: a prompt token takes far less time than an output token.
"""

from collections.abc import Sequence

import msgspec

from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError
from farthing.pricing import hosted_cost
from farthing.schema import PICO_PER_USD

MILLION = 1e6
HOUR_S = 3600.0
HOURS_PER_MONTH = 730.0
HOURS_PER_YEAR = 8760.0
DAYS_PER_MONTH = 365 / 12
NS_PER_S = 10**9


class Running(msgspec.Struct, frozen=True):
    """Devices that serve, and what they serve when fully loaded.

    Rates are those of all `devices` together at capacity; `prefill_share` is the share of busy time that goes into
    prompts. `utilisation` is what is served over what could be, on the mean of a day (see `utilisation_of`).
    """

    usd_per_device_h: float | None
    devices: int
    input_tokens_per_s: float
    output_tokens_per_s: float
    prefill_share: float
    utilisation: float = 1.0


class TokenCost(msgspec.Struct, frozen=True):
    """What a million tokens cost; `None` where there are none of that kind. `idle_usd_per_h` pays for waiting devices.

    The dollars of idle time are spread over prompts and answers like those of busy time.
    """

    usd_per_h: float
    idle_usd_per_h: float
    usd_per_1m_tokens: float
    usd_per_1m_input: float | None
    usd_per_1m_output: float | None


class RequestCost(msgspec.Struct, frozen=True):
    """What one request costs, by what the dollars are for."""

    input_usd: float
    output_usd: float

    @property
    def usd(self) -> float:
        """Both together."""
        return self.input_usd + self.output_usd

    @property
    def usd_per_1k_requests(self) -> float:
        """A thousand of them."""
        return 1000 * self.usd


def token_cost(running: Running) -> TokenCost:
    """Dollars per million tokens: 10^6 x devices x USD/h x share of time / (3600 x tokens/s x utilisation).

    Raises RequestError for an unknown price, for devices that are never used, and for shares of time that contradict
    the rates: no time for tokens that are there, or time for tokens that are not.

    >>> cost = token_cost(Running(3.6, 1, 4000.0, 1000.0, prefill_share=0.2, utilisation=0.5))
    >>> round(cost.usd_per_1m_input, 3), round(cost.usd_per_1m_output, 3)
    (0.1, 1.6)
    """
    require(running, above_zero=("usd_per_device_h",), counts=("devices",), shares=("prefill_share",))
    require(running, at_least_zero=("input_tokens_per_s", "output_tokens_per_s"))
    require(running, above_zero=("utilisation",), shares=("utilisation",))
    shares = {"input": running.prefill_share, "output": 1 - running.prefill_share}
    rates = {"input": running.input_tokens_per_s, "output": running.output_tokens_per_s}
    for kind, rate in rates.items():
        if shares[kind] and not rate:
            raise RequestError(
                f"{shares[kind]:.0%} of the time goes into {kind} tokens, of which there are none.",
                hint=f"Give {kind}_tokens_per_s, or a prefill_share that leaves them no time.",
            )
    if not sum(rates.values()):
        raise RequestError("The devices serve no tokens at all.", hint="Give the tokens per second at full load.")
    usd_per_h = number("the price", "usd_per_device_h", running.usd_per_device_h) * running.devices
    each = {
        kind: usd_per_1m(usd_per_h * shares[kind], rate, running.utilisation) if rate else None
        for kind, rate in rates.items()
    }
    return TokenCost(
        usd_per_h=usd_per_h,
        idle_usd_per_h=usd_per_h * (1 - running.utilisation),
        usd_per_1m_tokens=usd_per_1m(usd_per_h, sum(rates.values()), running.utilisation),
        usd_per_1m_input=each["input"],
        usd_per_1m_output=each["output"],
    )


def usd_per_1m(usd_per_h: float, tokens_per_s: float, utilisation: float) -> float:
    """Dollars per million tokens of devices that can do `tokens_per_s`, used to a share. Raises RequestError.

    >>> round(usd_per_1m(usd_per_h=3.6, tokens_per_s=1000, utilisation=0.5), 6)
    2.0
    """
    hourly = number("the price", "usd_per_h", usd_per_h)
    rate = number("the throughput", "tokens_per_s", tokens_per_s)
    share = number("the throughput", "utilisation", utilisation)
    if hourly < 0 or rate <= 0 or not 0 < share <= 1:
        raise RequestError(
            f"{rate:g} tokens/s at ${hourly:g} an hour, used to {share:g}, have no price.",
            hint="The price must be 0 or more, the rate above 0, and the utilisation above 0 and at most 1.",
        )
    return MILLION * hourly / (HOUR_S * rate * share)


def cost_of_request(cost: TokenCost, input_tokens: float, output_tokens: float) -> RequestCost:
    """Dollars of one request of so many tokens. Raises RequestError for a kind of tokens that the cost does not know.

    >>> round(cost_of_request(TokenCost(3.6, 1.8, 0.4, 0.1, 1.6), 2000, 500).usd_per_1k_requests, 6)
    1.0
    """
    usd = {}
    for kind, tokens, per_1m in (
        ("input", input_tokens, cost.usd_per_1m_input),
        ("output", output_tokens, cost.usd_per_1m_output),
    ):
        count = number("the request", f"{kind}_tokens", tokens)
        if count < 0:
            raise RequestError(f"The request has {count:g} {kind} tokens.", hint="Give 0 or more.")
        usd[kind] = count * number("the cost", f"usd_per_1m_{kind}", per_1m) / MILLION if count else 0.0
    if not input_tokens and not output_tokens:
        raise RequestError("The request has no tokens.", hint="Give input_tokens or output_tokens.")
    return RequestCost(usd["input"], usd["output"])


def utilisation_of(served_per_h: Sequence[float], capacity_per_h: float) -> float:
    """The share of capacity that is served over so many hours, in any unit of work. Raises RequestError.

    This is what the bill depends on; how busy a device reports itself to be is another figure.

    >>> utilisation_of([100, 300, 200, 0], capacity_per_h=400)
    0.375
    """
    capacity = number("the fleet", "capacity_per_h", capacity_per_h)
    if capacity <= 0 or not len(served_per_h):
        raise RequestError(
            f"{len(served_per_h)} hours at a capacity of {capacity:g} have no utilisation.",
            hint="Give what was served in one hour or more, and a capacity above 0.",
        )
    for hour, served in enumerate(served_per_h):
        amount = number(f"hour {hour}", "served_per_h", served)
        if not 0 <= amount <= capacity * (1 + 1e-9):
            raise RequestError(
                f"Hour {hour} served {amount:g} of a capacity of {capacity:g}.",
                hint="What is served lies between 0 and capacity; both must have the same unit.",
            )
    return min(sum(served_per_h) / (len(served_per_h) * capacity), 1.0)


class Compute(msgspec.Struct, frozen=True):
    """Work in floating-point operations, and what they cost: a device's rate, the share of it that is used, its price.

    `flop_per_request` is about 2 x active parameters x tokens.
    """

    requests: float
    flop_per_request: float
    flop_per_s: float
    used_share: float
    usd_per_h: float | None


def cost_of_compute(compute: Compute) -> float:
    """Dollars by compute: (FLOP per request x requests) / FLOP per dollar. Raises RequestError.

    >>> round(cost_of_compute(Compute(1e6, 2 * 7e9 * 500, 1e15, 0.5, 3.6)), 6)
    14.0
    """
    require(compute, above_zero=compute.__struct_fields__, shares=("used_share",))
    flop_per_usd = (
        compute.flop_per_s * compute.used_share * HOUR_S / number("the price", "usd_per_h", compute.usd_per_h)
    )
    return compute.flop_per_request * compute.requests / flop_per_usd


def cost_of_time(usd_per_h: float, latency_s: float, concurrency: int) -> float:
    """Dollars of one request by time: USD/h / 3600 x latency / concurrency; the ledger's own sum for owned machines.

    Raises RequestError for what is not above 0.

    >>> cost_of_time(usd_per_h=3.0, latency_s=0.3, concurrency=8)
    3.125e-05
    """
    hourly, latency = number("the price", "usd_per_h", usd_per_h), number("the request", "latency_s", latency_s)
    at_once = number("the request", "concurrency", concurrency)
    if hourly <= 0 or latency <= 0 or at_once < 1 or at_once != int(at_once):
        raise RequestError(
            f"A request of {latency:g} s at ${hourly:g} an hour, {at_once:g} at once, has no cost.",
            hint="Give a price and a latency above 0, and a whole number of requests at once.",
        )
    cost = hosted_cost(round(hourly * PICO_PER_USD), round(latency * NS_PER_S), int(at_once))
    return cost / PICO_PER_USD
