"""Which mix of devices serves requests of different sizes at the least cost: an integer program.

Small requests are often cheapest on small devices, and long ones only fit on large ones, so the cheapest fleet may mix
them (Griggs et al., Mélange, arXiv 2404.14527). Requests are counted in buckets by size, buckets are cut into slices,
and each slice goes to one kind of replica:

    min sum_j y_j cost_j    so that    sum_j x_ij = slices,    sum_i x_ij / slices * rate_i / throughput_ij <= y_j

with whole x_ij (slices of bucket i on kind j) and y_j (replicas of kind j), solved by HiGHS.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, linprog, milp
from scipy.sparse import csr_array

from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError

SLICES = 8
"""Into how many parts a bucket is cut: more of them cost time and change little."""

ROUNDING = 1e-5
"""By how much of a replica a load may exceed a whole number of them; the solver rounds by a tenth of that."""

MOST_REPLICAS = 1e6


class Bucket(msgspec.Struct, frozen=True):
    """Requests of about one size, and how many of them come per second at the peak."""

    input_tokens: float
    output_tokens: float
    requests_per_s: float

    @property
    def name(self) -> str:
        """Its size in words."""
        return f"{self.input_tokens:g} in, {self.output_tokens:g} out"


class Replica(msgspec.Struct, frozen=True):
    """A kind of replica: so many devices of one kind, and the most requests per second of each bucket it can serve.

    `requests_per_s` has one element per bucket: the rate within the limits on latency if nothing else were served;
    `None` where the replica cannot serve such requests within them at all.
    """

    name: str
    hardware: str
    devices: int
    usd_per_device_h: float | None
    requests_per_s: tuple[float | None, ...]


class Count(msgspec.Struct, frozen=True):
    """How many replicas of one kind, how full they are (0 to 1), and which share of each bucket they serve."""

    replica: str
    hardware: str
    replicas: int
    devices: int
    usd_per_h: float
    load: float
    shares: tuple[float, ...]


class FleetMix(msgspec.Struct, frozen=True):
    """The cheapest fleet found. `gap` is by which share a cheaper one may still exist: 0 when it is proven the best.

    `best_single` is the cheapest fleet of one kind of replica alone; `None` when no kind can serve everything.
    """

    counts: tuple[Count, ...]
    usd_per_h: float
    gap: float
    best_single: Count | None

    @property
    def saved_share(self) -> float | None:
        """How much less than the best single kind it costs."""
        return None if self.best_single is None else 1 - self.usd_per_h / self.best_single.usd_per_h


class _Program(msgspec.Struct, frozen=True):
    """The numbers of the program; `load` is that of a whole bucket in replicas, infinite where it cannot run."""

    load: NDArray[np.float64]
    usd_per_h: NDArray[np.float64]
    slices: int
    limits: NDArray[np.float64]
    """Replicas that each kind can have at most."""
    pools: tuple[tuple[NDArray[np.float64], float], ...]
    """Devices that each kind takes of some hardware, and how many there are."""


def fleet_mix(
    buckets: Sequence[Bucket],
    replicas: Sequence[Replica],
    available: Mapping[str, int] | None = None,
    *,
    target_utilisation: float = 1.0,
    slices: int = SLICES,
    time_limit_s: float = 10.0,
) -> FleetMix:
    """The cheapest mix of replicas that serves every bucket. `available` limits devices by hardware.

    Replicas are loaded to `target_utilisation` at most. When the time is up the best fleet so far is returned with its
    gap. Raises RequestError for input that makes no sense, and, naming the bucket, when there is no such fleet.

    >>> mix = fleet_mix(
    ...     [Bucket(100, 100, 12.0), Bucket(8000, 100, 1.0)],
    ...     [Replica("L4", "L4", 1, 1.0, (6.0, None)), Replica("H100", "H100", 1, 5.0, (20.0, 4.0))],
    ... )
    >>> [(count.replica, count.replicas) for count in mix.counts], mix.usd_per_h, mix.best_single.replicas
    ([('H100', 1)], 5.0, 1)
    """
    if number("the solver", "time_limit_s", time_limit_s) <= 0:
        raise RequestError(f"The solver has {time_limit_s:g} s.", hint="Give it some time.")
    program = _program(buckets, replicas, available or {}, target_utilisation, slices)
    _refuse_what_fits_nowhere(buckets, replicas, program)
    single = _best_single(replicas, program)
    found = _solve(program, time_limit_s)
    bound = float(found.mip_dual_bound) if getattr(found, "mip_dual_bound", None) is not None else 0.0
    shares = None
    if found.x is not None:
        each = found.x[: program.load.size].reshape(program.load.shape)
        shares = np.round(each) / program.slices
    mixed = None if shares is None else _counts(replicas, program, shares)
    if mixed is not None and not _is_available(mixed, available or {}):
        mixed = None
    chosen = [counts for counts in (mixed, (single,) if single else None) if counts]
    if not chosen:
        raise _too_few(buckets, program, time_limit_s, found.status)
    best = min(chosen, key=lambda counts: sum(count.usd_per_h for count in counts))
    usd = sum(count.usd_per_h for count in best)
    gap = max(0.0, 1 - bound / usd)
    return FleetMix(best, usd, gap if gap > 1e-9 else 0.0, single)


def _program(
    buckets: Sequence[Bucket],
    replicas: Sequence[Replica],
    available: Mapping[str, int],
    target_utilisation: float,
    slices: int,
) -> _Program:
    if not buckets or not replicas:
        raise RequestError(
            f"{len(buckets)} buckets on {len(replicas)} kinds of replicas are no fleet.",
            hint="Give one of each or more.",
        )
    share = number("the fleet", "target_utilisation", target_utilisation)
    if not 0 < share <= 1 or slices < 1 or slices != int(slices):
        raise RequestError(
            f"A fleet loaded to {share:g} with {slices} slices a bucket cannot be planned.",
            hint="target_utilisation must be above 0 and at most 1, slices a whole number of 1 or more.",
        )
    for bucket in buckets:
        require(bucket, above_zero=("requests_per_s",), at_least_zero=("input_tokens", "output_tokens"))
    load = np.full((len(buckets), len(replicas)), np.inf)
    for j, replica in enumerate(replicas):
        require(replica, above_zero=("usd_per_device_h",), counts=("devices",))
        if len(replica.requests_per_s) != len(buckets):
            raise RequestError(
                f"The replica '{replica.name}' has rates for {len(replica.requests_per_s)} buckets of {len(buckets)}.",
                hint="Give one rate per bucket, None where it cannot serve.",
            )
        for i, (bucket, rate) in enumerate(zip(buckets, replica.requests_per_s, strict=True)):
            if rate is None:
                continue
            if number(f"the replica '{replica.name}'", f"requests_per_s of {bucket.name}", rate) <= 0:
                raise RequestError(
                    f"The replica '{replica.name}' serves {rate:g} requests/s of {bucket.name}.",
                    hint="Give a rate above 0, or None where it cannot serve.",
                )
            load[i, j] = bucket.requests_per_s / (rate * share)
            if load[i, j] > MOST_REPLICAS:
                raise RequestError(
                    f"The requests of {bucket.name} would take {load[i, j]:.3g} of the replica '{replica.name}'.",
                    hint="Check the units: both rates are requests per second.",
                )
    return _Program(
        load=load,
        usd_per_h=np.array([_usd_per_h(replica) for replica in replicas]),
        slices=int(slices),
        limits=_limits(replicas, available),
        pools=_pools(replicas, available),
    )


def _limits(replicas: Sequence[Replica], available: Mapping[str, int]) -> NDArray[np.float64]:
    return np.array(
        [
            math.floor(available[replica.hardware] / replica.devices) if replica.hardware in available else np.inf
            for replica in replicas
        ]
    )


def _pools(replicas: Sequence[Replica], available: Mapping[str, int]) -> tuple[tuple[NDArray[np.float64], float], ...]:
    known = {replica.hardware for replica in replicas}
    for hardware, count in available.items():
        if hardware not in known:
            raise RequestError(
                f"{count} devices of {hardware} are available, and no replica runs on it.",
                hint=f"Replicas run on {', '.join(sorted(known))}.",
            )
        if number(f"what is available of {hardware}", "devices", count) < 0 or count != int(count):
            raise RequestError(
                f"{count:g} devices of {hardware} are available.", hint="Give a whole number, 0 or more."
            )
    return tuple(
        (np.array([float(replica.devices * (replica.hardware == hardware)) for replica in replicas]), float(count))
        for hardware, count in available.items()
    )


def _solve(program: _Program, time_limit_s: float) -> OptimizeResult:
    """Variables are x_ij row by row, then y_j."""
    rows, kinds = program.load.shape
    runs = np.isfinite(program.load)
    load = np.where(runs, program.load, 0.0)
    assigned = np.zeros((rows, rows * kinds + kinds))
    for i in range(rows):
        assigned[i, i * kinds : (i + 1) * kinds] = 1.0
    full = np.zeros((kinds, rows * kinds + kinds))
    for j in range(kinds):
        full[j, j : rows * kinds : kinds] = load[:, j] / program.slices
        full[j, rows * kinds + j] = -1.0
    pooled = np.array([np.concatenate((np.zeros(rows * kinds), takes)) for takes, _ in program.pools])
    constraints = [
        LinearConstraint(csr_array(assigned), program.slices, program.slices),
        LinearConstraint(csr_array(full), -np.inf, ROUNDING / 2),
    ]
    if len(pooled):
        constraints.append(LinearConstraint(csr_array(pooled), -np.inf, [count for _, count in program.pools]))
    return milp(
        np.concatenate((np.zeros(rows * kinds), program.usd_per_h)),
        integrality=np.ones(rows * kinds + kinds),
        bounds=Bounds(0.0, np.concatenate((np.where(runs, program.slices, 0).ravel(), program.limits))),
        constraints=constraints,
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )


def _counts(replicas: Sequence[Replica], program: _Program, shares: NDArray[np.float64]) -> tuple[Count, ...]:
    """What an assignment takes: as many replicas as its load needs, whatever the solver's rounding made of them."""
    loads = np.where(shares > 0, program.load, 0.0) * shares
    return tuple(
        _count(replica, float(loads[:, j].sum()), shares[:, j])
        for j, replica in enumerate(replicas)
        if shares[:, j].any()
    )


