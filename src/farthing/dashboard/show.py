"""How numbers are written for people: the filters of the templates."""

from collections.abc import Sequence

from farthing.dashboard.views import Money, Part
from farthing.dashboard.windows import Range
from farthing.schema import FEE_METERS, PICO_PER_USD, usd

MINUS = "\N{MINUS SIGN}"
UNKNOWN = "unknown"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DASH = "\N{EN DASH}"


def dollars(money: Money | None) -> str:
    """Dollars to cents, or to three significant digits below ten cents.

    >>> [dollars(Money.of(amount)) for amount in (12_345_678_900_000_000, 31_250_000, 0)]
    ['$12,345.68', '$0.0000312', '$0']
    """
    if money is None:
        return UNKNOWN
    return fixed(money, _places(abs(money.pico), significant=3)) if money.pico else "$0"


def exactly(money: Money | None) -> str:
    """Dollars, every digit of them.

    >>> exactly(Money.of(31_250_000)), exactly(Money.of(10**13))
    ('$0.00003125', '$10.00')
    """
    if money is None:
        return UNKNOWN
    text = usd(money.pico).replace("-", MINUS)
    return text if "." in text else f"{text}.00"


def fixed(money: Money | None, places: int) -> str:
    """Dollars to so many places, so that a column lines up; what they cannot show is not shown as nothing.

    >>> fixed(Money.of(160_000), 6), fixed(Money.of(0), 2)
    ('<$0.000001', '$0.00')
    """
    if money is None:
        return UNKNOWN
    if 0 < money.pico < PICO_PER_USD // 10**places:
        return f"<{usd(PICO_PER_USD // 10**places, places)}"
    return usd(money.pico, places).replace("-", MINUS)


def _places(amount: int, significant: int) -> int:
    """Decimal places that keep so many significant digits of an amount below a dollar, and at least cents."""
    zeros = len(str(PICO_PER_USD - 1)) - len(str(amount))
    return min(12, max(2, zeros + significant))


def less(money: Money, places: int) -> str:
    """An amount taken off.

    >>> less(Money.of(5 * 10**11), 2) == f"{MINUS}$0.50"
    True
    """
    return fixed(Money.of(-money.pico), places)


def places(amounts: list[Money | None]) -> int:
    """Decimal places that suit a column: cents from a dollar on, else two digits of its smallest amount, up to six."""
    known = [abs(money.pico) for money in amounts if money is not None and money.pico]
    if not known or max(known) >= PICO_PER_USD:
        return 2
    return min(6, _places(min(known), significant=2))


def finest(amounts: Sequence[Money | None]) -> int:
    """Decimal places that show each of some amounts exactly, and at least cents.

    >>> finest([Money.of(5 * 10**11), Money.of(125 * 10**9), None])
    3
    """
    return max([2, *(len(money.usd.partition(".")[2]) for money in amounts if money is not None)])


def amounts(part: Part) -> list[Money | None]:
    """Every amount that one part of a receipt shows in its last column."""
    return [*(line.amount for line in part.lines), *(saving.saved for saving in part.saved), part.list_cost, part.cost]


def unit_price(money: Money | None, meter: str) -> str:
    """A unit price as price lists have it: per million tokens, or per thousand uses of a tool.

    >>> unit_price(Money.of(2_500_000), "input"), unit_price(Money.of(10**10), "web_search")
    ('$2.50 / 1M', '$10.00 / 1k')
    """
    if money is None:
        return UNKNOWN
    times, per = (1_000, "1k") if meter in FEE_METERS else (1_000_000, "1M")
    return f"{exactly(Money.of(money.pico * times))} / {per}"


def limited(amount: str, meter: str) -> str:
    """An amount of a limit in its own unit.

    >>> limited("1500000000000", "usd"), limited("12000", "tokens")
    ('$1.50', '12,000')
    """
    return dollars(Money.of(int(amount))) if meter == "usd" else count(int(amount))


def count(number: int | None) -> str:
    """A whole number with its thousands set apart.

    >>> count(1234567)
    '1,234,567'
    """
    return DASH if number is None else f"{number:,}"


def percent(ratio: float | None, signed: bool = False) -> str:
    """A share in percent, to a tenth.

    >>> percent(0.3333), percent(0.25, signed=True)
    ('33.3 %', '+25.0 %')
    """
    if ratio is None:
        return DASH
    return f"{ratio * 100:{'+' if signed else ''}.1f} %".replace("-", MINUS)


def duration(microseconds: int | None) -> str:
    """A duration in the unit that suits it.

    >>> [duration(us) for us in (840, 12_345, 3_400_000, 75_000_000)]
    ['840 µs', '12.3 ms', '3.40 s', '75.0 s']
    """
    if microseconds is None:
        return DASH
    if microseconds < 1_000:
        return f"{microseconds} µs"
    size, unit = (1_000, "ms") if microseconds < 1_000_000 else (1_000_000, "s")
    value = microseconds / size
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def words(name: str) -> str:
    """A stable name as words.

    >>> words("cache_write_5m")
    'cache write 5m'
    """
    return name.replace("_", " ")


def clock(instant: str) -> str:
    """The time of day of an RFC 3339 instant.

    >>> clock("2023-11-14T22:13:20.123Z")
    '22:13:20'
    """
    return instant[11:19]


def mark(instant: str, span: Range) -> str:
    """An RFC 3339 instant under the axis of a chart: the time within a day, the date beyond.

    >>> mark("2023-11-14T22:15:00Z", "1h"), mark("2023-11-14T00:00:00Z", "7d")
    ('22:15', '14 Nov')
    """
    if span in ("1h", "24h"):
        return instant[11:16]
    return f"{int(instant[8:10])} {MONTHS[int(instant[5:7]) - 1]}"


def moment(instant: str) -> str:
    """An RFC 3339 instant for people.

    >>> moment("2023-11-14T22:13:20.123Z")
    '2023-11-14 22:13:20 UTC'
    """
    return f"{instant[:10]} {clock(instant)} UTC"
