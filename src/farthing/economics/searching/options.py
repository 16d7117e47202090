"""What a search is asked and what it finds: limits, offers, options, and outlooks for each kind of hardware."""

import math

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.hardware import Hardware
from farthing.economics.operating import Bounds
from farthing.economics.searching.space import Space
from farthing.economics.step import StepCosts
from farthing.errors import RequestError


class Slo(msgspec.Struct, frozen=True):
    """How long callers may wait, at a percentile: for the first token, for each token after, and in all."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    percentile: float = 90.0

    @property
    def bounds(self) -> Bounds:
        """The same as plain numbers."""
        ttft, tpot, e2e = (math.inf if limit is None else limit for limit in (self.ttft_s, self.tpot_s, self.e2e_s))
        return Bounds(ttft, tpot, e2e, self.percentile / 100)


class Offer(msgspec.Struct, frozen=True):
    """Hardware at a price per device and hour, with what the price is in words.

    Devices are rented `unit` at a time. `spot_share` of them are spot instances, at the mean price that is given.
    """

    hardware: Hardware
    usd_per_device_h: float
    price: str
    unit: int = 1
    spot_share: float = 0.0
    source: str = ""
    date: str = ""


class Question(msgspec.Struct, frozen=True):
    """What to search for. The workload is that of all replicas together."""

    architecture: Architecture
    offers: tuple[Offer, ...]
    workload: Workload
    slo: Slo
    space: Space = Space()


class Option(msgspec.Struct, frozen=True):
    """One way of serving the workload. Times are at the percentile asked; `held` is the mean batch of a copy."""

    deployment: Deployment
    offer: Offer
    replicas: int
    usd_per_h: float
    usd_per_million_output_tokens: float
    requests_per_s: float
    ttft_s: float
    tpot_s: float
    e2e_s: float
    held: float
    utilisation: float
    idle: float
    """The share of time in which a copy has nobody to serve."""
    meets: bool

    @property
    def devices(self) -> int:
        """How many devices all replicas take."""
        return self.replicas * self.deployment.devices


class Tight(msgspec.Struct, frozen=True):
    """A layout with nearly nothing to do: the fastest it can be, and where the time of an iteration goes."""

    deployment: Deployment
    ttft_s: float
    tpot_s: float
    e2e_s: float
    costs: StepCosts


class Outlook(msgspec.Struct, frozen=True):
    """What a search came to for one kind of hardware: an option, or why there is none.

    `missing` are the reasons of those layouts that do not fit in memory, the nearest first; `fastest` are the layouts
    that do, unloaded, of which none is fast enough.
    """

    hardware: Hardware
    option: Option | None
    missing: tuple[RequestError, ...] = ()
    fastest: tuple[Tight, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """What a search came to: an outlook per hardware, the cheapest first, and the frontier of cost and both times."""

    outlooks: tuple[Outlook, ...]
    frontier: tuple[Option, ...]
    others: tuple[Option, ...]
    considered: int

    @property
    def best(self) -> Option | None:
        """The cheapest option of all that meets the bounds."""
        return self.outlooks[0].option if self.outlooks else None
