"""A decoder trained from scratch goes through the whole line; what each stage may and may not lose."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from decoder_sample import STAGES, tickets, train_decoder, write_job

from farthing.compress.generative import decoders, distilling, shrinking
from farthing.compress.generative.job import Relearn, Shrink, Weights
from farthing.compress.generative.reading import parse_generative
from farthing.compress.generative.record import GenerativeReport, Row
from farthing.compress.generative.running import read_report, run_generative
from farthing.compress.generative.speaking import GenaiSpeaker, greedy
from farthing.compress.generative.tokens import words_of
from farthing.compress.generative.weights import build_onnx
from farthing.compress.progress import Silence
from farthing.compress.training.batches import Batch, Encoded, batch, in_order
from farthing.errors import ConfigError

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("generative")
    train_decoder(folder / "decoder")
    return folder


class Notes(Silence):
    """Keeps what a person is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(place: Path, out: str, stages: str, targets: str = "") -> tuple[GenerativeReport, list[str]]:
    job = write_job(place, stages, targets=targets)
    notes = Notes()
    parsed = msgspec.structs.replace(parse_generative(job.read_text(), str(job)), out=out)
    return run_generative(parsed, place, notes), notes.notes


@pytest.fixture(scope="module")
def report(place: Path) -> GenerativeReport:
    for package in ("onnxruntime_genai", "onnx_ir", "gguf"):
        pytest.importorskip(package)
    return run(place, "small", STAGES)[0]


def row(report: GenerativeReport, name: str) -> Row:
    return next(row for row in report.rows if name in row.name)


def sequences(place: Path, count: int, seed: int) -> Encoded:
    words = words_of(place / "decoder")
    return Encoded(words.sequences([ticket.line for ticket in tickets(count, seed)], 96), words.padding, [])


def batches(texts: Encoded) -> list[Batch]:
    return [batch(texts, rows, torch.device("cpu")) for rows in in_order(texts, 16)]


def test_every_stage_answers_the_checks_to_the_letter(report: GenerativeReport) -> None:
    assert [row.verdict for row in report.rows] == ["kept"] * 4 + ["written"]
    measured = [row for row in report.rows if row.figures]
    assert len(measured) >= 4
    for one in measured:
        assert one.right is not None
        assert one.right >= 0.95, one.name


def test_the_cut_decoder_is_smaller_and_faster(report: GenerativeReport) -> None:
    teacher, cut = report.rows[0], row(report, "shrunk")
    assert cut.parameters < 0.65 * teacher.parameters
    assert teacher.figures is not None
    assert cut.figures is not None
    assert cut.figures.decode_per_s > 1.1 * teacher.figures.decode_per_s


def test_int8_keeps_the_perplexity_and_int4_nearly(report: GenerativeReport) -> None:
    whole, eight, four = (row(report, name) for name in ("shrunk", "int8", "int4"))
    assert whole.ratio is not None
    assert eight.ratio is not None
    assert four.ratio is not None
    assert eight.ratio.times <= 1.01 * whole.ratio.times
    assert four.ratio.times <= 1.05 * whole.ratio.times
    assert four.mb < eight.mb < whole.mb


def test_a_gguf_file_is_nearly_what_was_to_be_written(report: GenerativeReport) -> None:
    assert "off by 0." in row(report, "gguf").note


