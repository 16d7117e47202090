"""Tokens from text without a tokenizer: a cheap figure for when the provider never told.

A token is taken to be: up to eight letters of an ASCII word, up to three digits, up to two marks of punctuation, one
run of line ends with its indentation, one CJK character, two of any other script. Prose in English comes to about
4.5 bytes a token, code to about 3. It is an estimate and is always labelled as one.
"""

import re
from typing import Final

import msgspec

from farthing.schema import Call

MEDIA_TOKENS: Final = 1_000
"""What an image, a sound or a document counts for when sent as base64 or by address: a 1024 x 1024 image is 765 tokens
to some providers and 1,400 to others."""

MESSAGE_TOKENS: Final = 4
"""The frame around each message: its role and its delimiters."""

_SAMPLE: Final = 16 * 1024
_SLICE: Final = 512
"""A text longer than the sample, in characters, is judged by slices spread evenly over it: a megabyte costs no more
than 16 KiB do."""

_PIECE: Final = re.compile(
    r"[A-Za-z]{1,8}|[0-9]{1,3}|[!-/:-@\[-`{-~]{1,2}|[\r\n]+[ \t]*|[ \t]{2,}"
    r"|[\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U0001f000-\U0001faff\U00020000-\U0003134f]"
    r"|[^\x00-\x7f]{1,2}"
)
_PROMPT_MEMBERS: Final = ("system", "instructions", "messages", "input", "prompt", "query", "documents")
_SCHEMA_MEMBERS: Final = ("tools", "functions", "response_format")
_UNREAD: Final = frozenset(("type", "role", "id", "cache_control", "detail", "media_type", "signature"))
_MEDIA: Final = frozenset(("image", "image_url", "input_image", "input_audio", "document", "file", "input_file"))
_DECODER: Final = msgspec.json.Decoder()


def estimate_tokens(text: str | bytes) -> int:
    """About how many tokens a text is.

    >>> estimate_tokens("The quick brown fox jumps over the lazy dog."), estimate_tokens(b"12345 internationalisation")
    (10, 5)
    """
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if len(text) <= _SAMPLE:
        return sum(1 for _ in _PIECE.finditer(text))
    stride = len(text) * _SLICE // _SAMPLE
    sample = "".join([text[start : start + _SLICE] for start in range(0, len(text), stride)])
    return sum(1 for _ in _PIECE.finditer(sample)) * len(text) // len(sample)


def estimate_input(call: Call) -> int:
    """About how many tokens a call's prompt is: its text, its tool schemas, and a flat figure for each medium."""
    try:
        body = _DECODER.decode(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return estimate_tokens(call.body)
    if not isinstance(body, dict):
        return 0
    schemas = sum(estimate_tokens(msgspec.json.encode(body[name])) for name in _SCHEMA_MEMBERS if body.get(name))
    return schemas + sum(_prompt_tokens(body[name]) for name in _PROMPT_MEMBERS if name in body)


def _prompt_tokens(prompt: object) -> int:
    """Tokens of whatever text a prompt holds, at any depth; a number in it is a token already."""
    total = 0
    waiting = [prompt]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            total += estimate_tokens(part)
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            if part.get("type") in _MEDIA:
                total += MEDIA_TOKENS
                continue
            if "role" in part:
                total += MESSAGE_TOKENS
            waiting += [value for name, value in part.items() if name not in _UNREAD]
        elif part is not None:
            total += 1
    return total
