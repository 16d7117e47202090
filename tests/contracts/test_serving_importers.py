"""Every reader of measured serving over small files in the shape of its tool, good and bad; and the public rows."""

import csv
import io
import json
import math
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Layout, Setup, completed, laid_out
from farthing.errors import FarthingError, RequestError, TrafficError
from farthing.importers.serving import METRICS, detect, read_all, read_measurements

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "serving" / "calibration.csv"

SETUP = Setup(hardware="H100 SXM", precision="fp8", engine="vllm", tensor=2)

ROW = {
    "source": "somebody", "hardware": "H100", "n_gpus": "2", "model": "llama-3-8b", "params": "8.0", "precision": "bf16",
    "engine": "vllm 0.9 ", "tp": "2.0", "concurrency": "16", "isl": "512", "osl": "100",
    "output_tok_s_per_gpu": "380", "ttft_ms": "120.5", "tpot_ms": "20.25", "kind": "closed_loop",
    "energy_j_per_out_tok": "", "arch": "llama-3-8b", "note": "",
}  # fmt: skip


def csv_of(*rows: dict, folder: Path) -> Path:
    file = folder / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def row_of(folder: Path, **changes: str) -> Measurement:
    return read_measurements(csv_of({**ROW, **changes}, folder=folder))[0]


# rows as CSV


def test_a_row_in_si_units(tmp_path):
    row = row_of(tmp_path)

    assert row == Measurement(
        hardware="H100", devices=2, model="llama-3-8b", precision="bf16", engine="vllm 0.9", kind="closed_loop",
        tensor=2, data=1, concurrency=16.0, input_tokens=512.0, output_tokens=100.0, output_tokens_per_s_per_device=380.0,
        ttft_s=0.1205, tpot_s=0.02025, source="somebody", pipeline=1,
    )  # fmt: skip


def test_blank_is_none_and_unknown_columns_are_left_alone(tmp_path):
    row = row_of(tmp_path, tp="", concurrency="", isl="", ttft_ms="", tpot_ms="", colour="green")

    assert (row.tensor, row.data, row.expert, row.concurrency) == (None, None, None, None)
    assert (row.input_tokens, row.ttft_s, row.tpot_s, row.power_w) == (None, None, None, None)


def test_bytes_are_read_too(tmp_path):
    file = csv_of(ROW, {**ROW, "tpot_ms": "21"}, folder=tmp_path)
    assert [row.tpot_s for row in read_measurements(io.BytesIO(file.read_bytes()))] == [0.02025, 0.021]


@pytest.mark.parametrize(
    ("cells", "split"),
    [
        ({"n_gpus": "8", "tp": "4"}, (4, 2, None)),
        ({"n_gpus": "8", "tp": "4", "note": "dp=2 max_num_seqs=96"}, (4, 2, None)),
        ({"n_gpus": "8", "tp": "4", "note": "pp=2"}, (4, 1, None)),
        ({"n_gpus": "8", "tp": "1", "note": "gpqa max_num_seqs=64 ep=8 dp=1 median ITL"}, (8, 1, 8)),
        ({"n_gpus": "2", "tp": "1", "note": "300 requests; dp=2 max_num_seqs=128; kv_tokens=None"}, (1, 2, None)),
        (
            {"n_gpus": "8", "tp": "8", "note": "ep range0.8 throughput derived", "source": "x_c16_tp8_0_ep8_0_71"},
            (8, 1, 8),
        ),
        ({"n_gpus": "4", "tp": "4", "note": "ep throughput derived", "source": "x_c16_tp4_epnone_31"}, (4, 1, 4)),
        ({"n_gpus": "4", "tp": "4", "note": "throughput derived", "source": "x_c16_tp4_epnone_31"}, (4, 1, None)),
        ({"n_gpus": "8", "tp": "4", "note": "", "source": "x_c16_tp4_ep8_dp2_31"}, (4, 2, 8)),
        ({"n_gpus": "16", "tp": "", "note": "tp not stated; steps=3"}, (None, None, None)),
    ],
)
def test_layouts_come_from_columns_notes_and_sources(tmp_path, cells, split):
    row = row_of(tmp_path, **{**cells, "output_tok_s_per_gpu": "", "concurrency": ""})
    assert (row.tensor, row.data, row.expert) == split


