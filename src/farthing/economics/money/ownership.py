"""What owning devices costs per hour and per token, and after how many months it beats renting.

Capital is an annuity: the yearly payment that pays the price back over the life, with interest, less what the devices
are then still worth. Everything else is paid as it comes.
"""

import math
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from farthing.economics.money.costs import HOURS_PER_YEAR, usd_per_1m
from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError

MONTHS = 12


class Cluster(msgspec.Struct, frozen=True):
    """Devices that are bought, and what running them takes.

    `capex_usd_per_device` is one device with its share of the server; network and storage add `network_storage_share`
    of it, and `spare_share` more devices are bought to stand in for failed ones. `kw_per_device` is the rated power of
    one device with its share of the server, of which `power_share` is drawn on the mean; colocation is charged on the
    rated power, and is 0 where the building is one's own and in the price. `support_share` of the capex is paid for
    maintenance each year. `residual_share` of it is left at the end of the life; `cost_of_capital` is the interest per
    year, and `utilisation` the share of hours in which a device is used.
    """

    devices: int
    capex_usd_per_device: float | None
    life_years: float
    kw_per_device: float
    usd_per_kwh: float
    network_storage_share: float = 0.0
    spare_share: float = 0.0
    residual_share: float = 0.0
    cost_of_capital: float = 0.0
    power_share: float = 1.0
    pue: float = 1.0
    colocation_usd_per_kw_month: float = 0.0
    staff_usd_per_year: float = 0.0
    support_share: float = 0.0
    utilisation: float = 1.0


class Year(msgspec.Struct, frozen=True):
    """Dollars of one year: what is paid (the price in year 0, the residual as income at the end), and the sum so far.

    `year` is the time since the purchase; `book_value_usd` is what is not yet written off, in equal parts.
    """

    year: float
    capital_usd: float
    running_usd: float
    cumulative_usd: float
    book_value_usd: float


class OwnedCost(msgspec.Struct, frozen=True):
    """Dollars per device and hour by what they are for, over all hours, and per hour that a device is used."""

    capital_usd_per_h: float
    energy_usd_per_h: float
    colocation_usd_per_h: float
    staff_usd_per_h: float
    support_usd_per_h: float
    utilisation: float
    years: tuple[Year, ...] = ()

    @property
    def usd_per_device_h(self) -> float:
        """All parts together, for every hour of the life."""
        return self.capital_usd_per_h + self.running_usd_per_h

    @property
    def running_usd_per_h(self) -> float:
        """All parts but capital."""
        return self.energy_usd_per_h + self.colocation_usd_per_h + self.staff_usd_per_h + self.support_usd_per_h

    @property
    def usd_per_used_device_h(self) -> float:
        """The same dollars on the hours that are used."""
        return self.usd_per_device_h / self.utilisation

    def usd_per_1m_tokens(self, tokens_per_s_per_device: float) -> float:
        """Dollars per million tokens of devices that do so many per second when used; raises RequestError."""
        return usd_per_1m(self.usd_per_device_h, tokens_per_s_per_device, self.utilisation)


class Crossover(msgspec.Struct, frozen=True):
    """The first month after which owning has cost less than renting in all, money of later months discounted.

    `month` is `None` when that does not happen within the life, and `why_never` says why. The totals are of the whole
    life, in dollars of today, the residual taken off.
    """

    month: int | None
    why_never: str
    owned_usd: float
    rented_usd: float


def owned_cost(cluster: Cluster) -> OwnedCost:
    """What a device costs per hour when it is owned. Raises RequestError.

    Capital per year is (P - R / (1 + i)^n) x i / (1 - (1 + i)^-n) for a price P, residual R, interest i and n years.

    >>> own = owned_cost(Cluster(8, 26_280.0, life_years=3, kw_per_device=1.0, usd_per_kwh=0.1, pue=1.25))
    >>> own.capital_usd_per_h, own.energy_usd_per_h, own.usd_per_device_h
    (1.0, 0.125, 1.125)
    """
    _check(cluster)
    price = _price_usd(cluster)
    device_hours = cluster.devices * HOURS_PER_YEAR
    cost = OwnedCost(
        capital_usd_per_h=_annuity_usd(cluster, price) / device_hours,
        energy_usd_per_h=cluster.kw_per_device * cluster.power_share * cluster.pue * cluster.usd_per_kwh,
        colocation_usd_per_h=cluster.kw_per_device * cluster.colocation_usd_per_kw_month * MONTHS / HOURS_PER_YEAR,
        staff_usd_per_h=cluster.staff_usd_per_year / device_hours,
        support_usd_per_h=price * cluster.support_share / device_hours,
        utilisation=cluster.utilisation,
    )
    return replace(cost, years=tuple(_years(cluster, price, device_hours * cost.running_usd_per_h)))


