"""Laying a row over others changes what it says, while it is valid, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from farthing.pricing.edition import Band, Row, Window
from farthing.pricing.layers import layered, overlaid, priced_at

MINUTE = 60 * 10**9
METERS = ("input", "output", "cache_read")

prices = st.dictionaries(st.sampled_from(METERS), st.integers(0, 9), min_size=1)
bands = st.lists(st.tuples(st.sampled_from([100, 200, 300]), prices), max_size=2, unique_by=lambda band: band[0])
spans = st.lists(
    st.builds(
        lambda days, start, length: Window(days, start, min(start + length, 1440)),
        st.integers(1, 127),
        st.integers(0, 1439),
        st.integers(1, 1440),
    ),
    max_size=2,
).map(tuple)
instants = st.one_of(st.none(), st.integers(0, 20 * 1440).map(lambda minute: minute * MINUTE))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    first, above = draw(prices), sorted(draw(bands))
    start, until = draw(instants), draw(instants)
    if start is not None and until is not None and start >= until:
        start = None
    return Row((Band(0, first), *(Band(*band) for band in above)), start, until, draw(spans))


def valid(row: Row, at: int) -> bool:
    return (
        (row.start is None or row.start <= at)
        and (row.until is None or at < row.until)
        and (not row.windows or any(window.holds(at) for window in row.windows))
    )


def in_force(stack: tuple[Row, ...], tokens: int, at: int) -> dict[str, int] | None:
    """The prices of the last valid row."""
    return next((priced_at(row.bands, tokens) for row in reversed(stack) if valid(row, at)), None)


@given(st.lists(rows(), max_size=3), rows(), st.integers(0, 400), st.integers(0, 20 * 1440))
def test_a_layer_wins_while_valid_and_keeps_the_rest(below: list[Row], top: Row, tokens: int, minute: int) -> None:
    at = minute * MINUTE
    before, after = in_force(tuple(below), tokens, at), in_force(layered(tuple(below), top), tokens, at)
    if valid(top, at):
        assert after == {**(before or {}), **priced_at(top.bands, tokens)}
    else:
        assert after == before


@given(rows(), rows(), st.integers(0, 400))
def test_overlaid_bands_price_every_length(below: Row, above: Row, tokens: int) -> None:
    both = overlaid(below.bands, above.bands)
    assert priced_at(both, tokens) == {**priced_at(below.bands, tokens), **priced_at(above.bands, tokens)}
    assert [band.above for band in both] == sorted({band.above for band in (*below.bands, *above.bands)})


def test_rows_that_can_no_longer_be_reached_are_dropped() -> None:
    base = Row((Band(0, {"input": 1}),))
    assert layered((base,), Row((Band(0, {"input": 2}),))) == (Row((Band(0, {"input": 2}),)),)


def test_windows_hold_on_their_weekdays_to_the_minute() -> None:
    window = Window(0b0011111, 60, 240)  # Monday to Friday, 01:00 to 04:00
    monday = 4 * 1440 * MINUTE  # 1970-01-05
    assert not window.holds(monday + 60 * MINUTE - 1)
    assert window.holds(monday + 60 * MINUTE)
    assert window.holds(monday + 240 * MINUTE - 1)
    assert not window.holds(monday + 240 * MINUTE)
    assert not window.holds(monday - 1440 * MINUTE + 60 * MINUTE)
    assert window.holds(monday + 4 * 1440 * MINUTE + 60 * MINUTE)
    assert not window.holds(monday + 5 * 1440 * MINUTE + 60 * MINUTE)
