"""Corrections and re-rating: amounts come to exactly what the price book says, however often they are corrected."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from farthing.ledger.corrections import correct, settle
from farthing.ledger.rerate import rerate
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify
from farthing.pricing import PriceBook, charge
from farthing.schema import Charge, Entry, Usage
from farthing.stores.price_files import packaged_book

AMOUNT = st.integers(0, 10**15)


@st.composite
def charges(draw, known=False):
    listed = draw(st.none() | AMOUNT)
    amount = draw(AMOUNT if known else st.none() | AMOUNT)
    if amount is None or listed is None:
        return Charge(amount, listed, draw(st.sampled_from(["1", "2", "3"])))
    cache = draw(st.integers(-(10**9), 10**9))
    saved = (("provider_cache", cache), ("tier", listed - amount - cache))
    return Charge(amount, listed, draw(st.sampled_from(["1", "2", "3"])), tuple(s for s in saved if s[1]))


def bought(price: Charge) -> Entry:
    return Entry(
        id="a.1", group="a", attempt=1, at=7, endpoint="chat", model="m", provider="openai", usage=Usage(input=5),
        usage_source="provider", cost=price.amount, list_cost=price.list_amount, saved=price.saved,
        missing_prices=price.missing, price_version=price.price_version, status=200, latency=9,
    )  # fmt: skip


@given(charges(), st.lists(charges(known=True), max_size=4))
def test_an_entry_and_its_corrections_come_to_the_last_charge(first, later):
    entries = [bought(first)]
    for price in later:
        (settled,) = settle(entries)
        entries.append(correct(settled, price, "edition"))
    (settled,) = settle(entries)
    last = [first, *later][-1]
    assert settled.cost == last.amount
    assert settled.price_version == last.price_version
    if last.list_amount is not None:
        assert settled.list_cost == last.list_amount
        assert dict(settled.saved) == dict(last.saved)
    assert list(verify(entries)) == []


@given(charges(), st.lists(charges(known=True), max_size=4))
def test_the_rollup_of_a_corrected_entry_is_that_of_one_charged_so_at_first(first, later):
    entries = [bought(first)]
    for price in later:
        (settled,) = settle(entries)
        entries.append(correct(settled, price, "edition"))
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    (rollup,) = tally.rollups()
    assert rollup.sums.cost == ([first, *later][-1].amount or 0)
    assert rollup.sums.unpriced == (first.amount is None and not later)
    assert (rollup.sums.calls, rollup.sums.attempts, rollup.sums.usage.input) == (1, 1, 5)


def test_corrections_go_with_what_they_correct_and_stray_ones_are_left_out():
    one, other = bought(Charge(5, 5, "1")), msgspec.structs.replace(bought(Charge(6, 6, "1")), id="b.1", group="b")
    (settled,) = settle([one])
    correction = correct(settled, Charge(4, 4, "2"), "edition")
    stray = msgspec.structs.replace(correction, at=8)
    assert [(s.entry.id, s.cost) for s in settle([one, other, correction, stray])] == [("a.1", 4), ("b.1", 6)]


def book(price: int) -> PriceBook:
    row = f'[[price]]\nprovider = "vllm"\nmodel = "own"\ninput = {price}\noutput = 8\n'
    return packaged_book().with_overrides(row, "prices.toml")


@given(st.builds(Usage, input=st.integers(0, 10**7), output=st.integers(0, 10**7)), st.integers(0, 5))
def test_the_edition_of_an_entry_reproduces_it_and_another_tells_the_difference(usage, price):
    used = book(2)
    first = charge(used, provider="vllm", model="own", tier=None, usage=usage, at=7)
    entry = msgspec.structs.replace(bought(first), model="asked", served="own", provider="vllm", usage=usage)
    editions = {used.version: used}
    (again,) = rerate([entry], lambda settled: editions[settled.price_version])
    assert (again.charge, again.difference, again.changed) == (first, 0, False)
    (other,) = rerate([entry], lambda settled: book(price))
    assert other.difference == (price - 2) * 10**6 * usage.input
    assert other.changed == (other.difference != 0)


def test_what_no_edition_knows_is_not_a_difference():
    entry = msgspec.structs.replace(bought(Charge(5, 5, "1")), model="no-such-model", provider="vllm")
    (again,) = rerate([entry], lambda settled: packaged_book())
    assert (again.charge.amount, again.difference, again.changed) == (None, None, False)


def test_an_entry_without_a_price_gets_its_first():
    entry = msgspec.structs.replace(bought(Charge(None, None, "1")), model="own", provider="vllm")
    (again,) = rerate([entry], lambda settled: book(2))
    assert (again.difference, again.changed) == (None, True)
    correction = correct(again.settled, again.charge, "first price")
    assert correction.cost == 5 * 2 * 10**6
    (after,) = rerate([entry, correction], lambda settled: book(2))
    assert (after.difference, after.changed) == (0, False)


def test_what_was_not_bought_by_the_token_is_left_out():
    hit = msgspec.structs.replace(bought(Charge(5, 5, "1")), id="a.0", attempt=0)
    unread = msgspec.structs.replace(bought(Charge(None, None, "1")), usage=None)
    assert list(rerate([hit, unread], lambda settled: packaged_book())) == []
