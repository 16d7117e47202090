"""What a model takes: figures out of rounds, and rounds in processes of their own."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_sample import bag
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from farthing.compress.measuring import Measurement, Ratio, machine_facts, measure, measure_together, rounds
from farthing.compress.measuring.energy import counters, joules, reading
from farthing.compress.measuring.machine import processor
from farthing.compress.measuring.measurement import Round, percentile_ms, ratio
from farthing.errors import ConfigError, Unavailable

TEXTS = ["invoice refund", "parcel late other", "thanks", "other other great love perfect kind"] * 6

CPUINFO = """processor\t: 0
model name\t: An 8-core processor
flags\t\t: fpu avx avx2 avx512f avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu amx_int8
"""

ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


def a_round(cpu_s=(0.001,), wall_s=(0.002,), batch_cpu_s=0.01) -> Round:
    return Round(tuple(cpu_s), tuple(wall_s), 0.0, batch_cpu_s, 0.02, None, len(cpu_s), 9)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> list[Measurement]:
    folder = tmp_path_factory.mktemp("measuring")
    first, second = bag(folder / "first"), bag(folder / "second")
    return measure_together([first, second], TEXTS, seconds=0.1)


def test_every_figure_is_there_and_fits_the_others(measured):
    for one in measured:
        assert one.rounds >= 3
        assert 0 < one.cpu_ms_p50 <= one.cpu_ms_p95
        assert 0 < one.wall_ms_p50 <= one.wall_ms_p95
        assert one.cpu_ms_p50 < 50
        assert one.tokenise_ms > 0
        # 32 at once are cheaper than one by one, and a text here is of several tokens.
        assert one.texts_per_cpu_s > 1000 / one.cpu_ms_p95
        assert one.tokens_per_s > 2 * one.texts_per_s
        assert one.texts_per_s_all_threads > 0
        # numpy and onnxruntime alone; torch would be 200 MB more.
        assert 30 < one.peak_rss_mb < 180
        assert 0 < one.mb < 0.1
    assert measured[0].faster == measured[0].faster_together == Ratio(1, 1, 1)
    second = measured[1].faster
    assert second.lowest <= second.median <= second.highest
    assert 0.2 < second.median < 5


def test_dollars_are_those_of_a_machine_that_is_busy(measured):
    one = measured[0]
    texts_per_h = 3600 * one.texts_per_s_all_threads
    assert one.usd_per_1k(0.36) == pytest.approx(0.36 * 1000 / texts_per_h)
    assert one.usd_per_1k(0.0) == 0


def test_one_artefact_alone(tmp_path):
    found = measure(bag(tmp_path / "one"), TEXTS[:3], threads=0, seconds=0)
    assert found.rounds == rounds.FEWEST
    assert found.threads == rounds.cores()


def test_a_damaged_artefact_is_refused_in_the_words_of_the_engine(tmp_path):
    folder = bag(tmp_path / "one")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"is not the file that artefact\.json was written for") as caught:
        measure(folder, TEXTS)
    assert caught.value.hint


def test_a_process_that_dies_is_told_with_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text("raise SystemExit('memory ran out')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(rounds, "CHILD", "dying")
    with pytest.raises(Unavailable, match="ended with 1: memory ran out"):
        measure(tmp_path / "one", TEXTS)


def test_without_texts_nothing_is_measured(tmp_path):
    with pytest.raises(ConfigError, match="no texts to measure with"):
        measure(tmp_path, [])


def test_the_measuring_process_imports_only_what_serves():
    import subprocess

    listing = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, farthing.compress.measuring.child; print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "onnxruntime" in listing
    assert not {"torch", "transformers", "onnx", "scipy"} & set(listing)


@given(st.lists(st.lists(st.floats(1e-6, 1), min_size=1, max_size=9), min_size=1, max_size=7))
def test_a_percentile_lies_between_the_extremes_of_the_rounds(times):
    found = percentile_ms([a_round(one) for one in times], 95)
    of_rounds = [1000 * np.percentile(one, 95) for one in times]
    assert min(of_rounds) - 1e-9 <= found <= max(of_rounds) + 1e-9


def test_one_disturbed_round_changes_no_figure():
    calm, disturbed = a_round([0.001, 0.002, 0.003]), a_round([0.5, 0.5, 0.5])
    assert percentile_ms([calm, disturbed, calm], 50) == pytest.approx(2)
    assert percentile_ms([calm, disturbed, calm], 50, wall=True) == pytest.approx(2)


def test_ratios_are_taken_round_by_round():
    # Both are twice as slow in the second round: that says nothing about how they compare.
    assert ratio([10, 20, 10], [2, 4, 1]) == Ratio(5, 5, 10)


def test_rounds_of_few_texts_begin_again():
    shown = rounds._some(["a", "b", "c"], 1)
    assert len(shown) == rounds.ROUND_TEXTS
    assert shown[:3] == ["b", "c", "a"]


def test_instruction_sets_by_the_names_people_look_for():
    assert processor(CPUINFO) == ("An 8-core processor", ("avx2", "avx512f", "avx512_vnni"))
    assert processor(ARM) == ("", ("neon", "dotprod", "i8mm"))
    assert processor("") == ("", ())


def test_facts_of_this_machine():
    facts = machine_facts()
    assert facts.cpu
    assert facts.cores >= 1
    assert {"python", "onnxruntime"} <= set(facts.versions)
    assert facts.memory_mb is None or facts.memory_mb > 100


def zone(folder: Path, name: str, energy: str, limit: str = "999") -> None:
    (folder / name).mkdir()
    (folder / name / "energy_uj").write_text(energy)
    (folder / name / "max_energy_range_uj").write_text(limit)


def test_energy_is_that_of_whole_packages_and_counters_may_begin_anew(tmp_path):
    zone(tmp_path, "intel-rapl:0", "900")
    zone(tmp_path, "intel-rapl:1", "100")
    zone(tmp_path, "intel-rapl:0:0", "5")
    zone(tmp_path, "intel-rapl:2", "nothing", "nothing")
    found = counters(tmp_path)
    assert [one.file.parent.name for one in found] == ["intel-rapl:0", "intel-rapl:1"]
    before = reading(found)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("350")
    assert joules(found, before, reading(found)) == pytest.approx((150 + 250) / 1e6)
    assert counters(tmp_path / "none") == []


def test_parameters_are_counted_in_whatever_they_are_stored(tmp_path):
    kept = {
        "weight": np.zeros((3, 4), np.float32),
        "weight_quantized": np.zeros((5, 4), np.int8),
        "weight_scale": np.zeros(4, np.float32),
        "weight_zero_point": np.zeros(4, np.int8),
        "table.int4": np.zeros((6, 2), np.uint8),
        "table.scale": np.zeros((6, 1), np.float32),
        "shape": np.array([1, 2]),
        "one": np.array(1.0, np.float32),
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(values, name) for name, values in kept.items()],
    )
    onnx.save_model(helper.make_model(graph), tmp_path / "model.onnx")
    assert rounds.parameters(tmp_path / "model.onnx") == 12 + 20 + 2 * 12
