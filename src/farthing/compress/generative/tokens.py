"""Texts as a decoder's token ids, and what its folder says about tokens; nothing here needs torch."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from farthing.errors import ConfigError

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer.json"


class Words(msgspec.Struct, frozen=True):
    """A decoder's tokenizer, the token that ends a text, and the one that fills up a batch."""

    tokenizer: Tokenizer
    end: int
    padding: int

    def sequences(self, texts: Iterable[str], length: int) -> list[list[int]]:
        """Each text with the tokens that begin and end it, in pieces of at most `length` tokens, two at least."""
        return [
            piece for ids in self.tokenizer.encode_batch(list(texts)) for piece in pieces([*ids.ids, self.end], length)
        ]

    def prompt(self, text: str) -> list[int]:
        """A text that something is to follow."""
        return list(self.tokenizer.encode(text).ids)


def pieces(ids: list[int], length: int) -> Iterator[list[int]]:
    """A sequence cut after every `length` tokens; what cannot be predicted, a single token, is left out.

    >>> list(pieces([1, 2, 3, 4, 5], 2))
    [[1, 2], [3, 4]]
    """
    for start in range(0, len(ids), length):
        if len(piece := ids[start : start + length]) > 1:
            yield piece


def words_of(folder: Path) -> Words:
    """The tokens of a decoder's folder. Raises ConfigError when it does not say what they are."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise ConfigError(
            f"{folder} has no {TOKENIZER}.",
            hint="Load its tokenizer with transformers once and save it there: save_pretrained writes the file.",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises nothing more precise
        raise ConfigError(f"{path} cannot be read: {error}", hint="Fetch the model again.") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    says = settings(folder)
    end = first(says.get("eos_token_id"))
    if end is None:
        raise ConfigError(f"{folder} does not say which token ends a text.", hint=f"Set eos_token_id in its {CONFIG}.")
    padding = first(says.get("pad_token_id"))
    return Words(tokenizer, end, end if padding is None else padding)


def settings(folder: Path) -> dict[str, Any]:
    """What config.json says, and generation_config.json where there is one, which goes before it on tokens."""
    found: dict[str, Any] = {}
    for name in (CONFIG, GENERATION):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", hint="Fetch the model again.") from None
        found |= {key: value for key, value in content.items() if name == CONFIG or key.endswith("_token_id")}
    return found


def first(value: object) -> int | None:
    """A token id, or the first of several."""
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) else None
