"""Figures as people read them."""

from farthing.schema import PICO_PER_USD, usd

_CENT = PICO_PER_USD // 100
_LEAST = PICO_PER_USD // 10**6


def dollars(amount: int | None) -> str:
    """Pico-dollars, rounded the less the smaller they are.

    >>> dollars(123_456_789_000_000), dollars(1_056_789_000_000), dollars(56_789_000), dollars(20_000), dollars(None)
    ('$123.46', '$1.0568', '$0.000057', '<$0.000001', 'unknown')
    """
    if amount is None:
        return "unknown"
    if 0 < amount < _LEAST:
        return f"<{usd(_LEAST, 6)}"
    places = next((places for cents, places in ((10_000, 2), (10, 4)) if abs(amount) >= cents * _CENT), 6)
    return usd(amount, places) if amount else "$0"


def at_least(amount: int | None, unpriced: int) -> str:
    """An amount to which `unpriced` entries without a known price would add.

    >>> at_least(2 * 10**12, 0), at_least(2 * 10**12, 3), at_least(0, 3)
    ('$2.0000', '$2.0000+', 'unknown')
    """
    if not unpriced:
        return dollars(amount)
    return f"{dollars(amount)}+" if amount else "unknown"


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "call"), counted(1200, "call")
    ('1 call', '1,200 calls')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def share(part: int, whole: int) -> str:
    """A part of a whole; nothing of nothing.

    >>> share(1, 3), share(1, 0)
    ('33.3 %', '')
    """
    return f"{100 * part / whole:.1f} %" if whole else ""


def percent(ratio: float | None) -> str:
    """A ratio that may be unknown.

    >>> percent(0.25), percent(None)
    ('25.0 %', '-')
    """
    return "-" if ratio is None else f"{100 * ratio:.1f} %"


def growth(ratio: float | None) -> str:
    """A change since the week before, when there is one to compare with.

    >>> growth(0.125), growth(None)
    ('+12.5 % on the week before', '')
    """
    return "" if ratio is None else f"{100 * ratio:+.1f} % on the week before"


def duration(microseconds: float | None) -> str:
    """A duration that may be unknown.

    >>> duration(140.2), duration(1_880.0), duration(12_500_000.0), duration(3.6e9), duration(None)
    ('140 us', '1.88 ms', '12.5 s', '1.00 h', '-')
    """
    if microseconds is None:
        return "-"
    for unit, size in (("h", 3.6e9), ("min", 6e7), ("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            amount = microseconds / size
            return f"{amount:.{0 if amount >= 100 else 1 if amount >= 10 else 2}f} {unit}"
    return f"{microseconds:.0f} us"