def test_notes_carry_power_and_limits(tmp_path):
    row = row_of(
        tmp_path, note="max_num_seqs=96 ep=1 dp=1; kv_tokens=41408; avg_power_w=916", energy_j_per_out_tok="1.2"
    )
    assert (row.power_w, row.max_sequences, row.kv_tokens, row.energy_j_per_output_token) == (916, 96, 41408, 1.2)
    assert row_of(tmp_path, energy_j_per_out_tok="0.5").power_w == pytest.approx(0.5 * 380 * 2)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"tpot_ms": "-20"}, r"line 3: tpot_ms is -20, which is not above 0"),
        ({"n_gpus": "-1"}, r"line 3: n_gpus is -1"),
        ({"ttft_ms": "0"}, r"line 3: ttft_ms is 0, which is not above 0"),
        ({"tpot_ms": "fast"}, r"line 3: tpot_ms is 'fast', which is not a number"),
        ({"isl": "nan"}, r"line 3: isl is nan"),
        ({"osl": "inf"}, r"line 3: osl is inf"),
        ({"n_gpus": ""}, r"line 3: n_gpus is blank"),
        ({"n_gpus": "1.5"}, r"line 3: n_gpus is 1.5, not a whole number"),
        ({"model": " "}, r"line 3: model is blank"),
        ({"kind": ""}, r"line 3: kind is blank"),
        ({"tp": "3", "n_gpus": "8"}, r"line 3: 8 devices are not tensor 3 x data 2 x pipeline 1"),
        ({"tp": "4", "n_gpus": "2"}, r"line 3: 2 devices are not tensor 4"),
        ({"note": "ep=3"}, r"line 3: experts are split 3 ways, which does not divide the 2 devices"),
        ({"tpot_ms": "0.02025"}, r"line 3: a time per output token of 0.02025 ms is faster than any engine"),
        ({"tpot_ms": "20250"}, r"line 3: 760 output tokens per second with .* are 1.524e\+04 requests at once, not 16"),
        ({"tpot_ms": "0.2", "ttft_ms": ""}, r"line 3: .* are 0.152 requests at once, not 16"),
        ({"output_tok_s_per_gpu": "30"}, r"line 3: 60 output tokens per second"),
        ({"output_tok_s_per_gpu": "", "ttft_ms": "", "tpot_ms": ""}, r"line 3 measures nothing"),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path, cells, said):
    file = csv_of(ROW, {**ROW, **cells}, folder=tmp_path)
    with pytest.raises((TrafficError, RequestError), match=said) as caught:
        read_measurements(file)
    assert str(file) in caught.value.message
    assert caught.value.hint


def test_a_long_wait_is_no_contradiction(tmp_path):
    row = row_of(tmp_path, concurrency="256", ttft_ms="28000", tpot_ms="32", output_tok_s_per_gpu="410")
    assert row.ttft_s == 28.0


def test_missing_columns_are_named(tmp_path):
    cells = {name: value for name, value in ROW.items() if name not in ("tpot_ms", "osl")}
    with pytest.raises(TrafficError, match=r"has no column osl, tpot_ms"):
        read_measurements(csv_of(cells, folder=tmp_path))


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n", b'hardware,"n_gpus\n'])
def test_files_that_are_no_table(tmp_path, text):
    file = tmp_path / "rows.csv"
    file.write_bytes(text)
    with pytest.raises(TrafficError):
        read_measurements(file)


def test_a_header_alone_and_rows_too_long(tmp_path):
    file = csv_of(ROW, folder=tmp_path)
    header = file.read_text().splitlines()[0]
    file.write_text(f"{header}\n")
    with pytest.raises(TrafficError, match="has no rows"):
        read_measurements(file)
    file.write_text(f"{header}\n{'1,' * 30}\n")
    with pytest.raises(TrafficError, match="line 2: there are more cells than the 18 columns"):
        read_measurements(file)
    with pytest.raises(TrafficError, match="cannot be read"):
        read_measurements(tmp_path / "none.csv")


