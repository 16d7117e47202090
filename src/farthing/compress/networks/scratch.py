"""A teacher without pre-trained weights: a tokenizer learned from the texts, and an encoder that knows nothing yet."""

from collections.abc import Iterable
from typing import Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape, Output
from farthing.compress.networks.loading import Pretrained

PIECES: Final = 4_000
HEAD_WIDTH: Final = 32
SPECIAL: Final = ("<pad>", "<s>", "</s>")


def begin_from_nothing(
    tokenizer: Tokenizer, outputs: int, output: Output, *, layers: int, width: int, max_length: int
) -> Pretrained:
    """An encoder of so many layers with random weights, for the pieces of a tokenizer."""
    shape = EncoderShape(
        vocabulary=tokenizer.get_vocab_size(with_added_tokens=True),
        positions=max_length,
        width=width,
        embedding=width,
        layers=tuple(LayerShape(width // HEAD_WIDTH, 4 * width) for _ in range(layers)),
        outputs=outputs,
        head_width=HEAD_WIDTH,
        output=output,
    )
    encoder = Encoder(shape)
    for part in (encoder.tokens, encoder.positions):
        # Embeddings as large as torch draws them would drown what the first layers have to say.
        part.weight.data.normal_(0.0, 0.05)
    return Pretrained(encoder, tokenizer, tokenizer.get_vocab()["<pad>"])


def learned_tokenizer(texts: Iterable[str], max_length: int) -> Tokenizer:
    """Byte-level pieces of the texts: no character is unknown, and equal texts give equal pieces.

    A WordPiece vocabulary would not: its trainer breaks ties by chance.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    first, last = (tokenizer.token_to_id(name) for name in ("<s>", "</s>"))
    ends = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[("<s>", first), ("</s>", last)],
    )
    # A piece begins with the space before it; what it covers of the text does not.
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), ends])
    tokenizer.enable_truncation(max_length)
    return tokenizer
