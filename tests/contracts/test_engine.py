"""The engine: artefacts that are what they say, models that answer as their endpoints promise, and stay when reloaded."""

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy", reason="needs farthing[engine]")
pytest.importorskip("onnxruntime", reason="needs farthing[engine]")
pytest.importorskip("onnx", reason="needs farthing[compress]")

from engine_sample import SPECIAL, TINY, WORDS, bag, encoder, sealed, tokenizer  # noqa: E402

from farthing.engines import models as models_module  # noqa: E402
from farthing.engines.artefacts import read_artefact, read_manifest  # noqa: E402
from farthing.engines.batching import Rules  # noqa: E402
from farthing.engines.embedded import EmbeddedUpstream  # noqa: E402
from farthing.engines.models import MB, Keeping  # noqa: E402
from farthing.engines.onnx import Model  # noqa: E402
from farthing.engines.scoring import probabilities, score  # noqa: E402
from farthing.engines.tokens import Tokens  # noqa: E402
from farthing.errors import ConfigError, UpstreamError  # noqa: E402
from farthing.ports import Outcome, Question  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A folder of every kind of model, by the model's name."""
    home = tmp_path_factory.mktemp("models")
    made = {
        "bag": bag(home / "bag", temperature=2.0),
        "topics": bag(home / "topics", name="topics", task="multi-label"),
        "vectors": bag(home / "vectors", name="vectors", task="embedding"),
        "score": bag(home / "score", name="score", task="regression"),
        "student": encoder(home / "student"),
    }
    return made


class Kept:
    """A sink that keeps what came."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    def begin(self, status, headers, flow) -> None:
        self.status, self.headers = status, dict(headers)

    def chunk(self, data: bytes) -> None:
        self.body += data

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["error"]["message"]


def engine(*paths: Path, rules: Rules = Rules(), **keeping) -> EmbeddedUpstream:  # noqa: B008 (frozen)
    return EmbeddedUpstream("engine", paths, Keeping(**keeping), rules)


def question(path: str, body: object, method: str = "POST", **more) -> Question:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Question(method, path, (), data, isinstance(body, dict) and bool(body.get("stream")), **more)


def asked(upstream: EmbeddedUpstream, *questions: Question) -> list[tuple[Outcome, Kept]]:
    async def all_of_them():
        found = []
        for one in questions:
            kept = Kept()
            found.append((await asyncio.wait_for(upstream.ask(one, kept), 20), kept))
        await upstream.close()
        return found

    return asyncio.run(all_of_them())


def ask(upstream: EmbeddedUpstream, path: str, body: object, **more) -> tuple[Outcome, Kept]:
    return asked(upstream, question(path, body, **more))[0]


# -- artefacts


def test_an_artefact_is_read_when_every_file_is_what_it_was(folders):
    artefact = read_artefact(folders["bag"])

    assert (artefact.name, artefact.task, artefact.labels) == ("bag", "classification", tuple(WORDS))
    assert artefact == read_manifest(folders["bag"])


def damage_model(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def change_manifest(**changes):
    def change(folder: Path) -> None:
        said = json.loads((folder / "artefact.json").read_text())
        (folder / "artefact.json").write_text(json.dumps({**said, **changes}))

    return change


HASH = "0" * 64
DAMAGES = {
    "a changed byte": (
        damage_model,
        r"model\.onnx is not the file .* expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}",
    ),
    "a missing file": (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json cannot be read: No such"),
    "no manifest": (lambda folder: (folder / "artefact.json").unlink(), "is no artefact: artefact.json cannot be read"),
    "half a manifest": (lambda folder: (folder / "artefact.json").write_text('{"name": "b'), "cannot be read"),
    "a later format": (change_manifest(format=2), "has format 2; this version of Farthing reads format 1"),
    "another task": (change_manifest(task="translation"), "cannot be read.*translation"),
    "no hash": (change_manifest(files={"model.onnx": HASH}), r"expected SHA-256 0{64}|holds no SHA-256 of tokenizer"),
    "a file outside": (change_manifest(files={"../../etc/passwd": HASH}), "names a file outside its folder"),
    "no name": (change_manifest(name=""), "gives the model no name"),
    "a label twice": (change_manifest(labels=["a", "b", "a"]), 'the label "a" is there 2 times'),
    "a cold temperature": (change_manifest(temperature=0), "temperature is 0; it must be above 0"),
    "a high threshold": (change_manifest(threshold=1.5), "threshold is 1.5"),
    "no length": (change_manifest(max_length=0), "max_length is 0"),
    "too few labels": (change_manifest(labels=["a"]), "gives 3 columns, and its artefact names 1 labels"),
    "no room for text": (change_manifest(max_length=2), "adds 2 tokens to every text, and the model takes 2"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_wrong_with_an_artefact_is_said(tmp_path, name):
    damage, message = DAMAGES[name]
    folder = bag(tmp_path / "a")
    damage(folder)

    with pytest.raises(ConfigError, match=message) as refused:
        Model.load(folder)
    assert refused.value.hint


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_of_another_kind_is_no_model(tmp_path, name):
    folder = bag(tmp_path / "a")
    (folder / name).write_text("no")
    sealed(folder)

    with pytest.raises(ConfigError, match=name):
        Model.load(folder)


# -- models


TEXTS = ["refund my payment", "late parcel", "", "great " * 100, "x" * 1_000_000, "une facture à payer 🦉", "\n\t"]


def test_any_text_has_an_answer_and_a_long_one_is_cut_off(folders):
    model = Model.load(folders["bag"])

    outputs = model.outputs(TEXTS)

    assert outputs.shape == (len(TEXTS), 3)
    assert np.isfinite(outputs).all()
    assert [len(ids) for ids in model.encode(TEXTS)][3:5] == [16, 3]
    assert outputs[0].argmax() == 0
    assert outputs[1].argmax() == 1
    assert outputs[3] == pytest.approx([0, 0, 12.0])
    assert model.outputs([]).shape == (0, 3)


def test_texts_run_together_get_what_they_get_alone(folders):
    model = Model.load(folders["student"])
    texts = [" ".join(["ea", "to", "in", "##es"] * (1 + number % 9)) for number in range(40)]

    together = model.outputs(texts)

    alone = np.concatenate([model.outputs([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)
    scored = [np.array(one.values) for one in score(model, texts)]
    assert np.array(scored) == pytest.approx(probabilities(alone, 1.0, together=True), abs=1e-5)


WORDY = st.lists(
    st.sampled_from([*(word for words in WORDS.values() for word in words), "other", "Größe", "don't", "[MASK]", "[SEP]",
                     "a\tb", "\x0b", "ﬁ", "日本", "e\u0301", "\u0301", "x" * 120, ""]) | st.text(max_size=6),
    max_size=30,
).map(" ".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDY, min_size=1, max_size=3))
def test_ids_are_those_of_the_tokenizer_though_words_are_remembered(reading, texts):
    tokens, whole = reading

    assert tokens.encode(texts) == [whole.encode(text).ids for text in texts]
    assert tokens.encode(texts) == [whole.encode(text).ids for text in texts]  # now remembered


@pytest.fixture(scope="module")
def reading(folders):
    """A model's way from text to ids, and the tokenizer that it must agree with."""
    from tokenizers import Tokenizer

    file = folders["student"] / "tokenizer.json"
    whole = Tokenizer.from_file(str(file))
    whole.enable_truncation(64)
    return Tokens(file, 64), whole