@pytest.mark.skipif(not SHARED.exists(), reason=f"the public rows are not at {SHARED}")
def test_the_public_rows_are_read_whole_and_consistent():
    rows = read_measurements(SHARED)

    assert len(rows) == 3838
    assert all(row.tensor is None or row.tensor * row.data * row.pipeline == row.devices for row in rows)
    assert Counter(row.tensor is None for row in rows)[True] == 269  # MLPerf does not say
    power = [row for row in rows if row.power_w is not None]
    assert len(power) == 320
    for row in power:
        rate = row.output_tokens_per_s_per_device * row.devices
        assert row.power_w == pytest.approx(row.energy_j_per_output_token * rate, rel=2e-3)
    assert {row.expert for row in rows if "ml-energy" in row.source and row.devices == 8 and "ep=8" in row.note} == {8}
    assert all(row.tpot_s is None or 1e-4 < row.tpot_s < 10 for row in rows)


# layouts


@given(tensor=st.integers(1, 16), data=st.integers(1, 16), pipeline=st.integers(1, 4))
def test_a_layout_multiplies_to_its_devices(tensor, data, pipeline):
    devices = tensor * data * pipeline
    whole = Layout(devices, tensor, data, None, pipeline)
    assert laid_out("here", whole) == whole
    assert laid_out("here", msgspec.structs.replace(whole, data=None)) == whole
    with pytest.raises(RequestError, match="here"):
        laid_out("here", msgspec.structs.replace(whole, devices=devices + 1))


def test_what_a_person_says_goes_before_what_a_file_says():
    found = completed(Setup(model="mine", devices=4), Setup("H100", 8, "theirs", "fp8", "sglang", tensor=2), "run.json")
    assert found == Setup("H100", 4, "mine", "fp8", "sglang", tensor=2, data=2, pipeline=1)


def test_what_nobody_says_is_demanded():
    with pytest.raises(RequestError, match=r"run.json does not say its hardware, precision and devices") as caught:
        completed(Setup(), Setup(model="m", engine="vllm"), "run.json")
    assert caught.value.hint == 'Say it: hardware="H100 SXM", precision="bf16", devices=1.'
    with pytest.raises(RequestError, match="tensor is 0"):
        completed(msgspec.structs.replace(SETUP, tensor=0, devices=1), Setup(model="m"), "run.json")


# reports of load generators: 100 requests of 500 and 101 tokens by 16 callers, 0.2 s to the first token, 20 ms per token

VLLM = {
    "date": "20260401-101500", "endpoint_type": "openai", "backend": "openai", "label": None,
    "model_id": "meta-llama/Llama-3.1-8B-Instruct", "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 100, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 16, "duration": 13.75,
    "completed": 100, "failed": 0, "total_input_tokens": 50000, "total_output_tokens": 10100,
    "request_throughput": 7.27, "request_goodput": None, "output_throughput": 734.5, "total_token_throughput": 4370.9,
    "mean_ttft_ms": 200.0, "median_ttft_ms": 150.0, "std_ttft_ms": 80.0, "p99_ttft_ms": 400.0,
    "mean_tpot_ms": 20.0, "median_tpot_ms": 19.0, "std_tpot_ms": 1.0, "p99_tpot_ms": 24.0,
    "mean_itl_ms": 20.0, "median_itl_ms": 18.0, "std_itl_ms": 6.0, "p99_itl_ms": 60.0,
}  # fmt: skip

