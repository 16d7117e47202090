"""The report on a run: complete in itself, escaped, true to its figures, and drawn for whatever there is to draw."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from report_sample import sample

from farthing.cli.render import table as rendered
from farthing.compress.job import Data, Job, Labeller, Teacher
from farthing.compress.record import Host, Report, Row, decode, encode
from farthing.compress.reporting import (
    drops_svg,
    latency_svg,
    model_card,
    page,
    pareto_svg,
    reliability_svg,
    size_svg,
    table,
)
from farthing.compress.reporting.charts import drops
from farthing.compress.reporting.drawing import MOST_TICKS, Scale
from farthing.compress.reporting.facts import measured_on, saved_in_a_year
from farthing.compress.reporting.wording import dollars, headline
from farthing.evaluation.quality import Comparison, Quality

CHARTS = (pareto_svg, size_svg, latency_svg, reliability_svg, drops_svg)
NASTY = "</style><script>alert(1)</script>&\"'|`# {{ 7 * 7 }}"
SVG = "{http://www.w3.org/2000/svg}"


class Markup(HTMLParser):
    """What a page loads, its elements, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data") and value]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report() -> Report:
    return sample()


def bare(**given) -> Report:
    """The least that a report may hold."""
    return Report("job", "regression", (Row("teacher", "teacher", **given),), Host("a CPU"), "out")


def named(report: Report, name: str) -> Report:
    """The report with a name everywhere where a person may choose one."""
    rows = tuple(replace(row, name=name, note=name) for row in report.rows)
    rows = tuple(replace(row, test=_relabelled(row.test, name)) for row in rows)
    return replace(
        report, job=name, rows=rows, labels=(name,), controls=tuple(replace(row, name=name) for row in report.controls),
        trials=tuple(replace(trial, name=name) for trial in report.trials),
        goals=tuple(replace(goal, says=name) for goal in report.goals),
        host=replace(report.host, cpu=name, versions={name: name}), texts=replace(report.texts, files={name: name}),
        created=name, version=name,
    )  # fmt: skip


def _relabelled(quality: Quality, name: str) -> Quality:
    recalls = tuple(replace(one, label=f"{name}{number}") for number, one in enumerate(quality.recalls))
    return replace(quality, recalls=recalls)


def words_of(text: str) -> str:
    return " ".join(" ".join(Markup(text).words).split())


def test_the_page_needs_no_network_and_no_script(report):
    text = page(report)
    markup = Markup(text)
    assert markup.open == []
    assert all(load.startswith("#") for load in markup.loads)
    assert not {"script", "iframe", "link", "object", "img"} & set(markup.tags)
    assert not re.search(r"url\(|@import", text)
    assert "prefers-color-scheme" in text
    assert markup.tags.count("svg") == 5


def test_whatever_a_name_holds_is_escaped(report):
    text = page(named(report, NASTY))
    assert "script" not in Markup(text).tags
    assert "{{ 7 * 7 }}" in text
    assert "alert(1)" in words_of(text)
    for draw in CHARTS:
        drawn = ET.fromstring(draw(named(report, NASTY)))
        assert "script" not in {element.tag.removeprefix(SVG) for element in drawn.iter()}
    card = model_card(named(report, NASTY), Job(NASTY, Data(train=(NASTY,), licence=NASTY)))
    assert not re.search(r"(?<!\\)<script|(?<!\\)</", card.partition("\n---\n")[2])
    assert yaml.safe_load(card.split("---\n")[1])["model-index"][0]["name"] == NASTY


def test_the_page_says_what_was_measured(report):
    told = words_of(page(report))
    final = report.final
    assert headline(report) in told
    for figure in ("1.59 MB", "0.510 ms", f"{final.test.value:.2f} %", "1,137", "56x", "without VNNI", "not met"):
        assert figure in told, figure
    assert f"{report.final.test_against_teacher.p:.3f}" in told
    assert saved_in_a_year(report.annual) in told
    assert all(goal.says in told for goal in report.goals)
    assert told.index(headline(report)) < told.index("What was asked") < told.index("Stage by stage")


