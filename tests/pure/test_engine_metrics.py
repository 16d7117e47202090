"""Engines' metrics and our own ledger as measurements: deltas, restarts, label sets, Little's law."""

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.economics.calibrating.setup import Setup
from farthing.errors import FarthingError, RequestError, TrafficError
from farthing.importers.serving import Scrape, Windowing, ledger_points, measure, read_scrapes
from farthing.schema import Entry, Usage

SETUP = Setup(hardware="L40S", devices=2, precision="bf16", tensor=2)


def vllm(
    *, requests: float, model: str = "qwen", ttft: float = 0.2, tpot: float = 0.02, running: float = 16.0,
    inputs: float = 500.0, outputs: float = 101.0, engine: str = "0",
) -> str:  # fmt: skip
    """What vLLM shows after so many requests, all alike."""
    labels = f'{{engine="{engine}",model_name="{model}"}}'
    e2e = ttft + (outputs - 1) * tpot
    return f"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{labels} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{labels} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{labels} 0.5
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{labels} {requests * inputs}
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{labels} {requests * inputs / 4}
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{labels} {requests * inputs}
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{labels} {requests * outputs}
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="{engine}",le="+Inf",model_name="{model}"}} {requests}
vllm:time_to_first_token_seconds_count{labels} {requests}
vllm:time_to_first_token_seconds_sum{labels} {requests * ttft}
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{{engine="{engine}",le="+Inf",model_name="{model}"}} {requests * (outputs - 1)}
vllm:inter_token_latency_seconds_count{labels} {requests * (outputs - 1)}
vllm:inter_token_latency_seconds_sum{labels} {requests * (outputs - 1) * tpot}
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{{engine="{engine}",le="+Inf",model_name="{model}"}} {requests}
vllm:e2e_request_latency_seconds_count{labels} {requests}
vllm:e2e_request_latency_seconds_sum{labels} {requests * e2e}
"""


def test_what_changed_between_two_scrapes_is_what_was_measured():
    (row,) = measure([Scrape(1000.0, vllm(requests=1000)), Scrape(1060.0, vllm(requests=1480))], SETUP)

    assert (row.engine, row.model, row.kind) == ("vllm", "qwen", "open_loop")
    assert (row.devices, row.tensor, row.data) == (2, 2, 1)
    assert row.concurrency == pytest.approx(480 / 60 * 2.2)
    assert row.output_tokens_per_s_per_device == pytest.approx(480 * 101 / 60 / 2)
    assert (row.input_tokens, row.output_tokens) == (500, 101)
    assert row.ttft_s == pytest.approx(0.2)
    assert row.tpot_s == pytest.approx(0.02)
    assert row.cached_share == pytest.approx(0.25)
    assert row.note == "480 requests in 60 s; KV pool 50% full"


@given(
    before=st.integers(0, 10**7), served=st.integers(100, 10**5), ttft=st.floats(0.01, 1), tpot=st.floats(0.001, 0.2)
)
def test_what_came_before_does_not_matter(before, served, ttft, tpot):
    seconds = served * (ttft + 100 * tpot) / 16
    old = vllm(requests=before, ttft=9.0, tpot=0.9)
    new = vllm(requests=served, ttft=ttft, tpot=tpot)
    (row,) = measure([Scrape(0.0, old), Scrape(seconds, _sum(old, new))], SETUP)

    assert row.concurrency == pytest.approx(16, rel=1e-3)
    assert row.tpot_s == pytest.approx(tpot, rel=1e-3)
    assert row.ttft_s == pytest.approx(ttft, rel=1e-3)


def _sum(one: str, other: str) -> str:
    """Two texts of the same series, added up, gauges left as they are."""
    lines = []
    for left, right in zip(one.splitlines(), other.splitlines(), strict=True):
        name, _, value = left.rpartition(" ")
        gauge = left.startswith("#") or "num_requests" in name or "usage_perc" in name
        lines.append(left if gauge else f"{name} {float(value) + float(right.rpartition(' ')[2])!r}")
    return "\n".join(lines) + "\n"


def test_each_two_of_many_scrapes_are_a_window_and_restarts_are_left_out():
    counts = [0, 480, 20, 500, 980]
    rows = measure([Scrape(60.0 * number, vllm(requests=count)) for number, count in enumerate(counts)], SETUP)
    assert [row.note.partition(" ")[0] for row in rows] == ["480", "480", "480"]


def test_a_restart_that_overtook_the_counters_of_another_label_set_is_seen():
    before = vllm(requests=500) + vllm(requests=500, engine="1")
    after = vllm(requests=900) + vllm(requests=400, engine="1")
    with pytest.raises(TrafficError, match="started anew"):
        measure([Scrape(0, before), Scrape(60, after)], SETUP)
    with pytest.raises(TrafficError, match="started anew"):
        measure([Scrape(0, before), Scrape(60, vllm(requests=900))], SETUP)


def test_copies_of_one_model_are_summed_and_models_kept_apart():
    before = vllm(requests=0) + vllm(requests=0, engine="1") + vllm(requests=0, model="llama")
    after = vllm(requests=240) + vllm(requests=240, engine="1") + vllm(requests=480, model="llama", tpot=0.03)
    llama, qwen = measure([Scrape(0, before), Scrape(60, after)], msgspec.structs.replace(SETUP, tensor=1, data=2))

    assert (llama.model, qwen.model) == ("llama", "qwen")
    assert qwen.concurrency == pytest.approx(480 / 60 * 2.2)
    assert llama.tpot_s == pytest.approx(0.03)
    assert qwen.data == 2


def test_a_series_that_is_new_starts_at_nothing():
    before = vllm(requests=0, model="other")
    rows = measure([Scrape(0, before), Scrape(60, before + vllm(requests=480))], SETUP)
    assert [row.model for row in rows] == ["qwen"]


SGLANG = """
sglang:num_running_reqs{{model_name="m",tp_rank="0"}} 4.0
sglang:num_queue_reqs{{model_name="m",tp_rank="0"}} 0.0
sglang:token_usage{{model_name="m",tp_rank="0"}} 0.28
sglang:prompt_tokens_total{{model_name="m"}} {n}e2
sglang:cached_tokens_total{{model_name="m",cache_source="device"}} {n}e1
sglang:generation_tokens_total{{model_name="m"}} {n}e1
sglang:time_to_first_token_seconds_count{{model_name="m",is_streaming="true"}} {n}
sglang:time_to_first_token_seconds_sum{{model_name="m",is_streaming="true"}} {n}e-1
sglang:time_to_first_token_seconds_count{{model_name="m",is_streaming="false"}} 7
sglang:time_to_first_token_seconds_sum{{model_name="m",is_streaming="false"}} {n}
sglang:inter_token_latency_seconds_count{{model_name="m"}} {n}
sglang:inter_token_latency_seconds_sum{{model_name="m"}} {n}e-2
sglang:e2e_request_latency_seconds_count{{model_name="m"}} {n}
sglang:e2e_request_latency_seconds_sum{{model_name="m"}} {n}
"""

TGI = """
tgi_batch_current_size 4
tgi_queue_size 0
tgi_request_duration_count {n}
tgi_request_duration_sum {n}
tgi_request_queue_duration_count {n}
tgi_request_queue_duration_sum {n}e-2
tgi_batch_inference_duration_count{{method="prefill"}} {n}
tgi_batch_inference_duration_sum{{method="prefill"}} {n}e-1
tgi_batch_inference_duration_count{{method="decode"}} {n}e1
tgi_batch_inference_duration_sum{{method="decode"}} {n}e-1
tgi_request_input_length_count {n}
tgi_request_input_length_sum {n}e2
tgi_request_generated_tokens_count {n}
tgi_request_generated_tokens_sum {n}e1
"""


@pytest.mark.parametrize(
    ("text", "engine", "ttft", "cached"),
    [(SGLANG, "sglang", 0.1, 0.1), (TGI, "tgi", 0.11, None)],
    ids=["sglang", "tgi"],
)
def test_other_engines(text, engine, ttft, cached):
    pages = [Scrape(0, text.format(n=100)), Scrape(50, text.format(n=300))]
    (row,) = measure(pages, msgspec.structs.replace(SETUP, model="m"))

    assert (row.engine, row.model, row.concurrency) == (engine, "m", 4)
    assert (row.input_tokens, row.output_tokens) == (100, 10)
    assert row.output_tokens_per_s_per_device == 20
    assert row.ttft_s == pytest.approx(ttft)
    assert row.tpot_s == pytest.approx(0.01)
    assert row.cached_share == (pytest.approx(cached) if cached else None)


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([(0, vllm(requests=5))], "1 scrape, and two are needed"),
        ([(0, vllm(requests=5)), (0, vllm(requests=500))], "a scrape at 0.000 s follows one at 0.000 s"),
        ([(9, vllm(requests=5)), (8, vllm(requests=500))], "a scrape at 8.000 s follows one at 9.000 s"),
        ([(0, vllm(requests=5)), (60, vllm(requests=9))], "4 requests ended in 60 s, and 10 are needed"),
        ([(0, vllm(requests=5)), (60, vllm(requests=5))], "0 requests ended in 60 s"),
        ([(0, vllm(requests=0, running=0)), (60, vllm(requests=480, running=0))], "the load was not steady"),
        ([(0, "go_goroutines 3\n"), (1, "go_goroutines 3\n")], "no metrics of vLLM, SGLang or TGI"),
        ([(0, vllm(requests=5)), (1, TGI.format(n=1))], "metrics of 2 engines"),
        ([(0, vllm(requests=5)), (1, "vllm:x{ 3\n")], "scrape 2 is not in Prometheus' text format"),
    ],
)
def test_what_cannot_be_measured_is_said(pages, said):
    with pytest.raises(TrafficError, match=said) as caught:
        measure([Scrape(at, text) for at, text in pages], SETUP)
    assert caught.value.hint


def test_counters_that_contradict_one_another_are_refused():
    slow = vllm(requests=480).replace(
        'seconds_sum{engine="0",model_name="qwen"} 960.0', 'seconds_sum{engine="0",model_name="qwen"} 96000.0'
    )
    with pytest.raises(RequestError, match="requests at once"):
        measure([Scrape(0, vllm(requests=0)), Scrape(60, slow)], SETUP)


def test_scrapes_from_files(tmp_path: Path):
    one = tmp_path / "all.txt"
    one.write_text(f"# scraped_at 1000.5\n{vllm(requests=0)}\n# scraped_at 1060.5\n{vllm(requests=480)}")
    assert [scrape.at_s for scrape in read_scrapes([one])] == [1000.5, 1060.5]
    assert measure(read_scrapes([one]), SETUP)[0].concurrency == pytest.approx(17.6)

    two = tmp_path / "later.txt"
    two.write_text(vllm(requests=480))
    assert read_scrapes([two, one])[-1].at_s == two.stat().st_mtime

    one.write_text(vllm(requests=0) + "# scraped_at 1060.5\n" + vllm(requests=480))
    with pytest.raises(TrafficError, match="above its first"):
        read_scrapes([one])
    one.write_text("# scraped_at noon\n" + vllm(requests=0))
    with pytest.raises(TrafficError, match="no time in Unix seconds"):
        read_scrapes([one])
    with pytest.raises(TrafficError, match="cannot be read"):
        read_scrapes([tmp_path / "none"])


# the ledger


def entries(
    callers: int = 4, seconds: float = 600.0, ttft: float = 0.2, tpot: float = 0.02, stream: bool = True,
    lengths: tuple[int, int] = (40, 160), seed: int = 1, **changes: object,
) -> list[Entry]:  # fmt: skip
    """What so many callers leave in a ledger, each asking again when answered."""
    dice, found = random.Random(seed), []
    for caller in range(callers):
        at = dice.random()
        while at < seconds:
            outputs = dice.randint(*lengths)
            took = ttft + (outputs - 1) * tpot
            fields = {
                "endpoint": "chat", "model": "qwen", "attempt": 1, "upstream": "mine", "status": 200, "stream": stream,
                "usage": Usage(input=400, cache_read=100, output=outputs), "overhead": 300,
            }  # fmt: skip
            found.append(Entry(id=f"{caller}-{len(found)}.1", group=f"{caller}-{len(found)}", at=10**18 + int(at * 1e9),
                               ttft=int(ttft * 1e6) + 300, latency=int(took * 1e6) + 300, **{**fields, **changes}))  # fmt: skip
            at += took
    return found


LEDGER = Setup(hardware="L40S", devices=1, precision="bf16", engine="vllm")


def test_a_ledger_tells_what_its_callers_saw():
    points = ledger_points(entries(), "mine", LEDGER)

    assert len(points.measurements) == 2
    for row in points.measurements:
        assert (row.model, row.engine, row.kind) == ("qwen", "vllm", "open_loop")
        assert row.concurrency == pytest.approx(4, rel=0.01)
        assert row.ttft_s == pytest.approx(0.2, rel=1e-3)
        assert row.tpot_s == pytest.approx(0.02, rel=1e-3)
        assert row.output_tokens == pytest.approx(100, rel=0.1)
        assert row.input_tokens == 500
        assert row.cached_share == 0.2
        mean = row.ttft_s + (row.output_tokens - 1) * row.tpot_s
        assert row.output_tokens_per_s_per_device == pytest.approx(4 * row.output_tokens / mean, rel=0.03)


def test_without_streams_a_regression_on_lengths_tells_the_same():
    (row, _) = ledger_points(entries(stream=False), "mine", LEDGER).measurements
    assert row.tpot_s == pytest.approx(0.02, rel=1e-3)
    assert row.ttft_s == pytest.approx(0.2, rel=0.01)
    assert row.note.endswith("by regression on lengths of answers")


@given(callers=st.integers(1, 40), tpot=st.floats(0.005, 0.05), seed=st.integers(0, 100))
def test_littles_law_holds_in_every_window(callers, tpot, seed):
    found = ledger_points(
        entries(callers=callers, seconds=130, tpot=tpot, seed=seed), "mine", LEDGER, Windowing(60.0, 5)
    )
    for row in found.measurements:
        assert row.concurrency == pytest.approx(callers, rel=0.05)
        assert row.tpot_s == pytest.approx(tpot, rel=1e-3)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([], "there are none"),
        (entries(upstream="other"), "there are none"),
        (entries(simulated=True), "answers were simulated"),
        (entries(status=500, error="upstream_error"), "calls failed"),
        (entries(usage=None), "calls have no usage"),
        (entries(endpoint="embeddings"), "calls of the endpoint embeddings make no tokens"),
        (entries(attempt=0), "there are none"),
        (entries(callers=1, tpot=0.9), "windows have fewer than 20 calls"),
        (entries(stream=False, lengths=(100, 101)), "lengths of answers are too much alike"),
        (entries(callers=1, seconds=300) + entries(callers=9, seconds=150), "the load was not steady"),
    ],
)
def test_a_ledger_that_says_nothing_says_why(made, said):
    setup = msgspec.structs.replace(LEDGER, model="qwen")
    with pytest.raises(RequestError, match=said):
        ledger_points(made, "mine", setup)


def test_a_window_is_refused_and_the_rest_kept():
    busy = entries(callers=4, seconds=300) + entries(callers=40, seconds=120, seed=2)
    found = ledger_points(busy + entries(callers=4, seconds=900, seed=3), "mine", LEDGER)
    assert len(found.measurements) == 2
    assert ("the load was not steady", 1) in found.refused


def test_corrections_and_other_upstreams_do_not_count():
    made = entries()
    noise = [msgspec.structs.replace(entry, id=f"{entry.id}~x", corrects=entry.id) for entry in made[:50]]
    noise += [msgspec.structs.replace(entry, upstream="other") for entry in made]
    assert ledger_points(made + noise, "mine", LEDGER) == ledger_points(made, "mine", LEDGER)


def test_several_models_need_a_name():
    with pytest.raises(RequestError, match="does not say its model"):
        ledger_points(entries() + entries(model="llama"), "mine", LEDGER)


@pytest.mark.parametrize(
    "windowing", [Windowing(0.0), Windowing(fewest=1), Windowing(float("nan")), Windowing(unsteady=-1.0)]
)
def test_windows_that_make_no_sense(windowing):
    with pytest.raises(FarthingError, match="cannot be cut"):
        ledger_points(entries(), "mine", LEDGER, windowing)
