"""Verify: a sound ledger passes, and each broken rule is told."""

import msgspec
import pytest

from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify, verify_rollups
from farthing.schema import Entry, Usage


def entry(number: int = 1, **changes) -> Entry:
    fields = {
        "id": f"a.{number}", "group": "a", "attempt": number, "at": 5, "endpoint": "chat", "model": "m",
        "usage": Usage(input=10, output=2), "cost": 70, "list_cost": 100, "saved": (("tier", 30),),
    }  # fmt: skip
    return Entry(**{**fields, **changes})


SOUND = [
    entry(1, superseded=True),
    entry(2),
    Entry(
        id="b.0",
        group="b",
        attempt=0,
        at=6,
        endpoint="chat",
        model="m",
        cost=0,
        list_cost=5,
        saved=(("exact_cache", 5),),
    ),
    Entry(id="c.1", group="c", attempt=1, at=7, endpoint="chat", model="m", cost=None, list_cost=None),
    Entry(id="c.1~1", group="c", attempt=1, at=7, endpoint="chat", model="m", cost=3, list_cost=3, corrects="c.1"),
]


def test_a_sound_ledger_has_nothing_to_tell():
    assert list(verify(SOUND)) == []


BROKEN = {
    "is there twice": [entry(1), entry(1)],
    "should be a.1": [entry(1, id="x.1")],
    "negative cost": [entry(1, cost=-1, list_cost=29)],
    "less than nothing": [entry(1, usage=Usage(input=-1))],
    "levers account for 30": [entry(1, cost=71)],
    "levers account for 31": [entry(1, saved=(("tier", 30), ("exact_cache", 1)))],
    "attempts 1, 3": [entry(1, superseded=True), entry(3)],
    "attempts 0, 1": [entry(0, superseded=True), entry(1)],
    "one answer": [entry(1), entry(2)],
    "one answer, ": [entry(1, superseded=True)],
    "does not come before": [entry(1), entry(1, id="z.1~1", corrects="z.1", cost=0, list_cost=0, saved=())],
    "levers account for 20": [
        entry(1),
        entry(1, id="a.1~1", corrects="a.1", cost=0, list_cost=0, saved=(("tier", -10),)),
    ],
}


@pytest.mark.parametrize("told", BROKEN)
def test_a_broken_rule_is_told(told):
    problems = list(verify(BROKEN[told]))
    assert any(told in problem for problem in problems), problems


def test_an_entry_that_is_there_twice_is_told_once():
    assert list(verify([entry(1), entry(1)])) == ["Entry a.1 is there twice."]


def test_entries_of_other_instants_are_judged_apart():
    assert list(verify([entry(1, superseded=True), entry(2, at=6)])) != []


def test_rollups_that_are_the_sums_of_their_entries_are_sound():
    tally = Tally()
    for one in SOUND:
        tally.add(one)
    assert list(verify_rollups(SOUND, tally.rollups())) == []


def test_a_rollup_that_lost_or_gained_an_entry_is_told():
    tally = Tally()
    for one in SOUND:
        tally.add(one)
    rollups = tally.rollups()
    assert len(list(verify_rollups(SOUND[1:], rollups))) == 1
    assert len(list(verify_rollups(SOUND, rollups[1:]))) == 1
    altered = [msgspec.structs.replace(rollups[0], sums=msgspec.structs.replace(rollups[0].sums, cost=1)), *rollups[1:]]
    assert len(list(verify_rollups(SOUND, altered))) == 1
