"""Vocabularies cut down to the pieces that texts of the domain are made of."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from tokenizers import Tokenizer

from farthing.errors import ConfigError

ASCII: Final = tuple(chr(code) for code in range(33, 127))


def counted(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each piece occurs in texts."""
    counts: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch(list(texts)):
        counts.update(encoding.ids)
    return counts


def trimmed(tokenizer: Tokenizer, counts: Counter[int], most: int, seen: int) -> tuple[Tokenizer, list[int]]:
    """A tokenizer of the `most` frequent pieces, and for each of its pieces the number it had before.

    Pieces that occur fewer than `seen` times go. Special tokens stay, and so do the pieces of one character, so that a
    word never seen falls apart into known ones and nothing becomes unknown that was not before. Raises ConfigError
    for a kind of tokenizer that cannot be trimmed.
    """
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    model = document["model"]
    pieces = _pieces(model)
    special = {int(token["id"]) for token in document.get("added_tokens", [])} | _template_ids(document)
    prefix = model.get("continuing_subword_prefix") or ""
    kept = special | {number for piece, number in pieces.items() if _is_basic(piece, prefix, model["type"])}
    lineage = _Lineage(model, pieces) if model["type"] == "BPE" else None
    for number, count in counts.most_common():
        needed = {number} if lineage is None else lineage.of(number) - kept
        if len(kept) + len(needed) > most or count < seen:
            break
        kept |= needed
    order = sorted(kept)
    renumbered = {before: after for after, before in enumerate(order)}
    _cut(document, pieces, renumbered)
    return Tokenizer.from_str(json.dumps(document)), order


def _pieces(model: dict[str, Any]) -> dict[str, int]:
    match model["type"]:
        case "WordPiece" | "WordLevel" | "BPE":
            return dict(model["vocab"])
        case "Unigram":
            return {piece: number for number, (piece, _) in enumerate(model["vocab"])}
        case other:
            raise ConfigError(
                f"A tokenizer of the kind {other} cannot be trimmed.", hint="Set `vocabulary = 0` to keep it whole."
            )


def _is_basic(piece: str, prefix: str, kind: str) -> bool:
    """Whether a piece is one that any word can be spelt with."""
    bare = piece.removeprefix(prefix) if prefix else piece.removeprefix("▁")
    if kind == "WordLevel":
        return False
    return len(bare) <= 1 and (kind != "WordPiece" or bare in ASCII or bare.isdigit())


def _template_ids(document: dict[str, Any]) -> set[int]:
    found: set[int] = set()
    for processor in _processors(document.get("post_processor")):
        found |= {number for token in (processor.get("special_tokens") or {}).values() for number in token["ids"]}
        found |= {int(processor[name][1]) for name in ("sep", "cls") if isinstance(processor.get(name), list)}
    return found


def _processors(processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What is done to ids at the end, one thing at a time."""
    if processor is None:
        return []
    if processor["type"] == "Sequence":
        return [inner for one in processor["processors"] for inner in _processors(one)]
    return [processor]


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    return [(left, right) for left, right in pairs]


class _Lineage:
    """The pieces that merges go through on their way to others."""

    def __init__(self, model: dict[str, Any], pieces: dict[str, int]) -> None:
        self._pieces = pieces
        self._names = {number: piece for piece, number in pieces.items()}
        self._parents = {left + right: (left, right) for left, right in reversed(_merges(model))}

    def of(self, number: int) -> set[int]:
        """A piece and all it is merged from."""
        found, left = {number}, [self._names[number]] if number in self._names else []
        while left:
            for parent in self._parents.get(left.pop(), ()):
                found.add(self._pieces[parent])
                left.append(parent)
        return found


def _cut(document: dict[str, Any], pieces: dict[str, int], renumbered: dict[int, int]) -> None:
    model = document["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][number] for number in renumbered]
        if model.get("unk_id") is not None:
            model["unk_id"] = renumbered[model["unk_id"]]
    else:
        model["vocab"] = {
            piece: renumbered[number]
            for piece, number in sorted(pieces.items(), key=lambda item: item[1])
            if number in renumbered
        }
    if model["type"] == "BPE":
        left = model["vocab"]
        model["merges"] = [
            list(merge) for merge in _merges(model) if all(part in left for part in (*merge, "".join(merge)))
        ]
    for token in document.get("added_tokens", []):
        token["id"] = renumbered[token["id"]]
    for processor in _processors(document.get("post_processor")):
        for token in (processor.get("special_tokens") or {}).values():
            token["ids"] = [renumbered[number] for number in token["ids"]]
        for name in ("sep", "cls"):
            if isinstance(processor.get(name), list):
                processor[name][1] = renumbered[processor[name][1]]
    padding = document.get("padding")
    if padding:
        padding["pad_id"] = renumbered.get(padding["pad_id"], 0)
