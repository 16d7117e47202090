"""`farthing plan`, question by question: what it prints, what it writes, and what it refuses."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import farthing.cli
from farthing.cli.verb_plan import QUESTIONS
from farthing.cli.verbs import root

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SEARCH = (
    "search",
    "--model",
    LLAMA,
    "--input",
    "1000",
    "--output",
    "300",
    "--rate",
    "8",
    "--tpot",
    "40ms",
    "--ttft",
    "2",
)
PRICED = ("--hardware", "H100 SXM,L4,A100-80GB SXM", "--price", "H100 SXM=2.95", "--price", "L4=0.80", "--price", "A100-80GB SXM=1.60")  # fmt: skip


def plan(*words):
    """Run a question; an error is given back as it would be raised."""
    return CliRunner().invoke(root, ["plan", *map(str, words)])


def document(*words):
    done = plan(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(capsys, monkeypatch, *words):
    """The exit status and the message of what is refused; nothing may be printed."""
    monkeypatch.setattr(sys, "argv", ["farthing", "plan", *map(str, words)])
    status = farthing.cli.main()
    out, err = capsys.readouterr()
    assert out == ""
    return status, err


@pytest.fixture
def asks(capsys, monkeypatch):
    return lambda *words: refused(capsys, monkeypatch, *words)


def test_every_question_has_help():
    for name, line in QUESTIONS.items():
        done = plan(name, "--help")
        assert done.exit_code == 0, (name, done.output)
        assert line in " ".join(plan("--help").output.split())
        assert "Usage:" in done.output


def test_without_the_extra_it_says_what_to_install():
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('numpy', 'scipy', 'numba'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "sys.argv[1:] = ['plan', 'search']\n"
        "from farthing.cli import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "numpy is not installed" in done.stderr
    assert "pip install 'farthing[plan]'" in done.stderr


def test_search_prints_the_answer_first_and_progress_elsewhere():
    done = plan(*SEARCH, *PRICED)
    assert done.exit_code == 0
    answer = done.stdout.splitlines()[0]
    assert "serve 8.00 requests/s" in answer
    assert "per 1M output tokens, between $" in answer
    assert "Looked at" in done.stderr
    assert "Looked at" not in done.stdout
    for name in ("H100 SXM", "L4", "A100-80GB SXM"):
        assert name in done.stdout


def test_search_gives_one_document():
    found = document(*SEARCH, *PRICED)
    assert found["schema"] == "farthing.plan.search/1"
    costs = [choice["usd_per_million_output_tokens"]["value"] for choice in found["choices"]]
    assert costs == sorted(costs)
    for choice in found["choices"]:
        usd = choice["usd_per_million_output_tokens"]
        assert usd["low"] < usd["value"] < usd["high"]
        assert choice["tpot_s"]["value"] <= 0.04
        assert choice["ttft_s"]["value"] <= 2
        assert choice["usd_per_h"] == pytest.approx(choice["devices"] * choice["usd_per_device_h"])
        assert usd["value"] == pytest.approx(choice["usd_per_h"] / (8 * 300 * 3600) * 1e6)
    assert len(found["choices"]) + len(found["excluded"]) == 3
    times = [corner["tpot_s"] for corner in found["frontier"]]
    assert times == sorted(times)


def test_search_writes_a_report_and_what_deploys_it(tmp_path):
    page, folder = tmp_path / "report.html", tmp_path / "deploy"
    done = plan(*SEARCH, *PRICED, "--precision", "bf16,fp8", "--html", page, "--emit", folder, "--image-tag", "v0.11.0", "--api-input", "0.1", "--api-output", "0.4")  # fmt: skip
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "API or machines of one&#39;s own" in text or "API or machines of one's own" in text
    assert "<script" not in text
    written = {file.name: file.read_text() for file in folder.iterdir()}
    assert "vllm serve" in written["serve.sh"] or "vllm" in written["serve.sh"]
    assert "ScaledObject" in written["scaledobject.yaml"]
    assert "1M output tokens" in done.stdout


def test_search_takes_its_load_from_traffic(tmp_path):
    traffic = tmp_path / "traffic.jsonl"
    lines = [
        {
            "at": 1_700_000_000 * 10**9 + call * 10**8,
            "model": "m",
            "usage": {"input": 300, "cache_read": 100, "output": 200},
        }
        for call in range(6000)
    ]
    traffic.write_text("\n".join(map(json.dumps, lines)))
    found = document("search", "--model", LLAMA, "--traffic", traffic, "--tpot", "40ms", *PRICED)["workload"]
    assert found["input_tokens"] == 400
    assert found["output_tokens"] == 200
    assert found["cached_share"] == 0.25
    assert found["requests_per_s"] == pytest.approx(10)


def test_a_config_file_stands_for_a_model(tmp_path):
    config = tmp_path / "mine" / "config.json"
    config.parent.mkdir()
    shape = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
             "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "torch_dtype": "bfloat16"}  # fmt: skip
    config.write_text(json.dumps(shape))
    found = document("memory", "--model", config)
    assert found["model"] == "mine"
    assert found["parameters"] == pytest.approx(8.03e9, rel=0.001)


def test_facts_of_ones_own_are_searched(tmp_path):
    extra = tmp_path / "extra.toml"
    extra.write_text(
        '[[price]]\nhardware = "H100 SXM"\nprovider = "ours"\nregion = "cellar"\nsku = "x"\ndevices = 1\n'
        'on_demand_usd_per_h = 0.01\nsource = "invoice"\ndate = 2026-11-01\n'
    )
    best = document(*SEARCH, "--facts", extra, "--region", "cellar")["choices"][0]
    assert best["hardware"] == "H100 SXM"
    assert "ours" in best["price"]
    assert best["usd_per_device_h"] == 0.01


def test_memory_says_what_fits():
    found = document("memory", "--model", LLAMA, "--hardware", "RTX 4090,A10", "--weights", "bf16")
    assert found["weights_bytes"] == pytest.approx(16.06e9, rel=0.001)
    assert found["kv_bytes_per_token"] == 131072
    rooms = [[room["sequences"] for room in fit["room"]] for fit in found["fits"]]
    assert all(room == sorted(room, reverse=True) for room in rooms)
    assert "GiB" in plan("memory", "--model", LLAMA, "--hardware", "L4").stdout


def test_predict_states_intervals():
    words = (
        "predict",
        "--model",
        LLAMA,
        "--hardware",
        "H100 SXM",
        "--input",
        1000,
        "--output",
        300,
        "--concurrency",
        32,
    )
    found = document(*words)["prediction"]
    for name in ("ttft_s", "tpot_s", "output_tokens_per_s"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    assert found["output_tokens_per_s"]["value"] == pytest.approx(
        32 * 300 / (found["ttft_s"]["value"] + 299 * found["tpot_s"]["value"]), rel=0.2
    )
    assert "held back by" in plan(*words).stdout


def test_speculation_speeds_up_a_small_batch_and_not_a_large_one():
    words = ("predict", "--model", "llama-3.3-70b", "--hardware", "H100 SXM", "--tensor", 4, "--weights", "fp8", "--input", 1000,
             "--output", 300, "--speculate", "head", "--acceptance", 0.75)  # fmt: skip
    few, many = (document(*words, "--concurrency", callers) for callers in (4, 240))
    assert few["speculation"]["speed_up"] > 1.5
    assert few["speculation"]["tpot_s"] == pytest.approx(
        few["prediction"]["tpot_s"]["value"] / few["speculation"]["speed_up"]
    )
    assert many["speculation"]["speed_up"] < few["speculation"]["speed_up"]
    assert few["speculation"]["gains_up_to"] > 4
    assert "times as fast" in plan(*words, "--concurrency", 4, "--drafts", 3).stdout


def test_scaling_has_a_frontier_and_draws_it(tmp_path):
    drawing = tmp_path / "scaling.svg"
    words = ("scaling", "--model", "llama-3.1-405b", "--hardware", "H100 SXM", "--weights", "fp8", "--svg", drawing)
    points = document(*words)["frontier"]
    speeds, costs = ([point[name] for point in points] for name in ("tokens_per_s_per_user", "usd_per_million_tokens"))
    assert speeds == sorted(speeds, reverse=True)
    assert costs == sorted(costs, reverse=True)
    root_element = ElementTree.fromstring(drawing.read_text())
    line = root_element.find("{http://www.w3.org/2000/svg}polyline")
    assert len(line.get("points").split()) == len(points)
    assert "simple law" in plan(*words).stdout


def test_energy_adds_up():
    words = (
        "energy",
        "--model",
        LLAMA,
        "--hardware",
        "H100 SXM",
        "--input",
        1000,
        "--output",
        300,
        "--concurrency",
        64,
    )
    found = document(*words, "--grid", "germany", "--usd-per-kwh", 0.1, "--pue", 1.5)
    energy, site = found["energy"], found["site"]
    joule = energy["joule_per_output_token"]["value"]
    assert energy["kwh_per_1k_requests"]["value"] == pytest.approx(joule * 300 * 1000 / 3.6e6)
    assert energy["g_co2e_per_1k_requests"]["value"] == pytest.approx(
        energy["kwh_per_1k_requests"]["value"] * site["g_per_kwh"]
    )
    assert 100 < energy["device_w"]["value"] < 750
    plain = document(*words)["energy"]
    assert plain["g_co2e_per_1k_requests"] is None
    assert joule == pytest.approx(1.5 * plain["joule_per_output_token"]["value"])
    assert "per output token" in plan(*words).stdout


def test_cost_splits_the_bill():
    words = ("cost", "--usd-per-device-h", 3.6, "--devices", 1, "--input-tokens-per-s", 4000, "--output-tokens-per-s", 1000,
             "--prefill-share", 0.2, "--utilisation", 0.5, "--input-tokens", 2000, "--output-tokens", 500,
             "--latency-s", 0.3, "--concurrency", 8)  # fmt: skip
    found = document(*words)
    assert found["tokens"]["usd_per_1m_input"] == pytest.approx(0.1)
    assert found["tokens"]["usd_per_1m_output"] == pytest.approx(1.6)
    assert found["usd_per_1k_requests"] == pytest.approx(1.0)
    assert found["usd_per_request_by_time"] == pytest.approx(3.6 / 3600 * 0.3 / 8)


def test_break_even_finds_the_traffic():
    words = ("break-even", "--usd-per-1m-input", 0.6, "--usd-per-1m-output", 0.9, "--input-tokens", 1000, "--output-tokens",
             400, "--usd-per-replica-h", 5, "--requests-per-s-per-replica", 4, "--staff-usd-per-month", 3000,
             "--requests-per-day", 1_000_000)  # fmt: skip
    found = document(*words)
    always = found["break_even"]["always"]["requests_per_day"]
    assert always < 1_000_000
    assert found["day"]["self_hosting_usd"] < found["day"]["api_usd"]
    assert f"{always:,.0f} requests" in plan(*words).stdout


def test_tco_adds_up():
    words = ("tco", "--devices", 8, "--capex-usd-per-device", 26280, "--life-years", 3, "--kw-per-device", 1, "--usd-per-kwh",
             0.1, "--pue", 1.25, "--rented-usd-per-device-h", 2.5)  # fmt: skip
    found = document(*words)
    assert found["usd_per_device_h"] == pytest.approx(1.125)
    assert found["crossover"]["month"] > 1
    assert "Owning has beaten renting after" in plan(*words).stdout


def test_compress_case_pays_back():
    words = ("compress-case", "--teacher-devices-per-replica", 4, "--teacher-usd-per-device-h", 3,
             "--teacher-requests-per-s-per-replica", 2, "--student-devices-per-replica", 1, "--student-usd-per-device-h", 3,
             "--student-requests-per-s-per-replica", 10, "--requests-per-s", 20, "--usd-once", 100000)  # fmt: skip
    found = document(*words)
    assert found["before"]["devices"] == 44
    assert found["student"]["devices"] == 3
    assert "pays back after 1.1 months" in plan(*words).stdout


def test_fleet_mixes_hardware_over_sizes():
    words = (
        "fleet",
        "--model",
        LLAMA,
        "--bucket",
        "200:100:20",
        "--bucket",
        "8000:300:2",
        "--tpot",
        "60ms",
        "--ttft",
        5,
        *PRICED,
    )
    found = document(*words)
    for place in range(2):
        assert sum(count["shares"][place] for count in found["counts"]) == pytest.approx(1)
    assert sum(count["usd_per_h"] for count in found["counts"]) == pytest.approx(found["usd_per_h"])
    assert found["usd_per_h"] <= found["best_single"]["usd_per_h"]


@pytest.mark.parametrize("kind", ["hardware", "models", "prices", "grids", "facilities", "ownership"])
def test_facts_have_sources(kind):
    rows = document("facts", kind)["rows"]
    assert rows
    assert all(row["source"] for row in rows)
    assert plan("facts", kind).exit_code == 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        # A model that fits nowhere.
        ((*SEARCH[:2], "llama-3.1-405b", *SEARCH[3:], "--hardware", "L4", "--price", "L4=0.8", "--max-devices", "1"), 2, ("fits on nothing", "GiB", "missing")),
        (("memory", "--model", "llama-3.1-405b", "--hardware", "L4"), 2, ("does not fit on 1 x L4", "GiB")),
        # A limit that physics forbids: which term, and by how much.
        ((*SEARCH[:-4], "--tpot", "1ms", *PRICED), 2, ("within 1 ms", "too long", "host", "weights")),
        ((*SEARCH[:-4], "--ttft", "1ms", *PRICED), 2, ("the first token", "within 1 ms", "too long")),
        # Contradictory units and questions.
        ((*SEARCH, "--concurrency", "4", *PRICED), 2, ("--rate and --concurrency contradict",)),
        ((*SEARCH[:-4], "--tpot", "40", *PRICED), 2, ("--tpot 40 is", "40ms")),
        ((*SEARCH, "--e2e", "1", *PRICED), 2, ("first token may take 2 s", "only 1 s")),
        ((*SEARCH, "--tpot", "40 parsecs", *PRICED), 2, ("'40 parsecs' is no duration",)),
        ((*SEARCH, "--rate", "0", *PRICED), 2, ("'0' is not above 0",)),
        ((*SEARCH, "--input", "-5", *PRICED), 2, ("'-5' is no number",)),
        ((*SEARCH, "--percentile", "100", *PRICED), 2, ("percentile 100",)),
        ((*SEARCH, "--precision", "fp9", *PRICED), 2, ("fp9",)),
        ((*SEARCH, "--api-input", "1", *PRICED), 2, ("--api-input and --api-output",)),
        (SEARCH[:3], 2, ("--rate, --concurrency or --traffic",)),
        # Prices that are missing, negative or none.
        ((*SEARCH, "--hardware", "Xeon 8480+"), 3, ("price of Xeon 8480+ is known", "--price")),
        ((*SEARCH, "--region", "atlantis"), 3, ("price of any hardware in atlantis",)),
        ((*SEARCH, "--price", "L4=-1"), 2, ("'-1' is no number",)),
        ((*SEARCH, "--price", "L4=nan"), 2, ("'nan' is no number",)),
        ((*SEARCH, "--price", "L4"), 2, ("NAME=USD",)),
        (("cost", "--usd-per-device-h", "-1", "--devices", "1", "--input-tokens-per-s", "1", "--output-tokens-per-s", "1", "--prefill-share", "0.5"), 2, ("-1 for usd_per_device_h",)),
        (("cost", "--usd-per-device-h", "nan", "--devices", "1", "--input-tokens-per-s", "1", "--output-tokens-per-s", "1", "--prefill-share", "0.5"), 2, ("nan for usd_per_device_h",)),
        # What nobody knows.
        (("memory", "--model", "gpt-17-turbo"), 2, ("'gpt-17-turbo' is not in the catalogue",)),
        ((*SEARCH, "--hardware", "H900"), 2, ("'H900' is not in the catalogue",)),
        ((*SEARCH, "--facts", "absent.toml"), 2, ("absent.toml cannot be read",)),
        ((*SEARCH, "--calibration", "absent.json"), 2, ("absent.json cannot be read",)),
        ((*SEARCH, "--emit", "here"), 2, ("--image-tag",)),
        (("energy", "--model", LLAMA, "--hardware", "L4", "--input", "9", "--output", "9", "--rate", "1", "--pue", "0.5"), 2, ("PUE of 0.5",)),
        (("energy", "--model", LLAMA, "--hardware", "L4", "--input", "9", "--output", "9", "--rate", "1", "--grid", "narnia"), 2, ("'narnia' is not known",)),
        (("scaling", "--model", LLAMA, "--hardware", "Xeon 8480+"), 3, ("price of Xeon 8480+ is known",)),
        (("predict", "--model", LLAMA, "--hardware", "L4", "--input", "9", "--output", "9", "--rate", "1", "--speculate", "head"), 2, ("--speculate and --acceptance",)),
        (("predict", "--model", LLAMA, "--hardware", "L4", "--input", "900", "--output", "300", "--rate", "900"), 2, ("more than the replica serves",)),
        (("fleet", "--model", LLAMA, "--bucket", "1000:200"), 2, ("INPUT:OUTPUT:REQUESTS_PER_S",)),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_a_message_and_no_number(asks, words, status, says):
    found, message = asks(*words)
    assert found == status, message
    for part in says:
        assert part in message
    assert message.splitlines()[0].startswith(("error: ", "Looked at"))


def test_an_unknown_architecture_is_refused(asks, tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "mamba9", "hidden_size": 1}')
    status, message = asks("memory", "--model", config)
    assert status == 2
    assert "mamba9" in message
    config.write_text("{not json")
    status, message = asks("memory", "--model", config)
    assert status == 2
    assert "is no config.json" in message


@pytest.mark.parametrize(
    "lines", ["", '{"at": 1, "model": "m"}\n', '{"at": 1, "model": "m", "usage": {"input": 5, "output": 5}}\n']
)
def test_traffic_that_says_nothing_is_refused(asks, tmp_path, lines):
    traffic = tmp_path / "traffic.jsonl"
    traffic.write_text(lines)
    status, message = asks("search", "--model", LLAMA, "--traffic", traffic, *PRICED)
    assert status == 2
    assert str(traffic) in message


def test_traffic_and_a_load_contradict_one_another(asks, tmp_path):
    status, message = asks(*SEARCH, "--traffic", tmp_path / "x.jsonl", *PRICED)
    assert status == 2
    assert "--traffic contradict" in message


def test_a_calibration_that_is_none_is_refused(asks, tmp_path):
    path = tmp_path / "cal.json"
    path.write_text('{"constants": 5}')
    status, message = asks(*SEARCH, "--calibration", path, *PRICED)
    assert status == 2
    assert "is no calibration" in message