SGLANG = {
    "tag": None, "backend": "sglang", "dataset_name": "random", "request_rate": math.inf, "max_concurrency": 16,
    "sharegpt_output_len": None, "random_input_len": 500, "random_output_len": 101, "random_range_ratio": 1.0,
    "server_info": {
        "model_path": "meta-llama/Llama-3.1-8B-Instruct", "dtype": "bfloat16", "quantization": "fp8", "tp_size": 2,
        "dp_size": 1, "ep_size": 1, "pp_size": 1, "enable_dp_attention": False,
    },
    "duration": 13.75, "completed": 100, "total_input_tokens": 50000, "total_output_tokens": 10100,
    "total_output_tokens_retokenized": 10077, "request_throughput": 7.27, "input_throughput": 3636.4,
    "output_throughput": 734.5, "mean_e2e_latency_ms": 2200.0, "median_e2e_latency_ms": 2150.0,
    "mean_ttft_ms": 200.0, "median_ttft_ms": 150.0, "mean_tpot_ms": 20.0, "median_tpot_ms": 19.0, "mean_itl_ms": 20.0,
    "concurrency": 15.9, "accept_length": None,
}  # fmt: skip


def summary(mean: float) -> dict:
    one = {"mean": mean, "median": mean, "std_dev": 0.0, "count": 100, "percentiles": {"p50": mean, "p99": mean}}
    return {
        "successful": one,
        "errored": {"mean": 0.0, "count": 0},
        "incomplete": {"mean": 0.0, "count": 0},
        "total": one,
    }


GUIDELLM = {
    "metadata": {"version": 1, "guidellm_version": "0.5.0"},
    "args": {"target": "http://localhost:8000", "model": "meta-llama/Llama-3.1-8B-Instruct"},
    "benchmarks": [
        {
            "type_": "generative_benchmark",
            "config": {
                "run_index": 0, "strategy": {"type_": "concurrent", "streams": 16},
                "backend": {"type_": "openai_http", "model": "meta-llama/Llama-3.1-8B-Instruct"},
            },
            "metrics": {
                "request_totals": {"successful": 100, "errored": 0, "incomplete": 3, "total": 103},
                "requests_per_second": summary(7.272), "request_concurrency": summary(16.0), "request_latency": summary(2.2),
                "prompt_token_count": summary(500.0), "output_token_count": summary(101.0),
                "time_to_first_token_ms": summary(200.0), "time_per_output_token_ms": summary(21.8),
                "inter_token_latency_ms": summary(20.0), "output_tokens_per_second": summary(9999.0),
            },
        }
    ],
}  # fmt: skip

AIPERF = {
    "schema_version": "1.5", "aiperf_version": "0.11.0", "was_cancelled": False,
    "input_config": {
        "endpoint": {"model_names": ["meta-llama/Llama-3.1-8B-Instruct"], "streaming": True},
        "phases": [{"name": "warmup", "concurrency": 2}, {"name": "profiling", "concurrency": 16, "request_rate": None}],
    },
    "request_throughput": {"unit": "requests/sec", "avg": 7.272}, "request_count": {"unit": "requests", "avg": 100.0},
    "request_latency": {"unit": "ms", "avg": 2200.0, "p50": 2190.0, "count": 100},
    "time_to_first_token": {"unit": "ms", "avg": 200.0, "p50": 150.0, "count": 100},
    "inter_token_latency": {"unit": "ms", "avg": 20.0, "p50": 19.0, "count": 100},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 734.5},
    "output_sequence_length": {"unit": "tokens", "avg": 101.0}, "input_sequence_length": {"unit": "tokens", "avg": 500.0},
    "telemetry_data": {"endpoints": {"localhost:9400": {"gpus": {
        "gpu_0": {"gpu_name": "NVIDIA H100", "metrics": {"nvidia_power_usage": {"unit": "W", "avg": 410.0}}},
        "gpu_1": {"gpu_name": "NVIDIA H100", "metrics": {"nvidia_power_usage": {"unit": "W", "avg": 400.0}}},
    }}}},
}  # fmt: skip

