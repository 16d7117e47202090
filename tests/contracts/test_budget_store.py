"""Every budget store: never lets more be held than a limit allows, refuses nothing that fits, and loses no amount."""

import asyncio
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from farthing.advisor.virtual_time import VirtualLoop
from farthing.budgets.cells import KEPT_SLICES
from farthing.errors import StoreError
from farthing.ports import LEASE_SECONDS, BudgetStore
from farthing.schema import Balance, Claim, Hold, Resolution, Verdict
from farthing.stores.memory_budgets import MemoryBudgets
from farthing.stores.sqlite_budgets import SqliteBudgets

ROUNDS = int(os.environ.get("FARTHING_TEST_ROUNDS", "1"))
"""How many times the usual number of examples the store is put through."""
NOW = 1_790_000_000
WIDTH = 300
LARGE = 9 * 10**18


class Place:
    """Where a store is kept, and who opened it; run what it does on one event loop."""

    def __init__(self, module: str, name: str, *address: object) -> None:
        self.module, self.name, self.address = module, name, address
        self.run: Callable[[Coroutine[Any, Any, Any]], Any]
        self._stores: list[BudgetStore] = []

    def __call__(self, owner: str) -> BudgetStore:
        """The store as another owner sees it."""
        if not self.address:
            store = MemoryBudgets.sharing(self._stores[0], owner) if self._stores else MemoryBudgets(owner)
        else:
            store = getattr(import_module(self.module), self.name)(*self.address, owner)
        self._stores.append(store)
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


def fixture_of(request: pytest.FixtureRequest, module: str, name: str) -> Any:
    """The address of an empty database, where its adapter and its server are there."""
    pytest.importorskip(f"farthing.stores.{module}")
    try:
        return request.getfixturevalue(name)
    except pytest.FixtureLookupError:
        pytest.skip(f"needs the fixture {name}")


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
def open_as(request: pytest.FixtureRequest, tmp_path) -> Iterator[Place]:
    """Opens the store for an owner; all it opens share what is counted."""
    if request.param == "memory":
        place = Place("farthing.stores.memory_budgets", "MemoryBudgets")
    elif request.param == "sqlite":
        place = Place("farthing.stores.sqlite_budgets", "SqliteBudgets", tmp_path / "some dir#1" / "budgets.sqlite")
    elif request.param == "redis":
        url = fixture_of(request, "redis_budgets", "redis_url")
        place = Place("farthing.stores.redis_budgets", "RedisBudgets", url)
    else:
        dsn = fixture_of(request, "postgres_budgets", "postgres_dsn")
        place = Place("farthing.stores.postgres_budgets", "PostgresBudgets", dsn)
    with asyncio.Runner() as runner:
        place.run = runner.run
        yield place
        runner.run(place.close())


@pytest.fixture
def store(open_as: Place) -> BudgetStore:
    return open_as("me")


@pytest.fixture
def run(open_as: Place) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    return open_as.run


