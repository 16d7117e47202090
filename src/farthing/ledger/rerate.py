"""Re-rating: what the same usage costs by another edition of the price book, or by the same one again."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from farthing.ledger.corrections import Settled, settle
from farthing.pricing import PriceBook, charge
from farthing.schema import Charge, Entry


class Rerated(msgspec.Struct, frozen=True):
    """An entry with its corrections, and its charge by another edition."""

    settled: Settled
    charge: Charge

    @property
    def difference(self) -> int | None:
        """Pico-dollars that the entry would cost more; `None` when either amount is unknown."""
        if self.charge.amount is None or self.settled.cost is None:
            return None
        return self.charge.amount - self.settled.cost

    @property
    def changed(self) -> bool:
        """Whether the edition knows the amount, and it is another one."""
        return self.charge.amount is not None and self.charge.amount != self.settled.cost


def rerate(entries: Iterable[Entry], book_of: Callable[[Settled], PriceBook]) -> Iterator[Rerated]:
    """Charge the metered attempts among `entries`, by arrival, again.

    `book_of` chooses the edition for each; the one of `settled.price_version` reproduces the amounts. What was not
    bought by the token, such as a cache hit, is left out; so is usage that was never read.
    """
    for settled in settle(entries):
        entry = settled.entry
        if entry.attempt and entry.usage is not None and settled.price_version:
            again = charge(
                book_of(settled),
                provider=entry.provider,
                model=entry.served or entry.model,
                tier=entry.tier,
                usage=entry.usage,
                at=entry.at,
            )
            yield Rerated(settled, again)
