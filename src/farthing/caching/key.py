"""The exact cache's key: a digest of the whole canonical call, less a short list of fields."""

import msgspec
from blake3 import blake3

from farthing.errors import RequestError
from farthing.schema import Call, Headers

LEFT_OUT: frozenset[str] = frozenset(
    (
        "stream",  # a kept answer is replayed in either form
        "stream_options",  # says how usage is reported, not what is answered
        "user",  # names the end user for abuse detection
        "safety_identifier",  # the same, hashed
        "metadata",  # labels
        "prompt_cache_key",  # steers the provider's own cache
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",  # buys speed, not another answer
    )
)
"""Top-level fields that cannot change the answer. Everything else is in the key, known to Farthing or not."""

TELLING = (b"anthropic-", b"openai-")
"""Headers that begin so (versions, betas, projects) can change the answer; others are about the client."""

DIGEST_BYTES = 16
_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def body_digest(path: str, body: bytes) -> bytes:
    """A digest of a request exactly as sent: finds what is known of it without reading the body again."""
    hasher = blake3(path.encode())
    hasher.update(b"\0")
    hasher.update(body)
    return hasher.digest(DIGEST_BYTES)


def told_by(headers: Headers) -> bytes:
    """What headers say that can change the answer.

    >>> told_by(((b"user-agent", b"curl"), (b"anthropic-beta", b"context-1m")))
    b'anthropic-beta: context-1m\\x00'
    """
    return b"".join([b"%b: %b\0" % header for header in headers if header[0].startswith(TELLING)])


def canonical_key(scope: str, call: Call) -> bytes:
    """A digest of what the call means: member order, spacing, escapes and `LEFT_OUT` make no difference.

    Raises RequestError when the body is nested too deeply to be read.
    """
    try:
        body = _decode(call.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"The body is not readable JSON: {error}.") from error
    if not LEFT_OUT.isdisjoint(body):
        for name in LEFT_OUT & body.keys():
            del body[name]
    place = f"{scope}\0{call.endpoint}\0{call.path.partition('?')[2]}\0"
    return blake3(place.encode() + told_by(call.headers) + _encode(body)).digest(DIGEST_BYTES)