@pytest.fixture
def lease(open_as: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how long an owner may be silent."""
    return lambda seconds: monkeypatch.setattr(f"{open_as.module}.LEASE_SECONDS", seconds)


def money(
    amount: int, limit: int | None = 100, account: str = "b", slice_: int = NOW, oldest: int | None = None
) -> Claim:
    return Claim(account, "usd", slice_, slice_ if oldest is None else oldest, amount, limit)


def rate(amount: int = 1, limit: int | None = 2, slice_: int = NOW) -> Claim:
    return Claim("r", "calls", slice_, slice_ - 12 * WIDTH, amount, limit)


def at_once(limit: int | None = 2) -> Claim:
    return Claim("c", "concurrent", 0, 0, 1, limit)


def hold(ident: str, *claims: Claim, entry: bytes = b"") -> Hold:
    return Hold(ident, claims, entry)


def granted(verdicts: list[Verdict]) -> list[bool]:
    return [verdict.granted for verdict in verdicts]


# -- examples of each rule


def test_what_is_held_counts_and_what_does_not_fit_is_refused_whole(store, run):
    async def story() -> None:
        await store.seed("b", {NOW: 40})
        verdicts = await store.apply(
            [], [hold("1", money(50), rate()), hold("2", rate(), money(20)), hold("3", money(10))]
        )
        assert verdicts == [
            Verdict(True, (Balance(40), Balance())),
            Verdict(False, (Balance(0, 1), Balance(40, 50)), 1),
            Verdict(True, (Balance(40, 50),)),
        ]
        assert await store.balance("b", NOW) == Balance(40, 60)
        assert await store.balance("r", 0) == Balance(0, 1)

    run(story())


def test_the_first_claim_that_does_not_fit_is_named(store, run):
    async def story() -> None:
        await store.seed("b", {})
        (verdict,) = await store.apply([], [hold("1", at_once(), rate(3), money(101))])
        assert (verdict.granted, verdict.short) == (False, 1)

    run(story())


def test_what_only_warns_is_never_refused(store, run):
    async def story() -> None:
        await store.seed("b", {NOW: 99})
        assert granted(await store.apply([], [hold("1", money(50, limit=None)), hold("2", money(50, limit=None))])) == [
            True,
            True,
        ]
        assert granted(await store.apply([], [hold("3", money(1))])) == [False]
        assert await store.balance("b", NOW) == Balance(99, 100)

    run(story())


def test_a_resolution_posts_what_was_used_and_releases_the_rest(store, run):
    async def story() -> None:
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60), rate(), at_once(), Claim("t", "tokens", NOW, NOW, 1000, 5000))])
        assert await store.apply([Resolution("1", 7, 650, 1)], []) == []
        assert await store.balance("b", NOW) == Balance(7)
        assert await store.balance("r", 0) == Balance(1)
        assert await store.balance("c", 0) == Balance()
        assert await store.balance("t", NOW) == Balance(650)

    run(story())


def test_what_is_not_known_posts_what_was_held(store, run):
    async def story() -> None:
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60), Claim("t", "tokens", NOW, NOW, 1000, 5000))])
        await store.apply([Resolution("1", None, None, 1)], [])
        assert await store.balance("b", NOW) == Balance(60)
        assert await store.balance("t", NOW) == Balance(1000)

    run(story())


def test_more_than_was_held_is_posted_as_it_is(store, run):
    async def story() -> None:
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60))])
        await store.apply([Resolution("1", 130)], [])
        assert await store.balance("b", NOW) == Balance(130)
        assert granted(await store.apply([], [hold("2", money(0)), hold("3", money(0, limit=130))])) == [False, True]

    run(story())


def test_resolutions_come_first_so_that_what_they_free_can_be_held(store, run):
    async def story() -> None:
        await store.seed("b", {})
        await store.apply([], [hold("1", money(100))])
        assert granted(await store.apply([Resolution("1", 30)], [hold("2", money(70)), hold("3", money(1))])) == [
            True,
            False,
        ]

    run(story())


def test_a_resolution_repeated_or_of_nothing_changes_nothing(store, run):
    async def story() -> None:
        await store.seed("b", {})
        await store.apply([Resolution("nothing", 5)], [hold("1", money(60))])
        await store.apply([Resolution("1", 7), Resolution("1", 7)], [])
        await store.apply([Resolution("1", 7)], [])
        assert await store.balance("b", NOW) == Balance(7)

    run(story())


def test_a_hold_repeated_is_granted_and_held_once(open_as, store, run):
    async def story() -> None:
        await store.seed("b", {})
        twice = await store.apply([], [hold("1", money(60)), hold("1", money(60))])
        assert twice == [Verdict(True, (Balance(),)), Verdict(True, (Balance(0, 60),))]
        assert granted(await store.apply([], [hold("1", money(60))])) == [True]
        assert await store.balance("b", NOW) == Balance(0, 60)
        assert await store.orphans() == [hold("1", money(60))]

    run(story())


def test_an_id_can_be_held_again_once_it_is_resolved(store, run):
    async def story() -> None:
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60))])
        assert granted(await store.apply([Resolution("1", 10)], [hold("1", money(20))])) == [True]
        assert await store.balance("b", NOW) == Balance(10, 20)
        await store.apply([Resolution("1", 5)], [])
        assert await store.balance("b", NOW) == Balance(15)

    run(story())


def test_money_is_not_held_from_accounts_never_seen_until_they_are_seeded(store, run):
    async def story() -> None:
        claims = (money(1, account="x"), rate(), money(1, account="b"), money(1, account="y", limit=None))
        await store.seed("b", {})
        (verdict,) = await store.apply([], [hold("1", *claims)])
        assert (verdict.granted, verdict.short, verdict.unknown) == (False, -1, ("x", "y"))
        assert await store.balance("b", 0) == await store.balance("r", 0) == Balance()
        assert await store.orphans() == []
        await store.seed("x", {NOW: 100})
        await store.seed("y", {})
        (verdict,) = await store.apply([], [hold("1", *claims)])
        assert (verdict.granted, verdict.short, verdict.unknown) == (False, 0, ())

    run(story())


def test_an_account_is_seeded_once(open_as, store, run):
    async def story() -> None:
        await store.seed("b", {NOW - WIDTH: 5, NOW: 40})
        await store.apply([], [hold("1", money(10))])
        await store.seed("b", {NOW: 1000})
        await open_as("other").seed("b", {NOW: 1000})
        assert await store.balance("b", NOW - WIDTH) == Balance(45, 10)

    run(story())


def test_every_account_is_named_once(open_as, store, run):
    async def story() -> None:
        assert await store.accounts() == []
        await store.seed("b", {})
        await store.seed("s", {NOW: 5, NOW + WIDTH: 5})
        await store.apply([], [hold("1", money(1), rate(), at_once()), hold("2", money(1, account="never"))])
        await store.apply([Resolution("1")], [hold("3", rate(slice_=NOW + WIDTH))])
        assert sorted(await open_as("other").accounts()) == ["b", "c", "r", "s"]

    run(story())


def test_only_what_is_recent_enough_counts(store, run):
    async def story() -> None:
        slices = {NOW - back * WIDTH: 10 for back in range(14)}
        await store.seed("b", slices)
        oldest = NOW - 12 * WIDTH
        assert granted(await store.apply([], [hold("1", money(1, 130, oldest=oldest))])) == [False]
        (verdict,) = await store.apply([], [hold("2", money(10, 130, "b", NOW + WIDTH, oldest + WIDTH))])
        assert verdict == Verdict(True, (Balance(120),))
        assert await store.balance("b", 0) == Balance(140, 10)
        assert await store.balance("b", NOW + 1) == Balance(0, 10)
        assert await store.balance("never", 0) == Balance()

    run(story())


def test_what_arrived_in_a_slice_is_posted_there_however_late(store, run):
    async def story() -> None:
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60, slice_=NOW - 7 * 86_400))])
        await store.apply([Resolution("1", 60)], [hold("2", money(100))])
        assert await store.balance("b", NOW) == Balance(0, 100)
        assert await store.balance("b", NOW - 7 * 86_400) == Balance(60, 100)

    run(story())


def test_names_and_entries_come_back_as_they_were(open_as, run):
    async def story() -> None:
        store = open_as("o'w\"n\\er é")
        odd = hold('é"\n\\1', money(1, None, account='a/%2F"\\é\n{x}:y'), at_once(None), entry=bytes(range(256)))
        await store.seed(odd.claims[0].account, {NOW: 3})
        assert granted(await store.apply([], [odd, hold("2", rate())])) == [True, True]
        assert sorted(await open_as("o'w\"n\\er é").orphans(), key=lambda one: -len(one.claims)) == [
            odd,
            hold("2", rate()),
        ]
        await store.apply([Resolution(odd.id, None)], [])
        assert await store.balance(odd.claims[0].account, NOW) == Balance(4)

    run(story())


def test_large_amounts_are_exact(store, run):
    async def story() -> None:
        await store.seed("b", {NOW: 2**53 + 1})
        room = LARGE - 2**53 - 2
        verdicts = await store.apply(
            [], [hold("1", money(room, LARGE)), hold("2", money(2, LARGE)), hold("3", money(1, LARGE))]
        )
        assert granted(verdicts) == [True, False, True]
        assert verdicts[1].balances == (Balance(2**53 + 1, room),)
        await store.apply([Resolution("1", room - 1), Resolution("3", 1)], [])
        assert await store.balance("b", NOW) == Balance(LARGE - 1)
        assert granted(await store.apply([], [hold("4", money(2, LARGE)), hold("5", money(1, LARGE))])) == [False, True]

    run(story())


def test_slices_come_to_more_than_64_bits_together(store, run):
    async def story() -> None:
        await store.seed("b", {NOW: LARGE, NOW + WIDTH: LARGE})
        assert (await store.balance("b", NOW)).spent == 2 * LARGE
        assert granted(await store.apply([], [hold("1", money(1, LARGE)), hold("2", money(1, None))])) == [False, True]

    run(story())


def test_what_no_64_bits_hold_still_counts_as_too_much(store, run):
    async def story() -> None:
        await store.seed("b", {})
        for ident in ("1", "2"):
            assert granted(await store.apply([], [hold(ident, money(LARGE, None))])) == [True]
            await store.apply([Resolution(ident, None)], [])
        assert (await store.balance("b", NOW)).spent >= 2**63 - 1
        assert granted(await store.apply([], [hold("3", money(0, LARGE)), hold("4", money(1, None))])) == [False, True]

    run(story())


def test_a_seed_below_nothing_is_nothing(store, run):
    async def story() -> None:
        await store.seed("b", {NOW: -5, NOW + WIDTH: 7})
        assert await store.balance("b", NOW) == Balance(7)

    run(story())


def test_nothing_to_do_is_done(store, run):
    assert run(store.apply([], [])) == []
    assert run(store.apply([], [hold("1")])) == [Verdict(True)]
    assert run(store.apply([Resolution("1", 5)], [])) == []


# -- owners that die


def test_what_a_silent_owner_holds_expires_and_still_counts(open_as, lease, run):
    async def story() -> None:
        dead, live = open_as("dead"), open_as("live")
        await live.seed("b", {})
        await dead.beat()
        await dead.apply([], [hold("1", money(60), rate(), entry=b"{}")])
        await live.apply([], [hold("2", money(30))])
        await live.beat()
        assert await live.balance("b", NOW) == Balance(0, 90)
        lease(0.4)
        await asyncio.sleep(0.3)
        await live.beat()
        assert await live.balance("b", NOW) == Balance(0, 90)
        await asyncio.sleep(0.3)
        await live.beat()
        assert await live.balance("b", NOW) == Balance(0, 30, 60)
        assert await live.balance("r", 0) == Balance(0, 0, 1)
        assert granted(await live.apply([], [hold("3", money(11)), hold("4", money(10))])) == [False, True]
        await live.beat()
        assert await live.balance("b", NOW) == Balance(0, 40, 60)

    run(story())


def test_an_owner_that_returns_says_what_became_of_its_holds(open_as, lease, run):
    async def story() -> None:
        held = hold("1", money(60), rate(), entry=b'{"id":"1"}')
        dead, live = open_as("dead"), open_as("live")
        await live.seed("b", {})
        await dead.apply([], [held])
        await overtake(live, lease)
        returned = open_as("dead")
        assert await returned.orphans() == [held]
        assert await live.orphans() == []
        assert granted(await returned.apply([], [held])) == [True]
        assert await live.balance("b", NOW) == Balance(0, 0, 60)
        await returned.apply([Resolution("1", 25, 0, 1), Resolution("1", 25, 0, 1)], [])
        assert await live.balance("b", NOW) == Balance(25)
        assert await live.balance("r", 0) == Balance(1)
        assert await returned.orphans() == []

    run(story())


def test_attempts_under_way_end_with_their_owner(open_as, lease, run):
    async def story() -> None:
        dead, live = open_as("dead"), open_as("live")
        assert granted(await dead.apply([], [hold("1", at_once()), hold("2", at_once()), hold("3", at_once())])) == [
            True,
            True,
            False,
        ]
        await overtake(live, lease)
        assert await live.balance("c", 0) == Balance()
        assert granted(await live.apply([], [hold("4", at_once()), hold("5", at_once())])) == [True, True]
        await dead.apply([Resolution("1"), Resolution("2")], [])
        assert await live.balance("c", 0) == Balance(0, 2)

    run(story())


async def overtake(store: BudgetStore, lease: Callable[[float], None]) -> None:
    """Let all other owners be taken for dead."""
    lease(0.0)
    await asyncio.sleep(0.01)
    await store.beat()
    lease(20.0)


# -- many at once


@pytest.mark.parametrize("owners", [1, 3])
def test_many_tasks_never_overspend_nor_leave_room_unused(open_as, run, owners):
    async def story() -> None:
        stores = [open_as(f"owner{number}") for number in range(owners)]
        await stores[0].seed("b", {})

        async def attempt(number: int) -> bool:
            store = stores[number % owners]
            (verdict,) = await store.apply([], [hold(f"{number}", money(7, 350), at_once(None))])
            return verdict.granted

        won = await asyncio.gather(*(attempt(number) for number in range(200)))
        assert sum(won) == 50
        assert await stores[0].balance("b", NOW) == Balance(0, 350)
        used = {number: number % 8 for number, held in enumerate(won) if held}
        await asyncio.gather(
            *(stores[number % owners].apply([Resolution(f"{number}", amount)], []) for number, amount in used.items())
        )
        assert await stores[0].balance("b", NOW) == Balance(sum(used.values()))
        assert await stores[0].balance("c", 0) == Balance()

    run(story())


PROCESS = """
import asyncio, json, pathlib, random, sys
from importlib import import_module
from farthing.schema import Claim, Hold, Resolution

module, name, address, owner, amount, limit, slice_, share = sys.argv[1:]
kind = getattr(import_module(module), name)
dice = random.Random(owner)
claim = Claim("b", "usd", int(slice_), int(slice_), int(amount), int(limit))

async def main():
    store = kind(pathlib.Path(address) if "://" not in address else address, owner, 20.0)
    won = spent = 0
    async def call(number):
        nonlocal won, spent
        hold = Hold(f"{owner}.{number}", (claim,), b"{}")
        (verdict,) = await store.apply([], [hold])
        if verdict.granted:
            used = claim.amount if share == "all" else dice.randint(0, claim.amount)
            await asyncio.sleep(dice.random() / 100)
            await store.apply([Resolution(hold.id, used)], [])
            won, spent = won + 1, spent + used
    for start in range(0, 100, 10):
        await asyncio.gather(*(call(number) for number in range(start, start + 10)))
    await store.close()
    print(json.dumps([won, spent]))

asyncio.run(main())
"""


@pytest.mark.parametrize("share", ["all", "some"])
def test_many_processes_never_overspend(open_as, store, run, share):
    if not open_as.address:
        pytest.skip("one process")
    amount = 2**53 + 1
    run(store.seed("b", {}))
    arguments = [open_as.module, open_as.name, str(open_as.address[0])]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROCESS,
                *arguments,
                f"owner{number}",
                str(amount),
                str(50 * amount),
                str(NOW),
                share,
            ],
            stdout=subprocess.PIPE,
        )
        for number in range(4)
    ]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    won, spent = map(sum, zip(*results, strict=True))
    assert run(store.balance("b", NOW)) == Balance(spent)
    assert spent <= 50 * amount
    if share == "all":
        assert won == 50


# -- faults


def test_a_closed_store_says_so(open_as, store, run):
    run(store.seed("b", {}))
    run(store.close())
    run(store.close())
    for action in (
        lambda: store.apply([], [hold("1", money(1))]),
        lambda: store.seed("b", {}),
        lambda: store.balance("b", 0),
        store.accounts,
        store.beat,
        store.orphans,
    ):
        with pytest.raises(StoreError):
            run(action())
    assert run(open_as("other").balance("b", 0)) == Balance()


# -- whatever is done


class Naive:
    """A store by its definition: lists of all that was posted and is held, added up whenever asked."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.posted: list[tuple[str, int, int]] = []
        self.holds: dict[str, tuple[str, Hold]] = {}
        self.expired: set[str] = set()

    def balance(self, account: str, oldest: int, newest: int = 2**62) -> Balance:
        held = {False: 0, True: 0}
        for owner_and_hold in self.holds.values():
            for claim in owner_and_hold[1].claims:
                dead = owner_and_hold[1].id in self.expired
                if (
                    claim.account == account
                    and oldest <= claim.slice <= newest
                    and not (dead and claim.meter == "concurrent")
                ):
                    held[dead] += claim.amount
        spent = sum(amount for name, slice_, amount in self.posted if name == account and oldest <= slice_ <= newest)
        return Balance(spent, held[False], held[True])

    def apply(self, owner: str, resolutions: list[Resolution], holds: list[Hold]) -> list[Verdict]:
        for resolution in resolutions:
            found = self.holds.pop(resolution.id, None)
            self.expired.discard(resolution.id)
            if found is not None:
                self.posted += [(claim.account, claim.slice, resolution.used(claim)) for claim in found[1].claims]
        return [self.hold(owner, one) for one in holds]

    def hold(self, owner: str, one: Hold) -> Verdict:
        unknown = [claim.account for claim in one.claims if claim.meter == "usd" and claim.account not in self.known]
        if unknown:
            return Verdict(False, unknown=tuple(unknown))
        balances = tuple(self.balance(claim.account, claim.oldest) for claim in one.claims)
        if one.id in self.holds:
            return Verdict(True, balances)
        for place, (claim, balance) in enumerate(zip(one.claims, balances, strict=True)):
            if claim.limit is not None and balance.total + claim.amount > claim.limit:
                return Verdict(False, balances, place)
        self.holds[one.id] = owner, one
        return Verdict(True, balances)


OWNERS = ("ann", "bob", "cid")
METERS = {"month": "usd", "day": "usd", "soft": "usd", "tokens": "tokens", "calls": "calls", "once": "concurrent"}
ROLLING = ("day", "tokens", "calls")
PLACES = st.integers(0, 3)
"""What is done to holds: which of those made lately it is done to."""


class Model(RuleBasedStateMachine):
    """Whatever owners do, a store says what adding up all that was done says."""

    place: Place
    stores: dict[str, BudgetStore]
    lease: Callable[[float], None]
    numbers = itertools.count()

    @initialize(unit=st.sampled_from([1, 2**53 + 1, 10**16]), hard=st.integers(8, 30), honest=st.booleans())
    def begin(self, unit: int, hard: int, honest: bool) -> None:
        self.prefix = f"{next(self.numbers)}-"
        self.unit = unit
        self.limits = {"month": hard * unit, "day": 2 * hard * unit, "soft": None, "tokens": 40, "calls": 8, "once": 3}
        self.naive = Naive()
        self.step = 0
        self.ids: list[str] = []
        self.honest = honest
        """Whether nothing comes to more than was held for it."""

    @rule(
        account=st.sampled_from(("month", "day", "soft")), spent=st.dictionaries(PLACES, st.integers(0, 4), max_size=2)
    )
    def seed(self, account: str, spent: dict[int, int]) -> None:
        name = self.prefix + account
        slices = {self.slice(account, self.step - back): amount * self.unit for back, amount in spent.items()}
        self.run(self.stores["ann"].seed(name, slices))
        if name not in self.naive.known:
            self.naive.known.add(name)
            self.naive.posted += [(name, slice_, amount) for slice_, amount in slices.items()]

    @rule(data=st.data(), owner=st.sampled_from(OWNERS))
    def apply(self, data: st.DataObject, owner: str) -> None:
        resolutions = [self.some_resolution(data) for _ in range(data.draw(st.integers(0, 3)))]
        holds = [self.some_hold(data) for _ in range(data.draw(st.integers(0, 3)))]
        verdicts = self.run(self.stores[owner].apply(resolutions, holds))
        assert [settled(verdict) for verdict in verdicts] == [
            settled(verdict) for verdict in self.naive.apply(owner, resolutions, holds)
        ]

    @rule(steps=st.integers(1, 20))
    def time_passes(self, steps: int) -> None:
        self.step += steps

    @rule(owner=st.sampled_from(OWNERS))
    def beat(self, owner: str) -> None:
        self.run(self.stores[owner].beat())

    @rule(owner=st.sampled_from(OWNERS))
    def outlive(self, owner: str) -> None:
        self.run(overtake(self.stores[owner], self.lease))
        self.naive.expired |= {ident for ident, (other, _) in self.naive.holds.items() if other != owner}

    @rule(owner=st.sampled_from(OWNERS))
    def return_from_death(self, owner: str) -> None:
        found = self.run(self.stores[owner].orphans())
        assert {one.id: one for one in found} == {
            one.id: one for other, one in self.naive.holds.values() if other == owner
        }

    @invariant()
    def adds_up(self) -> None:
        asked = [
            (self.prefix + account, oldest)
            for account in METERS
            for oldest in {self.slice(account, self.step - back) for back in (0, 12, 14)}
        ]

        async def answers() -> list[Balance]:
            return await asyncio.gather(*(self.stores["bob"].balance(*each) for each in asked))

        assert self.run(answers()) == [self.naive.balance(*each) for each in asked]

    @invariant()
    def is_within_every_limit(self) -> None:
        for account, limit in self.limits.items() if self.honest else ():
            for step in range(self.step - 14, self.step + 1) if account in ROLLING else (0,):
                newest, oldest = self.slice(account, step), self.slice(account, step - 12)
                assert limit is None or self.naive.balance(self.prefix + account, oldest, newest).total <= limit

    def teardown(self) -> None:
        every = [Resolution(ident) for ident in self.naive.holds]
        self.run(self.stores["cid"].apply(every, []))
        self.naive.apply("cid", every, [])
        self.adds_up()
        for account in METERS:
            balance = self.run(self.stores["ann"].balance(self.prefix + account, 0))
            assert balance.held == balance.expired == 0

    def run(self, action: Coroutine[Any, Any, Any]) -> Any:
        return self.place.run(action)

    def slice(self, account: str, step: int) -> int:
        return NOW + step * WIDTH if account in ROLLING else NOW if account != "once" else 0

    def some_hold(self, data: st.DataObject) -> Hold:
        if self.ids and data.draw(st.integers(0, 4)) == 0:
            ident = data.draw(st.sampled_from(self.ids[-6:]))
            return self.naive.holds[ident][1] if ident in self.naive.holds else self.made(data, ident)
        self.ids.append(f"{self.prefix}{len(self.ids)}.1")
        return self.made(data, self.ids[-1])

    def made(self, data: st.DataObject, ident: str) -> Hold:
        step = self.step - data.draw(st.integers(0, 2))
        amounts = {"usd": data.draw(st.integers(0, 12)) * self.unit, "tokens": data.draw(st.integers(0, 20))}
        claims = [
            Claim(
                self.prefix + account, METERS[account], self.slice(account, step),
                self.slice(account, step - 12), amounts.get(METERS[account], 1), self.limits[account],
            )
            for account in data.draw(st.lists(st.sampled_from(sorted(METERS)), unique=True, max_size=4))
        ]  # fmt: skip
        return Hold(ident, tuple(claims), data.draw(st.binary(max_size=3)))

    def some_resolution(self, data: st.DataObject) -> Resolution:
        ident = data.draw(st.sampled_from([*self.ids[-8:], self.prefix + "never"]))
        usd, tokens = data.draw(st.none() | st.integers(0, 12)), data.draw(st.none() | st.integers(0, 20))
        usd = None if usd is None else usd * self.unit
        if self.honest and ident in self.naive.holds:
            held = {claim.meter: claim.amount for claim in self.naive.holds[ident][1].claims}
            usd = None if usd is None else min(usd, held.get("usd", 0))
            tokens = None if tokens is None else min(tokens, held.get("tokens", 0))
        return Resolution(ident, usd, tokens, data.draw(st.integers(0, 1)))


def settled(verdict: Verdict) -> Verdict:
    """A verdict without what it need not say."""
    if verdict.unknown:
        return Verdict(verdict.granted, (), verdict.short, tuple(sorted(set(verdict.unknown))))
    return verdict


def test_a_store_does_what_adding_up_everything_says(open_as, lease):
    async def opened() -> dict[str, BudgetStore]:
        return {owner: open_as(owner) for owner in OWNERS}

    Model.place, Model.stores, Model.lease = open_as, open_as.run(opened()), staticmethod(lease)
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=20 * ROUNDS, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# -- what only some stores have to withstand


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budgets.sqlite"


def test_a_damaged_file_is_refused_with_what_to_do(path):
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(StoreError, match=r"damaged.*delete the file"):
        SqliteBudgets(path, "me")


def test_a_file_damaged_while_in_use_fails_each_call_until_it_is_whole_again(path):
    async def story() -> None:
        store = SqliteBudgets(path, "me")
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60))])
        with sqlite3.connect(path) as db:
            db.execute("UPDATE holds SET claims = 'nonsense'")
        with pytest.raises(StoreError, match="budgets"):
            await store.apply([Resolution("1", 5)], [hold("2", money(10))])
        assert await store.balance("b", NOW) == Balance(0, 60)
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM holds")
        assert granted(await store.apply([], [hold("2", money(10))])) == [True]
        await store.close()

    asyncio.run(story())


