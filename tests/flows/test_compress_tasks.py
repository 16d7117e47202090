"""Every task from its data to its artefact: several labels, amounts, spans, pairs, embeddings, ensembles."""

import json
import random

import msgspec
import numpy as np
import pytest
import torch
from compress_sample import STAGES, Watching, small_job, write_data, write_rows

from farthing.compress.job import Augment, Data, Distil, Losses, Prune, Quantize, Targets, Teacher
from farthing.compress.networks.keeping import Kept, save_encoder
from farthing.compress.networks.scratch import begin_from_nothing, learned_tokenizer
from farthing.compress.pipeline import run
from farthing.engines.onnx import Model
from farthing.simulation.intents import LABELS, intents

pytestmark = pytest.mark.timeout(600)  # it trains

LOOSE = Targets(lost=100.0, recall_lost=100.0)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def job_of(task: str, data: Data, **changed):
    return small_job(task=task, data=data, targets=LOOSE, **changed)


def data_of(*names: str, **changed) -> Data:
    return Data(train=(names[0],), test=(names[1],), held_out=0.2, max_length=48, augment=Augment(copies=1), **changed)


def test_several_labels_at_once(tmp_path):
    dice = random.Random(1)
    known = [row for row in intents(dice, 4000) if row[1] in LABELS[:3]]
    rows = []
    for _ in range(500):
        some = dice.sample(known, dice.choice((1, 2)))
        rows.append((" ".join(text for text, _ in some), ",".join(sorted({label for _, label in some}))))
    write_rows(tmp_path / "train.csv", rows[:420])
    write_rows(tmp_path / "test.csv", rows[420:])

    report = run(job_of("multi-label", data_of("train.csv", "test.csv")), tmp_path, Watching())

    assert report.teacher.test.metric == "micro-F1"
    assert report.final.test.value > 60
    assert Model.load(tmp_path / "compressed").outputs(["x"]).shape == (1, 3)


def scored(dice, count):
    words = {"great": 2.0, "good": 1.0, "fine": 0.3, "poor": -1.0, "awful": -2.0, "shop": 0.0, "order": 0.0, "the": 0.0}
    rows = set()
    while len(rows) < count:
        some = [dice.choice(list(words)) for _ in range(dice.randint(3, 8))]
        rows.add((" ".join(some), str(round(sum(words[word] for word in some), 2))))
    return sorted(rows)


def test_an_amount(tmp_path):
    rows = scored(random.Random(2), 500)
    random.Random(3).shuffle(rows)
    write_rows(tmp_path / "train.csv", rows[:420])
    write_rows(tmp_path / "test.csv", rows[420:])

    report = run(job_of("regression", data_of("train.csv", "test.csv")), tmp_path, Watching())

    assert report.teacher.test.metric == "Spearman"
    assert report.final.test.value > 70
    model = Model.load(tmp_path / "compressed")
    high, low = model.outputs(["great great good", "awful poor awful"])[:, 0]
    assert high > low


def test_how_well_two_texts_fit(tmp_path):
    dice, rows = random.Random(5), set()
    topics = ["card", "order", "phone", "refund", "parcel", "bill"]
    while len(rows) < 400:
        one, other = dice.choice(topics), dice.choice(topics)
        rows.add(
            (f"my {one} {dice.randint(1, 9)}", f"about the {other} {dice.randint(1, 9)}", str(float(one == other)))
        )
    rows = sorted(rows)
    dice.shuffle(rows)
    write_rows(tmp_path / "train.csv", rows[:330], ("query", "document", "label"))
    write_rows(tmp_path / "test.csv", rows[330:], ("query", "document", "label"))
    data = data_of("train.csv", "test.csv", text="query", second="document")

    report = run(job_of("regression", data), tmp_path, Watching())

    assert len(report.rows) == 4
    model = Model.load(tmp_path / "compressed")
    ids = model.tokens.encode_pairs([("my card 1", "about the card 2")])
    assert np.isfinite(model.run(ids)).all()


