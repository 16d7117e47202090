"""Gates: what breaks a target and what does not, and stages that become gentler until they cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.compress.gates import MATRICES, gentler, goals, judge
from farthing.compress.job import Distil, Machine, Prune, Quantize, Targets
from farthing.compress.record import Host, Report, Row, Trial, annual, decode, encode
from farthing.errors import TrafficError
from farthing.evaluation.quality import Comparison, Quality

encoder = pytest.importorskip("farthing.compress.networks.encoder", reason="shapes are those of the compress extra")

TEACHER = Row("teacher", "teacher", mb=90.0, cpu_ms=8.0, texts_per_cpu_s=80.0)
LOST = Comparison("accuracy", lost=0.8, low=-0.2, high=1.8, bound=1.6, p=0.1, worst="card", recall_drop=12.0)
ROW = Row(
    "INT8", "quantize", mb=1.5, cpu_ms=0.5, texts_per_cpu_s=1200.0, usd_per_1k=0.00002,
    dev=Quality("accuracy", 92.0, 90.0, 94.0, 1003), dev_against_teacher=LOST,
)  # fmt: skip
ALL = Targets(lost=1.0, smaller=50.0, faster=15.0, size_mb=2.0, latency_ms=0.6, recall_lost=15.0, usd_per_1k=0.0001)


def shape(layers: int = 6, heads: int = 12, ffn: int = 1536, width: int = 384, vocabulary: int = 30_522):
    each = (encoder.LayerShape(heads, ffn),) * layers
    return encoder.EncoderShape(vocabulary, 512, width, width, each, 77)


def test_what_keeps_every_target_breaks_none():
    assert judge(ALL, ROW, TEACHER) == ()
    assert [goal.what for goal in goals(ALL, ROW, TEACHER)] == [
        "accuracy", "recall", "smaller", "faster", "size", "latency", "cost",
    ]  # fmt: skip
    assert all(goal.met for goal in goals(ALL, ROW, TEACHER))


@pytest.mark.parametrize(
    ("targets", "what", "found", "limit", "words"),
    [
        (replace(ALL, lost=0.7), "accuracy", 0.8, 0.7, ["0.80 points lower", "1,003 texts", "1.60", "0.7"]),
        (replace(ALL, recall_lost=11.9), "recall", 12.0, 11.9, ["'card'", "12.0 points", "11.9"]),
        (replace(ALL, smaller=61), "smaller", 60.0, 61, ["60.0x", "61"]),
        (replace(ALL, faster=17), "faster", 16.0, 17, ["16.0x", "17"]),
        (replace(ALL, size_mb=1.4), "size", 1.5, 1.4, ["1.50 MB", "1.4"]),
        (replace(ALL, latency_ms=0.4), "latency", 0.5, 0.4, ["0.50 ms", "0.4"]),
        (replace(ALL, usd_per_1k=0.00001), "cost", 0.00002, 0.00001, ["$0.000020", "1e-05"]),
    ],
)
def test_a_breach_says_what_how_much_and_the_limit(targets, what, found, limit, words):
    (breach,) = judge(targets, ROW, TEACHER)
    assert (breach.what, breach.found, breach.limit) == (what, pytest.approx(found), limit)
    assert all(word in breach.says for word in words), breach.says
    assert breach.floor == (what in ("accuracy", "recall"))


def test_a_figure_at_its_limit_is_within_it():
    at = replace(ROW, dev_against_teacher=replace(LOST, lost=0.1 + 0.2, recall_drop=0.0))
    assert judge(Targets(lost=0.3), at, TEACHER) == ()


def test_the_point_estimate_decides_and_not_the_bound():
    assert LOST.bound > ALL.lost
    assert judge(ALL, ROW, TEACHER) == ()


def test_what_is_not_measured_or_not_asked_breaks_nothing():
    assert judge(ALL, Row("pruned", "prune"), TEACHER) == ()
    slow = replace(ROW, mb=1e6, cpu_ms=1e6, usd_per_1k=1e6)
    assert judge(Targets(lost=1.0), slow, TEACHER) == ()


def test_a_better_student_is_said_to_be_better():
    better = replace(ROW, dev_against_teacher=replace(LOST, lost=-0.5, worst="", recall_drop=0.0))
    (goal,) = goals(Targets(lost=0.0), better, TEACHER)
    assert goal.met
    assert "0.50 points higher" in goal.says


def test_distilling_keeps_a_layer_more_and_then_more_of_the_rest():
    seen, stage = [], Distil(layers=4, width=128, embedding=128, vocabulary=20_000)
    while stage is not None:
        seen.append((stage.layers, stage.width, stage.embedding, stage.vocabulary))
        stage = gentler(stage, shape())
    assert seen == [
        (4, 128, 128, 20_000), (5, 128, 128, 20_000), (6, 128, 128, 20_000), (6, 256, 128, 20_000), (6, 0, 128, 20_000),
        (6, 0, 256, 20_000), (6, 0, 0, 20_000), (6, 0, 0, 0),
    ]  # fmt: skip


def test_a_named_layer_is_added_where_most_are_missing():
    assert gentler(Distil(layers=(0, 5)), shape()).layers == (0, 2, 5)
    assert gentler(Distil(layers=(0, 2, 5)), shape()).layers == (0, 1, 2, 5)
    assert gentler(Distil(layers=(0,)), shape()).layers == (0, 5)


def test_pruning_keeps_more_of_all_that_it_cuts():
    found = gentler(Prune(heads=4, ffn=320), shape())
    assert (found.heads, found.ffn, found.width, found.layers, found.vocabulary) == (5, 480, 0, 0, 0)
    found = gentler(Prune(heads=10, ffn=1200, layers=2), shape())
    assert (found.heads, found.ffn, found.layers) == (0, 0, 3)
    assert gentler(Prune(heads=10), shape()) is None
    assert gentler(Prune(heads=11, ffn=1100), shape()) is None
    assert gentler(Prune(), shape()) is None


def test_quantizing_recovers_and_then_leaves_more_out():
    seen, stage = [], Quantize(embeddings=4, exceptions=1)
    while stage is not None:
        seen.append((stage.embeddings, stage.recovery, stage.exceptions))
        stage = gentler(stage, shape(layers=1))
    assert seen == [(4, 0, 1), (8, 0, 1), (8, 2, 1), (8, 2, 2), (8, 2, 4), (8, 2, MATRICES), (32, 2, MATRICES)]


sizes = st.integers(0, 3000)
stages = st.one_of(
    st.builds(
        Distil,
        layers=st.one_of(st.integers(1, 8), st.sets(st.integers(0, 3), min_size=1).map(sorted).map(tuple)),
        width=sizes, vocabulary=sizes, embedding=sizes,
    ),
    st.builds(Prune, heads=st.integers(0, 20), ffn=sizes, width=sizes, layers=st.integers(0, 8), vocabulary=sizes),
    st.builds(
        Quantize, embeddings=st.sampled_from([4, 8, 32]), exceptions=st.integers(0, 50), recovery=st.integers(0, 3)
    ),
)  # fmt: skip


@given(stages, st.integers(4, 7), st.integers(1, 12), st.integers(8, 2000), st.integers(32, 500))
def test_every_stage_ends_up_as_gentle_as_can_be(stage, layers, heads, ffn, width):
    model = shape(layers, heads, ffn, width, vocabulary=2500)
    for _ in range(60):
        after = gentler(stage, model)
        if after is None:
            return
        assert after != stage
        for field in set(stage.__struct_fields__) & {"heads", "ffn", "width", "vocabulary", "embedding"}:
            before, now = getattr(stage, field), getattr(after, field)
            assert now == before or now == 0 or now > before
        stage = after
    raise AssertionError("it never ends")


def test_a_year_of_the_load():
    machine = Machine(usd_per_h=0.1, calls_per_s=300.0, calls_per_year=1e9, before_usd_per_1k=0.5, spare=1)
    found = annual(machine, TEACHER, ROW)
    assert (found.case.before.devices, found.case.student.devices) == (5, 2)
    assert found.case.usd_per_year_saved == pytest.approx(3 * 0.1 * 8760)
    assert found.bill_usd == pytest.approx(500_000)
    faster = replace(ROW, texts_per_s_all_threads=100.0)
    assert annual(machine, TEACHER, faster).case.student.needed == 3
    assert annual(machine, TEACHER, ROW, escalated=0.2).case.teacher_after.needed == 1


@pytest.mark.parametrize(
    ("machine", "row"),
    [(Machine(), ROW), (Machine(calls_per_s=10, usd_per_h=0), ROW), (Machine(calls_per_s=10), Row("x", "prune"))],
)
def test_no_load_no_case(machine, row):
    assert annual(machine, TEACHER, row) is None


def test_a_report_survives_json():
    machine = Machine(usd_per_h=0.1, calls_per_s=300.0)
    broken = replace(ROW, name="too small", verdict="broke the floor")
    report = Report(
        "banking", "classification", (TEACHER, ROW, broken), Host("EPYC", ("avx2",)), "out",
        trials=(Trial("2 layers", 1.5, 0.5, 92.0),), goals=goals(ALL, ROW, TEACHER),
        annual=annual(machine, TEACHER, ROW),
    )  # fmt: skip
    assert decode(encode(report)) == report
    assert encode(decode(encode(report))) == encode(report)
    assert report.final == ROW
    assert replace(report, rows=(TEACHER,)).final == TEACHER


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b'{"job": "x"}', b'{"rows": [], "job": "x"}'])
def test_a_damaged_report_is_refused(text):
    with pytest.raises(TrafficError, match=r"out/report\.json"):
        decode(text, "out/report.json")
    with pytest.raises(ValueError, match="teacher"):
        Report("x", "classification", (), Host("EPYC"), "out")


@pytest.mark.parametrize(("sets", "vnni"), [(("avx2",), False), (("avx2", "avx512_vnni"), True), (("avx_vnni",), True)])
def test_vnni_is_read_from_the_instruction_sets(sets, vnni):
    assert Host("x", sets).vnni is vnni
