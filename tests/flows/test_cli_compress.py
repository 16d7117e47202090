"""farthing compress, as a person would run it: a job file, a run, its report, and the model at work."""

import csv
import http.client
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from click.testing import CliRunner, Result
from engine_sample import bag, sealed

import farthing
from farthing.cli.compressing_progress import Lines, Pace
from farthing.cli.verbs import root
from farthing.compress.job import Distil, Prune, Quantize
from farthing.compress.parsing import parse_job
from farthing.compress.record import Host, Report, Row, decode, encode
from farthing.engines.artefacts import read_artefact
from farthing.errors import ConfigError, TrafficError
from farthing.evaluation.quality import Comparison, Quality
from farthing.schema import Recorded, write_recorded

pytestmark = pytest.mark.timeout(600)  # it trains

SOURCE = Path(farthing.__file__).parents[1]
FARTHING = [sys.executable, "-m", "farthing.cli", "compress"]
ENVIRON = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
HEAVY = {"torch", "numpy", "scipy", "onnxruntime", "transformers", "tokenizers", "pyarrow"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)


def compress(*words: object, **more: object) -> Result:
    return CliRunner().invoke(root, ["compress", *map(str, words)], **more)


def run(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FARTHING, *map(str, words)], check=False, capture_output=True, text=True, env=ENVIRON, timeout=100, **more
    )


def write_examples(name: str = "tickets.csv", count: int = 30) -> None:
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("utterance", "intent"))
        for number in range(count):
            writer.writerow((f"where is card {number}", "card"))
            writer.writerow((f"send {number} to my landlord, please", "transfer"))


def made(folder: str = "model", accuracy: float = 93.0) -> Path:
    """An artefact of known words with a report, as a run leaves it."""
    place = bag(Path(folder), threshold=0.6)
    row = Row("teacher", "teacher", 22_420_000, 89.7, 7.39, dev=Quality("accuracy", 94.0, 93.1, 94.8, 1000))
    final = Row(
        "quantized", "quantize", 1_460_000, 1.59, 0.51, dev=Quality("accuracy", accuracy, 92.0, 94.0, 1000),
        dev_against_teacher=Comparison("accuracy", 94.0 - accuracy, -0.4, 1.2, 1.1, 0.2), verdict="kept",
    )  # fmt: skip
    report = Report(
        "bank", "classification", (row, final), Host("a processor"), folder, ("billing", "delivery", "praise")
    )
    (place / "report.json").write_bytes(encode(report))
    return place


