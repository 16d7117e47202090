"""Instants and spans as people type them, in Unix nanoseconds."""

import re
from datetime import UTC, datetime

import click

SECOND = 10**9
SPANS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def span(text: str) -> int:
    """A length of time in nanoseconds.

    >>> span("24h") == span("1d") == 86_400 * SECOND
    True
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text.strip())
    if not found:
        raise click.BadParameter(f'"{text}" is not a span such as 90m, 24h, 7d or 4w')
    return int(found[1]) * SPANS[found[2]] * SECOND


def instant(text: str, now: int) -> int:
    """An instant: a span before `now`, or a date and time of ISO 8601, in UTC when it names no zone.

    >>> instant("1970-01-02", 0) == instant("1970-01-02T01:00+01:00", 0) == 86_400 * SECOND
    True
    >>> instant("1h", 3600 * SECOND)
    0
    """
    if re.fullmatch(r"[0-9]+[mhdw]", text.strip()):
        return now - span(text)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.BadParameter(
            f'"{text}" is neither a date such as 2026-11-20T15:04 nor a span such as 24h'
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since_epoch = moment - datetime.fromtimestamp(0, UTC)
    return (since_epoch.days * 86_400 + since_epoch.seconds) * SECOND + since_epoch.microseconds * 1000


def shown(at: int) -> str:
    """An instant as people read it, in UTC, to the second.

    >>> shown(86_400 * SECOND)
    '1970-01-02 00:00:00'
    """
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m-%d %H:%M:%S}"