def test_a_file_of_a_later_format_is_refused(path):
    asyncio.run(SqliteBudgets(path, "me").close())
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"format 99.*the version that wrote it"):
        SqliteBudgets(path, "me")


def test_a_file_that_is_locked_is_waited_for_and_then_given_up(path):
    async def story() -> None:
        store = SqliteBudgets(path, "me", deadline=0.3)
        await store.seed("b", {})
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        many = [store.apply([], [hold(f"{number}", money(1))]) for number in range(20)]
        failures = await asyncio.gather(*many, return_exceptions=True)
        assert [type(failure) for failure in failures] == [StoreError] * 20
        assert time.monotonic() - begun < 4
        blocker.execute("ROLLBACK")
        await asyncio.sleep(0.4)
        assert (await store.balance("b", NOW)).held <= 1, "what had not begun in time was done after all"
        assert granted(await store.apply([], [hold("late", money(1))])) == [True]
        await store.close()

    asyncio.run(story())


def test_nothing_goes_below_zero_where_cells_were_lost(path):
    async def story() -> None:
        store = SqliteBudgets(path, "me")
        await store.seed("b", {NOW: 50})
        await store.apply([], [hold("1", money(20)), hold("2", money(20))])
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM cells")
        await store.apply([Resolution("1", 5)], [])
        assert await store.balance("b", NOW) == Balance(5)
        await store.close()

    asyncio.run(story())


