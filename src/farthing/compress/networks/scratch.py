"""A teacher without pre-trained weights: a tokenizer learned from the texts, and an encoder that knows nothing yet."""

from collections.abc import Iterable
from typing import Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape, Output
from farthing.compress.networks.loading import Pretrained

PIECES: Final = 4_000
HEAD_WIDTH: Final = 32
SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def begin_from_nothing(
    texts: Iterable[str], outputs: int, output: Output, *, layers: int, width: int, max_length: int
) -> Pretrained:
    """An encoder of so many layers with random weights, and a WordPiece tokenizer of the texts."""
    tokenizer = _tokenizer(texts, max_length)
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
    return Pretrained(encoder, tokenizer, tokenizer.token_to_id("[PAD]"))


def _tokenizer(texts: Iterable[str], max_length: int) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 (a piece, not a password)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    first, last = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", first), ("[SEP]", last)],
    )
    tokenizer.enable_truncation(max_length)
    return tokenizer