@pytest.mark.parametrize("words", [[], ["init"], ["run"], ["report"], ["compare"], ["classify"], ["serve"], ["push"]])
def test_help_needs_nothing_heavy(words):
    program = f"import sys; sys.argv[1:] = {['compress', *words, '--help']}\nfrom farthing.cli import main\nmain()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=ENVIRON)
    assert "Usage: farthing compress" in done.stdout
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_init_writes_a_job_that_parses_and_says_what_was_found():
    write_examples()
    Path("encoder").mkdir()
    shape = {"num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    Path("encoder/config.json").write_text(json.dumps(shape))
    done = compress(
        "init", "jobs.toml", "--data", "tickets.csv", "--text", "utterance", "--label", "intent", "--teacher", "encoder"
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == "jobs.toml: 60 examples, 2 labels, cut off after 16 tokens\n"
    text = Path("jobs.toml").read_text()
    assert "# Found: 60 examples, 2 labels (card 30, transfer 30)." in text
    job = parse_job(text, "jobs.toml")
    assert (job.name, job.data.train, job.data.text, job.data.label) == ("tickets", ("tickets.csv",), "utterance", "intent")  # fmt: skip
    assert job.stages == (Distil(layers=(0, 5)), Prune(heads=4, ffn=320), Quantize())
    assert (job.teacher.path, job.data.max_length) == ("encoder", 16)


def test_init_never_overwrites():
    write_examples()
    Path("job.toml").write_text("mine")
    done = compress("init", "--data", "tickets.csv", "--text", "utterance", "--label", "intent")
    assert isinstance(done.exception, ConfigError)
    assert "job.toml is there already" in done.exception.message
    assert Path("job.toml").read_text() == "mine"


def test_init_from_traffic_takes_the_answers_for_labels():
    lines = []
    for number in range(8):
        request = {"messages": [{"role": "user", "content": f'say "{number}" \\ ☃'}]}
        reply = {"choices": [{"message": {"content": ("card", "transfer")[number % 2]}}]}
        bodies = (msgspec.Raw(json.dumps(body).encode()) for body in (request, reply))
        lines.append(write_recorded(Recorded(1, "big", request=next(bodies), reply=next(bodies))))
    Path("traffic").mkdir()
    Path("traffic/day.jsonl").write_bytes(b"\n".join(lines))
    done = compress("init", "jobs/job.toml", "--from-traffic", "traffic/day.jsonl", "--json")
    assert isinstance(done.exception, ConfigError)
    assert "jobs/job.toml cannot be written" in done.exception.message
    done = compress("init", "--from-traffic", "traffic/day.jsonl", "--json")
    said = json.loads(done.stdout)
    assert (said["schema"], said["examples"], said["labels"]) == ("farthing.compress.init/1", 8, ["card", "transfer"])
    assert "labelled by the answers of big 100 %" in done.stderr
    assert parse_job(Path("job.toml").read_text(), "job.toml").data.train == ("traffic/day.jsonl",)


@pytest.mark.parametrize("task", ["multi-label", "regression", "tagging", "embedding"])
def test_init_writes_a_sound_job_for_every_task(task):
    rows = [
        {"text": f"number {n}", "label": {"multi-label": ["a"], "regression": n}.get(task, ""), "spans": []}
        for n in range(9)
    ]
    rows[0]["spans"] = [{"start": 0, "end": 6, "label": 'odd "name"'}]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = compress("init", "--data", "a.jsonl", "--task", task, "--teacher", "hub/name")
    assert done.exit_code == 0, done.exception
    assert parse_job(Path("job.toml").read_text(), "job.toml").task == task


def test_init_tells_what_a_run_would_refuse():
    write_examples()
    with open("tickets.csv", "a") as file:
        file.write("lost,crad\n")
    done = compress("init", "--data", "tickets.csv", "--text", "utterance", "--label", "intent")
    assert "\"crad\" (tickets.csv, line 62; is it 'card'?)" in done.stderr
    assert "crad" in Path("job.toml").read_text()
    assert isinstance(compress("init", "x.toml", "--data", "tickets.csv").exception, TrafficError)
    assert not Path("x.toml").exists()


@pytest.mark.parametrize("words", [[], ["--data", "a.csv", "--from-traffic", "b.jsonl"]])
def test_init_wants_one_source(words):
    done = compress("init", *words)
    assert done.exit_code == 2
    assert "name either --data FILE or --from-traffic FILE" in done.output


def test_run_refuses_a_job_with_every_fault_before_anything_is_loaded():
    Path("job.toml").write_text('nmae = "x"\nname = "x"\n[data]\ntrain = ["a.csv"]\nheld_out = 2\n')
    done = run("run", "job.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        'error: job.toml: the job has no key "nmae"; did you mean "name"?',
        "job.toml: data.held_out is 2; expected a share between 0 and 1",
        "hint: `farthing compress init` writes a job file that explains itself.",
    ]
    assert "absent.toml cannot be read: No such file" in run("run", "absent.toml").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--until", "distill"], 'the job has no stage "distill"; did you mean "distil"?'),
        (["--until", "export"], 'the job has no stage "export"; it has teacher, distil, prune, quantize'),
        (["--engine", "ray"], "the job has no [search]"),
    ],
)
def test_run_refuses_options_that_the_job_has_no_use_for(words, message):
    Path("job.toml").write_text('name = "x"\n[data]\ntrain = ["a.csv"]\n')
    done = compress("run", "job.toml", *words)
    assert done.exit_code == 2
    assert message in done.output


