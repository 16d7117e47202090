"""Money: integer pico-dollars, and how they are shown."""

from decimal import Decimal

import msgspec

PICO_PER_USD = 10**12
"""1 USD in pico-dollars: the finest published price, 0.0025 USD per million tokens, is 2,500 a token."""


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What one attempt cost.

    `amount` is in pico-dollars, `None` when any used meter has no price (unknown is never zero);
    `list_amount` is what the same tokens cost at the standard tier with no provider cache;
    `saved` splits `list_amount - amount` by lever (a negative saving is a premium paid);
    `missing` names the used meters without a price; `price_version` is the edition of the price book.
    """

    amount: int | None
    list_amount: int | None
    price_version: str
    saved: tuple[tuple[str, int], ...] = ()
    missing: tuple[str, ...] = ()


def usd(amount: int | None, places: int | None = None) -> str:
    """Show pico-dollars as dollars, exactly unless `places` asks for rounding; unknown is "unknown".

    >>> usd(31_250_000), usd(12_345_678_900_000, 2), usd(None)
    ('$0.00003125', '$12.35', 'unknown')
    """
    if amount is None:
        return "unknown"
    value = Decimal(amount) / PICO_PER_USD
    text = f"{value:,.{places}f}" if places is not None else f"{value:,f}"
    if places is None and "." in text:
        whole, fraction = text.split(".")
        text = f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"