def test_spans(tmp_path):
    dice = random.Random(6)
    cities, days = ["paris", "rome", "new york", "oslo", "cairo"], ["monday", "next friday", "tomorrow"]

    def row():
        city, day = dice.choice(cities), dice.choice(days)
        text = dice.choice(
            ["a ticket to {c} for {d}", "{d} i must be in {c}", "how do i get to {c}", "fly me to {c} {d}"]
        )
        said = text.replace("{c}", city).replace("{d}", day)
        spans = [{"start": said.index(city), "end": said.index(city) + len(city), "label": "CITY"}]
        if "{d}" in text:
            spans.append({"start": said.index(day), "end": said.index(day) + len(day), "label": "DAY"})
        return json.dumps(
            {
                "text": f"{said} {dice.choice(['please', 'thanks', 'now', ''])}".strip() + "." * dice.randint(0, 3),
                "spans": spans,
            }
        )

    lines = list(dict.fromkeys(row() for _ in range(2000)))
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:250]))
    (tmp_path / "test.jsonl").write_text("\n".join(lines[250:330]))

    report = run(job_of("tagging", data_of("train.jsonl", "test.jsonl", label="spans")), tmp_path, Watching())

    assert report.teacher.test.metric == "span F1"
    assert report.final.test.value > 60
    model = Model.load(tmp_path / "compressed")
    assert model.artefact.labels == ("O", "B-CITY", "I-CITY", "B-DAY", "I-DAY")


def test_embeddings_are_learned_from_a_finished_teacher(tmp_path):
    texts = [text for text, _ in intents(random.Random(7), 400)]
    (tmp_path / "texts.txt").write_text("\n".join(texts[:330]))
    (tmp_path / "test.txt").write_text("\n".join(texts[330:]))
    torch.manual_seed(1)
    made = begin_from_nothing(learned_tokenizer(texts, 48), 1, "embedding", layers=2, width=64, max_length=48)
    (tmp_path / "teacher").mkdir()
    save_encoder(tmp_path / "teacher", Kept(made.model, made.tokenizer, made.padding))
    job = job_of(
        "embedding",
        data_of("texts.txt", "test.txt"),
        teacher=Teacher(path="teacher", finished=True),
        stages=(
            Distil(
                layers=1, embedding=32, epochs=3, rate=2e-3, losses=Losses(soft=1, hard=0, pooled=1, contrastive=0.1)
            ),
            Quantize(recipes=("dynamic",), calibration=16),
        ),
    )

    report = run(job, tmp_path, Watching())

    assert report.final.test.metric == "Spearman of cosines"
    assert report.final.test.value > 60
    vectors = Model.load(tmp_path / "compressed").outputs(["where is it", "my parcel"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-3)


def test_an_ensemble_teaches_and_inner_states_can_be_imitated(tmp_path):
    write_data(tmp_path, 400)
    job = small_job(targets=LOOSE)
    job = msgspec.structs.replace(
        job,
        teacher=msgspec.structs.replace(job.teacher, members=2, epochs=3),
        stages=(
            Distil(
                layers=1,
                width=32,
                vocabulary=0,
                embedding=0,
                epochs=4,
                rate=3e-3,
                batch=32,
                losses=Losses(hidden=1.0, relations=1.0, contrastive=0.1),
            ),
            Prune(vocabulary=600, ffn=64, epochs=2, rate=2e-3, steps=2, losses=Losses(relations=0.5)),
        ),
    )

    report = run(job, tmp_path, Watching())

    assert report.final.test.value > 50
    assert report.rows[2].parameters < report.rows[1].parameters < report.teacher.parameters / 2


def test_a_teacher_that_was_finished_before_is_taken_as_it_is(tmp_path):
    write_data(tmp_path, 300)
    first = run(small_job(targets=LOOSE, stages=(STAGES[0],)), tmp_path, Watching())
    stage = next((tmp_path / "compressed.work").glob("1-distil-*"))

    second = run(
        small_job(targets=LOOSE, teacher=Teacher(path=str(stage), finished=True), stages=(STAGES[2],), out="again"),
        tmp_path,
        Watching(),
    )

    assert second.teacher.dev.value == pytest.approx(first.rows[1].dev.value)
    assert second.teacher.train_cpu_s == 0


def test_a_student_of_another_architecture_starts_from_nothing(tmp_path):
    import transformers

    write_data(tmp_path, 300)
    made = begin_from_nothing(
        learned_tokenizer(["some words to begin with"], 32), 4, "logits", layers=1, width=64, max_length=32
    )
    config = transformers.ElectraConfig(
        vocab_size=made.tokenizer.get_vocab_size(),
        embedding_size=32,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "electra")
    made.tokenizer.save(str(tmp_path / "electra" / "tokenizer.json"))
    watching = Watching()

    report = run(
        small_job(
            targets=LOOSE,
            teacher=Teacher(path="electra", epochs=1, rate=1e-3),
            stages=(Distil(layers=1, width=64, embedding=32, epochs=1), STAGES[2]),
        ),
        tmp_path,
        watching,
    )

    assert any("starts random" in note for note in watching.notes)
    assert report.final.mb < report.teacher.mb