def _count(replica: Replica, load: float, shares: NDArray[np.float64]) -> Count:
    needed = max(1, math.ceil(load - ROUNDING))
    devices = needed * replica.devices
    return Count(
        replica=replica.name,
        hardware=replica.hardware,
        replicas=needed,
        devices=devices,
        usd_per_h=needed * _usd_per_h(replica),
        load=min(load / needed, 1.0),
        shares=tuple(float(share) for share in shares),
    )


def _usd_per_h(replica: Replica) -> float:
    return replica.devices * number(f"the replica '{replica.name}'", "usd_per_device_h", replica.usd_per_device_h)


def _best_single(replicas: Sequence[Replica], program: _Program) -> Count | None:
    found = []
    for j, replica in enumerate(replicas):
        if np.isfinite(program.load[:, j]).all():
            count = _count(replica, float(program.load[:, j].sum()), np.ones(len(program.load)))
            if count.replicas <= program.limits[j]:
                found.append(count)
    return min(found, key=lambda count: count.usd_per_h, default=None)


def _is_available(counts: Sequence[Count], available: Mapping[str, int]) -> bool:
    """Whether there are as many devices as the counts take, which rounding may have made one more."""
    taken = {count.hardware: 0 for count in counts}
    for count in counts:
        taken[count.hardware] += count.devices
    return all(devices <= available.get(hardware, devices) for hardware, devices in taken.items())


