"""What the engine is asked: requests for labels, embeddings, rankings and chat, read and checked."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from farthing.errors import RequestError, TooLarge
from farthing.schema import Endpoint

MOST_TEXTS: Final = 2_048
"""Texts in one request."""

LONGEST_TEXT: Final = 4_000_000
"""Characters of one text. Models read the beginning of a long one; what is longer than this is a mistake."""


class Classify(msgspec.Struct, frozen=True):
    """A request for labels, as vLLM takes it."""

    model: str
    input: str | list[str]


class Embed(msgspec.Struct, frozen=True):
    """A request for embeddings, as OpenAI takes it."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class Document(msgspec.Struct, frozen=True):
    """A document in an object of its own."""

    text: str


class Rerank(msgspec.Struct, frozen=True):
    """A request for a ranking of documents, as Cohere and Jina take it."""

    model: str
    query: str
    documents: list[str | Document]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None

    @property
    def texts(self) -> list[str]:
        """The text of each document."""
        return [document if isinstance(document, str) else document.text for document in self.documents]


class _Part(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""


class _Turn(msgspec.Struct, frozen=True):
    role: str = ""
    content: str | list[_Part] | None = None


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class Chat(msgspec.Struct, frozen=True):
    """A chat completion asked of a model that gives labels: what else a chat can say does not matter to it."""

    model: str
    messages: list[_Turn]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None

    @property
    def text(self) -> str:
        """The text of the last message of the user, its parts one a line."""
        for turn in reversed(self.messages):
            if turn.role == "user":
                if isinstance(turn.content, str):
                    return turn.content
                return "\n".join(part.text for part in turn.content or () if part.type == "text")
        return ""

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage is True


Request = Classify | Embed | Rerank | Chat

_DECODERS: Final[dict[str, msgspec.json.Decoder[Request]]] = {
    "classify": msgspec.json.Decoder(Classify),
    "embeddings": msgspec.json.Decoder(Embed),
    "rerank": msgspec.json.Decoder(Rerank),
    "chat": msgspec.json.Decoder(Chat),
}
ASKED: Final = tuple(_DECODERS)
"""Endpoints at which the engine answers questions."""


def read_request(endpoint: Endpoint, body: bytes) -> Request:
    """A request as its endpoint takes it. Raises RequestError, which says where it is not as the API says."""
    try:
        return _DECODERS[endpoint].decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        place = f"`{where.removeprefix('.').removesuffix('`')}`" if where.strip("`") else "The body"
        raise RequestError(f"{place} is not what /v1/{_PATHS.get(endpoint, endpoint)} takes: {what}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"The request body is not readable JSON: {error}.", hint="Send a JSON object.") from None


_PATHS: Final = {"chat": "chat/completions"}


def texts_of(member: str, given: str | Sequence[object], *, may_be_empty: bool = False) -> list[str]:
    """The texts that a member of a request holds.

    Raises RequestError when there is none, or one is empty or no text; TooLarge when they are too many or too long.
    """
    found = [given] if isinstance(given, str) else given
    if not found:
        raise RequestError(f"`{member}` is empty.", hint="Send one text or more.")
    if len(found) > MOST_TEXTS:
        raise TooLarge(
            f"`{member}` holds {len(found)} texts; {MOST_TEXTS} is the most.", hint="Send them in several requests."
        )
    texts: list[str] = []
    for place, text in enumerate(found):
        where = f"`{member}`" if isinstance(given, str) else f"`{member}[{place}]`"
        if not isinstance(text, str):
            raise RequestError(f"{where} is token ids; this engine takes text.", hint="Send the text itself.")
        if not may_be_empty and not text.strip():
            raise RequestError(f"{where} is empty.", hint="Send a text with something in it.")
        if len(text) > LONGEST_TEXT:
            raise TooLarge(f"{where} is {len(text)} characters long; {LONGEST_TEXT} is the most.", hint="Cut it up.")
        texts.append(text)
    return texts
