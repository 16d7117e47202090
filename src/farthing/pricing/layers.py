"""Laying one price row over others: the newcomer wins where it is valid, and keeps what it does not mention."""

from farthing.pricing.edition import Band, Row, Window


def layered(rows: tuple[Row, ...], top: Row) -> tuple[Row, ...]:
    """Rows in which, while `top` is valid, its prices replace those of the row that was valid before.

    Meters that `top` does not price keep the price they had; the last valid row of the result wins.
    """
    return _without_hidden((*rows, top, *overlays(rows, top)))


def overlays(rows: tuple[Row, ...], top: Row) -> tuple[Row, ...]:
    """For each row, the prices of `top` over its own, while both are valid."""
    return tuple(meet for row in rows if (meet := _meet(row, top)) is not None)


def priced_at(bands: tuple[Band, ...], tokens: int) -> dict[str, int]:
    """The prices of a request of `tokens` input tokens."""
    return next((band.prices for band in reversed(bands) if tokens > band.above), bands[0].prices)


def overlaid(below: tuple[Band, ...], above: tuple[Band, ...]) -> tuple[Band, ...]:
    """Bands with the thresholds of both, priced by `above` where it has a price and by `below` elsewhere."""
    thresholds = sorted({band.above for band in (*below, *above)})
    return tuple(Band(start, {**priced_at(below, start + 1), **priced_at(above, start + 1)}) for start in thresholds)


def _meet(row: Row, top: Row) -> Row | None:
    start = row.start if top.start is None else top.start if row.start is None else max(row.start, top.start)
    until = row.until if top.until is None else top.until if row.until is None else min(row.until, top.until)
    if start is not None and until is not None and start >= until:
        return None
    windows = row.windows or top.windows
    if row.windows and top.windows:
        windows = _common(row.windows, top.windows)
        if not windows:
            return None
    return Row(overlaid(row.bands, top.bands), start, until, windows, top.source, own=row.own or top.own)


def _common(these: tuple[Window, ...], those: tuple[Window, ...]) -> tuple[Window, ...]:
    pairs = (
        Window(this.days & that.days, max(this.start, that.start), min(this.end, that.end))
        for this in these
        for that in those
    )
    return tuple(window for window in pairs if window.days and window.start < window.end)


def _without_hidden(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(row for place, row in enumerate(rows) if not any(_hides(later, row) for later in rows[place + 1 :]))


def _hides(later: Row, row: Row) -> bool:
    return (
        (row.own or not later.own)
        and (later.start is None or (row.start is not None and later.start <= row.start))
        and (later.until is None or (row.until is not None and later.until >= row.until))
        and (not later.windows or later.windows == row.windows)
    )