def test_the_graph_computes_what_torch_computes(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    pytest.importorskip("onnx_ir")
    build_onnx(place / "decoder", tmp_path, Weights(bits=32))
    speaker, ids = GenaiSpeaker(tmp_path, 1), sequences(place, 1, seed=3).ids[0]
    with torch.no_grad():
        expected = decoders.load_decoder(place / "decoder")(input_ids=torch.tensor([ids])).logits[0].numpy()
    assert np.abs(speaker.begin(ids, 4) - expected).max() < 1e-4
    step = speaker.begin(ids[:-1], 4)[-1], speaker.follow(ids[-1])
    assert np.abs(np.stack(step) - expected[-2:]).max() < 1e-4


def test_the_folder_is_whole_and_says_what_was_measured(place: Path, report: GenerativeReport) -> None:
    small = place / "small"
    assert read_report(small) == report
    assert (small / "exports/gguf-q8_0/model.gguf").is_file()
    assert "int4" in report.rows[report.final].name
    assert "| teacher |" in (small / "table.md").read_text()
    assert str(place) not in (small / "report.json").read_text()
    spoilt = place / "spoilt"
    shutil.copytree(small, spoilt)
    data = bytearray((spoilt / "model/model.onnx.data").read_bytes())
    data[1000] ^= 1
    (spoilt / "model/model.onnx.data").write_bytes(data)
    with pytest.raises(ConfigError, match=r"model\.onnx\.data is not as it was written"):
        read_report(spoilt)


def test_a_second_run_keeps_everything(place: Path, report: GenerativeReport) -> None:
    again, notes = run(place, "small", STAGES)
    assert [one.figures for one in again.rows] == [one.figures for one in report.rows]
    assert not [note for note in notes if "is kept" not in note]


def test_the_model_answers_in_a_fresh_process_without_torch(place: Path, report: GenerativeReport) -> None:
    ticket = tickets(1, seed=1)[0]
    script = f"""
import sys, numpy, onnxruntime_genai as genai
from tokenizers import Tokenizer
model = genai.Model({str(place / "small/model")!r})
words = Tokenizer.from_file({str(place / "small/model/tokenizer.json")!r})
parameters = genai.GeneratorParams(model)
parameters.set_search_options(max_length=96, do_sample=False)
generator = genai.Generator(model, parameters)
generator.append_tokens(numpy.array(words.encode({ticket.prompt!r}).ids, numpy.int32))
said = []
while not generator.is_done():
    generator.generate_next_token()
    said.append(int(generator.get_next_tokens()[0]))
assert not {{"torch", "transformers", "farthing"}} & set(sys.modules)
print(words.decode(said))
"""
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ticket.answer.strip()


def test_the_least_influential_layer_is_missed_less_than_another(place: Path) -> None:
    model, texts = decoders.load_decoder(place / "decoder"), sequences(place, 48, seed=3)
    influence = shrinking.block_influence(model, batches(texts))
    lost = [-distilling.log_probability(shrinking.without_layers(model, (layer,)), texts) for layer in range(5)]
    assert lost[int(np.argmin(influence))] < np.mean(lost)


def test_distilling_gives_back_most_of_what_was_cut(place: Path, tmp_path: Path) -> None:
    teacher, held = decoders.load_decoder(place / "decoder"), sequences(place, 60, seed=3)
    student = shrinking.shrink(teacher, Shrink(layers=1, ffn=0.5, kv_heads=1), batches(held)).model
    course = distilling.Course(sequences(place, 600, seed=4), held, seed=1)
    whole, cut = distilling.log_probability(teacher, held), distilling.log_probability(student, held)
    trained = distilling.distil(student, teacher, course, Relearn(epochs=2, rate=2e-3), Silence(), tmp_path / "r")
    assert cut < whole - 0.05
    assert trained.score - cut > 0.5 * (whole - cut)
    assert trained.score == pytest.approx(distilling.log_probability(student, held), abs=1e-3)


def test_linears_in_four_bits_take_a_third_of_half_precision(place: Path, report: GenerativeReport) -> None:
    cut = decoders.load_decoder(next(Path(place / "small.work").glob("distil-*")))
    packed, linears = in_four_bits(place / "small/model")
    weights = [one.weight for one in cut.modules() if isinstance(one, torch.nn.Linear)]
    assert linears == 4 * 5 + 1  # queries, keys and values are one
    assert packed <= 0.35 * 2 * sum(weight.numel() for weight in weights)


def test_asymmetric_blocks_are_no_larger_than_that_and_answer(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    pytest.importorskip("onnx_ir")
    build_onnx(place / "decoder", tmp_path, Weights(bits=4, symmetric=False, activations=32))
    model = decoders.load_decoder(place / "decoder")
    weights = [one.weight for one in model.modules() if isinstance(one, torch.nn.Linear)]
    assert in_four_bits(tmp_path)[0] <= 0.35 * 2 * sum(weight.numel() for weight in weights)
    ticket, words = tickets(1, seed=1)[0], words_of(place / "decoder")
    said = greedy(GenaiSpeaker(tmp_path, 1), words.prompt(ticket.prompt), 40, words.end)
    assert words.tokenizer.decode(said).strip() == ticket.answer.strip()


def in_four_bits(folder: Path) -> tuple[int, int]:
    """Bytes of the linears of a graph, scales and zero points included, and how many linears there are."""
    import onnx

    graph = onnx.load(folder / "model.onnx").graph
    linears = [node for node in graph.node if node.op_type == "MatMulNBits"]
    packed = {name for node in linears for name in node.input[1:] if name}
    return sum(len(one.raw_data) for one in graph.initializer if one.name in packed), len(linears)


def test_a_stage_that_loses_too_much_is_made_gentler(place: Path) -> None:
    stages = '[[stages]]\nkind = "shrink"\nlayers = 2\n'
    report, notes = run(place, "gentle", stages, "[targets]\nperplexity = 1.01\n")
    tried = [(row.name, row.verdict) for row in report.rows[1:]]
    assert [name for name, _ in tried] == ["shrunk: 2 layers out", "shrunk: 1 layer out"]
    assert [verdict for _, verdict in tried] == ["passed over", "given up"]
    assert report.final == 0
    assert any("the limit is 1.01" in note for note in notes)
    assert decoders.parameters_in(place / "gentle/model") == report.rows[0].parameters


def test_nothing_half_written_is_left_when_a_stage_fails(place: Path) -> None:
    stages = '[[stages]]\nkind = "shrink"\nlayers = 9\n'
    with pytest.raises(ConfigError, match="9 layers"):
        run(place, "broken", stages)
    assert not (place / "broken").exists()
    assert not list((place / "broken.work").glob("*.part"))


@pytest.mark.parametrize(
    ("change", "says"),
    [(("length = 96", "length = 300"), "reads 256"), (('path = "decoder"', 'path = "missing"'), r"no config\.json")],
)
def test_what_does_not_fit_the_decoder_is_said_before_anything_runs(
    place: Path, change: tuple[str, str], says: str
) -> None:
    job = write_job(place, '[[stages]]\nkind = "shrink"\nlayers = 1\n')
    with pytest.raises(ConfigError, match=says):
        run_generative(parse_generative(job.read_text().replace(*change), "job.toml"), place, Silence())


def test_a_folder_that_is_not_ours_is_not_replaced(place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine/diary.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="nothing that such a job wrote"):
        run(place, "mine", '[[stages]]\nkind = "shrink"\nffn = 0.9\n')
    assert (place / "mine/diary.txt").read_text() == "keep me"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_distilling_on_a_gpu(place: Path, tmp_path: Path) -> None:
    teacher = decoders.load_decoder(place / "decoder")
    student = shrinking.without_layers(teacher, (2,))
    course = distilling.Course(sequences(place, 200, seed=4), sequences(place, 40, seed=3), seed=1)
    before = distilling.log_probability(student, course.dev)
    trained = distilling.distil(student, teacher, course, Relearn(epochs=1, rate=1e-3), Silence(), tmp_path / "r")
    assert trained.score > before


def test_the_answers_are_json(place: Path) -> None:
    assert all(json.loads(ticket.answer)["city"] in ticket.prompt for ticket in tickets(20, seed=1))
    assert not {one.prompt for one in tickets(99, seed=1)} & {one.prompt for one in tickets(999, seed=4)}