def test_run_hands_over_the_job_its_folder_and_what_was_asked(monkeypatch):
    Path("jobs").mkdir()
    Path("jobs/job.toml").write_text('name = "x"\n[data]\ntrain = ["a.csv"]\n[search]\ntrials = 4\n')
    report = decode((made() / "report.json").read_bytes())
    asked = []

    def run_job(job, folder, progress, anew=False, until=""):
        asked.append((job.search.engine, job.search.trials, str(folder), anew, until))
        progress.stage("teacher")
        progress.step(2, 2, loss=0.5)
        progress.note("all is well")
        return report

    standing_in = ModuleType("farthing.wiring.compressing")
    standing_in.run_job = run_job
    monkeypatch.setitem(sys.modules, standing_in.__name__, standing_in)
    done = compress("run", "jobs/job.toml", "--anew", "--until", "teacher", "--engine", "ray")
    assert done.exit_code == 0, done.exception
    assert done.stderr.splitlines() == ["teacher", "  loss 0.5, 100 %", "note: all is well"]
    assert done.stdout == compress("report", "model").stdout
    done = compress("run", "jobs/job.toml", "--quiet", "--json")
    assert (done.stderr, json.loads(done.stdout)["schema"]) == ("", "farthing.compress.run/1")
    assert asked == [("ray", 4, "jobs", True, "teacher"), ("local", 4, "jobs", False, "")]


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_in_plain_lines_tells_measurements_and_signs_of_life():
    told: list[str] = []
    clock = Clock()
    lines = Lines(told.append, clock)
    lines.stage("distil")
    lines.step(10, 100, epoch=1, loss=0.5)
    for done in (20, 30):
        clock.now += 20
        lines.step(done, 100, epoch=1, loss=0.25)
    lines.step(50, 100, epoch=1, loss=0.25, dev=91.25)
    lines.note("kept")
    lines.step(100, 100, epoch=2, loss=0.125)
    assert told == [
        "distil",
        "  epoch 1, loss 0.25, 30 %, 2.33 min left",
        "  epoch 1, loss 0.25, dev 91.25, 50 %, 50.0 s left",
        "note: kept",
        "  epoch 2, loss 0.125, 100 %",
    ]


def test_the_time_left_counts_from_where_a_stage_went_on():
    clock = Clock()
    pace = Pace(clock)
    assert pace.left(80, 100) == ""
    clock.now = 10
    assert pace.left(90, 100) == ", 10.0 s left"


def test_report_shows_the_table_and_writes_the_page():
    made()
    done = compress("report", "model", "--html", "page.html")
    assert done.exit_code == 0, done.exception
    for said in ("bank: classification", "22.4 M", "1.46 M", "93.00 %", "-1.00", "56x"):
        assert said in done.stdout
    assert Path("page.html").read_text().startswith("<!doctype html>")
    assert "bank" in Path("page.html").read_text()
    said = json.loads(compress("report", "model", "--json").stdout)
    assert (said.pop("schema"), said["rows"][1]["mb"]) == ("farthing.compress.report/1", 1.59)
    assert decode(json.dumps(said)) == decode(Path("model/report.json").read_bytes())


def test_a_report_that_is_missing_or_damaged_is_refused():
    assert "absent/report.json cannot be read" in compress("report", "absent").exception.message
    made()
    Path("model/report.json").write_text("{")
    assert "model/report.json is not a report" in compress("report", "model").exception.message


def test_compare_puts_two_runs_side_by_side():
    made("one", 93.0)
    made("two", 91.5)
    done = compress("compare", "one", "two")
    lines = {
        line[: line.index("  ")].strip(): line.split()[-1] for line in done.stdout.splitlines() if "  " in line.strip()
    }
    assert (lines["MB"], lines["smaller"], lines["points lost"]) == ("1.59", "56x", "-2.50")
    assert "93.00 %" in done.stdout
    assert len(json.loads(compress("compare", "one", "two", "--json").stdout)["reports"]) == 2


