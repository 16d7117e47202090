"""How forecasts are written for people: to the digits they deserve, never to the last one."""

from farthing.economics.prediction import Estimate

DASH = "\N{EN DASH}"
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def rounded(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, thousands set apart, without an exponent.

    >>> rounded(0.012345), rounded(1234567.0), rounded(99.96), rounded(40.0), rounded(0.0)
    ('0.0123', '1,230,000', '100', '40.0', '0')
    """
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    places = digits - 1 - int(exponent)
    number = float(f"{mantissa}e{exponent}")
    return f"{number:,.{max(0, places)}f}"


def dollars(usd: float) -> str:
    """A forecast in dollars: three significant digits, and cents where there are any.

    >>> dollars(1234.5), dollars(12.345), dollars(0.0412), dollars(3.0)
    ('$1,230', '$12.30', '$0.0412', '$3.00')
    """
    text = rounded(abs(usd))
    whole, dot, cents = text.partition(".")
    return f"{'-' if usd < 0 else ''}${whole}{dot}{cents.ljust(2, '0') if dot else ''}"


def seconds(value_s: float) -> str:
    """A duration in the unit that suits it.

    >>> [seconds(value) for value in (0.0000125, 0.0213, 0.4, 3.21, 75.0)]
    ['12.5 us', '21.3 ms', '400 ms', '3.21 s', '75.0 s']
    """
    if value_s < 1e-3:
        return f"{rounded(value_s * 1e6)} us"
    return f"{rounded(value_s * 1e3)} ms" if value_s < 1 else f"{rounded(value_s)} s"


def quantity(value: float) -> str:
    """A large number with a prefix.

    >>> quantity(1.4e11), quantity(12_345.0), quantity(12.0)
    ('140 G', '12.3 k', '12.0')
    """
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{rounded(value / size)} {prefix}"
    return rounded(value)


def percent(share: float) -> str:
    """A share in percent.

    >>> percent(0.123), percent(1.0)
    ('12 %', '100 %')
    """
    return f"{100 * share:.0f} %"


def dollars_between(estimate: Estimate) -> str:
    """The interval of an amount.

    >>> dollars_between(Estimate(1.0, 0.8, 1.3)) == f"$0.800{DASH}$1.30"
    True
    """
    return f"{dollars(estimate.low)}{DASH}{dollars(estimate.high)}"


def seconds_between(estimate: Estimate) -> str:
    """The interval of a duration, its unit said once if it is the same at both ends.

    >>> seconds_between(Estimate(0.02, 0.015, 0.025)) == f"15.0{DASH}25.0 ms"
    True
    """
    low, high = seconds(estimate.low), seconds(estimate.high)
    return f"{low.rpartition(' ')[0] if low.rpartition(' ')[2] == high.rpartition(' ')[2] else low}{DASH}{high}"


def plural(number: int, noun: str) -> str:
    """A number of things.

    >>> plural(1, "replica"), plural(1200, "device")
    ('1 replica', '1,200 devices')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
