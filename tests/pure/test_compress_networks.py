"""Encoders of ours against those they were read from, and smaller ones against what was cut from them."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from farthing.compress.networks.encoder import Encoder, EncoderShape, Layer, LayerShape, parameters
from farthing.compress.networks.importance import importance, most_important
from farthing.compress.networks.keeping import Kept, load_encoder, save_encoder
from farthing.compress.networks.loading import Foreign, load_finished, load_pretrained
from farthing.compress.networks.slicing import (
    factorized,
    with_heads_and_neurons,
    with_layers,
    with_positions,
    with_vocabulary,
    with_width,
)
from farthing.compress.networks.vocabulary import counted, trimmed
from farthing.errors import ConfigError

TEXTS = ["where is my card", "the card has not arrived", "please cancel the transfer", "what is the exchange rate"] * 3
SHAPE = EncoderShape(60, 32, 64, 64, (LayerShape(2, 48), LayerShape(2, 40)), 5)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)


def tokenizer_of(kind: str) -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if kind == "WordPiece" else ["<s>", "<pad>", "</s>", "<unk>"]
    if kind == "WordPiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    elif kind == "BPE":
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.normalizer = normalizers.Lowercase()
    made.train_from_iterator(TEXTS + ["wholly unrelated quizzical jumble of vexing words"] * 2, trainer)
    first, last = special[2 if kind == "WordPiece" else 0], special[3 if kind == "WordPiece" else 2]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(first, made.token_to_id(first)), (last, made.token_to_id(last))],
    )
    return made


def saved(folder, kind: str):
    """A tiny model of an architecture in the Hugging Face format; the model itself."""
    import transformers

    tokenizer = tokenizer_of("WordPiece")
    sizes = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 40}
    usual = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = {
        "bert": lambda: transformers.BertConfig(**sizes, **usual),
        "roberta": lambda: transformers.RobertaConfig(**sizes, **usual, pad_token_id=1),
        "distilbert": lambda: transformers.DistilBertConfig(**sizes, dim=64, n_layers=2, n_heads=2, hidden_dim=48),
        "electra": lambda: transformers.ElectraConfig(**sizes, **usual, embedding_size=16),
    }[kind]()
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def ids(vocabulary: int, count: int = 3, length: int = 7):
    some = torch.randint(4, vocabulary, (count, length))
    mask = torch.ones_like(some)
    mask[0, 4:] = 0
    return some, mask


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_what_is_read_computes_what_its_makers_do(tmp_path, kind, pooling):
    theirs = saved(tmp_path, kind)
    ours = load_pretrained(tmp_path, 5, "logits", pooling, 32).model.eval()
    some, mask = ids(theirs.config.vocab_size)

    with torch.no_grad():
        last = theirs(input_ids=some, attention_mask=mask).last_hidden_state
        insight = ours.insight(some, mask)

    assert isinstance(ours, Foreign if kind == "electra" else Encoder)
    real = mask.bool()
    assert torch.allclose(insight.states[-1][real], last[real], atol=1e-4)
    mean = (last * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    assert torch.allclose(insight.pooled, last[:, 0] if pooling == "first" else mean, atol=1e-4)
    assert insight.output.shape == (3, 5)


def test_a_finished_classifier_answers_in_the_order_of_the_labels(tmp_path):
    import transformers

    tokenizer = tokenizer_of("WordPiece")
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        id2label={0: "b", 1: "c", 2: "a"},
        label2id={"b": 0, "c": 1, "a": 2},
    )
    theirs = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    ours = load_finished(tmp_path, ("a", "b"), "logits", "auto", 32).model.eval()
    some, mask = ids(config.vocab_size)

    with torch.no_grad():
        logits = theirs(input_ids=some, attention_mask=mask).logits
        assert torch.allclose(ours(some, mask), logits[:, [2, 0]], atol=1e-5)
    with pytest.raises(ConfigError, match="does not know the label 'bb'"):
        load_finished(tmp_path, ("a", "bb"), "logits", "auto", 32)


def test_what_is_no_model_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_pretrained(tmp_path, 2, "logits", "auto", 32)
    saved(tmp_path, "bert")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_pretrained(tmp_path, 2, "logits", "auto", 32)
    weights.unlink()
    with pytest.raises(ConfigError, match="holds no weights"):
        load_pretrained(tmp_path, 2, "logits", "auto", 32)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-thing"}))
    with pytest.raises(ConfigError, match="no-such-thing"):
        load_pretrained(tmp_path, 2, "logits", "auto", 32)


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_cutting_heads_and_neurons_is_the_same_as_closing_their_gates(data):
    encoder = Encoder(SHAPE).eval()
    heads = [data.draw(st.sets(st.integers(0, 1), min_size=1)) for _ in range(2)]
    neurons = [data.draw(st.sets(st.integers(0, 39), min_size=1)) for _ in range(2)]
    some, mask = ids(60)

    smaller = with_heads_and_neurons(encoder, [sorted(one) for one in heads], [sorted(one) for one in neurons])
    for layer, kept, others in zip(encoder.layers, heads, neurons, strict=True):
        assert isinstance(layer, Layer)
        layer.head_gates = torch.tensor([float(head in kept) for head in range(layer.heads)])
        layer.ffn_gates = torch.tensor([float(neuron in others) for neuron in range(layer.ffn)])

    with torch.no_grad():
        assert torch.allclose(smaller(some, mask), encoder(some, mask), atol=1e-5)
    assert parameters(smaller) < parameters(encoder) or all(len(one) == 2 for one in heads)


def test_cutting_nothing_changes_nothing():
    encoder = Encoder(SHAPE).eval()
    some, mask = ids(60)
    whole = [
        with_layers(encoder, [0, 1]),
        with_positions(encoder, 32),
        with_vocabulary(encoder, range(60)),
        with_width(encoder, range(64)),
        with_width(factorized(encoder, 32), range(64)),
    ]
    with torch.no_grad():
        for one in whole[:-1]:
            assert torch.allclose(one(some, mask), encoder(some, mask), atol=1e-5)
        assert torch.allclose(whole[-1](some, mask), factorized(encoder, 32)(some, mask), atol=1e-5)


def test_a_narrower_stream_has_narrower_everything():
    smaller = with_width(factorized(Encoder(SHAPE), 16), range(0, 64, 2)).eval()
    some, mask = ids(60)

    assert smaller.shape.width == 32
    assert smaller(some, mask).shape == (3, 5)
    assert {tuple(layer.up.weight.shape)[1] for layer in smaller.layers} == {32}


def test_factorised_embeddings_are_closer_the_wider_they_are():
    encoder = Encoder(SHAPE)
    errors = []
    for rank in (4, 16, 48):
        made = factorized(encoder, rank)
        table = made.tokens.weight @ made.project.weight.T
        errors.append((table - encoder.tokens.weight).norm().item())
        assert made.shape.embedding == rank
    assert errors == sorted(errors, reverse=True)
    assert factorized(encoder, 64) is encoder


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
def test_a_trimmed_tokenizer_cuts_the_texts_it_was_counted_on_as_before(kind):
    tokenizer = tokenizer_of(kind)
    counts = counted(tokenizer, TEXTS)

    smaller, order = trimmed(tokenizer, counts, 10_000, 1)

    assert len(order) == smaller.get_vocab_size(with_added_tokens=True) < tokenizer.get_vocab_size()
    for text in TEXTS:
        before, after = tokenizer.encode(text), smaller.encode(text)
        assert before.tokens == after.tokens
        assert [order[number] for number in after.ids] == before.ids


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
def test_nothing_becomes_unknown_by_trimming(kind):
    tokenizer = tokenizer_of(kind)
    smaller, _ = trimmed(tokenizer, counted(tokenizer, TEXTS[:1]), 70, 1)

    @given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ", max_size=40))
    @settings(max_examples=50, deadline=None)
    def holds(text):
        unknown = {"[UNK]", "<unk>"}
        if not unknown & set(tokenizer.encode(text).tokens):
            assert not unknown & set(smaller.encode(text).tokens)

    holds()


def test_pieces_seen_too_seldom_go():
    tokenizer = tokenizer_of("WordPiece")
    counts = counted(tokenizer, TEXTS)

    sizes = [len(trimmed(tokenizer, counts, 10_000, seen)[1]) for seen in (1, 4, 100)]

    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


@pytest.mark.parametrize("measure", ["taylor", "activation"])
def test_what_does_nothing_matters_least(measure):
    encoder = Encoder(SHAPE).eval()
    layer = encoder.layers[1]
    with torch.no_grad():
        for part in (layer.up, layer.out):
            part.bias.zero_()
        layer.up.weight[7] = 0.0
        layer.qkv.weight[4 * 32 : 5 * 32] = 0.0
        layer.qkv.bias[4 * 32 : 5 * 32] = 0.0
    batches = [ids(60) for _ in range(4)]

    found = importance(encoder, batches, lambda one: encoder(*one).logsumexp(-1).mean(), measure)

    assert found.neurons[1].argmin() == 7
    assert found.heads[1].argmin() == 0
    assert most_important(found.heads[1], 1) == [1]
    assert all((layer.head_gates, layer.ffn_gates) == (None, None) for layer in encoder.layers)
    assert found.layers.shape == (2,)
    assert (found.layers > 0).all()


def test_an_encoder_is_kept_as_it_is(tmp_path):
    tokenizer = tokenizer_of("WordPiece")
    encoder = Encoder(SHAPE).eval()
    some, mask = ids(60)

    save_encoder(tmp_path, Kept(encoder, tokenizer, 0))
    found = load_encoder(tmp_path)

    with torch.no_grad():
        assert torch.equal(found.encoder.eval()(some, mask), encoder(some, mask))
    assert found.tokenizer.encode("where is my card").ids == tokenizer.encode("where is my card").ids
    assert found.encoder.shape == SHAPE
