"""Which endpoint a path means."""

from typing import Final

from farthing.schema import Endpoint

MODELS_PATH: Final = "/v1/models"
_POSTS: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/completions": "completions",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
    "/v1/classify": "classify",
    "/v1/rerank": "rerank",
}
ENDPOINTS: Final = (*(("POST", path) for path in _POSTS), ("GET", MODELS_PATH), ("GET", "/v1/models/{id}"))
"""Every method and path that is served."""

USAGE_ON_REQUEST: Final = ("chat", "completions")
"""Endpoints whose streams report their usage only when `stream_options` asks for it."""


def endpoint_at(method: str, path: str) -> Endpoint | None:
    """The endpoint that a method and a path without its query mean, or `None`.

    >>> endpoint_at("POST", "/v1/messages"), endpoint_at("GET", "/v1/models/gpt-6-luna")
    ('messages', 'models')
    >>> endpoint_at("GET", "/v1/messages")
    """
    if method == "POST":
        return _POSTS.get(path)
    if method == "GET" and (path == MODELS_PATH or path.startswith("/v1/models/")):
        return "models"
    return None