def _refuse_what_fits_nowhere(buckets: Sequence[Bucket], replicas: Sequence[Replica], program: _Program) -> None:
    for i, bucket in enumerate(buckets):
        if not np.isfinite(program.load[i]).any():
            raise RequestError(
                f"No replica can serve requests of {bucket.name} at all; {bucket.requests_per_s:g} come per second.",
                hint=f"Tried: {', '.join(replica.name for replica in replicas)}. Loosen limits, or offer larger ones.",
            )


def _too_few(buckets: Sequence[Bucket], program: _Program, time_limit_s: float, status: int) -> RequestError:
    """Which bucket is left over when as much as possible of all is served by what there is."""
    if status == 1:
        return RequestError(
            f"No fleet was found within {time_limit_s:g} s.", hint="Give more time, fewer kinds, or fewer slices."
        )
    rows, kinds = program.load.shape
    runs = np.isfinite(program.load)
    load = np.where(runs, program.load, 0.0)
    left = linprog(
        np.concatenate((np.zeros(rows * kinds + kinds), np.ones(rows))),
        A_ub=np.block(
            [
                [np.hstack([np.diag(load[i]) for i in range(rows)]), -np.eye(kinds), np.zeros((kinds, rows))],
                *([np.zeros(rows * kinds), takes, np.zeros(rows)] for takes, _ in program.pools),
            ]
        ),
        b_ub=[0.0] * kinds + [count for _, count in program.pools],
        A_eq=np.hstack((np.kron(np.eye(rows), np.ones(kinds)), np.zeros((rows, kinds)), np.eye(rows))),
        b_eq=np.ones(rows),
        bounds=[(0, float(allowed)) for allowed in runs.ravel()]
        + [(0, None if math.isinf(limit) else limit) for limit in program.limits]
        + [(0, 1)] * rows,
    )
    shares = left.x[-rows:]
    worst = int(np.argmax(shares))
    if shares[worst] < 1e-6:
        return RequestError(
            "The devices that are available serve everything only if buckets are cut finer than into "
            f"{program.slices} slices.",
            hint="Give more slices, or more devices.",
        )
    return RequestError(
        f"The devices that are available leave {shares[worst]:.0%} of the requests of {buckets[worst].name} unserved.",
        hint="Make more devices available, or offer other ones.",
    )
