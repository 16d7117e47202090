"""The report on a plan: complete in itself, escaped, and what is drawn is what is said."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from plan_sample import around, sample

from farthing.dashboard.plan_charts import LEAST_PART, MOST_TICKS, axis, falls, lines, middle, pareto, tornado, whiskers
from farthing.dashboard.plan_figures import dollars, quantity, rounded, seconds
from farthing.dashboard.plan_report import render
from farthing.dashboard.plan_views import Line, Swing

amount = st.floats(min_value=1e-6, max_value=1e9)


class Markup(HTMLParser):
    """What a page loads, its elements by name, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data") and value]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample())


def test_it_needs_no_network_and_no_script(page):
    markup = Markup(page)
    assert all(load.startswith(("#", "data:")) for load in markup.loads)
    assert not {"script", "iframe", "link-stylesheet", "object"} & set(markup.tags)
    assert not re.search(r"url\((?!['\"]?data:)", page)
    assert "@import" not in page


def test_what_it_is_told_is_escaped(page):
    assert "<b>Llama</b>" not in page
    assert "&lt;b&gt;Llama&lt;/b&gt;" in page


def test_it_answers_first_and_says_every_part(page):
    words = " ".join(" ".join(Markup(page).words).split())
    report = sample()
    assert words.index(report.answer) < words.index("Per 1M output tokens")
    for choice in report.choices:
        assert choice.hardware in words
        assert dollars(choice.usd_per_million.low) in words
    for one in report.excluded:
        assert one.reason in words
    for fact in report.facts:
        assert fact.source in words
    assert "extrapolated" in words
    assert report.commands[0][1] in words


def test_what_is_not_known_has_no_panel():
    bare = replace(sample(), break_even=None, swings=(), commands=(), excluded=(), notices=(), tpot_limit_s=None)
    words = " ".join(Markup(render(bare)).words)
    for title in ("API or machines", "What the cost hangs on", "How to run it", "What is out"):
        assert title not in words
    assert "Cost against speed" in words


@given(st.lists(amount, min_size=1, max_size=30), st.booleans())
def test_an_axis_holds_its_values_and_has_a_few_round_ticks_in_order(values, logarithmic):
    scale = axis(values, str, logarithmic)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 100
    ticks = [tick.at for tick in scale.ticks]
    assert ticks == sorted(ticks)
    assert len(ticks) <= MOST_TICKS + 2
    assert all(0 <= tick <= 100 for tick in ticks)


@given(st.lists(st.tuples(st.sampled_from(("weights", "KV", "idle")), amount), min_size=1, max_size=6))
def test_the_parts_of_the_cost_follow_one_another_and_fill_the_whole(parts):
    *bars, whole = falls(parts, dollars, "in all")
    assert whole.label == dollars(sum(value for _, value in parts))
    assert bars[-1].start + bars[-1].width == pytest.approx(100, abs=len(parts) * LEAST_PART)
    for before, after in pairwise(bars):
        assert after.start == pytest.approx(before.start + before.width, abs=0.01)


@given(st.lists(st.tuples(amount, amount), min_size=1, max_size=8), amount)
def test_the_widest_swing_comes_first_and_the_amount_itself_is_on_the_scale(ends, base):
    swings = [Swing(str(number), "", low, high) for number, (low, high) in enumerate(ends)]
    rows = tornado(swings, base, dollars)
    widths = [abs(swing.high - swing.low) for swing, _ in rows]
    assert widths == sorted(widths, reverse=True)
    assert 0 <= middle(swings, base) <= 100


def test_an_interval_holds_its_value():
    for whisker in whiskers([around(0.4), around(0.6, 0.5)]):
        assert 0 <= whisker.start < whisker.value < whisker.start + whisker.width <= 100.001


def test_a_limit_is_drawn_and_a_fact_has_no_band():
    fact = Line("API", ((1.0, around(2.0, 0.0)), (2.0, around(4.0, 0.0))))
    plot = lines((fact,), quantity, dollars, limit=3.0)
    assert plot.strokes[0].band == ""
    assert 0 < plot.across < 100
    assert lines((fact,), quantity, dollars).across is None


def test_only_the_frontier_is_joined_and_the_choice_is_drawn_last():
    report = sample()
    plot = pareto(report.points, report.tpot_limit_s, dollars, seconds)
    joined = sum(point.kind != "other" for point in report.points)
    assert len(plot.strokes[0].points.split()) == joined
    assert plot.dots[-1].kind == "best"
    assert plot.dots[-1].colour == 0
    assert dict(plot.keys)["other hardware"] == 6


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_rounding_keeps_three_digits(value):
    assert float(rounded(value).replace(",", "")) == pytest.approx(value, rel=0.0051)