def test_many_processes_may_open_a_new_file_at_once(path):
    script = """
import asyncio, pathlib, sys, time
from farthing.stores.sqlite_budgets import SqliteBudgets

async def main():
    print("ready", flush=True)
    sys.stdin.read()
    store = SqliteBudgets(pathlib.Path(sys.argv[1]), sys.argv[2], 20.0)
    await store.seed(sys.argv[2], {0: 1})
    await store.close()

asyncio.run(main())
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, path, f"{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(30) for process in processes] == [0] * 6
    for process in processes:
        process.stdout.close()


def test_nothing_granted_is_lost_when_a_process_is_killed(path):
    script = """
import asyncio, pathlib, sys
from farthing.schema import Claim, Hold, Resolution
from farthing.stores.sqlite_budgets import SqliteBudgets

async def main():
    store = SqliteBudgets(pathlib.Path(sys.argv[1]), "dead")
    await store.seed("b", {0: 0})
    for number in range(100_000):
        await store.apply([Resolution(f"{number - 3}", 2)], [Hold(f"{number}", (Claim("b", "usd", 0, 0, 5, 10**9),), b"{}")])
        print(number, flush=True)

asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == b"60":
            process.kill()
    last = int(line)
    process.wait()
    process.stdout.close()

    async def story() -> None:
        store = SqliteBudgets(path, "dead")
        newest = max(int(one.id) for one in await store.orphans())
        assert newest in (last, last + 1)
        assert sorted(int(one.id) for one in await store.orphans()) == [newest - 2, newest - 1, newest]
        assert await store.balance("b", 0) == Balance(2 * (newest - 2), 15)
        await store.close()

    asyncio.run(story())