def test_the_headline_tells_gain_from_loss(report):
    assert "and loses 0." in headline(report)
    better = replace(report.rows[-1], test_against_teacher=replace(report.final.test_against_teacher, lost=-0.4))
    assert "loses no accuracy" in headline(replace(report, rows=(*report.rows[:-1], better)))
    broken = tuple(replace(row, verdict="broke the floor") for row in report.rows[1:])
    assert "the teacher itself" in headline(replace(report, rows=(report.teacher, *broken)))


def test_a_stage_that_broke_the_floor_is_not_what_is_served(report):
    broken = replace(report, rows=(*report.rows[:-1], replace(report.rows[-1], verdict="broke the floor")))
    assert broken.final.name == "pruned"
    assert "broke the floor" in words_of(page(broken))
    assert headline(broken).startswith("pruned is 15.3x smaller")
    points = ET.fromstring(pareto_svg(broken)).find(f"{SVG}polyline").get("points").split()
    assert len(points) == 3


def test_the_table_has_a_row_per_stage_and_control(report):
    shown = table(report)
    assert [row[0] for row in shown.rows] == [
        "teacher", "distilled", "pruned (backed off)", "INT8 dynamic", "* TF-IDF + logistic regression",
        "* teacher, quantized only",
    ]  # fmt: skip
    assert {len(row) for row in shown.rows} == {len(shown.heads)}
    final = dict(zip(shown.heads, shown.rows[3], strict=True))
    assert (final["MB"], final["smaller"], final["faster"], final["CPU ms"]) == ("1.59", "56x", "14.5x", "0.510")
    assert final["change"] == f"{-report.final.test_against_teacher.lost:+.2f}"
    assert sum(note.startswith(("met", "NOT MET")) for note in shown.notes) == len(report.goals)
    assert max(map(len, rendered(shown.heads, shown.rows).splitlines()[1:])) < 140


def test_without_a_test_the_texts_that_decided_are_shown(report):
    untested = tuple(replace(row, test=None, test_against_teacher=None) for row in report.rows)
    untested = replace(report, rows=untested, controls=())
    assert "1,003 texts held out" in words_of(page(untested))
    assert any("texts held out" in note for note in table(untested).notes)
    card = model_card(untested, Job("x", Data(train=("t.csv",))))
    assert "the 1,003 texts which decided" in card
    assert yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"][0]["dataset"]["split"] == "validation"


@pytest.mark.parametrize(
    "empty",
    [
        bare(),
        bare(mb=3.0, cpu_ms=2.0),
        bare(cpu_ms=2.0, dev=Quality("Spearman", 81.0, 80.0, 82.0, 50)),
        replace(bare(), task="embedding", rows=(Row("t", "teacher"), Row("q", "quantize", mb=0.0, verdict="kept"))),
    ],
)
def test_what_is_not_known_is_not_made_up(empty):
    text = page(empty)
    assert Markup(text).open == []
    assert "None" not in words_of(text)
    assert "nan" not in words_of(text).split()
    assert table(empty).rows[0][0] in ("teacher", "t")
    assert model_card(empty, Job("x", Data(train=("t.csv",)))).startswith("---\n")
    assert reliability_svg(empty) == drops_svg(empty) == ""


def test_a_gain_of_everything_draws_no_drop(report):
    same = replace(report, rows=(report.teacher, replace(report.final, test=report.teacher.test)))
    assert drops(same) == []
    assert "No label is recognised less often" in words_of(page(same))


def test_drops_are_the_largest_first_and_true(report):
    lost = drops(report)
    assert lost
    assert [before - after for _, _, before, after in lost] == sorted((b - a for _, _, b, a in lost), reverse=True)
    was = {one.label: one.value for one in report.teacher.test.recalls}
    now = {one.label: one.value for one in report.final.test.recalls}
    assert all((was[label], now[label]) == (before, after) for label, _, before, after in lost)
    few = replace(report.final.test, recalls=tuple(replace(one, n=9) for one in report.final.test.recalls))
    assert drops(replace(report, rows=(report.teacher, replace(report.final, test=few)))) == []


def test_bars_are_as_long_as_what_they_show(report):
    drawn = ET.fromstring(size_svg(report))
    widths = [float(bar.get("width")) for bar in drawn.iter(f"{SVG}rect") if bar.get("class") != "paper"]
    sizes = [row.mb for row in (*report.rows, *report.controls)]
    for width, size in zip(widths, sizes, strict=True):
        assert width == pytest.approx(max(2.0, widths[0] * size / sizes[0]), abs=0.2)


