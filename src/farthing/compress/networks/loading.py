"""Checkpoints in the Hugging Face format as encoders of ours, and models of any other architecture as they are."""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from farthing.compress.networks.encoder import Encoder, EncoderShape, Insight, LayerShape, Output, Pooling
from farthing.compress.networks.keeping import load_encoder
from farthing.errors import ConfigError

HEAD_COUNT_NAMES: Final = ("num_attention_heads", "n_heads")


class Studied(Protocol):
    """A model that distillation can look into."""

    def insight(self, input_ids: Tensor, attention_mask: Tensor) -> Insight: ...


class Pretrained(NamedTuple):
    """A model, its tokenizer, and the number of the token that fills up batches."""

    model: "Encoder | Foreign"
    tokenizer: Tokenizer
    padding: int


class _Names(NamedTuple):
    """Where an architecture keeps its parts: patterns of parameter names; `{}` is the number of the layer."""

    tokens: str
    positions: str
    token_types: str
    norm: str
    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    ffn_norm: str
    position_offset: int = 0


_BERT: Final = _Names(
    "embeddings.word_embeddings",
    "embeddings.position_embeddings",
    "embeddings.token_type_embeddings",
    "embeddings.LayerNorm",
    "encoder.layer.{}.attention.self.query",
    "encoder.layer.{}.attention.self.key",
    "encoder.layer.{}.attention.self.value",
    "encoder.layer.{}.attention.output.dense",
    "encoder.layer.{}.attention.output.LayerNorm",
    "encoder.layer.{}.intermediate.dense",
    "encoder.layer.{}.output.dense",
    "encoder.layer.{}.output.LayerNorm",
)
_DISTILBERT: Final = _Names(
    "embeddings.word_embeddings",
    "embeddings.position_embeddings",
    "",
    "embeddings.LayerNorm",
    "transformer.layer.{}.attention.q_lin",
    "transformer.layer.{}.attention.k_lin",
    "transformer.layer.{}.attention.v_lin",
    "transformer.layer.{}.attention.out_lin",
    "transformer.layer.{}.sa_layer_norm",
    "transformer.layer.{}.ffn.lin1",
    "transformer.layer.{}.ffn.lin2",
    "transformer.layer.{}.output_layer_norm",
)
_ARCHITECTURES: Final = {
    "bert": _BERT,
    "roberta": _BERT._replace(position_offset=2),
    "xlm-roberta": _BERT._replace(position_offset=2),
    "camembert": _BERT._replace(position_offset=2),
    "distilbert": _DISTILBERT,
}
_PREFIX: Final = re.compile(r"^(bert|roberta|distilbert|model)\.")


def load_pretrained(folder: Path, outputs: int, output: Output, pooling: str, max_length: int) -> Pretrained:
    """The encoder of a folder in the Hugging Face format, with a new head for `outputs` labels.

    `pooling` is "mean", "first", or "auto": what a sentence-transformers folder says, else the first token. BERT,
    RoBERTa, XLM-R, CamemBERT and DistilBERT become encoders of ours, which students can be cut from; any other
    architecture that transformers knows is kept as it is, and its students start from nothing. Raises ConfigError,
    saying what is missing, when the folder does not hold such a model.
    """
    config = _config(folder)
    tokenizer, padding = _tokenizer(folder, max_length)
    chosen = _pooling(folder) if pooling == "auto" else pooling
    assert chosen in ("mean", "first")
    kind = str(config.get("model_type", ""))
    names = _ARCHITECTURES.get(kind)
    if names is None or config.get("position_embedding_type", "absolute") != "absolute":
        return Pretrained(_foreign(folder, kind, outputs, output, chosen), tokenizer, padding)  # type: ignore[arg-type]
    weights = {_PREFIX.sub("", name): tensor for name, tensor in _weights(folder).items()}
    shape = _shape(config, weights, names, outputs, output, chosen)  # type: ignore[arg-type]
    encoder = Encoder(shape)
    _fill(encoder, weights, names, folder)
    return Pretrained(encoder, tokenizer, padding)