def crossover(cluster: Cluster, rented_usd_per_device_h: float | None, rented_share: float = 1.0) -> Crossover:
    """From which month on owning is cheaper than renting as many devices for `rented_share` of the hours.

    Reserved devices are rented for all hours; devices that are let go when idle, for the `utilisation` alone. Raises
    RequestError.
    """
    _check(cluster)
    hourly = number("the rented device", "usd_per_device_h", rented_usd_per_device_h)
    share = number("the rented device", "rented_share", rented_share)
    if hourly <= 0 or not 0 < share <= 1:
        raise RequestError(
            f"Devices rented at ${hourly:g} an hour for {share:g} of the hours are no alternative.",
            hint="Give a price above 0 and a share above 0 and at most 1.",
        )
    price, own = _price_usd(cluster), owned_cost(cluster)
    monthly = cluster.devices * HOURS_PER_YEAR / MONTHS
    rent, running = monthly * hourly * share, monthly * own.running_usd_per_h
    life = math.floor(cluster.life_years * MONTHS + 1e-9)
    discount = (1 + cluster.cost_of_capital) ** (-1 / MONTHS)
    owned, rented, month = price, 0.0, None
    for passed in range(1, life + 1):
        owned += running * discount**passed
        rented += rent * discount**passed
        if month is None and owned <= rented:
            month = passed
    owned -= price * cluster.residual_share * discount**life
    why = "" if month is not None else _why_never(rent, running, price, life)
    return Crossover(month, why, owned, rented)


def _why_never(rent: float, running: float, price: float, life: int) -> str:
    if rent <= running:
        return f"running costs alone, ${running:,.0f} a month, come to no less than the rent of ${rent:,.0f}"
    return (
        f"${rent - running:,.0f} saved a month do not pay ${price:,.0f} back within {life} months, "
        "interest at the cost of capital included"
    )


def _years(cluster: Cluster, price: float, running: float) -> Iterator[Year]:
    """One row per year of the life, the last as long as what is left of it, after a row of the purchase."""
    residual = price * cluster.residual_share
    paid = price
    yield Year(0.0, price, 0.0, paid, price)
    passed = 0.0
    while passed < cluster.life_years:
        span = min(1.0, cluster.life_years - passed)
        passed = min(passed + 1.0, cluster.life_years)
        capital = -residual if passed == cluster.life_years else 0.0
        paid += span * running + capital
        book = price - (price - residual) * passed / cluster.life_years
        yield Year(passed, capital, span * running, paid, book)


def _price_usd(cluster: Cluster) -> float:
    each = number("the cluster", "capex_usd_per_device", cluster.capex_usd_per_device)
    return cluster.devices * each * (1 + cluster.network_storage_share) * (1 + cluster.spare_share)


def _annuity_usd(cluster: Cluster, price: float) -> float:
    rate, years = cluster.cost_of_capital, cluster.life_years
    residual = price * cluster.residual_share
    if rate < 1e-9:
        return (price - residual) / years
    discount = math.pow(1 + rate, -years)
    return (price - residual * discount) * rate / (1 - discount)


def _check(cluster: Cluster) -> None:
    require(
        cluster,
        above_zero=("capex_usd_per_device", "life_years", "kw_per_device", "utilisation"),
        at_least_zero=(
            "usd_per_kwh",
            "colocation_usd_per_kw_month",
            "staff_usd_per_year",
        ),
        shares=(
            "network_storage_share",
            "spare_share",
            "residual_share",
            "cost_of_capital",
            "power_share",
            "support_share",
            "utilisation",
        ),
        counts=("devices",),
    )
    if number("the cluster", "pue", cluster.pue) < 1:
        raise RequestError(
            f"The cluster has a PUE of {cluster.pue:g}.",
            hint="A building draws what its computers draw, or more: 1 or more.",
        )
    if not 1 / MONTHS <= cluster.life_years <= 30:
        raise RequestError(
            f"The cluster lives {cluster.life_years:g} years.", hint="Give between a month and 30 years."
        )