def test_a_tokenizer_that_looks_beyond_words_is_asked_itself(tmp_path):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    made = tokenizer([*SPECIAL, "new", "york", "[NEW YORK]"])
    made.add_tokens([AddedToken("new york", single_word=False)])
    (tmp_path / "one.json").write_text(made.to_str())
    tokens = Tokens(tmp_path / "one.json", 16)
    assert tokens.encode(["new york"]) == [Tokenizer.from_str(made.to_str()).encode("new york").ids]
    assert len(tokens.encode(["new york"])[0]) == 3

    byte_level = Tokenizer(models.BPE({"a": 0, "Ġ": 1, "b": 2, "Ġb": 3}, [("Ġ", "b")]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    (tmp_path / "two.json").write_text(byte_level.to_str())
    assert Tokens(tmp_path / "two.json", 16).encode(["a b"]) == [[0, 3]]


def test_values_that_are_no_numbers_fail_their_own_text_alone(folders):
    model = Model.load(folders["bag"])
    run = model.run

    def sick(batch):
        outputs = run(batch).copy()
        outputs[[len(ids) == 3 for ids in batch]] = np.nan
        return outputs

    model.run = sick
    well, ill = score(model, ["refund my payment", "refund"])

    assert well.best == 0
    assert isinstance(ill, UpstreamError)
    assert "no numbers for a text of 3 tokens" in ill.message


def test_temperature_softens_and_labels_that_exclude_nothing_stand_alone():
    logits = np.array([[2.0, 0.0], [-800.0, 800.0]], np.float32)

    assert probabilities(logits, 2.0, together=True)[0] == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert probabilities(logits, 1.0, together=False)[0] == pytest.approx([0.880797, 0.5], abs=1e-6)
    assert probabilities(logits, 1.0, together=True)[1].tolist() == [0.0, 1.0]


# -- endpoints


def test_labels_come_with_probabilities_and_confidence(folders):
    outcome, kept = ask(engine(folders["bag"]), "/classify", {"model": "bag", "input": ["refund", "late thanks x y"]})

    assert kept.status == 200
    answer = kept.json
    sure, unsure = answer["data"]
    assert (sure["index"], sure["label"], sure["num_classes"]) == (0, "billing", 3)
    assert sure["probs"] == pytest.approx(probabilities(np.array([[12.0, 0, 0]]), 2.0, together=True)[0], abs=1e-6)
    assert sure["confidence"] == pytest.approx(max(sure["probs"]), abs=1e-6)
    assert unsure["probs"] == pytest.approx([0.1, 0.45, 0.45], abs=0.1)
    assert answer["object"] == "list"
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0}
    assert outcome.confidence == unsure["confidence"]
    assert float(kept.headers[b"x-farthing-confidence"]) == pytest.approx(unsure["confidence"], abs=1e-6)


def test_several_labels_may_be_given_by_a_model_for_several(folders):
    _, kept = ask(engine(folders["topics"]), "/classify", {"model": "topics", "input": "late refund thanks"})

    (data,) = kept.json["data"]
    assert sorted(data["labels"]) == sorted(WORDS)
    assert data["confidence"] == pytest.approx(min(data["probs"]), abs=1e-6)


def test_embeddings_come_as_numbers_or_packed(folders):
    body = {"model": "vectors", "input": ["refund late", "thanks"]}
    plain, packed, sized, wrong = asked(
        engine(folders["vectors"]),
        *(
            question("/embeddings", {**body, **more})
            for more in ({}, {"encoding_format": "base64"}, {"dimensions": 3}, {"dimensions": 2})
        ),
    )

    rows = [data["embedding"] for data in plain[1].json["data"]]
    assert rows[0] == pytest.approx([0.7071068, 0.7071068, 0])
    assert rows[1] == pytest.approx([0, 0, 1])
    for data, row in zip(packed[1].json["data"], rows, strict=True):
        assert np.frombuffer(base64.b64decode(data["embedding"]), "<f4") == pytest.approx(row)
    assert sized[1].status == 200
    assert (wrong[1].status, "`dimensions` is 2; the model vectors gives 3" in wrong[1].message) == (400, True)


def test_documents_are_ranked_by_how_alike_they_are_or_what_the_model_says(folders):
    documents = ["parcel", {"text": "refund invoice"}, "refund late"]
    for name in ("vectors", "score"):
        body = {"model": name, "query": "refund", "documents": documents, "top_n": 2, "return_documents": True}
        _, kept = ask(engine(folders[name]), "/rerank", body)

        first, second = kept.json["results"]
        assert first["index"] == 1
        assert first["document"] == {"text": "refund invoice"}
        assert first["relevance_score"] > second["relevance_score"]
        assert kept.json["usage"]["total_tokens"] > 10
    assert first["relevance_score"] == pytest.approx(12 * 3 / 4)  # [CLS] refund [SEP] refund invoice [SEP], less two


def chatting(text: object, **more) -> dict:
    return {"model": "bag", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": text}], **more}


def test_a_chat_is_answered_by_the_label(folders):
    parts = [
        {"type": "text", "text": "late"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "text", "text": "parcel"},
    ]
    outcome, kept = ask(engine(folders["bag"]), "/chat/completions", chatting(parts))

    (choice,) = kept.json["choices"]
    assert choice["message"]["content"] == "delivery"
    assert choice["finish_reason"] == "stop"
    assert kept.json["usage"]["prompt_tokens"] == 4
    assert kept.json["usage"]["completion_tokens"] >= 1
    assert kept.json["confidence"] == outcome.confidence == pytest.approx(0.9951, abs=1e-3)


def test_an_answer_that_is_not_sure_enough_is_declined_and_nothing_is_poured(folders):
    for stream in (False, True):
        outcome, kept = ask(
            engine(folders["bag"]), "/chat/completions", chatting("late refund", stream=stream), accept=0.9
        )

        assert outcome.ending == "declined"
        assert outcome.confidence == pytest.approx(0.488, abs=0.001)
        assert "0.9" in outcome.detail
        assert not kept.status
        given, _ = ask(engine(folders["bag"]), "/chat/completions", chatting("late", stream=stream), accept=0.9)
        assert given.ending == "complete"


def test_a_chat_can_be_streamed_with_its_usage(folders):
    body = chatting("thanks", stream=True, stream_options={"include_usage": True})
    _, kept = ask(engine(folders["bag"]), "/chat/completions", body)

    events = [json.loads(line[6:]) for line in kept.body.splitlines() if line.startswith(b"data: {")]
    assert (
        "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == "praise"
    )
    assert events[-1]["usage"]["prompt_tokens"] == 3
    assert kept.body.endswith(b"data: [DONE]\n\n")


def test_models_are_listed(folders):
    upstream = engine(folders["bag"], folders["score"])
    listed, one, none = asked(
        upstream, *(question(path, b"", "GET") for path in ("/models", "/models/bag", "/models/no"))
    )

    assert [card["id"] for card in listed[1].json["data"]] == ["bag", "score"]
    assert one[1].json["id"] == "bag"
    assert none[1].status == 404


ONE = {"model": "bag", "input": "late"}
REFUSED = {
    "an unknown model": ("/classify", {**ONE, "model": "bags"}, 404, 'There is no model "bags" here. Did you mean "bag"'),
    "another task": ("/embeddings", ONE, 400, 'The model "bag" is for classification, which embeddings does not ask for'),
    "no text": ("/classify", {**ONE, "input": []}, 400, "`input` is empty"),
    "an empty text": ("/classify", {**ONE, "input": ["late", " "]}, 400, "`input[1]` is empty"),
    "an empty chat": ("/chat/completions", {"model": "bag", "messages": []}, 400, "`messages` is empty"),
    "token ids": ("/embeddings", {"model": "vectors", "input": [1, 2]}, 400, "`input[0]` is token ids"),
    "too many texts": ("/classify", {**ONE, "input": ["a"] * 2049}, 413, "`input` holds 2049 texts; 2048 is the most"),
    "too long a text": ("/classify", {**ONE, "input": "a" * 4_000_001}, 413, "`input` is 4000001 characters long"),
    "a number": ("/classify", {**ONE, "input": 3}, 400, "`input` is not what /v1/classify takes"),
    "no model": ("/classify", {"input": "late"}, 400, "missing required field `model`"),
    "no JSON": ("/classify", b"{", 400, "not readable JSON"),
    "nothing": ("/classify", b"", 400, "not readable JSON"),
    "deep JSON": ("/classify", b'{"model":"bag","x":' + b"[" * 50_000, 400, "not readable JSON"),
    "no documents": ("/rerank", {"model": "vectors", "query": "q", "documents": []}, 400, "`documents` is empty"),
    "top 0": ("/rerank", {"model": "vectors", "query": "q", "documents": ["a"], "top_n": 0}, 400, "`top_n`"),
    "elsewhere": ("/responses", ONE, 404, "The engine has no POST /responses"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused_in_the_callers_dialect(folders, name):
    path, body, status, message = REFUSED[name]
    outcome, kept = ask(engine(folders["bag"], folders["vectors"]), path, body)

    assert outcome == Outcome("complete")
    assert kept.status == status
    assert message in kept.message


def test_when_too_many_wait_callers_are_told_when_to_come_back(folders):
    upstream = engine(folders["bag"], rules=Rules(queue=1, max_wait=0.2))

    async def crowd():
        sinks = [Kept() for _ in range(3)]
        await asyncio.gather(*(upstream.ask(question("/classify", ONE), sink) for sink in sinks))
        await upstream.close()
        return sinks

    first, *others = asyncio.run(crowd())
    assert first.status == 200
    assert {other.status for other in others} == {429}
    assert int(others[0].headers[b"retry-after-ms"]) >= 10
    assert others[0].json["error"]["type"] == "rate_limit_error"


def test_many_callers_at_once_each_get_their_own_answer(folders):
    upstream = engine(folders["bag"], rules=Rules(max_batch=7, workers=2))
    words = [(label, word) for label, known in WORDS.items() for word in known] * 8

    async def crowd():
        sinks = [Kept() for _ in words]
        bodies = [
            {"model": "bag", "input": f"{word} {'other ' * (place % 5)}"} for place, (_, word) in enumerate(words)
        ]
        await asyncio.gather(
            *(upstream.ask(question("/classify", body), sink) for body, sink in zip(bodies, sinks, strict=True))
        )
        await upstream.close()
        return sinks

    assert [kept.json["data"][0]["label"] for kept in asyncio.run(crowd())] == [label for label, _ in words]


# -- memory and hot reload


def size_mb(*paths: Path) -> int:
    return -(-sum(Model.load(path).size for path in paths) // MB)


def test_models_beyond_the_limit_take_turns_and_pinned_ones_stay(tmp_path):
    one, two, three = (encoder(tmp_path / name, shape(60_000), name=name) for name in ("one", "two", "three"))
    upstream = engine(one, two, three, memory_mb=size_mb(one, two), pinned=("three",))
    assert upstream.models.in_memory() == ["three", "one"]

    def labels_of(name: str) -> Question:
        return question("/classify", {"model": name, "input": "et"})

    async def turns():
        seen = []
        for name in ("one", "two", "one", "three", "two"):
            sink = Kept()
            await upstream.ask(labels_of(name), sink)
            assert sink.status == 200
            seen.append(set(upstream.models.in_memory()))
        await upstream.close()
        return seen

    assert asyncio.run(turns()) == [
        {"three", "one"}, {"three", "two"}, {"three", "one"}, {"three", "one"}, {"three", "two"}
    ]  # fmt: skip


def shape(vocabulary: int):
    import msgspec

    return msgspec.structs.replace(TINY, vocabulary=vocabulary, embedding=8)


def test_models_that_can_never_fit_are_refused_at_the_start(tmp_path):
    one = encoder(tmp_path / "one", shape(60_000), name="one")
    two = encoder(tmp_path / "two", shape(60_000), name="two")
    room = size_mb(one)

    with pytest.raises(ConfigError, match=r"The model one takes \d+\.\d MB, and there is no room for it in the 1 MB"):
        engine(one, memory_mb=1)
    with pytest.raises(ConfigError, match="there is no room"):
        engine(one, two, memory_mb=room, pinned=("one", "two"))
    with pytest.raises(ConfigError, match=r'no model "on" to be pinned.*Did you mean "one"'):
        engine(one, pinned=("on",))
    with pytest.raises(ConfigError, match='both hold a model named "one"'):
        engine(one, one)


@pytest.fixture
def looking_always(monkeypatch):
    monkeypatch.setattr(models_module, "LOOK_SECONDS", 0.0)


async def label_now(upstream: EmbeddedUpstream) -> str:
    sink = Kept()
    await upstream.ask(question("/classify", ONE), sink)
    assert sink.status == 200, sink.body
    return sink.json["data"][0]["label"]


async def becomes(upstream: EmbeddedUpstream, label: str) -> None:
    for _ in range(500):
        if await label_now(upstream) == label:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it never became {label}")


def relabel(folder: Path, name: str = "bag") -> None:
    """A newer version in the same folder, whose second label has another name."""
    bag(folder, name=name)
    said = json.loads((folder / "artefact.json").read_text())
    (folder / "artefact.json").write_text(json.dumps({**said, "labels": ["billing", "shipping", "praise"]}))


def test_a_newer_version_answers_without_a_restart_and_no_call_is_lost(tmp_path, looking_always):
    folder = bag(tmp_path / "bag")
    upstream = engine(folder)

    async def live() -> set[str]:
        assert await label_now(upstream) == "delivery"
        seen, stop = set(), asyncio.Event()

        async def keep_asking() -> None:
            while not stop.is_set():
                seen.add(await label_now(upstream))

        asking = [asyncio.create_task(keep_asking()) for _ in range(4)]
        await asyncio.sleep(0.05)
        relabel(folder)
        await becomes(upstream, "shipping")
        stop.set()
        await asyncio.gather(*asking)
        await upstream.close()
        return seen

    assert asyncio.run(live()) <= {"delivery", "shipping"}
    assert not upstream.models.problems


def test_a_damaged_newer_version_leaves_the_old_one_and_says_so(tmp_path, looking_always, caplog):
    folder = bag(tmp_path / "bag")
    upstream = engine(folder)

    async def live() -> None:
        assert await label_now(upstream) == "delivery"
        relabel(folder)
        damage_model(folder)
        while not upstream.models.problems:
            assert await label_now(upstream) == "delivery"
            await asyncio.sleep(0.01)
        assert await label_now(upstream) == "delivery"
        assert "model.onnx is not the file" in upstream.models.problems["bag"]
        relabel(folder, name="another")
        while "another" not in upstream.models.problems["bag"]:
            assert await label_now(upstream) == "delivery"
            await asyncio.sleep(0.01)
        relabel(folder)
        await becomes(upstream, "shipping")
        assert not upstream.models.problems
        await upstream.close()

    asyncio.run(live())
    assert "the old one goes on answering" in caplog.text


def test_the_engine_needs_no_torch():
    code = (
        "import sys, farthing.engines.embedded; "
        "print([name for name in ('torch', 'transformers', 'onnx', 'scipy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
