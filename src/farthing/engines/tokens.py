"""Text to token ids, as an artefact's tokenizer says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from tokenizers import Tokenizer

from farthing.errors import ConfigError

CHARACTERS_PER_TOKEN: Final = 16
"""Text beyond so many characters for each token that a model takes is not looked at: words are shorter than that, and a
megabyte of text then costs no more than a page."""

WORDS: Final = 50_000
"""Words remembered with their ids, about 150 bytes each; when there are more, all are forgotten."""

_LONGEST_WORD: Final = 100

_MODELS: Final = frozenset(("WordPiece", "WordLevel"))
_NORMALIZERS: Final = frozenset(("BertNormalizer", "Lowercase", "NFD", "NFC", "StripAccents"))
_SPLITTERS: Final = frozenset(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))
_FURTHER_SPLITTERS: Final = frozenset(("Punctuation", "Digits"))
"""Parts of a tokenizer that treat what stands between two spaces by itself, whatever stands beside it."""


class _Part(msgspec.Struct, frozen=True):
    type: str = ""
    normalizers: "tuple[_Part, ...]" = ()
    pretokenizers: "tuple[_Part, ...]" = ()


class _Parts(msgspec.Struct, frozen=True):
    model: _Part = _Part()
    normalizer: _Part | None = None
    pre_tokenizer: _Part | None = None
    added_tokens: tuple[dict[str, object], ...] = ()


class Tokens:
    """Turns texts into ids, cut off after `max_length` of them, special ones included."""

    def __init__(self, file: Path, max_length: int) -> None:
        """Raises ConfigError when the file is no tokenizer, or leaves no room for text."""
        try:
            text = file.read_text("utf-8")
            self._tokenizer = Tokenizer.from_str(text)
            parts = msgspec.json.decode(text, type=_Parts)
        except Exception as error:  # noqa: BLE001 (the library raises bare Exceptions)
            raise ConfigError(f"{file} is no tokenizer: {error}.", hint="Make the artefact again.") from None
        self._longest = max_length * CHARACTERS_PER_TOKEN
        self.padding = _padding(self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        around = self._tokenizer.encode("").ids
        if len(around) >= max_length:
            raise ConfigError(
                f"{file} adds {len(around)} tokens to every text, and the model takes {max_length} in all.",
                hint="Make the artefact again with a larger max_length.",
            )
        self._room = max_length - len(around)
        self._before: list[int] = []
        self._after: list[int] = []
        self._words: dict[str, list[int]] | None = None
        if _is_wordwise(parts) and self._learn_frame(around):
            self._words = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        texts = [text if len(text) <= self._longest else text[: self._longest] for text in texts]
        if self._words is None:
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        return [self._by_words(text, self._words) for text in texts]

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """The ids of pairs of texts, of which the longer one is cut off first."""
        cut = [(first[: self._longest], second[: self._longest]) for first, second in pairs]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cut)]

    def count(self, text: str) -> int:
        """How many tokens a text is by itself, without special ones."""
        return len(self._tokenizer.encode(text[: self._longest], add_special_tokens=False).ids)

    def _learn_frame(self, around: list[int]) -> bool:
        """Which special ids stand before a text and which after it; False when that is not all they do."""
        inside = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a").ids
        for start in range(len(around) + 1):
            if whole == [*around[:start], *inside, *around[start:]]:
                self._before, self._after = around[:start], around[start:]
                return True
        return False

    def _by_words(self, text: str, known: dict[str, list[int]]) -> list[int]:
        """What the tokenizer gives, for a tenth of the time: most words have been seen before."""
        ids = self._before.copy()
        for word in text.split(" "):
            found = known.get(word)
            if found is None:
                found = self._tokenizer.encode(word, add_special_tokens=False).ids
                if len(word) <= _LONGEST_WORD:
                    if len(known) >= WORDS:
                        known.clear()
                    known[word] = found
            ids += found
        del ids[len(self._before) + self._room :]
        ids += self._after
        return ids


def _is_wordwise(parts: _Parts) -> bool:
    """Whether ids of a text are those of its words, one after the other.

    Added tokens may reach beyond a word where they hold a space or swallow those beside them.
    """
    for token in parts.added_tokens:
        if " " in str(token.get("content", "")) or token.get("lstrip") or token.get("rstrip"):
            return False
    splitters = {part.type for part in _leaves(parts.pre_tokenizer)}
    return (
        parts.model.type in _MODELS
        and all(part.type in _NORMALIZERS for part in _leaves(parts.normalizer))
        and not splitters.isdisjoint(_SPLITTERS)
        and splitters <= _SPLITTERS | _FURTHER_SPLITTERS
    )


def _leaves(part: _Part | None) -> list[_Part]:
    if part is None:
        return []
    if part.type == "Sequence":
        return [leaf for below in (*part.normalizers, *part.pretokenizers) for leaf in _leaves(below)]
    return [part]


def _padding(tokenizer: Tokenizer) -> int:
    """The id that fills up: the tokenizer's own where it says one, else that of [PAD], else 0 (it is masked)."""
    padding = tokenizer.padding
    if padding:
        return int(padding["pad_id"])
    return tokenizer.token_to_id("[PAD]") or 0