GENAI_PERF = {
    "request_throughput": {"unit": "requests/sec", "avg": 7.272},
    "request_latency": {"unit": "ms", "avg": 2200.0, "p50": 2190.0},
    "time_to_first_token": {"unit": "ms", "avg": 200.0}, "inter_token_latency": {"unit": "ms", "avg": 20.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 734.5}, "request_count": {"unit": "count", "avg": 100},
    "output_sequence_length": {"unit": "tokens", "avg": 101.0}, "input_sequence_length": {"unit": "tokens", "avg": 500.0},
    "input_config": {
        "model": ["meta-llama/Llama-3.1-8B-Instruct"], "service_kind": "openai",
        "perf_analyzer": {"stimulus": {"concurrency": 16}, "warmup_request_count": 0},
    },
}  # fmt: skip

REPORTS = {"vllm_bench": VLLM, "sglang_bench": SGLANG, "guidellm": GUIDELLM, "aiperf": AIPERF, "genai_perf": GENAI_PERF}


def saved(folder: Path, *reports: dict) -> Path:
    file = folder / "report.json"
    file.write_text("\n".join(json.dumps(report) for report in reports))
    return file


def changed(report: dict, path: str, value: object) -> dict:
    """A copy with another value under a path like "a.0.b"; without it for None."""
    copy = json.loads(json.dumps(report))
    *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
    at = copy
    for key in way:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return copy


@pytest.mark.parametrize("name", REPORTS)
def test_reports_of_one_run_agree(tmp_path, name):
    file = saved(tmp_path, REPORTS[name])

    assert detect(file).name == ("aiperf" if name == "genai_perf" else name)
    (row,) = read_all([file], SETUP)
    assert (row.hardware, row.devices, row.tensor, row.data, row.precision) == ("H100 SXM", 2, 2, 1, "fp8")
    assert (row.model, row.engine, row.kind) == ("meta-llama/Llama-3.1-8B-Instruct", "vllm", "closed_loop")
    assert (row.concurrency, row.input_tokens, row.output_tokens) == (16, 500, 101)
    assert row.ttft_s == pytest.approx(0.2)
    assert row.tpot_s == pytest.approx(0.02)
    assert row.output_tokens_per_s_per_device == pytest.approx(734.5 / 2, rel=1e-3)
    assert str(file) in row.source
    assert row.note.startswith("100 requests")


@pytest.mark.parametrize(
    ("name", "path", "rate"),
    [
        ("vllm_bench", "request_rate", 7.0),
        ("sglang_bench", "request_rate", 7.0),
        ("guidellm", "benchmarks.0.config.strategy", {"type_": "poisson", "rate": 7.0}),
        ("aiperf", "input_config.phases.1", {"name": "profiling", "request_rate": 7.0}),
    ],
)
def test_arrivals_at_a_rate_have_callers_by_littles_law(tmp_path, name, path, rate):
    (row,) = read_all([saved(tmp_path, changed(REPORTS[name], path, rate))], SETUP)
    assert row.kind == "open_loop"
    assert row.concurrency == pytest.approx(7.27 * 2.2, rel=2e-3)


@pytest.mark.parametrize("name", ["vllm_bench", "sglang_bench"])
def test_all_at_once_is_offline_and_has_no_time_to_first_token(tmp_path, name):
    (row,) = read_all([saved(tmp_path, changed(REPORTS[name], "max_concurrency", None))], SETUP)
    assert (row.kind, row.concurrency, row.ttft_s, row.tpot_s) == ("max_throughput", 100, None, 0.02)


def test_lines_are_runs(tmp_path):
    file = saved(tmp_path, SGLANG, changed(SGLANG, "max_concurrency", 15))
    assert [row.concurrency for row in read_all([file], SETUP)] == [16, 15]


