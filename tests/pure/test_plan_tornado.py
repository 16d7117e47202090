"""The tornado: widest bar first, each end the cost itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.economics.money.tornado import Range, tornado
from farthing.errors import RequestError

ranges = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10)).map(sorted), min_size=1, max_size=6
).map(lambda spans: [Range(f"x{place}", *span) for place, span in enumerate(spans)])


@given(ranges, st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_a_bar_is_the_cost_at_either_end(spans, slopes):
    def usd(at):
        return sum(slope * at[span.name] for slope, span in zip(slopes, spans, strict=False))

    found = tornado(spans, usd)
    assert [bar.swing_usd for bar in found.bars] == sorted((bar.swing_usd for bar in found.bars), reverse=True)
    assert found.base_usd == pytest.approx(usd({span.name: span.base for span in spans}))
    slope_of = dict(zip((span.name for span in spans), slopes, strict=False))
    for bar in found.bars:
        assert bar.swing_usd == pytest.approx(abs(slope_of[bar.name]) * (bar.high - bar.low), abs=1e-9)


@pytest.mark.parametrize(
    "spans", [[], [Range("a", 2, 1, 3)], [Range("a", 1, 2, 1)], [Range("a", 1, 1, 1)] * 2, [Range("a", math.nan, 1, 2)]]
)
def test_a_range_out_of_order_is_refused(spans):
    with pytest.raises(RequestError):
        tornado(spans, lambda at: 1.0)


def test_an_end_that_the_cost_refuses_is_named():
    def usd(at):
        if at["life"] < 1:
            raise RequestError("The cluster lives 0.5 years.", hint="Give more.")
        return 1.0

    with pytest.raises(RequestError, match=r"With life at 0\.5: The cluster lives"):
        tornado([Range("life", 0.5, 3, 5)], usd)
    with pytest.raises(RequestError, match="With life at 0"):
        tornado([Range("life", 0, 3, 5)], lambda at: 1 / at["life"] if at["life"] else math.inf)
