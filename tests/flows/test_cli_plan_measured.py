"""`farthing plan` on what was measured: traces of engines, rows of benchmarks."""

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import farthing.cli
from farthing.cli.planning_rows import in_csv
from farthing.cli.verbs import root
from farthing.economics.calibrating.measurement import Measurement
from farthing.importers.serving.rows import read_measurements

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "serving"
KWARGS = {"tensor_parallel_size": 1, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "dtype": "bfloat16"}
COLUMNS = ("source", "hardware", "n_gpus", "model", "precision", "engine", "tp", "concurrency", "isl", "osl",
           "output_tok_s_per_gpu", "ttft_ms", "tpot_ms", "kind", "note")  # fmt: skip


def document(*words):
    done = CliRunner().invoke(root, ["plan", *map(str, words), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture
def asks(capsys, monkeypatch):
    def refused(*words):
        monkeypatch.setattr(sys, "argv", ["farthing", "plan", *map(str, words)])
        status = farthing.cli.main()
        out, err = capsys.readouterr()
        assert out == ""
        return status, err

    return refused


def line(number: int, tpot_s: float = 0.012) -> dict:
    arrived, answered = 1000.0 + 0.25 * number, 100 + 10 * (number % 7)
    return {
        "request_id": str(number), "input_toks": 400 + 37 * (number % 11), "output_toks": answered, "arrival_time": arrived,
        "queued_ts": arrived - 900, "scheduled_ts": arrived - 900 + 0.004, "first_token_ts": arrived - 900 + 0.06,
        "last_token_ts": arrived - 900 + 0.06 + tpot_s * (answered - 1),
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it."""
    folder = tmp_path / "H100_Llama-3.1-8B"
    folder.mkdir()
    (folder / "meta.json").write_text(json.dumps({"model": "meta-llama/Llama-3.1-8B", "engine_kwargs": KWARGS}))
    (folder / "requests.jsonl").write_text("\n".join(json.dumps(line(number)) for number in range(60)))
    return folder


def test_a_trace_is_simulated_and_compared(run):
    found = document("simulate", "--trace", run / "requests.jsonl")
    assert found["hardware"].startswith("H100")
    assert found["outcome"]["finished"] == found["outcome"]["requests"] == 60
    assert [one["share"] for one in found["comparison"]["e2e"]] == [0.5, 0.9, 0.99]
    for one in found["comparison"]["tpot"]:
        assert one["measured_s"] == pytest.approx(0.012)
        assert one["error"] == pytest.approx(one["simulated_s"] / one["measured_s"] - 1)
    assert found["iterations_per_s"] > 0


def test_a_run_on_the_same_hardware_corrects_the_steps(run):
    plain, corrected = (
        document("simulate", "--trace", run / "requests.jsonl", *more)["comparison"]
        for more in ((), ("--calibrate", run))
    )
    worst = [max(abs(one["error"]) for one in found["e2e"]) for found in (plain, corrected)]
    assert worst[1] < 0.06
    assert worst[1] <= worst[0]


def test_more_replicas_and_a_slower_start_are_asked_for(run):
    words = ("simulate", "--trace", run / "requests.jsonl", "--hardware", "L4")
    one, three = (document(*words, "--replicas", replicas)["outcome"] for replicas in (1, 3))
    assert three["e2e"]["mean_s"] < one["e2e"]["mean_s"]
    scaled = document(*words, "--autoscale", 2, "--most", 4, "--cold-start", "2s")["outcome"]
    assert scaled["most_replicas"] > 1
    assert scaled["cold_starts"] > 0


def test_the_hardware_is_looked_for_where_runs_say_it(run, asks):
    trace = run / "requests.jsonl"
    assert document("simulate", "--trace", trace, "--hardware", "L4")["hardware"] == "L4"
    (run / "config.json").write_text('{"nodes": [{"instances": [{"hardware": "A10G"}]}]}')
    assert document("simulate", "--trace", trace)["hardware"] == "A10G"
    (run / "config.json").unlink()
    nameless = run.rename(run.with_name("monday"))
    status, message = asks("simulate", "--trace", nameless / "requests.jsonl")
    assert status == 2
    assert "nothing says on what hardware" in message


def test_traffic_of_any_format_is_served_by_a_deployment_of_ones_own(tmp_path):
    traffic = tmp_path / "traffic.jsonl"
    calls = [{"at": 10**9 * number // 4, "model": "m", "usage": {"input": 500, "output": 50}} for number in range(40)]
    traffic.write_text("\n".join(map(json.dumps, calls)))
    words = ("simulate", "--trace", traffic, "--model", "Qwen/Qwen3-8B", "--hardware", "L4", "--weights", "fp8")
    found = document(*words)
    assert found["outcome"]["finished"] == 40
    assert found["comparison"] is None
    assert "fp8" in found["layout"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "holds no request"),
        ([{"request_id": "1"}], "line 1 of the trace cannot be read"),
        ([line(1), {**line(2), "first_token_ts": 5.0}], "line 2 of the trace has its times out of order"),
        ([{**line(1), "output_toks": 0}], "0 output tokens"),
    ],
)
def test_a_trace_that_makes_no_sense_is_refused(run, asks, lines, says):
    (run / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    status, message = asks("simulate", "--trace", run / "requests.jsonl")
    assert status == 2
    assert says in message
    assert "requests.jsonl" in message


def test_unsorted_traffic_is_refused(tmp_path, asks):
    traffic = tmp_path / "traffic.jsonl"
    calls = [{"at": at, "model": "m", "usage": {"input": 500, "output": 50}} for at in (3 * 10**9, 10**9, 2 * 10**9)]
    traffic.write_text("\n".join(map(json.dumps, calls)))
    status, message = asks("simulate", "--trace", traffic, "--model", "Qwen/Qwen3-8B", "--hardware", "L4")
    assert status == 2
    assert "request 2 of the trace comes after a later one" in message


def test_what_a_run_lacks_is_named(run, asks, tmp_path):
    (run / "meta.json").unlink()
    status, message = asks("simulate", "--trace", run / "requests.jsonl")
    assert (status, "meta.json cannot be read" in message) == (2, True)
    status, message = asks("simulate", "--trace", tmp_path / "absent.jsonl", "--meta", run / "meta.json")
    assert status == 2


@pytest.fixture
def rows(tmp_path):
    """A table of measured rows, of which one is of no known hardware."""

    def write(name="rows.csv", **changed):
        row = {
            "source": "s", "hardware": "H100", "n_gpus": 1, "model": "meta-llama/Llama-3.1-8B", "precision": "bf16",
            "engine": "vllm 0.8", "tp": 1, "isl": 1000, "osl": 500, "kind": "closed_loop", "note": "",
        }  # fmt: skip
        path = tmp_path / name
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            for callers in (1, 4, 16, 64, 128):
                tpot = 7 + 0.09 * callers
                measured = {"concurrency": callers, "tpot_ms": tpot, "ttft_ms": 60 + callers}
                rate = callers * 500 / ((60 + callers + 499 * tpot) / 1000)
                table.writerow(row | measured | {"output_tok_s_per_gpu": round(rate, 2)} | changed)
            table.writerow(row | {"hardware": "Abacus 9", "concurrency": 1, "tpot_ms": 5})
        return path

    return write


def test_rows_are_evaluated_by_group_and_refusals_are_counted(rows):
    found = document("evaluate", rows())
    assert (found["rows"], found["predicted"]) == (6, 5)
    assert found["refused"] == [{"rows": 1, "reason": found["refused"][0]["reason"]}]
    assert "Abacus 9" in found["refused"][0]["reason"]
    groups = {(group["by"], group["name"]): group["errors"] for group in found["groups"]}
    everything = groups["all", "rows"]
    for name in ("tpot", "throughput", "ttft"):
        assert everything[name]["rows"] == 5
        assert everything[name]["median"] >= 0
        assert 0 <= everything[name]["covered"] <= 1
    assert ("kind", "closed_loop") in groups
    assert ("model", "llama-3-8b") in groups


def test_points_that_are_given_away_are_not_evaluated_and_help(rows):
    blind, told = (document("evaluate", rows(), "--points", points) for points in (0, 2))
    assert told["predicted"] == blind["predicted"] - 2
    errors = [
        next(group["errors"]["tpot"]["mean"] for group in found["groups"] if group["by"] == "all")
        for found in (blind, told)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"tpot_ms": -1}, "tpot_ms"), ({"concurrency": "many"}, "concurrency is 'many'"), ({"isl": "nan"}, "isl")],
)
def test_rows_that_make_no_sense_are_refused_with_their_line(rows, asks, changed, says):
    status, message = asks("evaluate", rows(**changed))
    assert status == 2
    assert says in message
    assert "line 2" in message


def test_a_table_without_rows_or_columns_is_refused(asks, tmp_path):
    empty = tmp_path / "rows.csv"
    empty.write_text("hardware,model\n")
    status, message = asks("evaluate", empty)
    assert status == 2
    assert "no column" in message
    status, message = asks("evaluate", tmp_path / "absent.csv")
    assert (status, "cannot be read" in message) == (2, True)


def test_a_fit_and_a_calibration_contradict_one_another(rows, asks, tmp_path):
    status, message = asks("evaluate", rows(), "--fit", rows("fit.csv"), "--calibration", tmp_path / "cal.json")
    assert status == 2
    assert "--fit and --calibration contradict" in message


@pytest.mark.skipif(not SHARED.exists(), reason="the measured traces are beside the checkout, in shared/data/serving")
def test_a_measured_run_on_its_own_correction_is_met_within_a_tenth():
    folder = SHARED / "traces" / "RTXPRO6000_Llama-3.1-8B"
    found = document(
        "simulate", "--trace", folder / "requests.jsonl", "--meta", folder / "meta.json", "--calibrate", folder
    )
    assert max(abs(one["error"]) for one in found["comparison"]["e2e"]) < 0.1


def test_points_of_ones_own_move_the_prediction_to_them(rows, tmp_path):
    out = tmp_path / "cal.json"
    found = document("calibrate", rows(), "--out", out)
    assert (found["read"], found["used"], found["layouts"], found["anew"]) == (6, 5, 1, False)
    assert any("Abacus 9" in reason for reason in found["refused"])
    words = ("predict", "--model", "meta-llama/Llama-3.1-8B", "--hardware", "H100 SXM", "--weights", "bf16", "--input", 1000,
             "--output", 500, "--concurrency", 64, "--engine", "vllm 0.8")  # fmt: skip
    shipped, own = (document(*words, *more)["prediction"]["tpot_s"] for more in ((), ("--calibration", out)))
    measured = (7 + 0.09 * 64) / 1000
    assert abs(own["value"] - measured) < abs(shipped["value"] - measured)
    assert own["high"] / own["low"] < shipped["high"] / shipped["low"]


def test_measurements_say_what_they_were_made_on_or_are_asked(asks, tmp_path):
    bench = tmp_path / "bench.json"
    bench.write_text('{"what": 1}')
    status, message = asks("calibrate", bench, "--out", tmp_path / "cal.json")
    assert status == 2
    assert "no measurements in a known format" in message
    status, message = asks("calibrate", "--out", tmp_path / "cal.json")
    assert (status, "name files of measurements" in message) == (2, True)
    assert not (tmp_path / "cal.json").exists()


def test_too_few_rows_do_not_make_a_fit(rows, asks, tmp_path):
    status, message = asks("calibrate", rows(), "--anew", "--out", tmp_path / "cal.json")
    assert status == 2
    assert "Only 5 of 6 rows can be used" in message


def test_an_engine_that_is_not_there_is_named(asks):
    status, message = asks(
        "probe", "http://127.0.0.1:9", "--hardware", "L4", "--precision", "bf16", "--engine", "vllm", "--devices", 1
    )
    assert status == 1
    assert "http://127.0.0.1:9/v1 cannot be reached" in message
    status, message = asks("probe", "127.0.0.1:9", "--hardware", "L4")
    assert (status, "is no address of an engine" in message) == (2, True)
    status, message = asks("probe", "http://127.0.0.1:9", "--key-variable", "NO_SUCH_VARIABLE")
    assert (status, "NO_SUCH_VARIABLE is not set" in message) == (2, True)


def test_rows_that_are_written_can_be_read_again(tmp_path):
    rows = [
        Measurement("H100 SXM", 8, "m", "fp8", "vllm 0.11", "closed_loop", tensor=4, data=2, expert=8, concurrency=3.0,
                    input_tokens=10.5, output_tokens=7.0, output_tokens_per_s_per_device=21.25, ttft_s=0.05, tpot_s=0.01,
                    source="probe of x", note="8 answers, medians"),
        Measurement("L4", 1, "m", "bf16", "sglang", "max_throughput", output_tokens_per_s_per_device=5.0, tensor=1,
                    concurrency=2.0, input_tokens=4.0, output_tokens=4.0),
    ]  # fmt: skip
    path = tmp_path / "rows.csv"
    path.write_text(in_csv(rows))
    for one, other in zip(rows, read_measurements(path), strict=True):
        for name in ("hardware", "devices", "tensor", "kind", "source"):
            assert getattr(other, name) == getattr(one, name)
        for name in ("concurrency", "tpot_s", "ttft_s", "output_tokens_per_s_per_device"):
            assert getattr(other, name) == pytest.approx(getattr(one, name))
    assert (read_measurements(path)[0].data, read_measurements(path)[0].expert) == (2, 8)
