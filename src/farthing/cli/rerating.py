"""Charging a ledger's attempts again, by the editions of the price book that are kept beside it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec

from farthing.cli.ledgers import append, ledger_of
from farthing.config import Settings
from farthing.ledger.corrections import Settled, correct
from farthing.ledger.rerate import Rerated, rerate
from farthing.ports import LedgerStore
from farthing.pricing import PriceBook
from farthing.stores.price_files import PriceArchive, current_book

OWN = "own"
"""The edition that each attempt was charged by."""
CURRENT = "current"
"""The edition that new calls are charged by."""
MOST_NAMED = 10


class Change(msgspec.Struct):
    """What the attempts of one model cost, in pico-dollars, as far as they would cost another amount."""

    before: int = 0
    after: int = 0


class Rerating(msgspec.Struct):
    """How many attempts were charged again, and with what difference. Money is in pico-dollars.

    `reproduced` came to the same amount by their own edition; the ids of the first few others are in `left_alone`.
    `changed` would cost another amount by `edition`.
    """

    edition: str
    attempts: int = 0
    reproduced: int = 0
    changed: int = 0
    by_model: dict[str, Change] = msgspec.field(default_factory=dict)
    left_alone: list[str] = msgspec.field(default_factory=list)
    applied: bool = False


def rerated(settings: Settings, edition: str, apply: bool) -> Rerating:
    """Charge every metered attempt again; `apply` enters what differs as corrections.

    Raises PriceError when an edition is not kept, LedgerError when there is no ledger or corrections cannot be entered.
    """
    archive = PriceArchive(Path(settings.ledger.path) / "prices")
    kept = cache(archive.edition)
    if edition == CURRENT:
        book = current_book(settings.prices.overrides)
        archive.keep(book)
        edition = book.version
    with ledger_of(settings) as ledger:
        rerating, changed = _compare(ledger, edition, kept)
    if apply and changed:
        append(settings, [correct(new.settled, new.charge, f"edition {edition}") for new in changed])
        rerating.applied = True
    return rerating


def _compare(ledger: LedgerStore, edition: str, kept: Callable[[str], PriceBook]) -> tuple[Rerating, list[Rerated]]:
    def own(settled: Settled) -> PriceBook:
        return kept(settled.price_version)

    def other(settled: Settled) -> PriceBook:
        return kept(settled.price_version if edition == OWN else edition)

    rerating, changed = Rerating(edition), []
    for again, new in zip(rerate(ledger.entries(), own), rerate(ledger.entries(), other), strict=True):
        rerating.attempts += 1
        if again.charge.amount != again.settled.cost:
            if len(rerating.left_alone) < MOST_NAMED:
                rerating.left_alone.append(again.settled.entry.id)
            continue
        rerating.reproduced += 1
        if new.changed:
            rerating.changed += 1
            changed.append(new)
            change = rerating.by_model.setdefault(new.settled.entry.served or new.settled.entry.model, Change())
            change.before += new.settled.cost or 0
            change.after += new.charge.amount or 0
    return rerating, changed
