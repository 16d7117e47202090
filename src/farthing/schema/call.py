"""Call: one request for inference as the client asked it; Caller: on whose behalf."""

from typing import Literal

import msgspec

from farthing.schema.wire import Headers

Dialect = Literal["openai", "anthropic"]
Endpoint = Literal[
    "chat",
    "responses",
    "embeddings",
    "completions",
    "messages",
    "count_tokens",
    "classify",
    "rerank",
    "models",
    "other",
]


class Caller(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Who pays: `key` is the name of the gateway key, never the secret; `feature` and `tags` are its own labels."""

    tenant: str = ""
    team: str = ""
    key: str = ""
    feature: str = ""
    tags: tuple[tuple[str, str], ...] = ()


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request, with the fields that levers read; everything else stays in `body`, byte for byte.

    `headers` are the caller's that may be passed on (never recorded: they can carry its credentials). `max_output` is
    the caller's cap in tokens; `cache_ttl` the prompt-cache time to live it asked for ("30m", "12h"), needed where the
    reply does not say; `stateful` calls read or change a conversation kept by the provider; `digest` identifies a large
    body that may come again (empty: not computed); `idempotency_key` is the caller's own name for this request; `tags`
    are the labels in its body.
    """

    endpoint: Endpoint
    model: str
    body: bytes
    method: str = "POST"
    path: str = ""
    headers: Headers = ()
    stream: bool = False
    wants_usage: bool = False
    temperature: float | None = None
    max_output: int | None = None
    choices: int = 1
    has_tools: bool = False
    stateful: bool = False
    tier: str | None = None
    cache_ttl: str | None = None
    digest: bytes = b""
    idempotency_key: bytes = b""
    tags: tuple[tuple[str, str], ...] = ()


def dialect_of(endpoint: str) -> Dialect:
    """The wire format of an endpoint: Anthropic's two, or OpenAI's."""
    return "anthropic" if endpoint in ("messages", "count_tokens") else "openai"