def test_what_a_file_says_need_not_be_said(tmp_path):
    file = saved(tmp_path, SGLANG)
    (row,) = read_all([file], Setup(hardware="H200"))
    assert (row.devices, row.tensor, row.precision, row.engine) == (2, 2, "fp8", "sglang")
    attention_copies = changed(changed(SGLANG, "server_info.dp_size", 2), "server_info.enable_dp_attention", True)
    (row,) = read_all([saved(tmp_path, attention_copies)], Setup(hardware="H200"))
    assert (row.devices, row.tensor, row.data) == (2, 1, 2)
    told = {**VLLM, "backend": "vllm", "hardware": "L4", "precision": "bf16", "tensor": "4"}
    (row,) = read_all([saved(tmp_path, told)], Setup())
    assert (row.hardware, row.devices, row.precision, row.engine) == ("L4", 4, "bf16", "vllm")


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_nowhere_said_is_demanded(tmp_path, name):
    with pytest.raises(RequestError, match=r"report.json.* does not say its hardware"):
        read_all([saved(tmp_path, REPORTS[name])], Setup())


def test_power_counts_when_every_device_was_watched(tmp_path):
    file = saved(tmp_path, AIPERF)
    assert read_all([file], SETUP)[0].power_w == 810
    assert read_all([file], msgspec.structs.replace(SETUP, tensor=4))[0].power_w is None


def test_units_are_those_of_the_file(tmp_path):
    in_s = changed(GENAI_PERF, "inter_token_latency", {"unit": "s", "avg": 0.02})
    assert read_all([saved(tmp_path, in_s)], SETUP)[0].tpot_s == 0.02


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        ("vllm_bench", "completed", 0, "completed is 0"),
        ("vllm_bench", "failed", 30, "30 of 130 requests failed"),
        ("vllm_bench", "mean_ttft_ms", -1, "mean_ttft_ms is -1, not a number of 0 or more"),
        ("vllm_bench", "mean_ttft_ms", "soon", "mean_ttft_ms is 'soon'"),
        ("vllm_bench", "output_throughput", 7.3, "output tokens per second"),
        ("vllm_bench", "mean_tpot_ms", 0.02, "faster than any engine"),
        ("sglang_bench", "total_input_tokens", 0, "total_input_tokens is 0"),
        ("guidellm", "benchmarks", [], "benchmarks is no list with something in it"),
        ("guidellm", "benchmarks.0.metrics", None, "benchmark 1: this is no benchmark: it has no metrics"),
        ("guidellm", "benchmarks.0.config.strategy", None, r"does not say its strategy \(config.strategy\)"),
        ("guidellm", "benchmarks.0.config.strategy.type_", "magic", "strategy magic is not known"),
        ("guidellm", "benchmarks.0.metrics.request_totals.successful", 0, "no request succeeded"),
        (
            "guidellm",
            "benchmarks.0.metrics.output_token_count",
            None,
            "metrics.output_token_count.successful.mean is missing",
        ),
        ("aiperf", "time_to_first_token.unit", "parsec", "time_to_first_token.unit is 'parsec'"),
        ("aiperf", "output_sequence_length", None, "output_sequence_length.avg is missing"),
        ("genai_perf", "request_throughput", 7, "no summary of aiperf: it has no request_throughput"),
    ],
)
def test_bad_reports_are_refused_with_their_key(tmp_path, name, path, value, said):
    with pytest.raises((TrafficError, RequestError), match=said) as caught:
        read_all([saved(tmp_path, changed(REPORTS[name], path, value))], SETUP)
    assert "report.json" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "hello", "[]", "{}", "[1, 2]", '{"benchmarks": 3}', "[" * 2000, '{"model_id": "m"}']
)
def test_files_that_are_no_measurements(tmp_path, text):
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(TrafficError):
        read_all([file], SETUP)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("any") / "file"
    file.write_bytes(data)
    with pytest.raises(FarthingError):
        read_all([file], SETUP)


def test_several_files_of_several_formats(tmp_path):
    scrape = "# scraped_at {}\nvllm:generation_tokens_total 5\n"
    metrics = tmp_path / "metrics.txt"
    metrics.write_text(scrape.format(1))
    rows = csv_of(ROW, folder=tmp_path)
    assert detect(rows).name == "rows"
    assert detect(metrics) is METRICS
    assert len(read_all([rows, saved(tmp_path, VLLM)], SETUP)) == 2
    with pytest.raises(TrafficError, match="1 scrape, and two are needed"):
        read_all([rows, metrics], SETUP)