def _config(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} is not a model in the Hugging Face format: it has no config.json.",
            hint="Give the folder that holds config.json, tokenizer.json and model.safetensors.",
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", hint="Save the model again.") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is not a JSON object.", hint="Save the model again.")
    return config


def _pooling(folder: Path) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    if path.exists() and json.loads(path.read_text()).get("pooling_mode_mean_tokens"):
        return "mean"
    return "first"


def _tokenizer(folder: Path, max_length: int) -> tuple[Tokenizer, int]:
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ConfigError(
            f"{folder} has no tokenizer.json.",
            hint="Save it once with transformers' AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 (tokenizers raises nothing narrower)
        raise ConfigError(f"{path} cannot be read: {error}.", hint="Save the tokenizer again.") from None
    known = tokenizer.get_vocab(with_added_tokens=True)
    padding = next((known[name] for name in ("[PAD]", "<pad>") if name in known), 0)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer, padding


def _weights(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    try:
        if files:
            return {name: tensor.float() for file in files for name, tensor in load_file(file).items()}
        binary = folder / "pytorch_model.bin"
        if binary.exists():
            loaded = torch.load(binary, map_location="cpu", weights_only=True)
            return {name: tensor.float() for name, tensor in loaded.items()}
    except Exception as error:  # noqa: BLE001 (safetensors and torch raise their own kinds for a damaged file)
        raise ConfigError(f"The weights in {folder} cannot be read: {error}.", hint="Copy the model again.") from None
    raise ConfigError(f"{folder} holds no weights: no *.safetensors.", hint="Copy the model again, weights included.")


def _shape(
    config: dict[str, object], weights: dict[str, Tensor], names: _Names, outputs: int, output: Output, pooling: Pooling
) -> EncoderShape:
    vocabulary, width = weights[f"{names.tokens}.weight"].shape
    heads = next(int(str(config[name])) for name in HEAD_COUNT_NAMES if name in config)
    depth = 0
    while f"{names.up.format(depth)}.weight" in weights:
        depth += 1
    layers = tuple(LayerShape(heads, len(weights[f"{names.up.format(n)}.weight"])) for n in range(depth))
    activation = str(config.get("hidden_act", config.get("activation", "gelu")))
    return EncoderShape(
        vocabulary=vocabulary,
        positions=len(weights[f"{names.positions}.weight"]) - names.position_offset,
        width=width,
        embedding=width,
        layers=layers,
        outputs=outputs,
        head_width=width // heads,
        pooling=pooling,
        output=output,
        activation="relu" if activation == "relu" else "gelu",
        epsilon=float(str(config.get("layer_norm_eps", 1e-12))),
    )


@torch.no_grad()
def _fill(encoder: Encoder, weights: dict[str, Tensor], names: _Names, folder: Path) -> None:
    def put(part: str, *given: str) -> None:
        into = encoder.get_submodule(part)
        for name, parameter in into.named_parameters():
            parameter.copy_(torch.cat([weights[f"{source}.{name}"] for source in given]))

    try:
        put("tokens", names.tokens)
        positions = weights[f"{names.positions}.weight"][names.position_offset :]
        if names.token_types and f"{names.token_types}.weight" in weights:
            # Texts that stand alone are all of the first type, so that its row can be added once and for all.
            positions = positions + weights[f"{names.token_types}.weight"][0]
        encoder.positions.weight.copy_(positions)
        put("norm", names.norm)
        for number in range(len(encoder.layers)):
            put(f"layers.{number}.qkv", *(name.format(number) for name in (names.query, names.key, names.value)))
            for part in ("out", "attention_norm", "up", "down", "ffn_norm"):
                put(f"layers.{number}.{part}", getattr(names, part).format(number))
    except KeyError as error:
        raise ConfigError(
            f"The weights in {folder} have no {error.args[0]}: they are not those of its config.json.",
            hint="Copy the model again.",
        ) from None


class Foreign(nn.Module):
    """An encoder of an architecture that is not ours, by transformers, with a head of ours.

    A `finished` one is a whole classifier with its own head; column `i` of its output is column `columns[i]` of theirs.
    """

    def __init__(
        self,
        body: nn.Module,
        width: int,
        outputs: int,
        output: Output,
        pooling: Pooling,
        columns: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.body, self.width, self.output, self.pooling, self.columns = body, width, output, pooling, columns
        self.head = None if output == "embedding" or columns is not None else nn.Linear(width, outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask, both int64 [batch, length], to the output."""
        return self.insight(input_ids, attention_mask).output

    def insight(self, input_ids: Tensor, attention_mask: Tensor) -> Insight:
        """The output together with what distillation compares on the way to it."""
        found = self.body(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        states = tuple(found.hidden_states)
        last = states[-1]
        if self.pooling == "first":
            pooled = last[:, 0]
        else:
            weights = attention_mask.to(last.dtype)
            pooled = (last * weights[:, :, None]).sum(1) / weights.sum(1, keepdim=True)
        if self.columns is not None:
            output = found.logits[..., self.columns]
        elif self.head is None:
            output = nn.functional.normalize(pooled, dim=-1)
        else:
            output = self.head(last if self.output == "tags" else pooled)
        return Insight(output, pooled, states)


def _foreign(folder: Path, kind: str, outputs: int, output: Output, pooling: Pooling) -> Foreign:
    from transformers import AutoModel

    try:
        body = AutoModel.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"The model in {folder} is of an architecture that cannot be loaded ({kind or 'unnamed'}): {first}",
            hint="Give an encoder such as BERT, RoBERTa, DistilBERT, ELECTRA, DeBERTa or ModernBERT.",
        ) from None
    if getattr(body.config, "is_decoder", False) or getattr(body.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"The model in {folder} ({kind}) is not an encoder.", hint='For a decoder, set task = "generation".'
        )
    return Foreign(body, int(body.config.hidden_size), outputs, output, pooling)


def load_finished(folder: Path, labels: Sequence[str], output: Output, pooling: str, max_length: int) -> Pretrained:
    """A classifier that was fine-tuned before, its outputs in the order of `labels`.

    Raises ConfigError when it does not know one of the labels, or is no classifier.
    """
    if (folder / "encoder.json").exists():
        kept = load_encoder(folder)
        has = kept.encoder.shape.outputs
        wanted = 2 * len(labels) + 1 if output == "tags" else max(len(labels), 1)
        if kept.encoder.shape.output != output or has != wanted:
            raise ConfigError(
                f"The teacher in {folder} gives {has} {kept.encoder.shape.output}; the data wants {wanted} {output}.",
                hint="Give a teacher of this data, or drop `finished`.",
            )
        return Pretrained(kept.encoder, kept.tokenizer, kept.padding)
    if output == "embedding":
        return load_pretrained(folder, 1, output, pooling, max_length)
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    config = _config(folder)
    tokenizer, padding = _tokenizer(folder, max_length)
    known = {str(name): int(number) for number, name in dict(config.get("id2label") or {}).items()}  # type: ignore[call-overload]
    columns = [0] if not labels else [_column(known, label, folder) for label in labels]
    kind = AutoModelForTokenClassification if output == "tags" else AutoModelForSequenceClassification
    body = kind.from_pretrained(folder, local_files_only=True)
    chosen = _pooling(folder) if pooling == "auto" else pooling
    assert chosen in ("mean", "first")
    model = Foreign(body, int(body.config.hidden_size), len(columns), output, chosen, columns)  # type: ignore[arg-type]
    return Pretrained(model, tokenizer, padding)


def _column(known: dict[str, int], label: str, folder: Path) -> int:
    if label in known:
        return known[label]
    near = get_close_matches(label, known, 1)
    raise ConfigError(
        f"The teacher in {folder} does not know the label {label!r}; it knows {len(known)} others.",
        hint=f"Did you mean {near[0]!r}?" if near else "Fine-tune it on this data: drop `finished`.",
    )