def test_the_better_stands_higher_and_the_faster_to_the_left(report):
    drawn = ET.fromstring(pareto_svg(report))
    places = {}
    for circle in drawn.iter(f"{SVG}circle"):
        places[circle.find(f"{SVG}title").text.partition(":")[0]] = (float(circle.get("cx")), float(circle.get("cy")))
    rows = (*report.rows, *report.controls)
    for one in rows:
        for other in rows:
            if one.cpu_ms < other.cpu_ms:
                assert places[one.name][0] < places[other.name][0]
            if one.test.value > other.test.value + 0.1:
                assert places[one.name][1] < places[other.name][1]
    for x, y in places.values():
        assert 62 <= x <= 696
        assert 40 <= y <= 368


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_scales_have_few_round_ticks_within_them(low, span, logarithmic):
    scale = Scale(low, low * 1.2 + span, 0.0, 100.0, logarithmic)
    ticks = scale.ticks()
    assert len(ticks) <= MOST_TICKS + 1
    slack = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)
    assert [scale.place(tick) for tick in ticks] == sorted(scale.place(tick) for tick in ticks)
    assert (scale.place(scale.low), scale.place(scale.high), scale.place(scale.high * 2)) == (0.0, 100.0, 100.0)


def test_the_card_says_data_teacher_machine_and_limits(report):
    job = Job(
        "banking", Data(train=("train.csv",), test=("test.csv",), licence="CC-BY-4.0"),
        Teacher("all-MiniLM-L6-v2", members=2, labeller=Labeller("large-model")),
    )  # fmt: skip
    card = model_card(report, job)
    front, body = card.split("---\n")[1], card.split("---\n", 2)[2]
    facts = yaml.safe_load(front)
    assert facts["pipeline_tag"] == "text-classification"
    metric = facts["model-index"][0]["results"][0]["metrics"][0]
    assert metric == {"type": "accuracy", "value": round(report.final.test.value, 2)}
    for words in ("CC-BY-4.0", "train.csv", "all-MiniLM-L6-v2", "2 of them averaged", "large-model", "AMD EPYC 7763",
                  "without VNNI", "92.", "## Limits", "## Intended use", "looked at once"):  # fmt: skip
        assert words in body, words
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert {line.count("|") - line.count("\\|") for line in rows} <= {4, 14}
    assert "not stated" in model_card(report, Job("banking", Data(train=("train.csv",))))
    assert "No pre-trained model" in model_card(report, Job("banking", Data(train=("train.csv",))))


@pytest.mark.parametrize(
    ("sets", "words"),
    [(("avx2",), "without VNNI"), (("avx2", "avx512_vnni"), "with VNNI"), (("asimddp",), "dot products"), ((), "")],
)
def test_instructions_for_small_integers(sets, words):
    told = dict(measured_on(Host("x", sets))).get("8-bit integers", "")
    assert words in told
    assert bool(told) == bool(words)


def test_a_saving_that_is_none_is_said(report):
    lost = replace(report.annual.case, usd_per_year_saved=-5.0, why_never="it costs more")
    assert saved_in_a_year(replace(report.annual, case=lost, bill_usd=None)) == "It saves nothing: it costs more."


@given(st.floats(-1e9, 1e9))
def test_dollars_keep_about_three_digits(usd):
    said = float(dollars(usd).replace("$", "").replace(",", ""))
    assert said == pytest.approx(usd, rel=0.0501, abs=1e-12)


def test_the_page_of_a_report_from_json_is_the_same(report):
    assert page(decode(encode(report))) == page(report)


def test_a_comparison_without_p_prints_none(report):
    row = Row(
        "s", "distil", dev=Quality("Spearman", 80, 79, 81, 9), dev_against_teacher=Comparison("Spearman", 1, 0, 2, 2)
    )
    shown = table(replace(bare(dev=Quality("Spearman", 81, 80, 82, 9)), rows=(bare().teacher, row)))
    assert shown.rows[1][-1] == "-"
    assert shown.rows[1][8] == "80.00"
