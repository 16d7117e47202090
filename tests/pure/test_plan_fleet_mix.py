"""Mixed fleets: as cheap as trying everything, never dearer than one kind, and refused with the bucket in the way."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.fleet_mix import Bucket, Replica, fleet_mix
from farthing.errors import RequestError

SHORT, LONG = Bucket(200, 100, 40.0), Bucket(16_000, 400, 1.5)
L4 = Replica("L4", "L4", 1, 0.8, (4.0, None))
H100 = Replica("H100", "H100", 1, 3.0, (10.0, 0.9))
PAIR = Replica("2x H100", "H100", 2, 3.0, (18.0, 2.2))


def cheapest_by_trying(buckets, replicas, available, slices):
    """The least cost over every assignment of slices to kinds."""
    splits = [split for split in itertools.product(range(slices + 1), repeat=len(replicas)) if sum(split) == slices]
    best = math.inf
    for chosen in itertools.product(splits, repeat=len(buckets)):
        usd, taken = 0.0, dict.fromkeys(available, 0)
        for j, replica in enumerate(replicas):
            load = 0.0
            for i, bucket in enumerate(buckets):
                if chosen[i][j]:
                    rate = replica.requests_per_s[i]
                    load += math.inf if rate is None else chosen[i][j] / slices * bucket.requests_per_s / rate
            if math.isinf(load):
                usd = math.inf
                break
            needed = math.ceil(load - 1e-5)
            usd += needed * replica.devices * replica.usd_per_device_h
            if replica.hardware in taken:
                taken[replica.hardware] += needed * replica.devices
        if all(count <= available[hardware] for hardware, count in taken.items()):
            best = min(best, usd)
    return best


# Rates and loads in sixteenths, so that no load lies within rounding of a whole number without being one.
sixteenths = st.integers(1, 160).map(lambda n: n / 16)
cases = st.tuples(
    st.lists(sixteenths, min_size=1, max_size=2),
    st.lists(
        st.tuples(
            st.integers(1, 2), st.integers(10, 400), st.lists(st.one_of(st.none(), sixteenths), min_size=2, max_size=2)
        ),
        min_size=1,
        max_size=3,
    ),
    st.one_of(st.none(), st.integers(1, 12)),
)


@settings(max_examples=80, deadline=None)
@given(cases)
def test_it_is_as_cheap_as_trying_everything(case):
    rates, kinds, there = case
    buckets = [Bucket(100 * (place + 1), 100, rate) for place, rate in enumerate(rates)]
    replicas = [
        Replica(f"r{place}", f"hw{place % 2}", devices, cents / 100, tuple(served[: len(buckets)]))
        for place, (devices, cents, served) in enumerate(kinds)
    ]
    available = {} if there is None else {"hw0": there}
    least = cheapest_by_trying(buckets, replicas, available, slices=3)
    if math.isinf(least):
        with pytest.raises(RequestError):
            fleet_mix(buckets, replicas, available, slices=3)
        return
    mix = fleet_mix(buckets, replicas, available, slices=3)
    assert mix.usd_per_h == pytest.approx(least)
    assert mix.gap == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_never_costs_more_than_one_kind_and_serves_everything(data):
    buckets = [Bucket(100 * (i + 1), 100, data.draw(st.floats(0.1, 300))) for i in range(data.draw(st.integers(1, 6)))]
    rate = st.one_of(st.none(), st.floats(0.2, 40))
    replicas = [
        Replica(f"r{j}", f"hw{j}", data.draw(st.integers(1, 8)), data.draw(st.floats(0.2, 10)),
                tuple(data.draw(rate) for _ in buckets))
        for j in range(data.draw(st.integers(1, 5)))
    ]  # fmt: skip
    replicas.append(Replica("any", "any", 1, 9.0, (0.5,) * len(buckets)))
    mix = fleet_mix(buckets, replicas)
    assert mix.usd_per_h <= mix.best_single.usd_per_h + 1e-9
    assert mix.saved_share >= -1e-9
    assert mix.usd_per_h == pytest.approx(sum(count.usd_per_h for count in mix.counts))
    for i in range(len(buckets)):
        assert sum(count.shares[i] for count in mix.counts) == pytest.approx(1)
    by_name = {replica.name: replica for replica in replicas}
    for count in mix.counts:
        load = sum(
            share * bucket.requests_per_s / by_name[count.replica].requests_per_s[i]
            for i, (share, bucket) in enumerate(zip(count.shares, buckets, strict=True))
            if share
        )
        assert load <= count.replicas + 1e-4
        assert count.devices == count.replicas * by_name[count.replica].devices


def test_short_requests_go_to_small_devices_and_long_ones_to_large():
    mix = fleet_mix([SHORT, LONG], [L4, H100])
    counts = {count.replica: count for count in mix.counts}
    assert counts["L4"].shares[1] == 0
    assert counts["H100"].shares[1] == 1
    assert mix.best_single.replica == "H100"
    assert mix.saved_share > 0.2
    assert mix.gap == 0


def test_devices_of_one_kind_are_shared_by_all_replicas_on_them():
    mix = fleet_mix([SHORT, LONG], [H100, PAIR], {"H100": 6})
    assert sum(count.devices for count in mix.counts) <= 6
    with pytest.raises(RequestError, match=r"leave \d+% of the requests"):
        fleet_mix([SHORT, LONG], [H100, PAIR], {"H100": 3})


def test_kinds_on_the_same_hardware_share_what_there_is_of_it():
    buckets = [Bucket(100, 100, 2.0), Bucket(200, 100, 2.0)]
    replicas = [
        Replica("one", "H100", 1, 1.0, (1.0, None)),
        Replica("other", "H100", 1, 1.0, (None, 1.0)),
        Replica("dear", "H200", 1, 2.0, (1.0, 1.0)),
    ]
    mix = fleet_mix(buckets, replicas, {"H100": 3}, slices=2)
    assert {count.hardware: count.usd_per_h for count in mix.counts if count.hardware == "H200"} == {"H200": 2.0}
    assert mix.usd_per_h == 5.0


def test_what_fits_nowhere_is_named():
    with pytest.raises(RequestError) as refused:
        fleet_mix([SHORT, LONG], [L4, replace(L4, name="L4 x4", devices=4)])
    assert "16000 in, 400 out" in refused.value.message
    assert "L4 x4" in refused.value.hint


def test_too_few_devices_name_the_bucket_left_over():
    with pytest.raises(RequestError) as refused:
        fleet_mix([SHORT, LONG], [L4, H100], {"H100": 1})
    assert "16000 in, 400 out unserved" in refused.value.message
    with pytest.raises(RequestError, match="unserved"):
        fleet_mix([SHORT, LONG], [L4, H100], {"L4": 0, "H100": 0})


def test_slices_too_coarse_to_fit_are_said_to_be():
    buckets = [Bucket(100, 100, 3.0)]
    replicas = [Replica("a", "a", 1, 1.0, (1.0,)), Replica("b", "b", 1, 1.0, (1.0,))]
    with pytest.raises(RequestError, match="cut finer than into 1 slices"):
        fleet_mix(buckets, replicas, {"a": 2, "b": 1}, slices=1)
    assert fleet_mix(buckets, replicas, {"a": 2, "b": 1}, slices=3).usd_per_h == 3.0


def test_room_to_spare_takes_more_replicas():
    tight, loose = (fleet_mix([SHORT, LONG], [L4, H100], target_utilisation=share) for share in (1.0, 0.6))
    assert loose.usd_per_h > tight.usd_per_h
    assert all(count.load <= 1 for count in loose.counts)


def test_finer_slices_never_cost_more():
    usd = [fleet_mix([SHORT, LONG], [L4, H100, PAIR], slices=slices).usd_per_h for slices in (1, 2, 4, 8, 16)]
    assert usd == sorted(usd, reverse=True)


def test_a_mix_of_two_beats_either_alone():
    buckets = [Bucket(size, 100, 4.0) for size in (100, 1000, 4000)]
    small = Replica("small", "small", 1, 1.0, (5.0, 2.5, 0.5))
    large = Replica("large", "large", 1, 3.5, (20.0, 10.0, 8.0))
    mix = fleet_mix(buckets, [small, large], slices=4)
    assert mix.usd_per_h == pytest.approx(cheapest_by_trying(buckets, [small, large], {}, 4))
    assert {count.replica for count in mix.counts} == {"small", "large"}
    assert mix.best_single.usd_per_h == 7.0
    assert mix.usd_per_h < 7.0


def test_when_the_time_is_up_the_best_so_far_says_how_far_from_the_best_it_may_be():
    buckets = [Bucket(100 * (i + 1), 100, 7.3 + i) for i in range(12)]
    replicas = [
        Replica(f"r{j}", f"r{j}", 1, 1.0 + 0.37 * j, tuple(1.9 + (i * (j + 3) % 5) for i in range(12)))
        for j in range(8)
    ]
    hurried = fleet_mix(buckets, replicas, time_limit_s=1e-6)
    assert hurried.usd_per_h <= hurried.best_single.usd_per_h
    assert 0 < hurried.gap <= 1


@pytest.mark.parametrize(
    ("buckets", "replicas", "asked"),
    [
        ([], [L4], {}), ([SHORT], [], {}), ([SHORT], [L4], {}),
        ([replace(SHORT, requests_per_s=0), LONG], [H100], {}), ([SHORT, LONG], [replace(H100, usd_per_device_h=None)], {}),
        ([SHORT, LONG], [replace(H100, usd_per_device_h=-1)], {}), ([SHORT, LONG], [replace(H100, devices=0)], {}),
        ([SHORT, LONG], [replace(H100, requests_per_s=(0.0, 1.0))], {}),
        ([SHORT, LONG], [replace(H100, requests_per_s=(math.nan, 1.0))], {}),
        ([SHORT, LONG], [replace(H100, requests_per_s=(1e-9, 1.0))], {}),
        ([SHORT, LONG], [H100], {"available": {"H200": 4}}), ([SHORT, LONG], [H100], {"available": {"H100": -1}}),
        ([SHORT, LONG], [H100], {"target_utilisation": 0}), ([SHORT, LONG], [H100], {"target_utilisation": 1.5}),
        ([SHORT, LONG], [H100], {"slices": 0}), ([SHORT, LONG], [H100], {"time_limit_s": 0}),
    ],
)  # fmt: skip
def test_what_makes_no_fleet_is_refused(buckets, replicas, asked):
    with pytest.raises(RequestError) as refused:
        fleet_mix(buckets, replicas, **asked)
    assert refused.value.hint
