"""`farthing plan break-even`: from what traffic on machines of one's own are cheaper than an API."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_records import asks, made
from farthing.cli.render import answer, strong, table
from farthing.dashboard.plan_figures import dollars, quantity
from farthing.economics.money.api_price import ApiPrice
from farthing.economics.money.break_even import (
    BreakEven,
    SelfHosting,
    Traffic,
    api_usd_per_request,
    break_even,
    replicas_for,
    self_hosting_usd_per_day,
)

MOST_SHOWN = 8


class Day(msgspec.Struct, frozen=True):
    """Both bills at one traffic."""

    requests_per_day: float
    replicas: int
    api_usd: float
    self_hosting_usd: float


class Weighed(msgspec.Struct, frozen=True):
    """Where the two bills cross, and what they are at the traffic that was asked about."""

    break_even: BreakEven
    day: Day | None


@click.command("break-even")
@asks(
    ApiPrice,
    {
        "usd_per_1m_input": "The API's price of a million input tokens.",
        "usd_per_1m_output": "The API's price of a million output tokens.",
        "usd_per_1m_cache_read": "The API's price of a million input tokens read from its cache.",
    },
)
@asks(
    Traffic,
    {
        "input_tokens": "Of one request, on average.",
        "output_tokens": "Of one request, on average.",
        "cached_share": "Share of input tokens that is read from a prefix cache.",
        "peak_to_mean": "The busiest hour over the mean of a day.",
    },
)
@asks(
    SelfHosting,
    {
        "usd_per_replica_h": "Dollars per replica and hour: its devices times their price.",
        "requests_per_s_per_replica": "What one replica serves within its limits, as `plan search` says.",
        "staff_usd_per_month": "What people who run it cost.",
        "hardware_share_of_bill": "Share of devices in the bill without staff.",
        "spare_replicas": "Replicas kept beside those that are needed.",
        "usd_per_request": "What each request costs beside.",
    },
)
@click.option("--requests-per-day", type=float, metavar="X", help="Compare both bills at this traffic too.")
@verb
def command(asked: Asked, requests_per_day: float | None, **given: Any) -> None:
    """Find from what traffic on machines of one's own are cheaper than an API.

    Replicas are rented whole, so the bills may cross several times; staff and overhead count.
    """
    price, traffic, hosting = made(ApiPrice, given), made(Traffic, given), made(SelfHosting, given)
    found = break_even(price, traffic, hosting)
    day = None
    if requests_per_day is not None:
        day = Day(
            requests_per_day,
            replicas_for(hosting, traffic, requests_per_day) + hosting.spare_replicas,
            api_usd_per_request(price, traffic) * requests_per_day,
            self_hosting_usd_per_day(hosting, traffic, requests_per_day),
        )
    answer(asked, "farthing.plan.break-even/1", Weighed(found, day), lambda weighed: "\n".join(_words(weighed)))


def _words(weighed: Weighed) -> Iterator[str]:
    found = weighed.break_even
    if found.always is None:
        yield strong(f"The API is always cheaper: {found.why_never}.")
    else:
        at = f"{found.always.requests_per_day:,.0f} requests ({quantity(found.always.tokens_per_day)} tokens) a day"
        yield strong(f"Machines of one's own are always cheaper from {at} on, with {found.always.replicas} replicas.")
    each = f"{dollars(found.api_usd_per_request)} at the API, {dollars(found.full_replica_usd_per_request)}"
    yield f"A request costs {each} on a replica that is never idle."
    if found.crossings_in_all > 1:
        yield ""
        rows = [
            (f"{one.requests_per_day:,.0f}", f"{one.replicas}", "own machines" if one.self_hosting_wins else "API")
            for one in found.crossings[:MOST_SHOWN]
        ]
        yield table(("from requests/day", "replicas", "cheaper"), rows, labels=0)
        if found.crossings_in_all > MOST_SHOWN:
            yield f"and {found.crossings_in_all - MOST_SHOWN} crossings more"
    if weighed.day is not None:
        day = weighed.day
        cheaper = "own machines are" if day.self_hosting_usd < day.api_usd else "the API is"
        replicas = f"{day.replicas} replicas with staff and overhead"
        yield (
            f"At {day.requests_per_day:,.0f} requests a day {cheaper} cheaper: {dollars(day.api_usd)} a day at the API,"
            f" {dollars(day.self_hosting_usd)} for {replicas}."
        )