def test_classify_labels_arguments_and_lines():
    made()
    done = compress("classify", "model", "refund my invoice", "nothing known here")
    first, second = done.stdout.splitlines()
    assert first.split()[0] == "billing"
    assert float(first.split()[1]) > 0.9
    assert "unsure" in second
    done = compress("classify", "model", "--json", input="the courier is late\n\nthanks\r\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["text"], one["labels"]) for one in answers] == [("the courier is late", ["delivery"]), ("thanks", ["praise"])]  # fmt: skip


def test_classify_gives_scores_for_a_regression_and_refuses_embeddings():
    bag(Path("score"), task="regression")
    assert json.loads(compress("classify", "score", "refund", "--json").stdout)["score"] > 1
    bag(Path("vectors"), task="embedding")
    assert "for embedding" in compress("classify", "vectors", "hello").exception.message


def test_what_was_damaged_is_neither_asked_nor_copied():
    made()
    Path("model/model.onnx").write_bytes(b"spoilt")
    for words in (("classify", "model", "hello"), ("push", "model", "there"), ("serve", "model", "--port", "0")):
        error = compress(*words).exception
        assert isinstance(error, ConfigError)
        assert "model.onnx is not the file" in error.message
    assert not Path("there").exists()


def test_push_copies_with_proof_and_refuses_addresses():
    made()
    done = compress("push", "model", "mounted/models/bank")
    assert done.stdout == "mounted/models/bank: bag, 2 files, every SHA-256 is right\n"
    assert read_artefact(Path("mounted/models/bank")) == read_artefact(Path("model"))
    assert json.loads(compress("push", "model", "mounted/models/bank", "--json").stdout)["model"] == "bag"
    for target, hint in (("s3://bucket/x", "aws s3 sync"), ("hf://me/x", "hf upload OWNER/NAME DIR")):
        error = compress("push", "model", target).exception
        assert hint in error.hint


def test_serve_answers_with_the_model_alone():
    place = made()
    manifest = json.loads((place / "artefact.json").read_bytes())
    (place / "artefact.json").write_text(json.dumps({**manifest, "name": "bank"}))
    sealed(place)
    process = subprocess.Popen(
        [*FARTHING, "serve", "model", "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRON
    )  # fmt: skip
    try:
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            text += line
        said = json.loads(text)
        assert (said["model"], said["task"], said["labels"]) == ("bank", "classification", 3)
        connection = http.client.HTTPConnection("127.0.0.1", int(said["url"].rpartition(":")[2]), timeout=20)
        connection.request("POST", "/v1/classify", json.dumps({"model": "bank", "input": "refund the invoice"}), {"content-type": "application/json"})  # fmt: skip
        answer = connection.getresponse()
        body = json.loads(answer.read())
        assert answer.status == 200, body
        assert body["data"][0]["label"] == "billing"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


TINY = """
name = "tickets"
out = "small"
[data]
train = ["tickets.csv"]
text = "utterance"
label = "intent"
held_out = 0.2
max_length = 16
augment = {copies = 0}
[teacher]
layers = 1
width = 32
epochs = 2
rate = 3e-3
[targets]
lost = 100.0
recall_lost = 100.0
[[stages]]
kind = "distil"
layers = 1
embedding = 16
epochs = 1
[[stages]]
kind = "quantize"
recipes = ["dynamic"]
calibration = 8
"""


def test_a_whole_run_goes_on_after_a_kill_and_ends_with_a_model_that_answers():
    write_examples(count=60)
    Path("jobs").mkdir()
    shutil.move("tickets.csv", "jobs/tickets.csv")
    Path("jobs/job.toml").write_text(TINY)
    killed = subprocess.Popen([*FARTHING, "run", "jobs/job.toml"], stderr=subprocess.PIPE, text=True, env=ENVIRON)
    told = []
    for line in killed.stderr:
        told.append(line)
        if "distil" in line:
            break
    killed.kill()
    killed.communicate()
    assert "distil" in told[-1], "".join(told)
    assert not Path("jobs/small").exists()
    done = run("run", "jobs/job.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert "note: teacher was finished before; it is kept." in done.stderr
    report = json.loads(done.stdout)
    assert (report["schema"], [row["kind"] for row in report["rows"]]) == (
        "farthing.compress.run/1",
        ["teacher", "distil", "quantize"],
    )
    assert compress("report", "jobs/small").exit_code == 0
    assert json.loads(compress("classify", "jobs/small", "send 3 to my landlord, please", "--json").stdout)["labels"]


def test_at_a_terminal_a_run_draws_bars(tmp_path):
    program = (
        "from farthing.cli.asking import Asked\nfrom farthing.cli.compressing_progress import following\n"
        "with following(Asked()) as told:\n    told.stage('distil')\n    told.step(1, 2, epoch=1, loss=0.5, dev=91.0)\n"
        "    told.note('[kept] as it is')\n    told.stage('prune')\n    told.step(1, 1)\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program], stderr=theirs, check=False, env={**ENVIRON, "TERM": "xterm", "COLUMNS": "100"}, timeout=60
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:
        pass
    os.close(ours)
    text = seen.decode()
    assert done.returncode == 0, text
    for said in ("distil", "epoch 1, loss 0.5, dev 91", "note: [kept] as it is", "prune"):
        assert said in text