def test_slices_too_old_to_count_are_forgotten_unless_something_is_held(path):
    async def story() -> None:
        store = SqliteBudgets(path, "me")
        await store.apply([], [hold("kept", rate(1, None, NOW))])
        for step in range(1, 3 * KEPT_SLICES):
            await store.apply([Resolution(f"{step - 1}", 0, 0, 1)], [hold(f"{step}", rate(1, 99, NOW + step * WIDTH))])
        await store.beat()
        with sqlite3.connect(path) as db:
            slices = [row[0] for row in db.execute("SELECT slice FROM cells WHERE account = 'r' ORDER BY slice")]
        assert slices == [NOW, *(NOW + step * WIDTH for step in range(2 * KEPT_SLICES, 3 * KEPT_SLICES))]
        await store.close()

    asyncio.run(story())


def test_accounts_nobody_uses_any_more_are_forgotten_but_not_what_a_lifetime_counts(path):
    async def story() -> None:
        store, now = SqliteBudgets(path, "me"), int(time.time())
        await store.seed("old", {now - 63 * 86_400: 5})
        await store.seed("recent", {now - 61 * 86_400: 5})
        await store.seed("ever", {0: 5})
        await store.beat()
        assert [await store.balance(name, 0) for name in ("old", "recent", "ever")] == [
            Balance(),
            Balance(5),
            Balance(5),
        ]
        assert granted(await store.apply([], [hold("1", money(1, account="old"))])) == [True]
        await store.close()

    asyncio.run(story())


def test_memory_stays_bounded_however_long_it_counts():
    async def story() -> None:
        store = MemoryBudgets()
        await store.apply([], [hold("kept", rate(1, None, NOW - WIDTH))])
        for step in range(500):
            await store.apply([Resolution(f"{step - 1}", 0, 0, 1)], [hold(f"{step}", rate(1, 99, NOW + step * WIDTH))])
        assert await store.balance("r", 0) == Balance(KEPT_SLICES - 1, 2)
        assert granted(await store.apply([], [hold("x", rate(1, 12, NOW + 500 * WIDTH))])) == [False]

    asyncio.run(story())


def test_memory_counts_leases_in_virtual_time():
    async def story() -> list[Balance]:
        dead = MemoryBudgets("dead")
        live = MemoryBudgets.sharing(dead, "live")
        await dead.apply([], [hold("1", rate())])
        balances = []
        for seconds in (LEASE_SECONDS - 1, 2):
            await asyncio.sleep(seconds)
            await live.beat()
            balances.append(await live.balance("r", 0))
        return balances

    assert VirtualLoop().run_until_complete(story()) == [Balance(0, 1), Balance(0, 0, 1)]
